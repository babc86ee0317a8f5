"""Whether an imported generator draws pictures: the marks that a wrong layout leaves on its images.

Weights in the wrong place, flipped or transposed still load where their shapes fit. What comes out then betrays it:
stripes of every other pixel (resampling filters, upsampling convolutions), values far outside [-1, 1], flat or equal
images (a layer that gets no signal), noise. The limits lie well outside natural images; tests hold them there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError

STRIPES = 6.0
"""Energy at the Nyquist frequency along one axis against that of the frequencies below it; near 1 for photographs."""

LEAST_STRIPES = 0.5
"""Grey levels: weaker stripes are not told, whatever their surroundings."""

SATURATED = 0.5
"""The share of values at or beyond -1 and 1; a black or white ground takes up less."""

LARGEST = 4.0
"""The largest absolute value: StyleGAN2 does not clamp, and goes beyond 1 a little."""

FLAT = 2.0
"""Grey levels: the deviation within an image, and that of a pixel between images."""

NOISE = 0.4
"""Correlation of a pixel with the one beside it: natural images have 0.8 and more, noise has 0."""

SMALLEST = 16
"""Pixels a side: of smaller images too little is left to judge."""

_LEVEL = 1 / 127.5


@dataclass(frozen=True)
class Marks:
    """What `check_images` judges, of all images together."""

    stripes: dict[str, tuple[float, float]]
    """For "vertical" and "horizontal": the energy at Nyquist's frequency against that below it, and its amplitude in
    grey levels."""
    saturated: float
    largest: float
    within: float
    """Grey levels: the deviation of an image's pixels from its channels' means; the median over images."""
    between: float
    """Grey levels: a pixel's deviation over the images, as a root mean square; nan for a single image."""
    correlation: float
    """Of neighbouring pixels, the mean of both directions; nan for flat images."""


@dataclass(frozen=True)
class Checked:
    """What came of a generator's self-check."""

    findings: list[str]
    marks: Marks | None
    """None where values are not finite."""
    count: int
    """How many images were drawn."""


def check_generator(draw: Callable[[Tensor], Tensor], *, latent: int, count: int = 8, seed: int = 0) -> Checked:
    """What speaks against a generator that makes images (N, 3, S, S) in [-1, 1] of latents (N, `latent`).

    It gets `count` standard normal latents on the CPU, all at once. Findings as `check_images` gives them.
    """
    latents = torch.randn(count, latent, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        findings, found = _check(draw(latents))
    return Checked(findings, found, count)


def check_images(images: Tensor) -> list[str]:
    """What speaks against images (N, 3, S, S) in [-1, 1], unclamped, N > 1 and S >= 16: its figures in words.

    An empty list says that they may well be pictures, not that they are good ones.

    Raises PixgraftError for tensors of another shape.
    """
    return _check(images)[0]


def _check(images: Tensor) -> tuple[list[str], Marks | None]:
    """The findings, and what they are drawn from if all values are finite."""
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < SMALLEST or shape[0] < 2:
        raise PixgraftError(f"self-check: images of shape {shape}: give two or more, (N, 3, S, S) with S >= {SMALLEST}")
    broken = images.numel() - int(images.isfinite().sum())
    if broken:
        return [f"{broken / images.numel():.1%} of the values are not finite"], None
    found = marks(images)
    findings = [
        f"{direction} stripes of every other pixel: {ratio:.1f} times the energy of the frequencies below"
        f" (limit {STRIPES:g}), {amplitude:.1f} grey levels"
        for direction, (ratio, amplitude) in found.stripes.items()
        if ratio > STRIPES and amplitude > LEAST_STRIPES
    ]
    if found.largest > LARGEST:
        findings.append(f"values up to {found.largest:.3g} in size, where 1 is white (limit {LARGEST:g})")
    if found.saturated > SATURATED:
        findings.append(f"{found.saturated:.0%} of the values are black or white to the full (limit {SATURATED:.0%})")
    if found.within < FLAT:
        findings.append(f"flat images: within one, pixels deviate by {found.within:.2f} grey levels (limit {FLAT:g})")
    if found.between < FLAT:
        findings.append(f"equal images: between them, a pixel deviates by {found.between:.2f} levels (limit {FLAT:g})")
    if found.correlation < NOISE:
        findings.append(f"noise: neighbouring pixels correlate by {found.correlation:.2f} (limit {NOISE:g})")
    return findings, found


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
    """Energy along the rows at the highest frequency against those below it, and the amplitude in grey levels.

    A Hann window keeps the jump between the two ends of a row from all frequencies; it spreads a line to the one beside
    it, which is left out of the surroundings.
    """
    side = images.shape[-1]
    window = torch.hann_window(side, periodic=True, dtype=images.dtype)
    rows = (images - images.mean(-1, keepdim=True)) * window
    energy = torch.fft.rfft(rows).abs().square().mean((0, 1, 2))
    highest, below = energy[-1], energy[-2 - max(4, side // 16) : -2].mean()
    return float(highest / below.clamp_min(1e-20)), float(highest.sqrt() / window.sum()) / _LEVEL
