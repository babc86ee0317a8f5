"""Strangers' images and zips: what one file may cost, what they are named, and what reaches the terminal."""

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from readers_fuzz import KINDS, fuzz

from pixgraft.cli import main
from pixgraft.data import images
from pixgraft.data.images import MAX_SCANS, decode
from pixgraft.data.sources import MAX_DEPTH, open_source
from pixgraft.errors import PixgraftError
from using import refusal


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def said(data: bytes) -> str:
    start = time.monotonic()
    with pytest.raises(PixgraftError) as caught:
        decode(data, "x")
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what one image may cost ---


def with_scans(side: int, count: int) -> bytes:
    """A progressive JPEG with its last scan repeated, so that it has `count` scans."""
    data = saved(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * (count - data.count(b"\xff\xda")) + data[-2:]


def test_a_jpeg_of_many_scans_is_refused() -> None:
    assert "4,000" not in said(with_scans(64, 4000))
    assert f"a JPEG with {MAX_SCANS + 1} scans" in said(with_scans(64, 4000))
    assert "a JPEG with 90 scans" in said(with_scans(5000, 90))
    assert decode(with_scans(64, MAX_SCANS), "x").size == (64, 64)


def test_what_only_looks_like_scans_is_not_counted() -> None:
    """Thumbnails, profiles and films in or behind a photograph."""
    photograph = saved(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG", progressive=True)
    profile = b"\xff\xe2" + struct.pack(">H", 2 + 2000) + b"\xff\xda" * 1000
    film = b"\xff\xda" * 10_000
    whole = photograph[:2] + profile + photograph[2:] + film
    assert decode(whole, "x").tobytes() == decode(photograph, "x").tobytes()


def run_length_bmp(width: int, height: int, body: bytes) -> bytes:
    colours = bytes(1024)
    place = 54 + len(colours)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", place + len(body), 0, 0, place) + header + colours + body


def test_a_large_bmp_with_run_length_coding_is_refused() -> None:
    assert "run-length coding" in said(run_length_bmp(99_000_000, 1, b"\1\1\0\0" * 10))
    assert decode(run_length_bmp(4, 2, b"\4\0\0\0\4\0\0\1"), "x").size == (4, 2)


def test_a_png_of_many_profiles_is_refused() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = saved(Image.new("RGB", (16, 16)), "PNG")
    profile = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1_000_000), 9))
    assert decode(data[:33] + profile + data[33:], "x").size == (16, 16)
    assert "colour profiles" in said(data[:33] + profile * 500 + data[33:])
    assert "cut short, damaged" in said(
        data[:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**26), 9)) + data[33:]
    )


