"""What the tests of training share: small data sets, a small experiment, runs through the command line."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine.checkpoint import Checkpoint
from pixgraft.engine.distributed import World
from pixgraft.engine.log import RunLog
from pixgraft.methods.base import Batch
from pixgraft.presets import preset
from pixgraft.training.experiment import Experiment
from pixgraft.training.trainer import Trainer

PRESET = "i2ilr-tiny-32"
CPU = torch.device("cpu")
ALONE = World(0, 1, 0)
TIMES = ("seconds", "speed")

SETTINGS = (
    "method.generator_channels=4",
    "method.generator_max_channels=8",
    "method.discriminator_channels=4",
    "method.discriminator_max_channels=8",
    "method.r1_every=3",
    "train.log_every=4",
    "train.checkpoint_every=16",
    "train.keep=0",
    "train.sample_every=28",
)
"""A run in which all that could break a resume happens within 12 steps of 4 images: R1 at the steps 0, 3, 6 and 9, so
that some of it falls on either side of any stop; augmentation and mirroring as the preset has them."""


def make_images(folder: Path, count: int = 6, *, side: int = 40) -> Path:
    """A folder of `count` PNG files of smooth colours under some noise, each different."""
    folder.mkdir(parents=True)
    for index in range(count):
        noise = np.random.default_rng(index)
        coarse = Image.fromarray(noise.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((side, side + 4), Image.Resampling.BICUBIC)).astype(np.int16)
        pixels += noise.integers(-20, 21, pixels.shape, dtype=np.int16)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{index:02d}.png")
    return folder


def make_pairs(folder: Path, count: int = 6, *, side: int = 40) -> Path:
    """`images/` and `masks/`: pictures, and a map of four classes that follows their lightness."""
    make_images(folder / "images", count, side=side)
    (folder / "masks").mkdir()
    for path in sorted((folder / "images").iterdir()):
        grey = np.asarray(Image.open(path).convert("L"))
        Image.fromarray((grey // 64).astype(np.uint8)).save(folder / "masks" / path.name)
    return folder


def experiment(*settings: str) -> Experiment:
    """The small experiment, with further settings."""
    return replaced(preset(PRESET), [*SETTINGS, *settings])


def trainer(*settings: str) -> Trainer:
    """A Trainer of it on the CPU, alone."""
    return Trainer(experiment(*settings), CPU, ALONE)


def arguments(data: Path, out: Path, *settings: str, flags: tuple[str, ...] = ()) -> list[str]:
    """The command line that trains it."""
    each = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    return ["train", PRESET, "--data", str(data), "--out", str(out), "--device", "cpu", *flags, *each]


def run(data: Path, out: Path, *settings: str, flags: tuple[str, ...] = ()) -> int:
    """Train it through the command line; returns the exit status."""
    return main(arguments(data, out, *settings, flags=flags))


def newest(out: Path) -> Checkpoint:
    """The newest good checkpoint of a run folder."""
    found, _ = checkpoints.latest(out / "checkpoints")
    assert found is not None
    return found


def assert_equal(a: Checkpoint, b: Checkpoint) -> None:
    """Equal bits in every tensor of two checkpoints, and the same optimizer settings."""
    assert a.images_seen == b.images_seen
    assert a.meta["optimizers"] == b.meta["optimizers"]
    names, others = ({group: sorted(c.groups[group]) for group in c.groups} for c in (a, b))
    assert names == others
    differing = [
        f"{group}/{name}"
        for group in a.groups
        for name, tensor in a.groups[group].items()
        if not torch.equal(tensor, b.groups[group][name])
    ]
    assert not differing


def load(checkpoint: Checkpoint, *settings: str) -> Trainer:
    """A Trainer as it was when it saved this."""
    loaded = trainer(*settings)
    loaded.load(checkpoint)
    return loaded


def assert_close(a: Trainer, b: Trainer, tolerance: float) -> None:
    """Two Trainers that took one step, of which no more than rounding differs: each last gradient, and all weights but
    one in a hundred, agree to an absolute tolerance.

    Adam's first step is as long for a gradient of rounding as for any other, so that the weights which have no other
    (such as a bias before a normalisation, which takes it away) differ. Compare after one step: later, rounding
    moves some activation over the kink of its slope, and then a gradient by much more.
    """
    apart = total = 0
    for name, optimizer in a.optimizers.items():
        other = b.optimizers[name]
        for group, others in zip(optimizer.param_groups, other.param_groups, strict=True):
            for weight, twin in zip(group["params"], others["params"], strict=True):
                # The first moment is the last gradient, beta1 being 0.
                gradients = (optimizer.state[weight]["exp_avg"], other.state[twin]["exp_avg"])
                torch.testing.assert_close(*gradients, rtol=0, atol=tolerance)
                apart += int(((weight - twin).abs() > tolerance).sum())
                total += weight.numel()
    assert apart <= total / 100


def log_lines(out: Path) -> list[dict[str, Any]]:
    """A run's log without what depends on the clock."""
    return [
        {key: value for key, value in line.items() if key not in TIMES} for line in RunLog(out / "log.jsonl").lines()
    ]


def tree(folder: Path) -> dict[str, str]:
    """The files beneath a folder, each with the SHA-256 of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def some_images(count: int = 4, *, seed: int = 0) -> Tensor:
    """(count, 3, 32, 32) in [-1, 1]."""
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def some_batch(count: int = 4, *, seed: int = 0) -> Batch:
    """The same as a batch."""
    return Batch(some_images(count, seed=seed), {})
