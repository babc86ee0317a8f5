"""The self-check of an imported generator: signs of a wrong layout in its images.

Weights that are misplaced, flipped or transposed still load if their shapes fit. The images then show it: stripes of
every other pixel (resampling filters, upsampling convolutions), values far outside [-1, 1], flat or equal images (a
layer without a signal), noise. The limits are well outside natural images, as tests show.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError

STRIPES = 6.0
"""The most energy at the Nyquist frequency of one axis, relative to the frequencies below; photographs have about 1."""

LEAST_STRIPES = 0.5
"""The least amplitude of stripes, in grey levels; weaker ones are ignored."""

SATURATED = 0.5
"""The largest share of values at or beyond -1 and 1; a black or white background has less."""

LARGEST = 4.0
"""The largest absolute value; StyleGAN2 does not clamp its images, and exceeds 1 slightly."""

FLAT = 2.0
"""The least deviation within an image, and of a pixel between images, in grey levels."""

NOISE = 0.4
"""The least correlation of neighbouring pixels; natural images have 0.8 and more, noise has 0."""

SMALLEST = 16
"""The smallest side of an image, in pixels, that can be judged."""

_LEVEL = 1 / 127.5


@dataclass(frozen=True)
class Marks:
    """The figures of all images together, by which `check_images` judges them."""

    stripes: dict[str, tuple[float, float]]
    """For "vertical" and "horizontal": the energy at the Nyquist frequency relative to that below it, and its amplitude
    in grey levels."""
    saturated: float
    largest: float
    within: float
    """The deviation of an image's pixels from the means of its channels, the median over images, in grey levels."""
    between: float
    """The root mean square deviation of a pixel over the images, in grey levels; nan for a single image."""
    correlation: float
    """The correlation of neighbouring pixels, averaged over both directions; nan for flat images."""


@dataclass(frozen=True)
class Checked:
    """The result of a generator's self-check."""

    findings: list[str]
    marks: Marks | None
    """None if a value is not finite."""
    count: int
    """The number of images."""


def check_generator(draw: Callable[[Tensor], Tensor], *, latent: int, count: int = 8, seed: int = 0) -> Checked:
    """The self-check of a generator that draws images (N, 3, S, S) in [-1, 1] from codes (N, `latent`).

    It draws `count` images from standard normal codes on the CPU, in one batch, for `check_images`.
    """
    latents = torch.randn(count, latent, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return Checked(*check_images(draw(latents)), count)


def check_images(images: Tensor) -> tuple[list[str], Marks | None]:
    """The signs of a wrong layout in images (N, 3, S, S) in [-1, 1], unclamped, N > 1 and S >= 16, in words.

    No signs do not mean that the images are good. The second value is the figures, if all values are finite.

    Raises PixgraftError for tensors of another shape.
    """
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < SMALLEST or shape[0] < 2:
        raise PixgraftError(f"self-check: images of shape {shape}: give two or more, (N, 3, S, S) with S >= {SMALLEST}")
    broken = images.numel() - int(images.isfinite().sum())
    if broken:
        return [f"{broken / images.numel():.1%} of the values are not finite"], None
    figures = marks(images)
    findings = [
        f"{direction} stripes of every other pixel: {ratio:.1f} times the energy of the frequencies below"
        f" (limit {STRIPES:g}), {amplitude:.1f} grey levels"
        for direction, (ratio, amplitude) in figures.stripes.items()
        if ratio > STRIPES and amplitude > LEAST_STRIPES
    ]
    if figures.largest > LARGEST:
        findings.append(f"values up to {figures.largest:.3g} in size, where 1 is white (limit {LARGEST:g})")
    if figures.saturated > SATURATED:
        findings.append(f"{figures.saturated:.0%} of the values are black or white to the full (limit {SATURATED:.0%})")
    if figures.within < FLAT:
        findings.append(f"flat images: within one, pixels deviate by {figures.within:.2f} grey levels (limit {FLAT:g})")
    if figures.between < FLAT:
        findings.append(
            f"equal images: between them, a pixel deviates by {figures.between:.2f} levels (limit {FLAT:g})"
        )
    if figures.correlation < NOISE:
        findings.append(f"noise: neighbouring pixels correlate by {figures.correlation:.2f} (limit {NOISE:g})")
    return findings, figures


def marks(images: Tensor) -> Marks:
    """The figures of finite images (N, 3, S, S) in [-1, 1], S >= 16; float64 within."""
    images = images.detach().double().cpu()
    sizes = images.abs()
    centred = images - images.mean((2, 3), keepdim=True)
    within = centred.square().mean((1, 2, 3)).sqrt()
    between = images.var(0).mean().sqrt() if len(images) > 1 else torch.tensor(math.nan)
    correlations = [
        (centred[..., 1:] * centred[..., :-1]).mean() / centred.square().mean(),
        (centred[..., 1:, :] * centred[..., :-1, :]).mean() / centred.square().mean(),
    ]
    return Marks(
        stripes={"vertical": _stripes(images), "horizontal": _stripes(images.transpose(2, 3))},
        saturated=float((sizes >= 1).double().mean()),
        largest=float(sizes.max()),
        within=float(within.median()) / _LEVEL,
        between=float(between) / _LEVEL,
        correlation=float(sum(correlations)) / 2,
    )


def _stripes(images: Tensor) -> tuple[float, float]:
    """Energy along the rows at the Nyquist frequency relative to those below it, and the amplitude in grey levels.

    A Hann window keeps the step between the two ends of a row out of all frequencies. It spreads a line to the
    frequency beside it, which therefore is not among those below.
    """
    side = images.shape[-1]
    window = torch.hann_window(side, periodic=True, dtype=images.dtype)
    rows = (images - images.mean(-1, keepdim=True)) * window
    energy = torch.fft.rfft(rows).abs().square().mean((0, 1, 2))
    highest, below = energy[-1], energy[-2 - max(4, side // 16) : -2].mean()
    return float(highest / below.clamp_min(1e-20)), float(highest.sqrt() / window.sum()) / _LEVEL