def test_images_of_endless_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow reads chunks, segments, comments and blocks one by one in Python."""
    picture = Image.new("RGB", (16, 16))
    png, jpeg, gif = (saved(picture, format) for format in ("PNG", "JPEG", "GIF"))
    place = gif.index(b",\0\0\0\0")
    chunk = bytes(4) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))

    def photoshop(count: int) -> bytes:
        return jpeg[:2] + (b"\xff\xed\0\x10Photoshop 3.0\0") * count + jpeg[2:]

    def files(count: int) -> dict[str, bytes]:
        return {
            "chunks": png[:33] + chunk * count + png[33:],
            "blocks": gif[:place] + b"\x21\xfe" + b"\1c" * count + b"\0" + gif[place:],
            "comment": b"P6\n#" + b"x" * count + b"\n16 16\n255\n" + bytes(768),
            "junk": jpeg[:20] + b"x" * count + jpeg[20:],
            "filling": jpeg[:2] + b"\xff" * count + jpeg[2:],
        }

    monkeypatch.setattr(images, "_MAX_READS", 10_000)
    for name, data in files(1000).items():
        assert decode(data, name).size == (16, 16)
    for data in files(11_000).values():
        assert "far more parts" in said(data)
    monkeypatch.undo()
    for count in (100, 9000):
        assert decode(jpeg[:2] + b"\xff\xe5\0\2" * count + jpeg[2:], "x").size == (16, 16)
    assert "a JPEG with far more parts" in said(jpeg[:2] + b"\xff\xe5\0\2" * 20_000 + jpeg[2:])
    assert decode(photoshop(50), "x").size == (16, 16)
    assert "a JPEG with far more parts" in said(photoshop(200))
    assert "far more markers" in said(jpeg[:-2] + b"\xff\xda\0\2" + b"\xff\xe5\0\2" * 30_000 + jpeg[-2:])


def test_a_long_filling_in_a_jpeg_takes_little() -> None:
    data = saved(Image.new("RGB", (16, 16)), "JPEG")
    assert decode(data + b"\xff\xda" + b"\xff" * 300_000, "x").size == (16, 16)
    said(data[:-2] + b"\xff\xda\0\2" + b"\xff" * 300_000 + bytes(2) + b"\xff\xda" * 300)


def test_a_large_ppm_that_is_decoded_in_python_is_refused() -> None:
    for head in (b"P6\n%d 1\n254\n", b"P5\n%d 1\n4095\n", b"P2\n%d 1\n255\n", b"P1\n%d 1\n"):
        assert "save it as PNG" in said(head % 4_000_001 + bytes(100))
        assert decode(head % 4 + b"1 " * 12, "x").size == (4, 1)
    assert "comments" in said(b"P2\n4 1\n255\n" + b"#\n" * 2000 + b"1 1 1 1\n")


def test_animations_and_pages_cost_as_much_as_their_first() -> None:
    pictures = [Image.new("RGB", (16, 16), (each % 256, 0, 0)) for each in range(300)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = saved(pictures[0], format, save_all=True, append_images=pictures[1:])
        start = time.monotonic()
        assert decode(data, "x").size == (16, 16)
        assert time.monotonic() - start < 1


# --- names ---


def image(seed: int = 0) -> bytes:
    return saved(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)), "PNG")


def test_names_in_a_zip_that_begin_with_a_dot(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for seed, name in enumerate(("./c.png", "./train/./a.png", "train/b.png", "./.hidden.png")):
            archive.writestr(name, image(seed))
    source = open_source(path)
    assert source.names == ["c.png", "train/a.png", "train/b.png"]
    assert [source.read(name) for name in source.names] == [image(0), image(1), image(2)]
    assert open_source(path, under="train").names == ["train/a.png", "train/b.png"]


@pytest.mark.parametrize("second", ["a.png", "./a.png"])
def test_a_name_twice_in_a_zip_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], second: str) -> None:
    path = tmp_path / "x.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for seed, name in enumerate(("a.png", "b.png", second, "readme.txt", "readme.txt")):
            archive.writestr(name, image(seed))
    for command in (("data", "check", path), ("train", "i2ilr-tiny-32", "--data", path, "--out", tmp_path / "out")):
        assert f"{path}: holds a.png twice; make the zip anew" in refusal(capsys, *command)


@pytest.mark.parametrize("name", [b"a\xff.png", b"\xff/a.png"])
def test_an_image_whose_name_is_no_utf8_is_a_bad_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: bytes
) -> None:
    folder = tmp_path / "images"
    file = folder / os.fsdecode(name)
    file.parent.mkdir(parents=True)
    file.write_bytes(image())
    for number in range(4):
        (folder / f"b{number}.png").write_bytes(image(number))
    assert main(["data", "check", str(folder), "--size", "16"]) == 1
    assert r"\udcff" in (said := capsys.readouterr().out) and "no UTF-8: rename it" in said, said
    command = ["train", "i2ilr-tiny-32", "--data", folder, "--out", tmp_path / "run", "--set", "train.images=4"]
    assert r"\udcff" in refusal(capsys, *command, "--device", "cpu")
    assert main([*map(str, command), "--device", "cpu", "--quiet", "--skip-bad"]) == 0
    real = ["evaluate", "--real", folder, "--fake", folder, "--pairs", "name", "--metrics", "l1", "--size", "32"]
    assert "no UTF-8" in refusal(capsys, *real)
    assert main(["data", "sketch", str(folder), str(tmp_path / "out")]) == 1
    assert len(list((tmp_path / "out").rglob("*.png"))) == 4
    with pytest.raises(PixgraftError, match="no UTF-8"):
        open_source(file)


def test_other_files_may_have_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(image())
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff\x1b.txt")).write_bytes(b"text")
    assert main(["data", "check", str(tmp_path), "--size", "16"]) == 0
    assert r"b\udcff\x1b.txt" in capsys.readouterr().out


def deep_folder(path: Path, depth: int) -> None:
    place = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    with os.fdopen(os.open("a.png", os.O_WRONLY | os.O_CREAT, dir_fd=place), "wb") as file:
        file.write(image())
    os.close(place)


def remove_deep(path: Path) -> None:
    """Remove a folder of one folder of one folder; shutil would recurse."""
    while (path / "d").is_dir():
        below = path / "below"
        (path / "d").rename(below)
        if (below / "d").is_dir():
            (below / "d").rename(path / "d")
        else:
            (below / "a.png").unlink()
        below.rmdir()


def test_folders_too_deep_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "b.png").write_bytes(image(1))
    for depth in (1500, 3000):  # the second is beyond the longest path
        deep_folder(folder, depth)
        try:
            for command in (
                ("data", "check", folder),
                ("train", "i2ilr-tiny-32", "--data", folder, "--out", tmp_path / "x"),
            ):
                assert f"more than {MAX_DEPTH} folders deep" in refusal(capsys, *command)
        finally:
            remove_deep(folder)
    path = tmp_path / "x.zip"
    for depth, names in ((MAX_DEPTH, 1), (MAX_DEPTH + 1, 0)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("d/" * depth + "a.png", image())
        if names:
            assert len(open_source(path).names) == 1
        else:
            assert "folders deep" in refusal(capsys, "data", "check", path)


def test_a_name_in_the_code_page_of_dos(tmp_path: Path) -> None:
    """Zips without the mark of UTF-8: each byte is a letter, and reading works by that name."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("aQQ.png", image())
    path.write_bytes(path.read_bytes().replace(b"QQ", b"\x82\xff"))
    source = open_source(path)
    assert source.names == ["aé\xa0.png"]
    assert source.read(source.names[0]) == image()


