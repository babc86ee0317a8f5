"""Reconstruction losses: scalars, means over all pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def l1(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of equal shape."""
    return (images - targets).abs().mean()


def feature_matching(features: Sequence[Sequence[Tensor]], targets: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 between the layers of discriminators (Wang et al. 2018, eq. 4): a sum over layers, a mean over scales.

    Both hold the feature maps of each layer for each scale.
    """
    distances = [
        torch.stack([l1(*pair) for pair in zip(ours, theirs, strict=True)]).sum()
        for ours, theirs in zip(features, targets, strict=True)
    ]
    return torch.stack(distances).mean()


def l2(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference of two tensors of equal shape."""
    return (images - targets).square().mean()
