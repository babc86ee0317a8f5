"""The whole plan for a machine with a GPU, in pieces that are resumed: `make gpu`.

Each call runs the pieces that are not done, in order, for at most `--minutes`; call it until it says that all are done.
A piece writes OUT/NAME.json (what was measured) and OUT/NAME.log; a training is stopped at the end of the time, and the
next call goes on from its checkpoint. `python benchmarks/gpu_report.py OUT --into docs/results.md` makes the tables.

    make gpu GPU_OUT=out/gpu DATA=portraits.pack PAIRS=faces
    make gpu DRY=1                                     # the same plan in miniature, on the CPU
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import common
import numpy as np
import torch
import tyro
from PIL import Image

from pixgraft.files import read_json, write_bytes

ROOT = Path(__file__).resolve().parents[1]
ROWS = "benchmarks/gpu_rows.py"
PAPERS = (
    "i2ilr-paper-128", "grit-paper-256", "stylegan2-paper-256", "stylegan2-paper-1024", "psp-official-1024",
    "ome-paper-stylegan2-1024",
)  # fmt: skip
KINDS = ("float32", "TF32", "bfloat16", "channels last", "compile")
TRIES = 2
"""Calls in which a piece may fail or exceed the time before it is given up."""

LONG = 300.0
"""Seconds after which a piece that is not finished has failed; with fewer left it gets another chance."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure and train on a GPU, in pieces that are resumed by the same call."""

    out: Path
    """The folder for results and runs."""
    minutes: float = 9.0
    """The longest time of one call."""
    data: Path | None = None
    """Images of portraits at 128 pixels or more, a folder, zip or packed file, for the trainings."""
    pairs: Path | None = None
    """images/ and masks/ for GRIT's training."""
    dry: bool = False
    """The plan in miniature, on the CPU."""


@dataclass(frozen=True)
class Piece:
    """One part of the plan."""

    name: str
    command: tuple[str, ...]
    """Arguments of Python."""
    environment: dict[str, str] = field(default_factory=dict)
    continues: bool = False
    """Whether it is stopped by a signal and goes on in the next call, as a training."""


