"""What people do wrong when they train: each fault is one line that names it and its mend, with exit status 2."""

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pixgraft.cli import main
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError, unknown
from pixgraft.presets import PRESETS
from pixgraft.training.loop import _check_shares
from training import arguments, experiment, make_images, run, tree


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _huge_png(side: int) -> bytes:
    """A sound black 1-bit PNG of side x side pixels, in little more than a hundred kilobytes."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on the standard error, without the program's name."""
    error = capsys.readouterr().err
    assert error.startswith("pixgraft: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1
    return error.removeprefix("pixgraft: ").removesuffix("\n")


# --- data that cannot be opened: the run folder is not even made ---


def _missing(path: Path) -> Path:
    return path / "nowhere"


def _empty_folder(path: Path) -> Path:
    (path / "empty").mkdir()
    return path / "empty"


def _empty_zip(path: Path) -> Path:
    zipfile.ZipFile(path / "empty.zip", "w").close()
    return path / "empty.zip"


def _no_zip(path: Path) -> Path:
    (path / "text.zip").write_text("not a zip")
    return path / "text.zip"


def _text_file(path: Path) -> Path:
    (path / "list.txt").write_text("a.png")
    return path / "list.txt"


def _one_pixel(path: Path) -> Path:
    (path / "set").mkdir()
    Image.new("RGB", (1, 1)).save(path / "set" / "dot.png")
    return path / "set"


@pytest.mark.parametrize(
    ("make", "problem", "mend"),
    [
        (_missing, "nowhere: no such file or folder", "check the path"),
        (_empty_folder, "empty: no images", "put in files that end in one of"),
        (_empty_zip, "empty.zip: no images", "put in files that end in one of"),
        (_no_zip, "text.zip: not a zip", "download or make it anew"),
        (_text_file, "list.txt: neither a folder, a zip nor an image", ".png"),
        (_one_pixel, "set: training needs at least 2 images", "found 1"),
    ],
)
def test_data_that_cannot_be_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], problem: str, mend: str
) -> None:
    assert run(make(tmp_path), tmp_path / "run") == 2
    told = _told(capsys)
    assert told.startswith(f"{tmp_path}/{problem}")
    assert mend in told
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_images(tmp_path / "data" / "train", 2)
    assert run(tmp_path / "data", tmp_path / "run", flags=("--split", "training")) == 2
    told = _told(capsys)
    assert told.startswith(f"{tmp_path}/data: no images under training/ (it has train/); ")
    assert not (tmp_path / "run").exists()


# --- images that cannot be used: nothing is trained, and without them the same command works ---


def _text(path: Path) -> None:
    path.write_text("not an image")


def _truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).convert("RGB").save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-300])


def _enormous(path: Path) -> None:
    path.write_bytes(_huge_png(30_000))
    assert path.stat().st_size < 200_000


def _dot(path: Path) -> None:
    Image.new("RGB", (1, 1)).save(path, "PNG")


@pytest.mark.parametrize(
    ("make", "name", "problem", "mend"),
    [
        (_text, "a.png", "not an image of a known format", "convert or remove it"),
        (_truncated, "b.jpg", "cut short, damaged or an unsupported kind of JPEG", "save it anew or remove it"),
        (_enormous, "c.png", "30000 x 30000 pixels, more than the 100,000,000 allowed", "shrink or remove it"),
        (_dot, "d.png", "1 x 1 pixels are too few to train at 32", "remove it, or give one of at least 8"),
    ],
)
def test_an_image_that_cannot_be_used(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    name: str,
    problem: str,
    mend: str,
) -> None:
    data, out = make_images(tmp_path / "data", 3), tmp_path / "run"
    make(data / name)
    # Too few steps to see all images, so that it is met whenever it comes, or among the samples.
    assert run(data, out, "train.images=8") == 2
    told = _told(capsys)
    assert told.startswith(f"{name}: {problem}")
    assert mend in told
    assert set(tree(out)) <= {".lock", "config.toml", "log.jsonl", "samples/000000000000.png"}
    (data / name).unlink()
    assert run(data, out, "train.images=4") == 0


# --- configurations and arguments ---


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("method.image_size=48", "image_size is 48: choose 32, 64, 128, 256 or 512"),
        ("method.lr_size=32", "lr_size is 32: with image_size 32 choose one of 4, 8, 16"),
        ("method.lr_size=6", "lr_size is 6: with image_size 32 choose one of 4, 8, 16"),
        ("train.batch=5", "train.batch is 5: choose a multiple of 2, which i2ilr needs"),
        ("train.batch=0", "train.batch is 0: choose a number of images from 1"),
        ("train.microbatch=3", "train.microbatch is 3: choose a multiple of 2, which i2ilr needs"),
        ("train.keep=-1", "train.keep is -1: choose a number of checkpoints, or 0 to keep all"),
        ("train.average_decay=2.0", "train.average_decay is 2.0: choose a number from 0 to below 1"),
        ("method.generator_lr=-1.0", "learning rates must be above 0, and betas from 0 to below 1"),
        ("method.betas=[1.0, 0.9]", "learning rates must be above 0, and betas from 0 to below 1"),
        ("train.samples=2", "train.samples is 2: choose an even number from 4"),
        ("train.images=0", "train.images is 0: choose a number of images from 1"),
        ("train.seed", "--set train.seed: write field=value"),
        ("train.flip=perhaps", "--set: train: flip: expected bool, found 'perhaps'"),
        ("method.head=both", "--set: method: head: 'both' is not one of 'single', 'patch'"),
    ],
)
def test_a_setting_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, told: str) -> None:
    data = make_images(tmp_path / "data", 2)
    assert run(data, tmp_path / "run", setting) == 2
    assert _told(capsys) == told
    assert not (tmp_path / "run").exists()


