"""Kills of running commands, and what is left: `python tests/hostile/crash.py` prints the table of docs/results.md.

Training is killed at random moments, a third of them while a checkpoint is being written, and goes on by the same
command; the bytes of its last checkpoint are compared with those of a run that nobody killed. `translate`,
`invert` and `evaluate` are killed likewise: after each kill whatever lies there under a final name must be whole,
`evaluate`'s files all there or none, and the inputs unchanged; the next run makes nothing again that was finished, and
leaves everything as without a kill, but for the seconds that a report holds.

Each run is a fork of this process, which has imported everything: otherwise most kills would hit an import.
"""

import argparse
import hashlib
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pixgraft.cli import main
from pixgraft.engine import checkpoint as checkpoints
from training import make_images, make_pairs

STEPS = "train.images=96"
SETTINGS = ("train.checkpoint_every=8", "train.keep=2", "train.sample_every=40", "train.log_every=8")
VARYING = ("seconds", "processor", "speed")
"""Entries of reports that differ from run to run."""


@dataclass
class Row:
    """Counts of one command's kills."""

    name: str
    kills: int = 0
    while_writing: int = 0
    runs: int = 0
    different: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Reports of what was finished, and was made again."""
    changed_inputs: int = 0
    failed: int = 0


def forked(arguments: list[str], kill: Callable[[int], bool] | None = None) -> int:
    """Run the command in a fork of this process; returns its status, -9 if `kill`, called with its id, killed it.

    `kill` is called until it returns true or the command has ended.
    """
    child = os.fork()
    if child == 0:
        status = 3
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                status = main(arguments)
        finally:
            os._exit(status)
    while kill is not None:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if kill(child):
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.0003)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def after(seconds: float) -> Callable[[int], bool]:
    """Kills after a time."""
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() >= end


def while_writing(run: Path, number: int) -> Callable[[int], bool]:
    """Kills while the `number`-th checkpoint from now is being written."""
    seen: set[str] = set()

    def due(_: int) -> bool:
        seen.update(path.name for path in run.glob("checkpoints/.*.tmp"))
        return len(seen) >= number

    return due


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file beneath a folder; of JSON without the entries that vary."""

    def content(path: Path) -> bytes:
        data = path.read_bytes()
        return json.dumps(_steady(json.loads(data)), sort_keys=True).encode() if path.suffix == ".json" else data

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(content(path)).hexdigest() for path in files}


def _steady(value: object) -> object:
    if isinstance(value, dict):
        return {key: _steady(each) for key, each in value.items() if key not in VARYING}
    return [_steady(each) for each in value] if isinstance(value, list) else value


def final_tensors(run: Path) -> dict[str, str]:
    """Digests of the tensors of a run's newest checkpoint."""
    folder = max(path for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}


def partial(folder: Path) -> list[str]:
    """Files under a final name that are not whole."""
    broken = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            try:
                if path.suffix == ".png":
                    Image.open(path).load()
                elif path.suffix == ".json":
                    json.loads(path.read_bytes())
            except (OSError, ValueError, SyntaxError):
                broken.append(path.name)
    return broken


def undisturbed(command: list[str]) -> float:
    """Run a command that nobody kills; returns the seconds that it takes."""
    start = time.monotonic()
    assert forked(command) == 0
    return time.monotonic() - start


def training(preset: str, data: Path, root: Path, kills: int, draw: random.Random, note: Callable[[], None]) -> Row:
    """Kill trainings of a preset `kills` times."""
    row = Row(f"train ({preset})")

    def command(out: Path) -> list[str]:
        settings = [part for each in (STEPS, *SETTINGS) for part in ("--set", each)]
        return ["train", preset, "--data", str(data), "--out", str(out), "--device", "cpu", "--quiet", *settings]

    duration = undisturbed(command(root / "whole"))
    expected, inputs = final_tensors(root / "whole"), digests(data)
    while row.kills < kills:
        run = root / f"run{row.runs}"
        row.runs += 1
        status = -signal.SIGKILL
        while status == -signal.SIGKILL:
            writing = draw.random() < 1 / 3
            kill = while_writing(run, draw.randint(1, 3)) if writing else after(draw.uniform(0, 0.7 * duration))
            status = forked(command(run), kill if row.kills < kills else None)
            if status == -signal.SIGKILL:
                row.kills += 1
                row.while_writing += writing
                row.partial += damaged(run)
                note()
        row.failed += status != 0
        if status == 0 and final_tensors(run) != expected:
            row.different.append(run.name)
    row.changed_inputs += digests(data) != inputs
    return row


