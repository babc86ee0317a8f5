"""How well an image shrinks to its low-resolution (LR) target, and the nearest image that does.

Everything is in grey levels: images (N, 3, S, S) and targets (N, C, L, L) in 0..255, C being 3, or 1 for a grey target.
The operator is average pooling over cells of S / L pixels, of the luminance where the target is grey.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pixgraft.layers.resample import downscale, enlarge, upsample

OPERATOR = "average pooling"
TOLERANCE = 1.0
"""Grey levels: what `project` reaches in each cell, and what counts as reached."""


@dataclass(frozen=True)
class Consistency:
    """The absolute difference between what one image shrinks to and its target, over all cells and channels."""

    mean: float
    largest: float
    cells: int
    beyond: int
    """Cells that differ by more than `TOLERANCE` in some channel."""


def shrink(images: Tensor, target: Tensor) -> Tensor:
    """Images (N, 3, S, S) shrunk to the size and channels of `target` (N, C, L, L)."""
    return downscale(images, target.shape[-1], target.shape[1])


def consistency(images: Tensor, target: Tensor) -> list[Consistency]:
    """One figure for each image, both in 0..255."""
    difference = (shrink(images.float(), target) - target).abs()
    return [
        Consistency(
            mean=float(each.mean()),
            largest=float(each.max()),
            cells=each[0].numel(),
            beyond=int((each.amax(0) > TOLERANCE).sum()),
        )
        for each in difference
    ]


def project(images: Tensor, target: Tensor, *, smooth_steps: int = 10) -> Tensor:
    """Images near the given ones that shrink to `target`, as whole grey levels in 0..255 (float32).

    The pseudo-inverse of average pooling adds a cell's error to each of its pixels; used alone it draws the cells'
    edges. So the error first goes back smoothly, bilinearly upsampled (back-projection, Irani and Peleg 1991), and only
    what remains is added cell by cell. Clipping at 0 and 255 takes part of it away again; the mean over a cell grows
    with the shift, so a bisection finds the shift after which the clipped pixels have the right mean. Rounding to whole
    levels then moves a mean by half a level at most. An image that is already so near in every cell stays as it is.
    """
    images, target = images.float(), target.float()
    whole = images.round().clamp(0, 255)
    near = (shrink(whole, target) - target).abs().flatten(1).amax(1) <= 0.5 + 1e-3  # float32 means of many pixels
    factor = images.shape[-1] // target.shape[-1]
    for _ in range(smooth_steps):
        error = target - shrink(images, target)
        images = (images + upsample(error, factor, align_corners=False)).clamp(0, 255)

    low, high = torch.full_like(target, -256), torch.full_like(target, 256)
    for _ in range(24):  # 512 / 2^24 of a level
        middle = (low + high) / 2
        too_bright = shrink(_shifted(images, middle, factor), target) > target
        low, high = torch.where(too_bright, low, middle), torch.where(too_bright, middle, high)
    moved = _shifted(images, (low + high) / 2, factor).round()
    return torch.where(near.view(-1, 1, 1, 1), whole, moved)


def _shifted(images: Tensor, shift: Tensor, factor: int) -> Tensor:
    return (images + enlarge(shift, factor)).clamp(0, 255)
