"""Every verb on what is no file, or a wrong one, in each place where it reads one: one line, soon, in little memory."""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from folders import DEEP
from fuzz import in_child, sound_files
from PIL import Image

from cases import grit_method
from encoders import saved
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.models import save_model


@dataclass(frozen=True)
class Place:
    """A file that a command reads."""

    name: str
    file: Path
    command: tuple[str, ...]
    """The command line, which ends with the option or the place of its output."""
    runs: bool = False
    """Whether the command may do its work without the file."""


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 * 2**30)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": _fifo,
    "a sparse file": _sparse,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "deep brackets": lambda path: path.write_bytes(b"[" * 200_000),
    "nothing": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5_000)),
    "an odd table": lambda path: path.write_text(f'{{"format": 1, "kind": [], "meta": {DEEP}, "a\\u001b[31m": 1e999}}'),
}
QUICK = ("a pipe", "an odd table")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Place]:
    root = tmp_path_factory.mktemp("verbs")
    sound = sound_files(root)
    data, model, run = sound["data"], sound["model"], sound["run"]
    ome, grit, labels = saved(root / "ome", "ome"), root / "grit", root / "labels"
    save_model(grit, grit_method(), info={})
    labels.mkdir()
    Image.fromarray((np.arange(32 * 32).reshape(32, 32) // 256).astype(np.uint8)).save(labels / "a.png")
    (root / "palette.txt").write_text("a 0 0 0\nb 1 1 1\nc 2 2 2\nd 3 3 3\n")
    for name in ("x.pt", "x.pkl", "x.safetensors", "x.zip", "w.safetensors", "frame.json"):
        (root / name).write_bytes(b"")
    assert main(["translate", str(ome), "--condition", str(labels), "--out", str(root / "codes"), "--quiet"]) == 0
    codes = next((root / "codes").glob("*.safetensors"))
    checkpoint = max((run / "checkpoints").glob("0*"))
    image, cpu = sorted(data.iterdir())[1], ("--device", "cpu", "--quiet")

    def translated(opened: Path) -> tuple[str, ...]:
        return ("translate", str(opened), "--source", str(data), "--target", str(data), *cpu, "--out")

    trained = ("train", "i2ilr-tiny-32", "--data", str(data), *cpu, "--out")
    evaluated = ("evaluate", "--real", str(data), "--fake", str(data), "--metrics", "l1", "--pairs", "name", *cpu)
    return [
        Place("source", image, translated(model), runs=True),
        Place("image to train on", image, trained),
        Place("image to measure", image, (*evaluated, "--size", "32", "--out")),
        Place("image to draw", image, ("data", "sketch", str(data)), runs=True),
        Place("zip", root / "x.zip", ("train", "i2ilr-tiny-32", "--data", str(root / "x.zip"), *cpu, "--out")),
        Place("model.json", model / "model.json", translated(model)),
        Place("weights", model / "weights.safetensors", translated(model)),
        Place("exported model", model / "model.json", ("export", str(model))),
        Place("checkpoint.json", checkpoint / "checkpoint.json", translated(run), runs=True),
        Place("tensors of a run", checkpoint / "averages.safetensors", translated(run), runs=True),
        Place("config.toml", run / "config.toml", ("resume",)),
        Place("log.jsonl", run / "log.jsonl", ("resume",), runs=True),
        Place("frame.json", root / "frame.json", ("export", str(model), "--frame", str(root / "frame.json"))),
        Place("codes", codes, ("translate", str(ome), "--codes", str(codes), *cpu, "--out")),
        Place("palette", root / "palette.txt", ("translate", str(grit), "--condition", str(labels), "--palette",
                                                str(root / "palette.txt"), *cpu, "--out")),
        *(Place(f"converted {name}", root / name, ("convert", str(root / name))) for name in
          ("x.pt", "x.pkl", "x.safetensors")),
        Place("feature weights", root / "w.safetensors", ("evaluate", "--real", str(data), "--fake", str(data),
              "--metrics", "identity", "--features", "mobilefacenet", "--pairs", "name", "--size", "32", "--weights",
              f"mobilefacenet={root / 'w.safetensors'}", *cpu, "--out")),
        Place("result", sound["result"], ("compare", str(sound["result"]), str(sound["result"]))),
        Place("report", sound["report"], (*translated(run)[:-1], "--pairs", "name", "--out", str(root / "out")),
              runs=True),
    ]  # fmt: skip


@contextlib.contextmanager
def spoilt(file: Path, spoil: Callable[[Path], object]) -> Iterator[None]:
    """The file is something else for a while."""
    aside = file.with_name(f"aside.{file.name}.tmp")
    file.rename(aside)
    try:
        spoil(file)
        yield
    finally:
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink(missing_ok=True)
        aside.rename(file)


def wrong(place: Place, out: Path) -> str:
    """What is wrong with how the place's command ends; empty if nothing is."""
    run = next((parent for parent in place.file.parents if (parent / "config.toml").exists()), place.file.parent)
    command = list(place.command)
    if command == ["resume"]:
        settings = ("train.checkpoint_every=8", "train.samples=4", "method.generator_channels=4",
                    "method.discriminator_channels=4", "method.generator_max_channels=8",
                    "method.discriminator_max_channels=8", "train.images=20")  # fmt: skip
        run = place.file.parent
        command = ["train", "i2ilr-tiny-32", "--data", str(run.parent / "data"), "--device", "cpu", "--quiet"]
        command += [part for each in settings for part in ("--set", each)] + ["--out", str(run)]
    elif command[0] != "compare" and command[-2] != "--out":
        command.append(str(out))

    def case() -> object:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main(command)
        lines = said.getvalue().splitlines()
        assert "\x1b" not in said.getvalue()
        passed_over = place.file.is_dir() and place.name.startswith("image")  # a folder among images is none of them
        assert status in ((0, 1, 2) if place.runs or passed_over else (1, 2)), status
        if status == 2:
            assert len([line for line in lines if line.startswith("pixgraft: ")]) == 1, said.getvalue()
            raise PixgraftError(re.sub(r"\s", " ", lines[-1]))
        return None

    outcome, told = in_child(case)
    return "" if outcome in ("opened", "refused") else f"{outcome}: {told}"


@pytest.mark.parametrize(
    "kind", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in KINDS]
)
def test_every_verb_answers_in_one_line(kind: str, places: list[Place], tmp_path: Path) -> None:
    faults = []
    for number, place in enumerate(places):
        with spoilt(place.file, KINDS[kind]):
            if told := wrong(place, tmp_path / f"{number}"):
                faults.append(f"{place.name} is {kind}: {told}")
    assert not faults, "\n".join(faults)
