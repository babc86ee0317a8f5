"""Resampling: the papers' downscaling operators (average pooling, DS, and bicubic) and bilinear upsampling."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.layers.constants import constant

GREY_WEIGHTS = (0.3, 0.59, 0.11)
"""Weights of red, green and blue in the grey targets of I2I-LR's colour ablation."""


def average_pool(images: Tensor, size: int) -> Tensor:
    """DS: average (N, C, H, W) over whole cells to (N, C, size, size). H and W are equal multiples of `size`."""
    factor = images.shape[-1] // size
    return images if factor == 1 else F.avg_pool2d(images, factor)


def to_grey(images: Tensor) -> Tensor:
    """Luminance (N, 1, H, W) of RGB images (N, 3, H, W), in the same range."""
    red, green, blue = images.unbind(1)
    weights = GREY_WEIGHTS
    return (weights[0] * red + weights[1] * green + weights[2] * blue).unsqueeze(1)


def downscale(images: Tensor, size: int, channels: int) -> Tensor:
    """DS from (N, 3, H, W) to an LR target (N, 3, size, size), or its luminance (N, 1, size, size) for 1 channel."""
    small = average_pool(images, size)
    return to_grey(small) if channels == 1 else small


def enlarge(cells: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour upsampling of (..., H, W) by a whole factor; a right inverse of `average_pool`."""
    return cells.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def matched(images: Tensor, target: Tensor) -> Tensor:
    """Images (N, 3, S, S) moved by a smooth difference, so that DS gives the target (N, 1 or 3, L, L) but for rounding.

    They are projected onto the images that shrink to the target, as Bahat and Michaeli 2020 do for super-resolution;
    the difference is made of bilinear interpolations, not of whole cells, whose edges would show.
    """
    size = target.shape[-1]
    rows = constant(_smooth_enlarging, size, images.shape[-1] // size, like=images)
    difference = target - downscale(images, size, target.shape[1])
    return images + rows @ difference @ rows.mT


def _smooth_enlarging(size: int, factor: int) -> Tensor:
    """(size * factor, size) float64, which makes of a column of cells a smooth one whose averages are the cells."""
    middles = (np.arange(size * factor) + 0.5) / factor - 0.5
    smooth = np.maximum(1 - np.abs(middles.clip(0, size - 1)[:, None] - np.arange(size)), 0)
    averages = smooth.reshape(size, factor, size).mean(1)
    # Of numbers, not of tensors: programs that are exported have no inverse.
    return torch.tensor((smooth @ np.linalg.inv(averages)).tolist(), dtype=torch.float64)


def doubled(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling of features (N, C, H, W) by 2, in their precision under autocast too."""
    with torch.autocast(x.device.type, enabled=False):  # the CPU's autocast would return float32
        return F.interpolate(x, scale_factor=2, mode="nearest")


def upsample(images: Tensor, factor: int, *, align_corners: bool) -> Tensor:
    """Bilinear upsampling of (N, C, H, W) by a whole factor."""
    if factor == 1:
        return images
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=align_corners)


def bicubic(images: Tensor, factor: int) -> Tensor:
    """Bicubic downscaling of (N, C, H, W) by a whole factor, as in PULSE (Menon et al. 2020) and pSp.

    Keys's cubic kernel with a = -0.5 is widened by the factor (antialiasing). Images are reflected at their edges. H
    and W are multiples of the factor and larger than 1.5 times the factor. The result has the images' dtype. It may
    slightly exceed [-1, 1], because the kernel has negative lobes.
    """
    if factor == 1:
        return images
    margin = 3 * factor // 2  # pixels of the kernel on either side of a cell
    weights = constant(_cubic_weights, factor, margin, like=images)
    channels = images.shape[1]
    padded = F.pad(images, (margin, margin, margin, margin), mode="reflect")
    rows = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    columns = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    narrow = F.conv2d(padded, rows, stride=(factor, 1), groups=channels)
    return F.conv2d(narrow, columns, stride=(1, factor), groups=channels)


def _cubic_weights(factor: int, margin: int) -> Tensor:
    """Keys's kernel widened by `factor`, (factor + 2 margin,) float64, which sums to 1."""
    taps = torch.arange(factor + 2 * margin, dtype=torch.float64)
    distance = (taps - margin - (factor - 1) / 2).abs() / factor
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, far)
    return weights / weights.sum()
