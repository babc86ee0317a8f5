"""Resizing and normalisation of images (N, 3, H, W) in [-1, 1], the input of the feature networks."""

from collections.abc import Sequence

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


def normalised(
    images: Tensor, shift: Sequence[float] = IMAGENET_SHIFT, scale: Sequence[float] = IMAGENET_SCALE
) -> Tensor:
    """(images - shift) / scale, with a shift and a scale for each of red, green and blue."""
    centre, deviation = (constant(_by_channel, tuple(values), like=images) for values in (shift, scale))
    return (images - centre) / deviation


def _by_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(3, 1, 1)
