"""Losses of latent codes and noise maps."""

import torch
import torch.nn.functional as F
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


def geocross(codes: Tensor) -> Tensor:
    """GEOCROSS of PULSE (Menon et al. 2020, section 3.4): (N,), how far the L codes (N, L, D) of an image are apart.

    It is D / 8 times the mean squared angle over all ordered pairs, a code with itself among them, as in the published
    code. 0 for one code.
    """
    one, other = codes.unsqueeze(1), codes.unsqueeze(2)
    # The root's gradient at 0 is infinite.
    apart, together = ((each.square().sum(-1) + 1e-9).sqrt() for each in (one - other, one + other))
    return (2 * torch.atan2(apart, together)).square().mean((1, 2)) * codes.shape[-1] / 8


def noise_correlation(noise: Tensor) -> Tensor:
    """L_reg of StyleGAN2's projector (Karras et al. 2020, appendix D): (N,), of noise maps (N, 1, s, s).

    The squared means of the products of neighbours, across and down, are added up for the map and its halvings down to
    8 pixels, each pixel a mean of four. The authors' newer code does not double the halved maps' values; nor do we.
    """
    total = noise.new_zeros(len(noise))
    while True:
        for axis in (2, 3):
            total = total + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square()
        if noise.shape[-1] <= 8:
            return total
        noise = F.avg_pool2d(noise, 2)
