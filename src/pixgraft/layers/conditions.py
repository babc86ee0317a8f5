"""Conditions: what a method takes, and the floats that its networks get from the bytes of a data set."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import average_pool

Condition = Literal["labels", "sketch", "image", "lr"]
"""A map of class indices (a mask is one of two classes), a grey drawing, a colour image, or a small one enlarged."""
Enlarging = Literal["bicubic", "bilinear", "nearest"]
"""The filter that enlarges a small image."""


@dataclass(frozen=True)
class ConditionSpec:
    """The conditions that a method takes: uint8 (N, C, size, size), class indices or levels 0..255."""

    kind: Condition
    size: int
    """Side in pixels."""
    classes: int = 0
    """Number of classes; 0 unless `kind` is "labels"."""
    inversion: bool = False
    """The condition is the target image itself, so that training data has images alone."""
    enlarging: Enlarging = "bicubic"
    """For `kind` "lr"."""

    def check(self, condition: Tensor) -> None:
        """Raise PixgraftError unless `condition` has this type, shape and classes, with N of 1 or more."""
        shape = (stored_channels(self.kind), self.size, self.size)
        expected = ", ".join(map(str, shape))
        if condition.shape[1:] != shape or not len(condition):
            raise PixgraftError(f"conditions are {tuple(condition.shape)}: give (N, {expected})")
        if condition.dtype != torch.uint8:
            raise PixgraftError(f"conditions are {condition.dtype}: give uint8 (N, {expected})")
        if torch.compiler.is_exporting():  # no exported program looks at values: an index beyond the classes is none
            return
        if self.kind == "labels" and int(condition.max()) >= self.classes:
            raise PixgraftError(f"a condition has class {int(condition.max())}: there are 0 to {self.classes - 1}")

    def pictured(self, condition: Tensor) -> Tensor:
        """Conditions (N, C, H, W) as pictures (N, 3, H, W) in [-1, 1], each class in its own colour."""
        if self.kind == "labels":
            colors = class_colors(self.classes).to(condition.device)
            return colors[condition[:, 0].long()].permute(0, 3, 1, 2)
        return from_levels(condition).expand(-1, 3, -1, -1)


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


def stored_channels(kind: Condition) -> int:
    """Channels of a condition as data keeps it: one of class indices or grey levels, or three of colours."""
    return 1 if kind in ("labels", "sketch") else 3


def condition_channels(kind: Condition, classes: int = 0) -> int:
    """Channels of a condition as the networks take it: one for each class, or those of the picture."""
    return classes if kind == "labels" else stored_channels(kind)


def encoded(condition: Tensor, kind: Condition, classes: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Conditions as data keeps them, uint8 (N, C, H, W), as floats (N, K, H, W): one-hot, or levels in [-1, 1].

    Raises PixgraftError if they are not bytes, or not of the kind's channels.
    """
    expected = stored_channels(kind)
    if condition.dtype != torch.uint8:
        raise PixgraftError(f"condition: {condition.dtype}, not torch.uint8: give class indices, or levels 0 to 255")
    if condition.ndim != 4 or condition.shape[1] != expected:
        found = f"{condition.shape[1]} channels" if condition.ndim == 4 else f"shape {tuple(condition.shape)}"
        raise PixgraftError(f"condition: {found}, but one of kind {kind} has {expected}: give (N, {expected}, H, W)")
    return one_hot(condition, classes, dtype) if kind == "labels" else from_levels(condition, dtype)


def joined(condition: Tensor, image: Tensor, *, kind: Condition, classes: int = 0) -> Tensor:
    """A condition and the image made of it so far, side by side: x || y of OME's eq. 1, (N, K + 3, S, S).

    `condition` is as data keeps it, uint8 (N, C, S, S), at the side that the encoder takes; `image` is (N, 3, H, H) in
    [-1, 1] of any side, brought to S by the mean of whole cells where they fit, and bilinearly otherwise.

    Raises PixgraftError if the condition or the image has other channels, or their numbers differ.
    """
    x = encoded(condition, kind, classes, image.dtype)
    if image.ndim != 4 or image.shape[1] != 3:
        found = f"{image.shape[1]} channels" if image.ndim == 4 else f"shape {tuple(image.shape)}"
        raise PixgraftError(f"image: {found}, but it has 3, red, green and blue: give (N, 3, H, H)")
    if len(image) != len(x):
        raise PixgraftError(f"{len(x)} conditions and {len(image)} images: give one image for each condition")
    return torch.cat((x, fitted(image, x.shape[-1])), dim=1)


def fitted(images: Tensor, size: int) -> Tensor:
    """Images (N, C, H, H) at (N, C, size, size): by the mean of whole cells where they fit, else bilinearly."""
    side = images.shape[-1]
    if side % size == 0:
        return average_pool(images, size)
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