# --- zips ---


def test_a_zip_with_a_huge_directory_or_entry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with path.open("wb") as file:  # the end of a directory of 2 GiB
        file.truncate(2**31)
        file.seek(0, io.SEEK_END)
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 2**31 - 1000, 500, 0))
    with pytest.raises(PixgraftError, match="larger than is allowed"):
        open_source(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", image())
    data = path.read_bytes()
    entry = data.rindex(b"PK\1\2") + 24
    path.write_bytes(data[:entry] + struct.pack("<I", 2**31) + data[entry + 4 :])
    source = open_source(path)
    with pytest.raises(PixgraftError, match="2,147,483,648 bytes, more than"):
        source.read("a.png")
    source.close()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_another_method_than_deflate_is_refused(tmp_path: Path, method: int) -> None:
    """Their decompressors unpack a whole block, whatever size the entry claims."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("a.png", image())
    source = open_source(tmp_path / "x.zip")
    with pytest.raises(PixgraftError, match="a method other than deflate: make the zip anew"):
        source.read("a.png")
    source.close()


# --- the terminal ---

QUIET = """
import sys
from pathlib import Path
from pixgraft.data.images import decode
for file in sorted(Path(sys.argv[1]).iterdir()):
    try:
        decode(file.read_bytes(), file.name)
    except Exception as error:
        assert type(error).__name__ == "PixgraftError", error
"""


def test_nothing_of_pillow_and_libtiff_reaches_the_terminal(tmp_path: Path) -> None:
    """Large pictures, broken metadata, damaged TIFFs."""
    entries = b"".join(struct.pack("<HHII", 0x100 + each, 2, 60_000, 0) for each in range(20))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries
    files = {"a.jpg": saved(Image.new("RGB", (16, 16)), "JPEG", exif=exif)}
    files["large.tif"] = saved(Image.new("1", (9500, 9500)), "TIFF", compression="group4")
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        data = saved(noise, "TIFF", compression=compression)
        for place in range(8, len(data), len(data) // 10):
            broken = bytearray(data)
            broken[place] ^= 0x55
            files[f"{compression}{place}.tif"] = bytes(broken)
            files[f"{compression}{place}cut.tif"] = data[:place]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", QUIET, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


# --- fuzzing ---


@pytest.mark.filterwarnings("ignore")  # pytest undoes our filters
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    files = fuzz(kind, 0, tmp_path)
    for _ in range(150):
        assert next(files) < 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(1, 4))
def test_many_mutated_files_are_read_or_refused(tmp_path: Path, kind: str, seed: int) -> None:
    files = fuzz(kind, seed, tmp_path)
    for _ in range(5000):
        assert next(files) < 10


@pytest.mark.parametrize("make", [make for make, _ in KINDS.values()])
def test_sound_files_of_the_fuzzer_are_read(tmp_path: Path, make: Callable[[], dict[str, bytes]]) -> None:
    read = next(read for other, read in KINDS.values() if other is make)
    for name, data in make().items():
        (tmp_path / name).write_bytes(data)
        if name != "x.pickle":  # of no network
            assert read(tmp_path / name)
