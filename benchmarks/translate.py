"""Speed of a model's translation, the gain of each switch, and its effect on the outputs.

The first row is plain `method.translate` in float32, one image at a time. Every other row enables the switches that it
names; its outputs for the same images are compared with those of the first row.

    python benchmarks/translate.py                                   # random weights of a small preset
    python benchmarks/translate.py --model RUN_OR_MODEL --device cuda --compile

Speed does not depend on the weights, but the differences of outputs do: measure these with a trained model.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import common
import numpy as np
import numpy.typing as npt
import torch
import tyro
from common import Timing
from torch import Tensor, nn

from pixgraft.data.images import to_uint8
from pixgraft.errors import PixgraftError
from pixgraft.layers.spectral import SpectralConv2d
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.models import load_model
from pixgraft.presets import preset

GREY_LEVELS = 127.5  # in one unit of [-1, 1]


@dataclass(frozen=True, kw_only=True)
class Options(common.CommonOptions):
    """Images per second and peak memory of translation, and the effect of each switch on the outputs."""

    preset: str = "i2ilr-small-64"
    """Preset of the networks to measure, with random weights."""
    model: str = ""
    """A trained model instead: a bundled name, a run folder or a model folder."""
    batch: int = 16
    """The larger of the two batches; the other is a single image."""
    repeats: int = 10
    """Timed passes in each row, after the warm-up."""


@dataclass(frozen=True, kw_only=True)
class Switches:
    """Switches that may make a pass faster."""

    inference_mode: bool = False
    """inference_mode instead of no_grad."""
    folded: bool = False
    """Weights divided by their spectral norm once, instead of in each forward pass."""
    channels_last: bool = False
    bfloat16: bool = False
    """Autocast."""
    compile: bool = False


@dataclass(frozen=True)
class Row:
    """One row's figures."""

    label: str
    batch: int
    timing: Timing
    """Time of one pass over `batch` images."""
    images_per_second: float
    peak_mib: float
    largest_difference: float
    """Largest difference from the first row's outputs, in grey levels before rounding."""
    changed: float
    """Fraction of the outputs' bytes that differ from the first row's."""


def folded(network: nn.Module) -> None:
    """Replace every `SpectralConv2d` in `network` by a plain convolution with weight / sigma, in place."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, SpectralConv2d):
            c_out, c_in, size, _ = layer.weight.shape
            plain = nn.Conv2d(c_in, c_out, size, padding=layer.padding, bias=layer.bias is not None)
            with torch.no_grad():
                plain.weight.copy_(layer.weight / layer.sigma())
                if plain.bias is not None and layer.bias is not None:
                    plain.bias.copy_(layer.bias)
            network.set_submodule(name, plain.to(layer.weight.device))


@contextlib.contextmanager
def _mode(switches: Switches, device: torch.device) -> Iterator[None]:
    with (
        torch.inference_mode(switches.inference_mode),
        torch.autocast(device.type, torch.bfloat16, enabled=switches.bfloat16),
    ):
        yield


def opened(options: Options, device: torch.device) -> I2ILR:
    """The method to measure, on its device. Raises PixgraftError if the model is not an I2I-LR model."""
    if options.model:
        method = load_model(options.model, device=device).method
        if not isinstance(method, I2ILR):
            raise PixgraftError(f"{options.model}: a model of {method.name}, which does not take source and target")
        return method
    torch.manual_seed(0)
    return I2ILR(preset(options.preset).method).requires_grad_(False).eval().to(device)


def measure(options: Options, switches: Switches, batch: int) -> tuple[Timing, float, npt.NDArray[np.float32]]:
    """One row's times, peak memory in MiB and outputs in [-1, 1] for all images; call it in a new process."""
    device = common.prepared(options.device, options.threads)
    method = opened(options, device)
    sources, targets = inputs(method, options.batch)
    sources, targets = sources.to(device), targets.to(device)
    if switches.folded:
        folded(method.generator)
    if switches.channels_last:
        method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        sources = sources.contiguous(memory_format=torch.channels_last)
        targets = targets.contiguous(memory_format=torch.channels_last)
    if switches.compile:
        method.generator.compile()
    with _mode(switches, device):
        parts = list(zip(sources.split(batch), targets.split(batch), strict=True))
        outputs = torch.cat([method.translate(*part).cpu() for part in parts])
        for _ in range(2):  # more warm-up, because the outputs may have taken a single pass
            method.translate(*parts[0])
        seconds = [common.clocked(lambda: method.translate(*parts[0]), device) for _ in range(options.repeats)]
    images = cast("npt.NDArray[np.float32]", outputs.numpy())
    return Timing(tuple(seconds)), common.peak_memory(device), images


