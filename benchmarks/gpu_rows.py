"""One measurement on a device, as a line of JSON: a training step of a preset, or steps compared with the CPU's.

python benchmarks/gpu_rows.py step i2ilr-paper-128 --kind bfloat16 --device cuda
python benchmarks/gpu_rows.py agree --device cuda
"""

import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Literal

import common
import torch
from tyro.extras import SubcommandApp

from pixgraft.config import replaced
from pixgraft.engine.distributed import World
from pixgraft.methods.base import Batch
from pixgraft.presets import preset as preset_of
from pixgraft.training.loop import with_available_networks
from pixgraft.training.trainer import Trainer

Kind = Literal["float32", "TF32", "bfloat16", "channels last", "compile"]
KINDS: dict[Kind, tuple[str, ...]] = {
    "float32": (),
    "TF32": (),
    "bfloat16": ("train.precision=bfloat16",),
    "channels last": ("train.precision=bfloat16", "train.channels_last=true"),
    "compile": ("train.precision=bfloat16", "train.channels_last=true", "train.compile=true"),
}
"""The settings of each row; each but the first two adds one to those before it. All but the first allow TF32."""
LAZY = 16
"""Steps of one timed run: the period of the lazy phases."""

app = SubcommandApp()


def _alone(experiment: Any, device: torch.device) -> Trainer:
    return Trainer(with_available_networks(experiment), device, World(0, 1, 0), new=False)


def _batch(trainer: Trainer) -> Batch:
    config, count = trainer.experiment.method, trainer.experiment.train.batch
    size, spec = config.training_size, config.condition_spec
    condition = None
    if spec is not None and not spec.inversion:
        channels, levels = (1, spec.classes) if spec.kind == "labels" else (1 if spec.kind == "sketch" else 3, 256)
        condition = torch.randint(levels, (count, channels, size, size)).to(torch.uint8)
    return Batch(torch.rand(count, 3, size, size) * 2 - 1, {}, condition).to(trainer.device)


@app.command
def step(
    preset: str, /, *, kind: Kind = "float32", set: tuple[str, ...] = (), device: str = "cuda", runs: int = 3,
    lazy: int = LAZY,
) -> None:  # fmt: skip
    """Images a second and peak memory of the training steps of a preset.

    Args:
        preset: Its name.
        kind: The precision and memory format.
        set: Fields of the configuration, such as train.batch=8.
        device: cuda or cpu.
        runs: Timed runs, after one to warm up.
        lazy: Steps of each run, the period of the lazy phases.
    """
    picked = common.prepared(device, 0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = kind != "float32"
    trainer = _alone(replaced(preset_of(preset), [*KINDS[kind], *set]), picked)
    batch = _batch(trainer)

    def run() -> None:
        trainer.images_seen = 0
        for _ in range(lazy):
            trainer.step(batch)

    run()
    seconds = [common.clocked(run, picked) for _ in range(runs)]
    count = trainer.experiment.train.batch
    speed = lazy * count / statistics.median(seconds)
    print(json.dumps({
        "preset": preset, "kind": kind, "batch": count, "images_per_second": round(speed, 2),
        "peak_mib": round(common.peak_memory(picked)),
    }))  # fmt: skip


@app.command
def agree(*, device: str = "cuda", names: tuple[str, ...] = (), tolerance: float = 1e-3) -> None:
    """The losses of a step of each method's tiny experiments on the device and on the CPU, in float32 without TF32.

    Where a phase draws random numbers the device draws others, and the losses are only to be finite.

    Args:
        device: cuda or cpu.
        names: Of `tests/cases.py`; all without them.
        tolerance: Of the losses, relative.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from cases import CASES

    picked, failed = common.prepared(device, 0), False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    rows = []
    for case in CASES:
        if names and case.name not in names:
            continue
        here, there = (
            Trainer(case.experiment, each, World(0, 1, 0)).step(case.batch(4)) for each in (torch.device("cpu"), picked)
        )
        losses = [(float(value), float(there[name])) for name, value in here.items()]
        apart = max(abs(a - b) / max(abs(a), 1e-6) for a, b in losses)
        sound = all(map(math.isfinite, [b for _, b in losses])) and (case.draws or apart <= tolerance)
        failed |= not sound
        rows.append({"case": case.name, "sound": sound, "apart": None if case.draws else apart})
    print(json.dumps({"rows": rows}))
    sys.stdout.flush()
    os._exit(int(failed))


@app.command
def machine(*, device: str = "cuda") -> None:
    """The machine."""
    facts = common.machine(device, 0)
    picked = common.prepared(device, 0)
    if picked.type == "cuda":
        facts |= {"gpus": str(torch.cuda.device_count()), "cuda": str(torch.version.cuda)}
    print(json.dumps(facts | {"time": time.strftime("%Y-%m-%d", time.gmtime())}))


def main() -> None:
    """Run the verb."""
    app.cli()


if __name__ == "__main__":
    common.run_main(main)