def damaged(run: Path) -> list[str]:
    """Checkpoints of a killed run under a final name that are not whole."""
    root = run / "checkpoints"
    return checkpoints.latest(root)[1] if root.is_dir() else []


def use(
    name: str, command: Callable[[Path], list[str]], inputs: Path, root: Path, kills: int, draw: random.Random,
    note: Callable[[], None], *, together: bool = False,
) -> Row:  # fmt: skip
    """Kill a command that writes a folder `kills` times, and finish it each time.

    `together`: its files appear all at once.
    """
    row = Row(name)
    duration = undisturbed(command(root / "whole"))
    expected, given = digests(root / "whole"), digests(inputs)
    while row.kills < kills:
        out = root / f"out{row.runs}"
        row.runs += 1
        if forked(command(out), after(draw.uniform(0, duration))) == -signal.SIGKILL:
            row.kills += 1
            note()
        row.partial += partial(out)
        if together and 0 < len(digests(out)) < len(expected):
            row.partial.append(f"{out.name}: {len(digests(out))} of {len(expected)} files")
        finished = {} if together else {path: path.read_bytes() for path in out.glob("*.json")}
        row.failed += forked(command(out)) != 0
        row.lost += [path.name for path, data in finished.items() if path.read_bytes() != data]
        if digests(out) != expected or any(path.name.startswith(".") for path in root.iterdir()):
            row.different.append(out.name)
        row.changed_inputs += digests(inputs) != given
    return row


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    heading = (
        "command",
        "kills",
        "within a write",
        "runs",
        "not finished",
        "differ",
        "partial files",
        "made again",
        "inputs changed",
    )
    lines = [heading, ("---", *["---:"] * 8)]
    for row in rows:
        counts = (
            row.kills, row.while_writing, row.runs, row.failed, len(row.different), len(row.partial), len(row.lost),
        )  # fmt: skip
        lines.append((row.name, *map(str, counts), str(row.changed_inputs)))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def crash(root: Path, kills: int, seed: int, note: Callable[[], None] = lambda: None) -> list[Row]:
    """All rows: `kills` of each of two trainings, half as many of `translate`, `evaluate` and `invert`."""
    torch.set_num_threads(1)
    draw = random.Random(seed)
    images, pairs = make_images(root / "images", 8), make_pairs(root / "pairs", 8)
    rows = [
        training("i2ilr-tiny-32", images, root / "i2ilr", kills, draw, note),
        training("grit-tiny-32", pairs, root / "grit", kills, draw, note),
    ]
    model = root / "i2ilr" / "whole"

    def translate(out: Path) -> list[str]:
        inputs = ["--source", str(images), "--target", str(images)]
        return ["translate", str(model), *inputs, "--out", str(out), "--device", "cpu", "--quiet", "--grid"]

    def evaluate(out: Path) -> list[str]:
        measured = ["--protocol", "i2ilr-table1", "--samples", "2", "--metrics", "consistency", "diversity"]
        run = ["--bootstrap", "0", "--device", "cpu", "--quiet"]
        return ["evaluate", str(model), "--data", str(images), *measured, *run, "--out", str(out)]

    def invert(out: Path) -> list[str]:
        run = ["--perceptual", "none", "--device", "cpu", "--quiet", "--by", "pti", "--steps", "6", "--tuning", "2"]
        return ["invert", "stylegan2-faces-64", "--condition", str(images), *run, "--out", str(out)]

    rows.append(use("translate", translate, images, root / "translate", kills // 2, draw, note))
    rows.append(use("evaluate", evaluate, images, root / "evaluate", kills // 2, draw, note, together=True))
    rows.append(use("invert", invert, images, root / "invert", kills // 2, draw, note))
    return rows


def wrong(rows: list[Row]) -> bool:
    """Whether a promise was broken."""
    return any(row.failed or row.different or row.partial or row.lost or row.changed_inputs for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill commands at random and compare what is left.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = crash(Path(folder), given.kills, given.seed, lambda: print(".", end="", file=sys.stderr, flush=True))
    print("\n" + table(found))
    sys.exit(wrong(found))
