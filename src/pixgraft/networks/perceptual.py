"""Perceptual distances between feature maps of any network (Zhang et al. 2018, equation 1)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError

SMALLEST = 32
"""Smallest side in pixels; below it the last feature map of some trunk would be empty."""


def differences(x: Sequence[Tensor], y: Sequence[Tensor]) -> list[Tensor]:
    """Squared differences (N, C) of unit-normalised maps (N, C, h, w), averaged over h and w, for each pair of maps."""
    return [(_unit(a) - _unit(b)).square().mean((2, 3)) for a, b in zip(x, y, strict=True)]


def embedded(maps: Sequence[Tensor], weights: Sequence[Tensor | float]) -> Tensor:
    """Embed maps (N, C, h, w) as points (N, E) whose squared distances are the perceptual distances.

    This is faster for many pairs of few images. `weights` holds a non-negative (C,) or scalar weight for each map.
    """
    points = []
    for x, weight in zip(maps, weights, strict=True):
        scale = torch.as_tensor(weight, dtype=x.dtype, device=x.device).reshape(-1, 1, 1) / x[0, 0].numel()
        points.append((_unit(x) * scale.sqrt()).flatten(1))
    return torch.cat(points, 1)


def _unit(x: Tensor) -> Tensor:
    # The gradient of vector_norm at zero, where all channels are 0, is zero and not NaN.
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (length + 1e-10)


def check_comparable(x: Tensor, y: Tensor) -> None:
    """Raise PixgraftError if images (N, 3, H, W) differ in shape or a side has fewer than 32 pixels."""
    if x.shape != y.shape:
        raise PixgraftError(f"images of shapes {tuple(x.shape)} and {tuple(y.shape)}: a distance needs equal ones")
    if min(x.shape[-2:]) < SMALLEST:
        size = " x ".join(map(str, x.shape[-2:]))
        raise PixgraftError(f"images of {size} pixels: a perceptual distance needs at least {SMALLEST} x {SMALLEST}")
