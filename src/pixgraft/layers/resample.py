"""Resampling: the downscaling operators of the papers, average pooling (DS) and bicubic, and bilinear upsampling."""

import torch
import torch.nn.functional as F
from torch import Tensor

GREY_WEIGHTS = (0.3, 0.59, 0.11)
"""Red, green and blue in the grey target of I2I-LR's colour ablation."""


def average_pool(images: Tensor, size: int) -> Tensor:
    """DS: shrink (N, C, H, W) to (N, C, size, size) by averaging whole cells. H and W are multiples of `size`."""
    factor = images.shape[-1] // size
    return images if factor == 1 else F.avg_pool2d(images, factor)


def to_grey(images: Tensor) -> Tensor:
    """Luminance (N, 1, H, W) of RGB images (N, 3, H, W), in the same range."""
    red, green, blue = images.unbind(1)
    weights = GREY_WEIGHTS
    return (weights[0] * red + weights[1] * green + weights[2] * blue).unsqueeze(1)


def downscale(images: Tensor, size: int, channels: int) -> Tensor:
    """DS to an LR target of `channels`: (N, 3, H, W) to (N, 3, size, size), or to its luminance (N, 1, size, size)."""
    small = average_pool(images, size)
    return to_grey(small) if channels == 1 else small


def enlarge(cells: Tensor, factor: int) -> Tensor:
    """Each value of (..., H, W) as a square of `factor` x `factor`: what undoes `average_pool` most plainly."""
    return cells.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def upsample(images: Tensor, factor: int, *, align_corners: bool) -> Tensor:
    """Bilinear upsampling of (N, C, H, W) by a whole factor."""
    if factor == 1:
        return images
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=align_corners)


def bicubic(images: Tensor, factor: int) -> Tensor:
    """Shrink (N, C, H, W) by a whole factor as PULSE (Menon et al. 2020) and pSp do, in the images' dtype.

    Keys's cubic kernel with a = -0.5, stretched by the factor so that it also smooths, on images that are reflected at
    their edges. H and W are multiples of the factor, and above 3 / 2 of it for the reflection. The result may leave
    [-1, 1] a little: the kernel has negative lobes.
    """
    if factor == 1:
        return images
    beside = 3 * factor // 2  # pixels on either side of a cell that its mean reaches
    taps = torch.arange(factor + 2 * beside, dtype=torch.float64)
    distance = (taps - beside - (factor - 1) / 2).abs() / factor
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, far)
    weights = (weights / weights.sum()).to(images)

    channels = images.shape[1]
    padded = F.pad(images, (beside, beside, beside, beside), mode="reflect")
    rows = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    columns = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    narrow = F.conv2d(padded, rows, stride=(factor, 1), groups=channels)
    return F.conv2d(narrow, columns, stride=(1, factor), groups=channels)
