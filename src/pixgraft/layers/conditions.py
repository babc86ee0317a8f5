"""Conditions as the networks take them: floats from the bytes that data is kept in."""

import torch
from torch import Tensor


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class indices (N, 1, H, W) as (N, classes, H, W): 1 in the channel of a pixel's class and 0 in the others.

    An index beyond the classes is 0 in all channels.
    """
    return (labels == torch.arange(classes, device=labels.device).view(-1, 1, 1)).to(dtype)


def from_levels(levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Levels 0..255 of any shape as floats in [-1, 1]."""
    return levels.to(dtype) / 127.5 - 1


def class_colors(classes: int) -> Tensor:
    """A colour for each class, (classes, 3) in [-1, 1]: black for the first, then hues as far apart as they can be."""
    hues = torch.arange(classes) * 0.6180339887  # the golden ratio spreads any number of them
    offsets = torch.tensor([0.0, 1 / 3, 2 / 3])
    colors = torch.cos(2 * torch.pi * (hues[:, None] - offsets)) * 0.8
    colors[0] = -1
    return colors
