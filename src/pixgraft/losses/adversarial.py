"""Adversarial losses on logits of any shape; each is the mean over all logits, a scalar.

With s the logistic function, -log s(t) = softplus(-t) and -log(1 - s(t)) = softplus(t).
"""

import torch.nn.functional as F
from torch import Tensor


def real_loss(logits: Tensor) -> Tensor:
    """-log s(D(x)): what the discriminator pays for doubting a real image."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Tensor) -> Tensor:
    """-log(1 - s(D(x))): what the discriminator pays for believing a generated image."""
    return F.softplus(logits).mean()


def non_saturating_generator_loss(logits: Tensor) -> Tensor:
    """-log s(D(G)): the generator's loss of Goodfellow et al. 2014, section 3, that keeps its gradient."""
    return F.softplus(-logits).mean()


def minimax_generator_loss(logits: Tensor) -> Tensor:
    """log(1 - s(D(G))): the generator's side of the minimax game as it is written."""
    return -F.softplus(logits).mean()


def least_squares_loss(logits: Tensor, target: float) -> Tensor:
    """(D(x) - target)^2 (Mao et al. 2017): the discriminator aims at 1 for real images and 0 for generated ones, the
    generator at 1 for its own."""
    return (logits - target).square().mean()
