"""Losses of latent codes."""

from torch import Tensor


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of codes (N, D): a sum over D, the mean over the images."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2


def w_norm(codes: Tensor, average: Tensor) -> Tensor:
    """pSp's regularisation L_reg (Richardson et al. 2021): the distance of codes (N, L, D) from the average code.

    `average` is (D,) or (L, D). As in the published code, the L2 norm is over all L * D numbers of an image; the loss
    is the mean over the images. At the average itself the gradient is 0.
    """
    norms: Tensor = (codes - average).flatten(1).norm(dim=1)
    return norms.mean()
