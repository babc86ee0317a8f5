"""Grafting when not all is well: bad inputs, second runs. No input is ever lost."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixgraft.cli import main
from pixgraft.pipelines import files
from pixgraft.pipelines.graft import GraftInput, GraftPipeline, GraftResult
from using import SOURCES, TARGETS, command, pictures, random_model, refusal

# --- what fails ---


def test_a_bad_source_loses_its_own_pairs_alone(
    model: Path, work: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "s" / "01.png").write_bytes((work / "s" / "01.png").read_bytes()[:300])
    Path(os.fsdecode(os.fsencode(work / "s") + b"/\xff.png")).write_bytes(b"no image")  # a name that is no UTF-8
    for name in (b"/photo.cr2", b"/\xff.cr2"):
        Path(os.fsdecode(os.fsencode(work / "s") + name)).write_bytes(b"x")
    Image.new("RGB", (4, 4)).save(work / "t" / "tiny.png")
    assert main(command(model, work, tmp_path / "out", "--seed", 7, "--grid")) == 1
    said, beside = capsys.readouterr()
    assert said.count("01.png: ") == 1
    assert said.count("\\udcff.png: a name that is no UTF-8") == 1
    assert said.count("tiny.png: 4 x 4 pixels are too few") == 1
    assert beside.count("passed over, no images by their suffix: photo.cr2, \\udcff.cr2") == 1
    assert "12 made, 0 finished before, 13 failed" in said
    whole = pictures(done)
    assert pictures(tmp_path / "out") == {name: whole[name] for name in whole if not name.startswith("01")}
    assert (tmp_path / "out" / "grid.png").is_file()
    assert main(command(model, work, tmp_path / "out", "--seed", 7)) == 1
    assert "0 made, 12 finished before, 13 failed" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_a_reason(
    model: Path, inputs: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "00__01.png" / "in the way").mkdir(parents=True)
    assert main(command(model, inputs, tmp_path, "--seed", 7)) == 1
    said = capsys.readouterr().out
    assert said.count(f"cannot write {tmp_path}/00__01.png: ") == 1
    assert "15 made, 0 finished before, 1 failed" in said


def test_what_cannot_be_done_at_all(
    model: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, source, target = tmp_path / "out", inputs / "s", inputs / "t"
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04")
    within = source / "deep" / "out"

    def said(source: Path, target: Path, out: Path, *flags: object) -> str:
        sides = ("--source", source, "--target", target, "--out", out)
        return refusal(capsys, "translate", model, *sides, "--device", "cpu", *flags)

    assert "none: no such file or folder" in said(tmp_path / "none", target, out)
    assert "empty: no images" in said(tmp_path / "empty", target, out)
    assert "neither a folder, a zip nor an image" in said(source, tmp_path / "file", out)
    assert "bad.zip: not a zip" in said(source, tmp_path / "bad.zip", out)
    assert "4 sources but 1 targets" in said(source, target / "00.png", out, "--pairs", "order")
    assert "on one side only" in said(source, target / "00.png", out, "--pairs", "name")
    assert "is inside" in said(source, target, within)
    assert "is inside" in said(target, source, source)
    assert "file: cannot be made" in said(source, target, tmp_path / "file")
    assert "file/out: cannot be made" in said(source, target, tmp_path / "file" / "out")
    assert "--device cuda:99" in said(source, target, out, "--device", "cuda:99")
    assert not out.exists()
    assert not within.exists()


# --- a second run ---


def edit(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


AGAIN: dict[str, tuple[Callable[[Path, Path], object], tuple[object, ...], int]] = {
    "an image cut short": (lambda work, out: edit(out / "00__01.png", lambda b: b[:-1]), (), 1),
    "an image edited": (lambda work, out: edit(out / "00__01.png", lambda b: b[:-20] + b"x" + b[-19:]), (), 1),
    "an image gone": (lambda work, out: (out / "00__01.png").unlink(), (), 1),
    "a report gone": (lambda work, out: (out / "00__01.json").unlink(), (), 1),
    "a report cut short": (lambda work, out: edit(out / "00__01.json", lambda b: b[:50]), (), 1),
    "a report of something else": (lambda work, out: edit(out / "00__01.json", lambda b: b"[]"), (), 1),
    "another source": (lambda work, out: shutil.copy(work / "s/00.png", work / "s/03.png"), (), TARGETS),
    "another target": (lambda work, out: shutil.copy(work / "t/00.png", work / "t/03.png"), (), SOURCES),
    "a further source": (lambda work, out: shutil.copy(work / "s/00.png", work / "s/04.png"), (), TARGETS),
    "projection": (lambda work, out: None, ("--project",), SOURCES * TARGETS),
    "another seed": (lambda work, out: None, ("--seed", 8), SOURCES * TARGETS),
}


@pytest.mark.parametrize("case", AGAIN)
def test_what_differs_is_made_anew(
    model: Path, work: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, flags, count = AGAIN[case]
    out = Path(shutil.copytree(done, tmp_path / "out"))
    change(work, out)
    assert main(command(model, work, out, "--seed", 7, *flags)) == 0
    said = capsys.readouterr().out
    assert f"{count} made, " in said
    assert main(command(model, work, tmp_path / "fresh", "--seed", 7, *flags)) == 0
    assert pictures(out) == pictures(tmp_path / "fresh")


def test_other_weights_make_everything_anew(
    inputs: Path, model: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "out"))
    kept = Path(shutil.copytree(model, tmp_path / "kept"))
    shutil.rmtree(model)
    try:
        random_model(model, seed=1)  # under the same name
        assert main(command(model, inputs, out, "--seed", 7)) == 0
    finally:
        shutil.rmtree(model)
        shutil.copytree(kept, model)
    assert "16 made, 0 finished before" in capsys.readouterr().out
    assert not set(pictures(out).values()) & set(pictures(done).values())


# --- reading, computing and writing at the same time ---


def test_the_next_inputs_are_read_while_the_networks_compute(
    model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, waited = threading.Event(), []
    batch, prepare = GraftPipeline.batch, GraftPipeline.read_sources

    def reading(self: GraftPipeline, data: bytes, name: str, *args: Any, **options: Any) -> list[GraftInput]:
        if name == "01.png":
            read.set()
        return prepare(self, data, name, *args, **options)

    def computing(self: GraftPipeline, *args: Any, **options: Any) -> GraftResult:
        waited.append(read.wait(10))  # the first pair is one of 00.png: nobody waits for the second source but a reader
        return batch(self, *args, **options)

    monkeypatch.setattr(GraftPipeline, "read_sources", reading)
    monkeypatch.setattr(GraftPipeline, "batch", computing)
    (tmp_path / "s").mkdir()
    for name in ("00.png", "01.png"):
        shutil.copy(inputs / "s" / name, tmp_path / "s")
    sides = ("--source", str(tmp_path / "s"), "--target", str(inputs / "t" / "00.png"))
    assert main(["translate", str(model), *sides, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert waited == [True, True]


def test_what_was_computed_is_written_after_an_interrupt(
    model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch, write, calls = GraftPipeline.batch, files._Driver.write, []

    def computing(self: GraftPipeline, *args: Any, **options: Any) -> GraftResult:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return batch(self, *args, **options)

    def writing(self: Any, *args: Any) -> Any:
        time.sleep(0.2)  # the network is faster: all three wait
        return write(self, *args)

    monkeypatch.setattr(GraftPipeline, "batch", computing)
    monkeypatch.setattr(files._Driver, "write", writing)
    assert main(command(model, inputs, tmp_path)) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert main(command(model, inputs, tmp_path)) == 0
    assert "13 made, 3 finished before, 0 failed" in capsys.readouterr().out
