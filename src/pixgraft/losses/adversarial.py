"""Adversarial losses: scalars, means over logits of any shape.

With the logistic function s, -log s(t) = softplus(-t) and -log(1 - s(t)) = softplus(t).
"""

import torch.nn.functional as F
from torch import Tensor


def real_loss(logits: Tensor) -> Tensor:
    """-log s(D(x)): the discriminator's loss on real images."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Tensor) -> Tensor:
    """-log(1 - s(D(x))): the discriminator's loss on generated images."""
    return F.softplus(logits).mean()


def non_saturating_generator_loss(logits: Tensor) -> Tensor:
    """-log s(D(G)): the generator's non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-logits).mean()


def minimax_generator_loss(logits: Tensor) -> Tensor:
    """log(1 - s(D(G))): the generator's loss in the original minimax game (Goodfellow et al. 2014, eq. 1)."""
    return -F.softplus(logits).mean()


def hinge_real_loss(logits: Tensor) -> Tensor:
    """max(0, 1 - D(x)): the discriminator's hinge loss on real images (Lim and Ye 2017)."""
    return F.relu(1 - logits).mean()


def hinge_fake_loss(logits: Tensor) -> Tensor:
    """max(0, 1 + D(G)): the discriminator's hinge loss on generated images."""
    return F.relu(1 + logits).mean()


def hinge_generator_loss(logits: Tensor) -> Tensor:
    """-D(G): the generator's loss beside the discriminator's hinge losses."""
    return -logits.mean()


def least_squares_loss(logits: Tensor, target: float) -> Tensor:
    """(D(x) - target)^2 (Mao et al. 2017). Discriminator targets: 1 for real, 0 for generated images; generator: 1."""
    return (logits - target).square().mean()
