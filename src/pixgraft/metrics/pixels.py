"""Input checks, luma and Gaussian window of the metrics of single images."""

import math

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError

LUMA_WEIGHTS = (0.29893602129377533, 0.5870430744511214, 0.11402090425510324)
"""Weights of red, green and blue in MATLAB's `rgb2gray`: the first row of the inverse of its NTSC matrix. To three
digits they equal Rec. 601's 0.299, 0.587 and 0.114."""


def grey_levels(images: Tensor, name: str = "images") -> Tensor:
    """RGB images (N, 3, H, W) as float64, on their device, or on the CPU if that device has no float64 (MPS).

    Raises PixgraftError, which calls the images `name`, for another shape, no pixels, or values outside 0..255 (for
    example images in [-1, 1]).
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise PixgraftError(f"{name}: {tuple(images.shape)} is no batch of RGB images: give (N, 3, H, W), none of it 0")
    levels = (images.cpu() if images.device.type == "mps" else images).double()
    if not bool(((levels >= 0) & (levels <= 255)).all()):
        raise PixgraftError(f"{name}: values that are no grey levels: give 0..255 (`data.images.to_uint8` makes them)")
    return levels


def luma(levels: Tensor) -> Tensor:
    """Luma (N, 1, H, W) of RGB images (N, 3, H, W), in the same range; not rounded."""
    return (levels * levels.new_tensor(LUMA_WEIGHTS).view(3, 1, 1)).sum(1, keepdim=True)


def gaussian_filter(planes: Tensor, size: int, sigma: float) -> Tensor:
    """Convolve planes (N, C, H, W) with a Gaussian window of `size` x `size` pixels (odd) that sums to 1.

    Without padding: the result is (N, C, H - size + 1, W - size + 1).
    """
    weights = [math.exp(-((place - size // 2) ** 2) / (2 * sigma**2)) for place in range(size)]
    for dimension in (2, 3):  # shifted sums: a convolution in float64 takes 25 times as long on a CPU
        length = planes.shape[dimension] - size + 1
        total = torch.zeros_like(planes.narrow(dimension, 0, length))
        for place, weight in enumerate(weights):
            total.add_(planes.narrow(dimension, place, length), alpha=weight / sum(weights))
        planes = total
    return planes
