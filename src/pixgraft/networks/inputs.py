"""Resizing and normalisation of images (N, 3, H, W) in [-1, 1], the input of the feature networks."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.layers.constants import constant

IMAGENET_SHIFT = (-0.030, -0.088, -0.188)
IMAGENET_SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225), converted from [0, 1] to [-1, 1]."""


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Resize to (N, C, height, width), bilinear with antialiasing as in Pillow; no copy if the size is equal."""
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)


def levels(images: Tensor) -> Tensor:
    """The whole levels 0..255 that images have when they are stored, in float64; on the CPU if they were on MPS, which
    has none."""
    whole = ((images + 1) * 127.5).round().clamp(0, 255)
    return (whole.cpu() if whole.device.type == "mps" else whole).double()


def resized_levels(images: Tensor, height: int, width: int) -> Tensor:
    """`resized` as Pillow resizes stored images, to the very level: rows first, rounded to levels, then columns.

    The sums are of whole multiples of 2^-22, which float64 holds exactly on every device.
    """
    x = levels(images)
    x = (x @ _pillow_weights(x.shape[-1], width).to(x).mT + 0.5).floor()
    x = (_pillow_weights(x.shape[-2], height).to(x) @ x + 0.5).floor()
    return (x / 127.5 - 1).to(images)


@lru_cache
def _pillow_weights(size: int, to: int) -> Tensor:
    """Pillow's bilinear filter from `size` to `to` places as a matrix (to, size), its weights of 22 bits."""
    unit = torch.eye(size, dtype=torch.float64)[None, None]
    weights = F.interpolate(unit, (to, size), mode="bilinear", align_corners=False, antialias=True)[0, 0]
    return (weights * 2**22 + 0.5).floor() / 2**22


def normalised(
    images: Tensor, shift: Sequence[float] = IMAGENET_SHIFT, scale: Sequence[float] = IMAGENET_SCALE
) -> Tensor:
    """(images - shift) / scale, with a shift and a scale for each of red, green and blue."""
    centre, deviation = (constant(_by_channel, tuple(values), like=images) for values in (shift, scale))
    return (images - centre) / deviation


def _by_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(3, 1, 1)
