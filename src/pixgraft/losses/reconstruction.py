"""Reconstruction losses: scalars, means over all pixels."""

from torch import Tensor


def l1(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of equal shape."""
    return (images - targets).abs().mean()


def l2(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference of two tensors of equal shape."""
    return (images - targets).square().mean()
