"""`pixgraft data`: what its commands say and write; what they do to images is tested beside each part."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixgraft.cli import main
from test_celebamask import FACE, write
from training import make_pairs
from using import refusal


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """What a command line prints that ends with that status."""
    capsys.readouterr()
    assert main(["data", *map(str, arguments)]) == status
    return capsys.readouterr().out


def test_check_knows_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pairs(tmp_path / "data")
    labels = ("check", data, "--size", 32, "--pairs", "labels", "--classes")
    assert "6 pairs: 6 usable, 0 unusable, 0 unusable files in no pair" in said(capsys, *labels, 4)
    (data / "masks" / "notes.txt").write_text("notes")
    assert "note  masks/notes.txt: passed over" in said(capsys, *labels, 4)  # training can do without it
    found = said(capsys, *labels, 3, status=1)
    assert "unusable  masks/" in found
    assert "but there are 3 classes" in found
    (data / "masks" / "04.png").unlink()
    found = said(capsys, *labels, 4, status=1)
    assert "unusable  images/04.png: image without condition" in found
    assert "5 pairs: 5 usable, 0 unusable, 1 unusable files in no pair" in found


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--size", 0), "--size 0: choose a number of pixels from 1"),
        (("--size=-3",), "--size -3: choose a number of pixels from 1"),
        (("--pairs", "labels", "--classes", 4, "--size", 0), "--size 0: choose a number of pixels from 1"),
        (("--pairs", "labels"), "--pairs labels: needs the number of classes: give --classes N, from 2 to 256"),
        (("--pairs", "labels", "--classes", 1), "give --classes N, from 2 to 256"),
        (("--pairs", "labels", "--classes", 257), "give --classes N, from 2 to 256"),
        (("--pairs", "color", "--palette", "p", "--classes", 5), "--classes 5: leave it out, or give --pairs labels"),
        (("--pairs", "labels", "--classes", 4, "--palette", "p"), "--palette p: leave it out, or give --pairs color"),
        (("--pairs", "sketch", "--classes", 4), "--classes 4: leave it out, or give --pairs labels"),
        (("--pairs", "image", "--palette", "p"), "--palette p: leave it out, or give --pairs color"),
        (("--classes", 8), "--classes 8: leave it out, or give --pairs labels"),
        (("--palette", "nope.txt"), "--palette nope.txt: leave it out, or give --pairs color"),
        (("--images", "foo"), "--images foo: leave it out, or give --pairs labels or color or sketch or image"),
        (("--conditions", "foo"), "--conditions foo: leave it out, or give --pairs labels or color or sketch or image"),
    ],
)
def test_check_refuses_what_it_would_not_hear(
    options: tuple[object, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, "data", "check", make_pairs(tmp_path / "data", 2), *options).endswith(told)


def test_check_reads_colours_by_their_palette(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pairs(tmp_path / "data", 3)
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)], np.uint8)
    for path in (data / "masks").iterdir():
        Image.fromarray(colors[np.asarray(Image.open(path))]).save(path)
    palette = tmp_path / "palette.txt"
    palette.write_text("".join(f"class{i} {r} {g} {b}\n" for i, (r, g, b) in enumerate(colors.tolist())))
    command = ("check", data, "--size", 32, "--pairs", "color")
    assert "3 usable" in said(capsys, *command, "--palette", palette)
    assert "give --palette" in refusal(capsys, "data", *command)
    palette.write_text("one 255 0 0\ntwo 0 255 0\n")
    assert "is not in the palette" in said(capsys, *command, "--palette", palette, status=1)


def test_sketches_are_named_as_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pairs(tmp_path / "data", 3)
    (data / "images" / "02.png").write_bytes(b"")
    found = said(capsys, "sketch", data / "images", tmp_path / "sketches", "--size", 32, status=1)
    assert "unusable  02.png" in found
    assert f"2 sketches: {tmp_path}/sketches" in found
    assert sorted(path.name for path in (tmp_path / "sketches").iterdir()) == ["00.png", "01.png"]
    with Image.open(tmp_path / "sketches" / "00.png") as sketch:
        assert sketch.size == (32, 32)
        assert sketch.mode == "L"


def test_sketches_never_replace_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = make_pairs(tmp_path / "data", 2) / "images"
    before = [path.read_bytes() for path in sorted(images.iterdir())]
    for out in (images, images / "out"):
        assert "is inside" in refusal(capsys, "data", "sketch", images, out)
    assert [path.read_bytes() for path in sorted(images.iterdir())] == before


@pytest.mark.parametrize("order", ["celebamask-hq", "face-parsing"])
def test_parts_are_merged_and_their_order_is_told(
    order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {f"{face:05d}_{name}.png": data for face in range(3) for name, data in FACE.items()}
    folder = write(tmp_path / "parts", parts)
    found = said(capsys, "masks", folder, tmp_path / "masks", "--order", order)
    assert f"3 label maps in the order {order}" in found
    assert "hair 3" in found
    assert said(capsys, "order", tmp_path / "masks").startswith(f"{order} (signs: ")
