"""Consistency of images with their low-resolution (LR) targets, and a projection onto consistent images.

Images (N, 3, S, S) and targets (N, C, L, L) are grey levels in 0..255; C is 3, or 1 for a grey target. The operator
is average pooling over cells of S / L by S / L pixels, applied to the luminance if the target is grey; that of
`downscaling` is bicubic.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pixgraft.layers.resample import bicubic, downscale, enlarge, upsample

OPERATOR = "average pooling"
TOLERANCE = 1.0
"""Largest difference, in grey levels, of a consistent cell; `project` reaches it in every cell."""

EPSILON = 1e-3
"""Largest downscaling loss of a consistent image, as pSp's application to super-resolution has it."""


@dataclass(frozen=True)
class Consistency:
    """Absolute difference between one shrunk image and its target, in grey levels, over all cells and channels."""

    mean: float
    largest: float
    cells: int
    beyond: int
    """Number of cells that differ by more than `TOLERANCE` in some channel."""


def shrink(images: Tensor, target: Tensor) -> Tensor:
    """Images (N, 3, S, S) shrunk to the size and channels of `target` (N, C, L, L)."""
    return downscale(images, target.shape[-1], target.shape[1])


def consistency(images: Tensor, target: Tensor) -> list[Consistency]:
    """The consistency of each image (N, 3, S, S) with its target (N, C, L, L), both in 0..255."""
    difference = (shrink(images.float(), target) - target).abs()
    return [
        Consistency(float(each.mean()), float(each.max()), each[0].numel(), int((each.amax(0) > TOLERANCE).sum()))
        for each in difference
    ]


def figures(after: list[Consistency], before: list[Consistency] | None) -> list[dict[str, Any]]:
    """What a report says of each image: its consistency, and that before it was projected, if it was."""
    return [
        {"difference": asdict(each)} | ({"difference_before_projection": asdict(before[number])} if before else {})
        for number, each in enumerate(after)
    ]


def downscaling(images: Tensor, small: Tensor) -> Tensor:
    """PULSE's downscaling loss (Menon et al. 2020) of images (N, 3, S, S) and small ones (N, 3, L, L), grey levels in
    0..255: the mean squared difference after bicubic shrinking, of levels in 0..1, float64 (N,)."""
    shrunk = bicubic(images.double() / 255, images.shape[-1] // small.shape[-1])
    return (shrunk - small.double() / 255).square().mean((1, 2, 3))


def project(images: Tensor, target: Tensor, *, smooth_steps: int = 10) -> Tensor:
    """Images close to the given ones that shrink to `target`, as whole grey levels in 0..255 (float32).

    `smooth_steps` of back-projection (Irani and Peleg 1991) add the bilinearly upsampled error. The remaining error is
    added cell by cell; this pseudo-inverse of average pooling alone would show the cells' edges. Values are clipped to
    0..255, so each cell's shift is found by bisection: the cell's mean is monotonic in it. Rounding to whole levels
    changes a mean by at most half a level. An image that is already within half a level in every cell is only rounded.
    """
    images, target = images.float(), target.float()
    whole = images.round().clamp(0, 255)
    near = (shrink(whole, target) - target).abs().flatten(1).amax(1) <= 0.5 + 1e-3  # 1e-3: rounding of float32 means
    factor = images.shape[-1] // target.shape[-1]
    for _ in range(smooth_steps):
        error = target - shrink(images, target)
        images = (images + upsample(error, factor, align_corners=False)).clamp(0, 255)

    low, high = torch.full_like(target, -256), torch.full_like(target, 256)
    for _ in range(24):  # to 512 / 2^24 of a level
        middle = (low + high) / 2
        too_bright = shrink(_shifted(images, middle, factor), target) > target
        low, high = torch.where(too_bright, low, middle), torch.where(too_bright, middle, high)
    projected = _shifted(images, (low + high) / 2, factor).round()
    return torch.where(near.view(-1, 1, 1, 1), whole, projected)


def _shifted(images: Tensor, shift: Tensor, factor: int) -> Tensor:
    return (images + enlarge(shift, factor)).clamp(0, 255)
