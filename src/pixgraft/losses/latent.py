"""Losses of latent codes."""

import torch
from torch import Tensor


def geocross(codes: Tensor) -> Tensor:
    """PULSE's geodesic cross loss (Menon et al. 2020): how far each image's codes lie apart on the sphere.

    `codes` (N, L, D), one for each layer of the generator, near the sphere of radius sqrt(D). Of every two codes of an
    image the angle between them, squared and times D; its mean over all ordered pairs, over 8; the sum over the images.
    """
    first, second = codes.unsqueeze(1), codes.unsqueeze(2)
    # 1e-9 as published: the root's gradient at a code and itself would not be a number.
    apart = ((first - second).square().sum(-1) + 1e-9).sqrt()
    together = ((first + second).square().sum(-1) + 1e-9).sqrt()
    angles = 2 * torch.atan2(apart, together)
    return (angles.square() * codes.shape[-1]).mean((1, 2)).sum() / 8


def w_norm(codes: Tensor, average: Tensor) -> Tensor:
    """pSp's regularisation (Richardson et al. 2021, L_reg): how far the codes are from the average code.

    Codes (N, L, D) and an average that fits them, (D,) or (L, D). The L2 norm over all numbers of an image's codes, as
    the published code takes it; its mean over the images. At the average itself its gradient is 0.
    """
    norms: Tensor = (codes - average).flatten(1).norm(dim=1)
    return norms.mean()