def plan(options: Options, gpus: int) -> list[Piece]:
    """The pieces in order."""
    dry, out = options.dry, options.out.resolve()
    device = "cpu" if dry else "cuda"
    pieces = [Piece("machine", (ROWS, "machine", "--device", device))]
    names = ("--names", "i2ilr", "grit-noise") if dry else ()
    pieces.append(Piece("agree", (ROWS, "agree", "--device", device, *names)))
    oracles = ("-m", "pytest", "tests/test_oracles.py", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow")
    chosen = ("-k", "stylegan2_64") if dry else ()
    for name, tf32, tolerance in (("oracles", "0", "1e-3"), ("oracles-tf32", "1", "0.05")):
        distances = str(out / f"{name}.jsonl")
        environment = {"PIXGRAFT_DEVICE": device, "PIXGRAFT_TF32": tf32, "PIXGRAFT_TOLERANCE": tolerance}
        pieces.append(Piece(name, (*oracles, *chosen), environment | {"PIXGRAFT_DISTANCES": distances}))
    if gpus > 1 or dry:
        pieces.append(_two_ranks(options, device))
    presets = ("i2ilr-tiny-32", "stylegan2-tiny-32") if dry else PAPERS
    small = ("--runs", "1", "--lazy", "1", "--set", "train.batch=4") if dry else ()
    for preset in presets:
        for kind in KINDS[:1] if dry else KINDS:
            name = f"step-{preset}-{kind.replace(' ', '-')}"
            pieces.append(Piece(name, (ROWS, "step", preset, "--kind", kind, "--device", device, *small)))
    size = ("--sizes", "16", "--batches", "1", "--repeats", "1") if dry else ("--sizes", "1024", "--batches", "1", "8")
    synthesis = ("benchmarks/synthesis.py", "--device", device, "--json", str(out / "synthesis-rows.json"), *size)
    pieces.append(Piece("synthesis", synthesis))
    return [*pieces, *_trainings(options, device)]


def _two_ranks(options: Options, device: str) -> Piece:
    """A training of few steps by two processes."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run = _train("i2ilr-tiny-32", _images(options), options.out / "runs" / "two-ranks", device, "train.images=8")
    return Piece("two-ranks", (*torchrun, *run, "--set", "train.batch=4"))


def _train(preset: str, data: Path | None, out: Path, device: str, *settings: str) -> tuple[str, ...]:
    each = [part for setting in settings for part in ("--set", setting)]
    return ("-m", "pixgraft", "train", preset, "--data", str(data), "--out", str(out), "--device", device, *each)


def _trainings(options: Options, device: str) -> list[Piece]:
    runs, dry = options.out.resolve() / "runs", options.dry
    data, pairs = (_images(options), _images(options) / "none") if dry else (options.data, options.pairs)
    wanted: list[tuple[str, Path | None, tuple[str, ...]]]
    if dry:
        wanted = [("i2ilr-tiny-32", data, ("train.images=4", "train.batch=4"))]
    else:
        low = ("train.precision=bfloat16", "train.channels_last=true")
        wanted = [
            ("i2ilr-portraits-128", data, low),
            ("stylegan2-portraits-128", data, low),
            ("ome-portraits-128", data, (*low, f"method.prior={runs / 'stylegan2-portraits-128'}")),
            ("grit-faces-128", pairs, low),
        ]
    return [
        Piece(f"train-{name}", _train(name, given, runs / name, device, *settings), continues=True)
        for name, given, settings in wanted
        if given is not None
    ]


def _images(options: Options) -> Path:
    """A few images of noise, for what needs some data."""
    folder = options.out / "noise"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(6):
        if not (path := folder / f"{number}.png").is_file():
            pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return folder.resolve()


def finished(out: Path, piece: Piece) -> bool:
    """Whether a piece is done, or given up."""
    path = out / f"{piece.name}.json"
    if not path.is_file():
        return False
    result = read_json(path)
    return bool(result["rc"] == 0 or (result["tries"] >= TRIES and not result["stopped"]))


def run(piece: Piece, out: Path, seconds: float) -> int:
    """Run a piece for at most so many seconds, and write its result; returns its status, 124 if the time was over."""
    path = out / f"{piece.name}.json"
    former = read_json(path) if path.is_file() else {"tries": 0, "seconds": 0.0}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **piece.environment}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output, (out / f"{piece.name}.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, *piece.command], cwd=ROOT, env=environment, stdout=output, stderr=log, text=True
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            status = 124
        output.seek(0)
        text = output.read()
        log.write(text)
    lines = [line for line in text.splitlines() if line.startswith("{")]
    result = {
        "name": piece.name, "command": list(piece.command), "rc": status,
        "tries": former["tries"] + (status != 124 or seconds > LONG),
        "seconds": round(former["seconds"] + time.monotonic() - began, 1),
        "stopped": status == 124 and piece.continues, "result": json.loads(lines[-1]) if lines else None,
        "said": text[-2000:],
    }  # fmt: skip
    write_bytes(path, (json.dumps(result, indent=1) + "\n").encode())
    return status


def work(pieces: Sequence[Piece], out: Path, minutes: float) -> bool:
    """Run what is not done, for at most so many minutes; whether all is done."""
    end = time.monotonic() + 60 * minutes
    for piece in pieces:
        while not finished(out, piece):
            left = end - time.monotonic()
            if left < min(60.0, 30 * minutes):
                print(f"time is over before {piece.name}: call again", flush=True)
                return False
            print(f"{piece.name} ...", end=" ", flush=True)
            status = run(piece, out, left)
            print("done" if status == 0 else f"status {status}", flush=True)
            if status == 124:
                return False
    return True


def main() -> None:
    """Run the pieces and say what is left."""
    options = tyro.cli(Options)
    options.out.mkdir(parents=True, exist_ok=True)
    pieces = plan(options, torch.cuda.device_count())
    complete = work(pieces, options.out, options.minutes)
    failed = [each.name for each in pieces if (path := options.out / f"{each.name}.json").is_file()
              and read_json(path)["rc"] not in (0, 124)]  # fmt: skip
    for run_folder in (options.out / "runs").glob("*/samples"):  # the newest grid of each training
        newest = max(run_folder.glob("*.png"), default=None)
        if newest is not None:
            shutil.copyfile(newest, options.out / f"{run_folder.parent.name}.png")
    print("all is done" if complete else "not all is done: call again", f"({len(pieces)} pieces)", flush=True)
    if failed:
        print("failed:", *failed)
    sys.exit(1 if failed else 0 if complete else 3)


if __name__ == "__main__":
    common.run_main(main)
