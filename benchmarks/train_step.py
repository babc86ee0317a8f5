"""Speed of one training step of I2I-LR or StyleGAN2, and the gain of each optimisation.

The first row is the published code's step, reimplemented from its description: the same networks, batch, losses and
schedule. Each further row adds one optimisation to those before it, until the step is the one of `pixgraft train`. The
first row is measured again at the end, which shows the drift of the machine.

    python benchmarks/train_step.py                      # I2I-LR at 64x64, narrow networks: some minutes on a CPU
    python benchmarks/train_step.py --image-size 128 --channels 64 --device cuda
    python benchmarks/train_step.py --method stylegan2 --image-size 256 --channels 128 --batch 4

For I2I-LR a batch of N images is N/2 pairs; each image is source and target once. Images per second are computed from
the medians over the repetitions; steps with and without the lazy phases are weighted by their frequencies.
"""

import contextlib
import dataclasses
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import common
import published_i2ilr
import published_stylegan2
import torch
import tyro
from common import Timing
from steps import LAZY, CommonSwitches, Kind

from pixgraft.engine.memory import keep_freed_memory
from pixgraft.errors import PixgraftError

METHODS: dict[str, ModuleType] = {"i2ilr": published_i2ilr, "stylegan2": published_stylegan2}


@dataclass(frozen=True, kw_only=True)
class Options(common.CommonOptions):
    """Images per second and peak memory of one training step, one row for each optimisation."""

    method: Literal["i2ilr", "stylegan2"] = "i2ilr"
    image_size: int = 64
    """Side of the images: a power of two from 32."""
    channels: int = 0
    """The generator's channels at full size; 0: 24 for I2I-LR, 64 as published, and 64 for StyleGAN2, 128 as published
    at 256 pixels. All other widths follow."""
    batch: int = 8
    """Images per step, an even number."""
    repeats: int = 3
    """Timed steps of each kind in each row, after the warm-up."""
    ends: bool = False
    """Only the first row, the last two and the repeated first one, for large networks."""

    def configuration(self, switches: CommonSwitches) -> Any:
        """The method's. Raises PixgraftError for a size that it does not have."""
        module = METHODS[self.method]
        return module.configuration(self.image_size, self.channels or module.CHANNELS, self.batch, switches)


@dataclass(frozen=True)
class Row:
    """One row's figures."""

    label: str
    timings: dict[str, Timing]
    """By kind of step."""
    seconds: float
    """Mean seconds per step, over all kinds."""
    images_per_second: float
    peak_mib: float


def measure(label: str, options: Options, switches: CommonSwitches) -> Row:
    """Measure one row; call it in a new process."""
    if switches.memory:
        keep_freed_memory()
    device = common.prepared(options.device, options.threads)
    torch.manual_seed(0)
    images = torch.rand(options.batch, 3, options.image_size, options.image_size, device=device) * 2 - 1
    with contextlib.ExitStack() as stack:
        config = options.configuration(switches)
        kinds: list[Kind] = [*METHODS[options.method].kinds(config, switches, device, images, stack)]
        for kind in kinds * (1 if device.type == "cpu" else 3):
            kind.run()  # the first run creates optimizer states, compiles and selects kernels
        seconds: dict[str, list[float]] = {kind.label: [] for kind in kinds}
        for _ in range(options.repeats):
            for kind in kinds:
                seconds[kind.label].append(common.clocked(kind.run, device))
    timings = {label: Timing(tuple(values)) for label, values in seconds.items()}
    mean = sum(timings[kind.label].median * kind.count for kind in kinds) / LAZY
    return Row(label, timings, mean, options.batch / mean, common.peak_memory(device))


def plan(options: Options) -> list[tuple[str, CommonSwitches]]:
    """The rows in order; each includes the switches of the previous ones."""
    module = METHODS[options.method]
    first: CommonSwitches = module.Switches()
    rows = [("published step", first)]
    for label, name in module.ADDED:
        if name != "compile" or options.compile:
            rows.append((label, dataclasses.replace(rows[-1][1], **{name: True})))
    if options.ends:
        rows = [rows[0], *rows[-2:]]
    return [*rows, ("published step, once more", first)]


def lines(rows: list[Row], kinds: list[str]) -> list[list[str]]:
    """The table's cells."""
    table = []
    for number, row in enumerate(rows):
        before = rows[max(number - 1, 0)]
        again = number == len(rows) - 1
        table.append(
            [
                row.label,
                f"{row.images_per_second:.2f}",
                f"{rows[0].seconds / row.seconds:.2f}",
                "" if again or number == 0 else f"{before.seconds / row.seconds:.2f}",
                *(f"{row.timings[kind].median:.3f}" if kind in row.timings else "" for kind in kinds),
                f"{100 * max(timing.spread for timing in row.timings.values()):.0f} %",
                f"{row.peak_mib:,.0f}",
            ]
        )
    return table


def main() -> None:
    """Measure and print."""
    options = tyro.cli(Options)
    common.check_counts(repeats=options.repeats)
    if options.batch < 2 or options.batch % 2:
        raise PixgraftError(f"--batch {options.batch}: choose an even number, images being trained in pairs")
    if options.channels < 0:
        raise PixgraftError(f"--channels {options.channels}: choose a number from 0")
    rows_of = plan(options)
    options.configuration(rows_of[0][1])  # rejects a wrong size before anything is measured
    facts = common.in_fresh_process(common.machine, options.device, options.threads)
    rows = [common.in_fresh_process(measure, label, options, switches) for label, switches in common.tracked(rows_of)]
    module, kinds = METHODS[options.method], [*max((row.timings for row in rows), key=len)]
    channels = options.channels or module.CHANNELS
    common.report(
        f"{module.TITLE} training step, {options.image_size}x{options.image_size}, batch {options.batch}, "
        f"{channels} channels",
        ("step", "images/s", "× first", "× before", *kinds, "spread", "peak MiB"),
        lines(rows, kinds),
        facts,
        markdown=options.markdown,
    )
    if options.json is not None:
        common.write_json(options.json, options, facts, rows)


if __name__ == "__main__":
    common.run_main(main)