def inputs(method: I2ILR, count: int) -> tuple[Tensor, Tensor]:
    """Synthetic sources (count, 3, S, S) and LR targets (count, C, L, L) in [-1, 1]: smooth blobs with some noise."""
    generator = torch.Generator().manual_seed(1)
    size = method.config.image_size
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    images = nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    images = (images + 0.1 * torch.randn(count, 3, size, size, generator=generator)).clamp(-1, 1)
    return images, method.downscale(images.roll(1, 0))


def plan(options: Options) -> list[tuple[str, Switches, int]]:
    """Rows for each switch alone, all that preserve the outputs, and all; for a single image and for a batch."""
    exact = Switches(inference_mode=True, folded=True, channels_last=True)
    everything = dataclasses.replace(exact, bfloat16=True)
    rows = [
        ("plain float32", Switches()),
        ("inference mode", Switches(inference_mode=True)),
        ("spectral norm folded", Switches(folded=True)),
        ("channels last", Switches(channels_last=True)),
        ("bfloat16", Switches(bfloat16=True)),
        ("all but bfloat16", exact),
        ("all", everything),
    ]
    if options.compile:
        rows += [
            ("torch.compile", Switches(compile=True)),
            ("all, torch.compile", dataclasses.replace(everything, compile=True)),
        ]
    return [(label, switches, batch) for batch in sorted({1, options.batch}) for label, switches in rows]


COLUMNS = (
    "switches",
    "batch",
    "images/s",
    "× first",
    "s a pass",
    "spread",
    "peak MiB",
    "largest apart",
    "changed",
)


def main() -> None:
    """Measure and print."""
    options = tyro.cli(Options)
    common.check_counts(batch=options.batch, repeats=options.repeats)
    if not options.model:
        preset(options.preset)  # rejects a wrong name before anything is measured
    facts = common.in_fresh_process(common.machine, options.device, options.threads)
    rows: list[Row] = []
    first: npt.NDArray[np.float32] | None = None
    for label, switches, batch in common.tracked(plan(options)):
        timing, peak, images = common.in_fresh_process(measure, options, switches, batch)
        first = images if first is None else first
        rows.append(row_of(label, batch, timing, peak, images, first))
    common.report(
        f"Translation with {options.model or f'{options.preset}, random weights'}",
        COLUMNS,
        [
            [
                row.label,
                str(row.batch),
                f"{row.images_per_second:.1f}",
                f"{row.images_per_second / rows[0].images_per_second:.2f}",
                f"{row.timing.median:.4f}",
                f"{100 * row.timing.spread:.0f} %",
                f"{row.peak_mib:,.0f}",
                f"{row.largest_difference:.3g}",
                f"{100 * row.changed:.2g} %",
            ]
            for row in rows
        ],
        facts | {"apart": f"from the first row, in grey levels, {options.batch} images; changed: their bytes"},
        markdown=options.markdown,
    )
    if options.json is not None:
        common.write_json(options.json, options, facts, rows)


def row_of(
    label: str,
    batch: int,
    timing: Timing,
    peak: float,
    images: npt.NDArray[np.float32],
    first: npt.NDArray[np.float32],
) -> Row:
    """The row's figures; the outputs (N, 3, S, S) are compared with the first row's."""
    largest = float(np.abs(images - first).max()) * GREY_LEVELS
    changed = to_uint8(torch.from_numpy(images)) != to_uint8(torch.from_numpy(first))
    return Row(label, batch, timing, batch / timing.median, peak, largest, float(changed.float().mean()))


if __name__ == "__main__":
    common.run_main(main)