def test_a_target_of_the_image_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "i2ilr-small-64", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*command, "--set", "method.lr_size=64"]) == 2
    assert _told(capsys) == "lr_size is 64: with image_size 64 choose one of 4, 8, 16, 32"


def test_an_unknown_field_lists_those_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for setting in ("train.batchsize=8", "batch=8", "train=8", "method.betas.first=1"):
        assert run(make_images(tmp_path / setting, 2), tmp_path / "run", setting) == 2
        told = _told(capsys)
        assert told.startswith(f"--set {setting}: no such field; there are name, kind, method.image_size, ")
        assert "train.batch, " in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "hint"),
    [("i2ilr-Smal-64", "did you mean i2ilr-small-64"), ("x", "`pixgraft presets` lists all ")],
)
def test_an_unknown_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, hint: str) -> None:
    assert main(["train", name, "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    told = _told(capsys)
    assert told.startswith(f"no preset named {name}: {hint}")
    assert told.endswith(f"`pixgraft presets` lists all {len(PRESETS)}")
    assert not (tmp_path / "run").exists()


def test_an_unknown_name_without_a_listing() -> None:
    close, far = (str(unknown("metric", name, ("ssim", "l1"))) for name in ("SIMM", "?"))
    assert close == "no metric named SIMM: did you mean ssim? choose one of ssim, l1"
    assert far == "no metric named ?: choose one of ssim, l1"


@pytest.mark.parametrize("device", ["nonsense", "cuda:x", "meta", "cuda:99"])
def test_a_device_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
    data = make_images(tmp_path / "data", 2)
    assert main([*arguments(data, tmp_path / "run"), "--device", device]) == 2
    told = _told(capsys)
    assert told.startswith(f"--device {device}: ")
    assert "cuda" in told.lower()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("batch", "size", "multiple"), [(8, 3, 6), (6, 2, 4), (2, 2, 4)])
def test_a_batch_that_does_not_divide_among_the_processes(batch: int, size: int, multiple: int) -> None:
    with pytest.raises(PixgraftError) as caught:
        _check_shares(experiment(f"train.batch={batch}"), World(0, size, 0))
    assert str(caught.value) == (
        f"a batch of {batch} does not divide over {size} processes: set train.batch to a multiple of {multiple}"
    )
    _check_shares(experiment(f"train.batch={multiple}"), World(0, size, 0))


# --- the run folder ---


def test_nothing_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_images(tmp_path / "data", 2)
    assert run(data, tmp_path / "run", flags=("--resume",)) == 2
    assert _told(capsys) == f"{tmp_path}/run: no checkpoint to resume from: leave --resume out to begin"
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_another_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_images(tmp_path / "data", 2), tmp_path / "run"
    assert run(data, out, "train.images=4") == 0
    capsys.readouterr()
    before = tree(out)
    assert main(["train", "i2ilr-small-64", "--data", str(data), "--out", str(out), "--device", "cpu"]) == 2
    told = _told(capsys)
    assert told.startswith(f"{out}: holds another run (name was 'i2ilr-tiny-32', not 'i2ilr-small-64', ")
    assert "method.image_size was 32, not 64" in told
    assert told.endswith("): choose another folder, or these values")
    assert tree(out) == before


def test_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_images(tmp_path / "data", 2), tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("years of work")
    assert run(data, out) == 2
    assert _told(capsys) == f"{out}: not empty and not a run folder: choose another one"
    assert list(tree(out)) == ["chapter1.tex"]


def test_a_configuration_that_was_edited_wrongly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_images(tmp_path / "data", 2), tmp_path / "run"
    out.mkdir()
    faults = ((b"batch 8", "not TOML: "), (b"colour = 1", "no such field: colour"), (b"\xff\xfe", "not TOML: "))
    for content, problem in faults:
        (out / "config.toml").write_bytes(content)
        assert run(data, out) == 2
        assert _told(capsys).startswith(f"{out}/config.toml: {problem}")
        assert (out / "config.toml").read_bytes() == content


def test_an_out_path_that_is_a_file_or_beneath_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file = make_images(tmp_path / "data", 2), tmp_path / "notes.txt"
    file.write_text("notes")
    for out in (file, file / "run"):
        assert run(data, out) == 2
        told = _told(capsys)
        assert told.startswith(f"{out}: cannot be used as a run folder: ")
        assert told.endswith(": choose another one")
    assert file.read_text() == "notes"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_fills_up_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    data, out = make_images(tmp_path / "data", 2), tmp_path / "run"
    assert run(data, out, "train.images=4") == 0
    capsys.readouterr()
    former, fsync = tree(out / "checkpoints"), os.fsync

    def failing(descriptor: int) -> None:
        if any((out / "checkpoints").glob(".*.tmp")):  # while a checkpoint is being written
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        assert run(data, out, "train.images=8") == 2
    assert _told(capsys) == (
        f"{out}/checkpoints/000000000008: the checkpoint was not written: {os.strerror(number)}; "
        "mend that and run the same command again"
    )
    assert tree(out / "checkpoints") == former
    assert run(data, out, "train.images=8") == 0
    assert len(list((out / "checkpoints").iterdir())) == 2
