"""How the feature networks take images: resized and normalised by themselves, from (N, 3, H, W) in [-1, 1]."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

IMAGENET_SHIFT = (-0.030, -0.088, -0.188)
IMAGENET_SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225), moved from [0, 1] to [-1, 1]."""


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """(N, C, height, width) by antialiased bilinear resampling, as Pillow's; the images themselves if they fit."""
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)


def normalised(
    images: Tensor, shift: Sequence[float] = IMAGENET_SHIFT, scale: Sequence[float] = IMAGENET_SCALE
) -> Tensor:
    """(images - shift) / scale, both given for each of red, green and blue."""
    centre, deviation = (images.new_tensor(values).view(3, 1, 1) for values in (shift, scale))
    return (images - centre) / deviation
