"""Speed of StyleGAN2's synthesis and training, by the form of its modulated convolution.

Synthesis maps codes W+ to images, with configuration F's widths and random weights. A training step is the mean over 16
steps, so that all lazy phases are included. The forms are those of `layers/modulated.py`.

    python benchmarks/synthesis.py                           # 256 and 1024, one image and 8
    python benchmarks/synthesis.py --no-synthesis --steps    # training
"""

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import common
import torch
import tyro
from common import Timing

from pixgraft.config import replaced
from pixgraft.engine.distributed import World
from pixgraft.layers.modulated import Form, ModulatedConv2d
from pixgraft.methods.base import Batch
from pixgraft.networks.stylegan2 import Generator
from pixgraft.presets import preset
from pixgraft.training.trainer import Trainer

KINDS: tuple[tuple[Literal["float32", "bfloat16"], bool], ...] = (
    ("float32", False),
    ("float32", True),
    ("bfloat16", True),
)
"""(precision, channels_last) of the rows."""

LAZY = 16
"""Steps per timed run: the period of the lazy phases."""


@dataclass(frozen=True, kw_only=True)
class Options(common.CommonOptions):
    """Images a second of StyleGAN2's synthesis and of its training, by form of the modulated convolution."""

    sizes: tuple[int, ...] = (256, 1024)
    """Sides of the images."""
    batches: tuple[int, ...] = (1, 8)
    synthesis: bool = True
    steps: bool = False
    """Also measure whole training steps."""
    preset: str = "stylegan2-small-32"
    """Preset of the training steps."""
    repeats: int = 5
    """Timed passes in each row, after a warm-up."""


@dataclass(frozen=True)
class Task:
    """The measurement of one row."""

    form: Form
    precision: Literal["float32", "bfloat16"]
    channels_last: bool
    batch: int
    size: int = 0
    """Side of the images, for synthesis; 0 for training."""
    preset: str = ""
    """Preset, for training."""


@dataclass(frozen=True)
class Row:
    """One row's figures."""

    task: Task
    timing: Timing
    """Time of one pass or one step."""
    images_per_second: float
    peak_mib: float


def measured(task: Task, options: Options) -> Row:
    """Measure the row of a task, in this process."""
    device = common.prepared(options.device, options.threads)
    timing = Timing(_synthesis(task, options, device)) if task.size else Timing(_steps(task, options, device))
    return Row(task, timing, task.batch / timing.median, common.peak_memory(device))


def _synthesis(task: Task, options: Options, device: torch.device) -> tuple[float, ...]:
    torch.manual_seed(0)
    network = Generator(image_size=task.size).eval().requires_grad_(False).to(device).synthesis
    _take(network, task.form)
    low = task.precision == "bfloat16"
    if task.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    codes = torch.randn(task.batch, network.layers, 512, device=device)

    def draw() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
            network(codes, noise="stored")

    draw()
    return tuple(common.clocked(draw, device) for _ in range(options.repeats))


def _steps(task: Task, options: Options, device: torch.device) -> tuple[float, ...]:
    settings = [f"train.precision={task.precision}", f"train.channels_last={str(task.channels_last).lower()}"]
    experiment = replaced(preset(task.preset), settings)
    trainer = Trainer(experiment, device, World(rank=0, size=1, local_rank=0))
    _take(trainer.method, task.form)
    side, count = experiment.method.image_size, experiment.train.batch
    images = torch.rand(count, 3, side, side) * 2 - 1

    def many() -> None:
        for _ in range(LAZY):
            trainer.step(Batch(images, {}))

    trainer.step(Batch(images, {}))
    return tuple(common.clocked(many, device) / LAZY for _ in range(options.repeats))


def _take(module: torch.nn.Module, form: Form) -> None:
    for layer in module.modules():
        if isinstance(layer, ModulatedConv2d):
            layer.form = form


def main(options: Options) -> None:
    """Measure every row in a new process and print the table."""
    common.check_counts(repeats=options.repeats, **{f"batches_{b}": b for b in options.batches})
    tasks: list[Task] = []
    for form, (precision, last) in itertools.product(get_args(Form), KINDS):
        if options.synthesis:
            each = itertools.product(options.sizes, options.batches)
            tasks += [Task(form, precision, last, batch, size=size) for size, batch in each]
        if options.steps:
            tasks.append(Task(form, precision, last, preset(options.preset).train.batch, preset=options.preset))
    tasks.sort(key=lambda task: (task.preset, task.size, task.batch))
    rows = [common.in_fresh_process(measured, task, options) for task in common.tracked(tasks)]
    facts = common.in_fresh_process(common.machine, options.device, options.threads)
    if options.json:
        common.write_json(options.json, options, facts, rows)
    common.report(
        "StyleGAN2 by form of its modulated convolution",
        ["what", "form", "precision", "channels", "batch", "s / image", "images/s", "spread", "peak MiB"],
        [
            [
                f"synthesis {row.task.size}" if row.task.size else f"step of {row.task.preset}",
                row.task.form,
                row.task.precision,
                "last" if row.task.channels_last else "first",
                str(row.task.batch),
                f"{1 / row.images_per_second:.3f}",
                f"{row.images_per_second:.2f}",
                f"{row.timing.spread:.0%}",
                f"{row.peak_mib:,.0f}",
            ]
            for row in rows
        ],
        facts,
        markdown=options.markdown,
    )


if __name__ == "__main__":
    common.run_main(lambda: main(tyro.cli(Options)))
