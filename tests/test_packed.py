"""Packed data: what the file holds, that training from it equals training from the folder, and what is refused."""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from pixgraft.cli import main
from pixgraft.data import dataset
from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import Dataset
from pixgraft.data.packed import MAGIC, PREAMBLE, START, open_packed
from pixgraft.data.packing import write_pack
from pixgraft.data.pairs import open_images, open_pairs
from pixgraft.errors import PixgraftError
from training import arguments, assert_equal, log_lines, make_images, make_pairs, newest, run
from using import refusal

ALL = "train.images=16"
LABELS = ConditionKind(kind="labels", classes=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def pack(folder: Path) -> Path:
    out = folder.parent / "images.pack"
    assert main(["data", "pack", str(folder), str(out), "--size", "32"]) == 0
    return out


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run from the folder, held in memory."""
    assert run(folder, folder.parent / "run", ALL) == 0
    return folder.parent / "run"


def edited(pack: Path, out: Path, change: dict[str, object] | None = None, text: bytes | None = None) -> Path:
    """The packed file with another index, whose hash and place agree."""
    data = pack.read_bytes()
    _, place, length, _ = PREAMBLE.unpack(data[: PREAMBLE.size])
    if text is None:
        text = json.dumps(json.loads(data[place : place + length]) | (change or {})).encode()
    digest = hashlib.sha256(text).digest()
    out.write_bytes(PREAMBLE.pack(MAGIC, place, len(text), digest) + data[PREAMBLE.size : place] + text)
    return out


# --- what it holds ---


def test_items_are_those_of_the_folder(folder: Path, pack: Path) -> None:
    theirs, ours = Dataset(open_images(folder), size=32), Dataset(open_packed(pack), size=32)
    assert ours.source.names == theirs.source.names
    assert ours.fingerprint() == theirs.fingerprint()
    assert all(torch.equal(ours[index].image, theirs[index].image) for index in range(len(theirs)))
    assert ours.without([0, 2])[1].image.equal(theirs[3].image)
    again = folder.parent / "again.pack"
    write_pack(open_images(folder), again, size=32)
    assert again.read_bytes() == pack.read_bytes()


def test_pairs_and_their_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        make_pairs(tmp_path / "data" / split, 3)
    source, out = open_pairs(tmp_path / "data"), tmp_path / "data.pack"
    write_pack(source, out, size=32, kind=LABELS)
    for under in ("", "train"):
        theirs = Dataset(open_pairs(tmp_path / "data", under=under), size=32, kind=LABELS)
        ours = Dataset(open_packed(out, under=under), size=32, kind=LABELS)
        assert ours.fingerprint() == theirs.fingerprint()
        for index in range(len(theirs)):
            one, other = ours.sample(index, number=0, mirrored=True), theirs.sample(index, number=0, mirrored=True)
            assert one.condition is not None and other.condition is not None
            assert torch.equal(one.image, other.image) and torch.equal(one.condition, other.condition)
    with pytest.raises(PixgraftError, match=r"nothing under val/ \(it has test/, train/\)"):
        open_packed(out, under="val")
    names = tmp_path / "names.txt"
    names.write_text("train/0\ntest/2\n")
    assert open_packed(out, under=str(names)).names == open_pairs(tmp_path / "data", under=str(names)).names
    names.write_text("train/0\n9\n")
    with pytest.raises(PixgraftError, match=r"names\.txt: names 9, which .*data\.pack lacks: give the whole data"):
        open_packed(out, under=str(names))
    held = open_packed(out).index
    files = sorted((tmp_path / "data").rglob("*.png"))
    assert held.origin.bytes == sum(file.stat().st_size for file in files)
    assert held.origin.path == str(tmp_path / "data")


def test_an_unusable_image_ends_the_packing_or_is_left_out(folder: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out.pack"
    shutil.copytree(folder, data)
    (data / "01.png").write_bytes(b"text")
    with pytest.raises(PixgraftError, match=r"^01\.png: not an image"):
        write_pack(open_images(data), out, size=32)
    assert not list(tmp_path.glob("*.pack")) and not list(tmp_path.glob(".*"))
    made = write_pack(open_images(data), out, size=32, skip_bad=True)
    assert (made.count, [each.name for each in made.findings]) == (5, ["01.png"])
    assert "01.png" not in open_packed(out).names


# --- training from it ---


def test_training_from_it_equals_training_from_the_folder(
    folder: Path, pack: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pack, tmp_path / "pack", ALL) == 0
    assert_equal(newest(whole), newest(tmp_path / "pack"))
    assert log_lines(whole) == log_lines(tmp_path / "pack")
    assert run(folder, tmp_path / "mixed", "train.images=12") == 0
    assert run(pack, tmp_path / "mixed", ALL) == 0, "a run may go on from the pack of its folder"
    assert_equal(newest(whole), newest(tmp_path / "mixed"))
    wrong = refusal(capsys, *arguments(pack, tmp_path / "wrong", "method.image_size=64", "method.lr_size=8"))
    assert wrong == f"{pack}: images of 32 pixels, where 64 are needed: pack the folder with --size 64"
    assert not (tmp_path / "wrong").exists()


def test_what_memory_cannot_hold_is_packed_once(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dataset, "CACHE_BYTES", 1)
    assert run(folder, tmp_path / "run", "train.images=4") == 0
    assert not (tmp_path / "run" / "data.pack").exists(), "less than a pass"
    assert run(folder, tmp_path / "run", "train.images=12") == 0
    written = (tmp_path / "run" / "data.pack").stat().st_mtime_ns
    assert "packing 6 images, 18,432 bytes" in capsys.readouterr().err
    assert run(folder, tmp_path / "run", ALL) == 0
    assert (tmp_path / "run" / "data.pack").stat().st_mtime_ns == written
    assert_equal(newest(whole), newest(tmp_path / "run"))
    full = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    assert run(folder, tmp_path / "full", ALL) == 0
    assert "no space" in capsys.readouterr().err
    assert not (tmp_path / "full" / "data.pack").exists()
    assert_equal(newest(whole), newest(tmp_path / "full"))


def test_other_conditions_are_refused(tmp_path: Path, pack: Path) -> None:
    with pytest.raises(PixgraftError, match=r"no conditions, where conditions of kind labels \(4 classes\) are needed"):
        Dataset(open_packed(pack), size=32, kind=LABELS)
    out = tmp_path / "pairs.pack"
    write_pack(open_pairs(make_pairs(tmp_path / "data", 2)), out, size=32, kind=LABELS)
    for kind in (None, ConditionKind(kind="labels", classes=5), ConditionKind(kind="sketch")):
        with pytest.raises(PixgraftError, match=r"packed with conditions of kind labels \(4 classes\), where "):
            Dataset(open_packed(out), size=32, kind=kind)


# --- strangers' files ---


def test_damage_is_found(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pack.read_bytes()
    _, place, _, _ = PREAMBLE.unpack(data[: PREAMBLE.size])
    item = 3 * 32 * 32
    spoilt = tmp_path / "spoilt.pack"
    for content in (
        b"", b"x" * 100, MAGIC, data[:-1], data + b"x", data[: START + 5], b"X" + data[1:],
        data[: place - 1] + b"\0" + data[place:], data[:-1] + b" ",
        PREAMBLE.pack(MAGIC, 2**63, 2**63, bytes(32)) + data[PREAMBLE.size :],
    ):  # fmt: skip
        spoilt.write_bytes(content)
        with pytest.raises(PixgraftError, match=r"spoilt\.pack: not a packed file, cut short or damaged"):
            open_packed(spoilt)
    spoilt.write_bytes(data[: START + item] + bytes([data[START + item] ^ 1]) + data[START + item + 1 :])
    source = open_packed(spoilt)
    source.item(0)
    with pytest.raises(PixgraftError, match=r"spoilt\.pack: 01\.png: damaged in the packed file"):
        source.item(1)
    assert main(["data", "check", str(spoilt)]) == 1
    assert "unusable  01.png: damaged in the packed file" in capsys.readouterr().out
    assert main(["data", "check", str(pack)]) == 0
    assert "6 image files: 6 usable, 0 unusable" in capsys.readouterr().out
    assert "damaged in the packed file" in refusal(capsys, *arguments(spoilt, tmp_path / "run"))


def test_an_edited_index_is_refused(pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "edited.pack"
    open_packed(edited(pack, out))
    origin = {"path": "x", "bytes": 1, "sha256": "x"}
    changes: tuple[dict[str, object], ...] = (
        {"size": 0}, {"size": 64}, {"size": 2**40}, {"size": "32"}, {"kind": "lr"}, {"kind": "labels"},
        {"names": []}, {"names": ["00.png"] * 6}, {"names": ["/"] * 6}, {"names": [f"\ud800{i}.png" for i in range(6)]},
        {"names": [f"0{i}" for i in range(6)]}, {"names": [f"0{i}.png" for i in range(7)]}, {"digests": "0" * 64},
        {"condition_names": ["a.png"]}, {"origin": {}}, {"origin": origin | {"more": 1}}, {"frame": {"nose": [0, 0]}},
    )  # fmt: skip
    for change in changes:
        with pytest.raises(PixgraftError, match=r"^[^\n]*edited\.pack: [^\n]*$"):
            open_packed(edited(pack, out, change))
    for text in (b"", b"[]", b"[" * 10_000, b"{}", b"\xff", b'{"size": 1' + b"0" * 5000 + b"}"):
        with pytest.raises(PixgraftError, match=r"^[^\n]*edited\.pack: [^\n]*$"):
            open_packed(edited(pack, out, text=text))


def test_a_class_that_there_is_not_is_named(tmp_path: Path) -> None:
    out = tmp_path / "pairs.pack"
    write_pack(open_pairs(make_pairs(tmp_path / "data", 2)), out, size=32, kind=LABELS)
    source = open_packed(edited(out, tmp_path / "edited.pack", {"classes": 2}))
    with pytest.raises(PixgraftError, match=r"masks/00\.png: a class beyond the 2 there are"):
        source.item(0)


def test_places_that_are_not_to_be_written_to(
    folder: Path, pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(out: Path) -> str:
        return refusal(capsys, "data", "pack", folder, out, "--size", 32)

    assert "ends in .pack" in refused(tmp_path / "data")
    assert "is inside" in refused(folder / "data.pack")
    (tmp_path / "mine.pack").write_bytes(b"mine")
    assert "no earlier run wrote it" in refused(tmp_path / "mine.pack")
    (tmp_path / "link.pack").symlink_to(pack)
    assert "a link" in refused(tmp_path / "link.pack")
    assert "cannot write" in refused(tmp_path / "none" / "data.pack")
    with zipfile.ZipFile(tmp_path / "data.pack", "w") as archive:
        archive.write(folder / "00.png", "00.png")
    assert "no earlier run wrote it" in refused(tmp_path / "data.pack")
    assert "a packed file, which train and data check read" in refusal(capsys, "data", "sketch", pack, tmp_path / "s")
    os.mkfifo(tmp_path / "pipe.pack")
    assert "not a regular file" in refusal(capsys, "data", "check", tmp_path / "pipe.pack")
