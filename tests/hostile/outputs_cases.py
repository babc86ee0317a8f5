"""Generators of trouble for what writes and shows: verbs that write, names that pretend, writes that fail, signals
at any time. The tests here take a few of each; a longer search takes all."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from cases import grit_method
from encoders import saved
from generators import styled_model
from pixgraft.cli import main
from pixgraft.evaluation.result import is_result
from pixgraft.models import save_model
from pixgraft.pipelines.base import UNFINISHED
from training import make_images
from using import make_inputs, random_model

EVIL = "a\x1b[31mb\npixgraft: all is well\r[red]\u202e\x9b:smile:<b>|"
"""A file's name that colours, fakes a line, and is markup to whoever takes it for such."""
RAW = ("\x1b[3", "\x9b", "\u202e", "\r", "\npixgraft: all")
"""What of it no stream may hold."""


@dataclass(frozen=True)
class Verb:
    """A command line that writes, without the place it writes to."""

    name: str
    arguments: tuple[str, ...]
    out: str
    """Name of what it writes; `data` verbs and `export` take it last, the others as --out."""
    positional: bool = False

    def command(self, root: Path, *flags: object) -> list[str]:
        """The whole command line, which writes below `root`."""
        out = str(root / self.out)
        rest = [str(each) for each in flags]
        return [*self.arguments, out, *rest] if self.positional else [*self.arguments, "--out", out, *rest]

    def run(self, root: Path, *flags: object) -> int:
        return main(self.command(root, *flags))


def make_verbs(root: Path) -> dict[str, Verb]:
    """Every verb that writes several files, with small models and inputs, made below `root`."""
    inputs = make_inputs(root / "inputs")
    for file in (*(inputs / "s").glob("0[23]*"), *(inputs / "t").glob("0[23]*")):
        file.unlink()
    graft, styled = random_model(root / "i2ilr"), styled_model(root / "styled")
    save_model(root / "grit", grit_method(), info={})
    ome = saved(root / "ome", "ome")
    labels, parts = root / "labels", root / "parts"
    labels.mkdir()
    parts.mkdir()
    for number in range(2):
        pixels = np.arange(32 * 32).reshape(32, 32) // (5 + number) % 4
        Image.fromarray(pixels.astype(np.uint8)).save(labels / f"{number:02d}.png")
        for part in ("skin", "hair"):
            Image.new("L", (16, 16), 255).save(parts / f"{number:05d}_{part}.png")
    images = make_images(root / "images", 2)
    alike = make_images(root / "alike", 2)
    assert main(["translate", str(ome), "--condition", str(images), "--out", str(root / "codes"), "--quiet"]) == 0
    codes = [str(root / "codes" / f"{number:02d}_codes.safetensors") for number in range(2)]
    cpu = ("--device", "cpu")
    rows = [
        Verb("graft", ("translate", str(graft), "--source", str(inputs / "s"), "--target", str(inputs / "t"), "--grid",
                       "--pairs", "name", *cpu), "out"),
        Verb("synthesize", ("translate", str(root / "grit"), "--condition", str(labels), "--samples", "2", *cpu),
             "out"),
        Verb("encode", ("translate", str(ome), "--condition", str(images), "--samples", "2", *cpu), "out"),
        Verb("edit", ("edit", str(ome), *codes, "--steps", "2", *cpu), "out"),
        Verb("sample", ("sample", str(styled), "--count", "3", *cpu), "out"),
        Verb("frames", ("walk", str(styled), "--points", "2", "--frames", "1", *cpu), "out"),
        Verb("film", ("walk", str(styled), "--points", "2", "--frames", "2", *cpu), "out.gif"),
        Verb("mix", ("mix", str(styled), "--rows", "1", "--columns", "1", "--layers", "0-1", *cpu), "out.png"),
        Verb("evaluate", ("evaluate", "--real", str(images), "--fake", str(alike), "--pairs", "name", "--metrics",
                          "psnr", "spectrum", "--size", "32", "--bootstrap", "0", *cpu), "out"),
        Verb("sketch", ("data", "sketch", str(images)), "out", positional=True),
        Verb("masks", ("data", "masks", str(parts)), "out", positional=True),
        Verb("export", ("export", str(graft)), "out", positional=True),
    ]  # fmt: skip
    return {row.name: row for row in rows}


SEEDED = ("graft", "synthesize", "encode", "sample", "frames", "film", "mix", "evaluate")
"""Verbs whose other outputs come of another --seed."""


@contextmanager
def full_disk(left: int) -> Iterator[list[int]]:
    """From the write of number `left` on, counted from 0, none succeeds; the list has the number of writes tried."""
    tried, real = [0], os.fsync

    def fsync(number: int) -> None:
        tried[0] += 1
        if tried[0] > left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    with mock.patch("os.fsync", fsync):
        yield tried


def content(root: Path) -> dict[str, Any]:
    """All files below a folder; reports without what differs between two runs."""
    files: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(root))
            files[name] = path.read_bytes()
            if path.suffix == ".json":
                report = json.loads(files[name])
                files[name] = {key: value for key, value in report.items() if key not in ("seconds", "times")}
            if path.suffix in (".md", ".html"):
                files[name] = len(files[name]) > 0
    return files


def faults(root: Path, *, fresh: bool) -> list[str]:
    """What below `root` pretends to be more than it is. `fresh`: nothing was there before."""
    found = [f"left over: {path}" for path in root.rglob(".*")]
    found += [f"an empty folder: {path}" for path in root.rglob("*") if path.is_dir() and not any(path.iterdir())]
    files = {path for path in root.rglob("*") if path.is_file()}
    described: set[Path] = set()
    for path in (path for path in files if path.suffix == ".json"):
        report = json.loads(path.read_bytes())
        described.add(path)
        if path.name == "model.json":
            described |= {path.parent / "weights.safetensors", path.parent / "README.md"}
        elif is_result(path):
            names = {"images.png", "report.md", "report.html", "spectra.svg"}
            described |= {path.parent / name for name in names}
            if not report.get("pending") and not all((path.parent / name).is_file() for name in names):
                found.append(f"{path}: not all of its files are there")
        elif UNFINISHED in report["notes"]:
            described |= files
        for output in report.get("outputs", []):
            data = (path.parent / output["file"]).read_bytes()
            described.add(path.parent / output["file"])
            if hashlib.sha256(data).hexdigest() != output["sha256"]:
                found.append(f"{path}: describes other bytes than those of {output['file']}")
    if fresh and described:  # what makes a data set writes no reports
        found += [f"no report tells of {path}" for path in files - described]
    return found


PROGRAM = [sys.executable, "-m", "pixgraft"]


@dataclass(frozen=True)
class Ended:
    """How a stopped program ended."""

    status: int
    said: str
    """Its stderr."""


def heeds_signals() -> None:
    """For a new process: ctrl-C is not ignored, though the tests may run in the background, where it is."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stopped(command: list[str], number: signal.Signals, delay: float, **environment: str) -> Ended:
    """Send a signal to the program `delay` seconds after it began to run its own first line."""
    process = subprocess.Popen(
        [*PROGRAM, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | environment,
        preexec_fn=heeds_signals,
    )  # fmt: skip
    time.sleep(delay)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    return Ended(process.returncode, said.decode())
