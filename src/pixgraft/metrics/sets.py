"""Input checks that all distances between two sets of features share."""

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError

LABELS = ("real images", "fake images")
"""Default names of the two sets in error messages."""
LARGEST = 1e15
"""Largest accepted magnitude of a feature; sums of squares up to it fit into float32."""


def check_count(count: int, label: str, *, at_least: int) -> None:
    """Raise PixgraftError, naming the set, if it has fewer than `at_least` images."""
    if count < at_least:
        raise PixgraftError(f"{label}: {count} given, at least {at_least} are needed: give more images")


def checked(features: Tensor, label: str, *, at_least: int) -> Tensor:
    """The features (N, D), detached; half precision is converted to float32.

    Raises PixgraftError, naming the set, if they are not a matrix, too few, not finite or larger than `LARGEST`.
    """
    if features.ndim != 2:
        raise PixgraftError(f"{label}: features of shape {tuple(features.shape)}: give one row an image")
    check_count(len(features), label, at_least=at_least)
    if features.numel() and not (torch.stack(features.aminmax()).abs() <= LARGEST).all():
        problem = f"a feature is beyond ±{LARGEST:g} or no number"
        raise PixgraftError(f"{label}: {problem}: look for damaged images or weights")
    return features.detach() if features.dtype == torch.float64 else features.detach().float()


def checked_pair(real: Tensor, fake: Tensor, labels: tuple[str, str], *, at_least: int) -> tuple[Tensor, Tensor]:
    """Both sets, checked, with the same dtype. Raises PixgraftError also for different dimensions."""
    real, fake = (checked(each, label, at_least=at_least) for each, label in zip((real, fake), labels, strict=True))
    if real.shape[1] != fake.shape[1]:
        counts = f"{fake.shape[1]} features an image, but {real.shape[1]} in {labels[0]}"
        raise PixgraftError(f"{labels[1]}: {counts}: take both from one network")
    dtype = torch.promote_types(real.dtype, fake.dtype)
    return real.to(dtype), fake.to(dtype)
