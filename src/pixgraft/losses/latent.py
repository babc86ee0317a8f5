"""Losses of latent codes."""

from torch import Tensor


def w_norm(codes: Tensor, average: Tensor) -> Tensor:
    """pSp's regularisation (Richardson et al. 2021, L_reg): how far the codes are from the average code.

    Codes (N, L, D) and an average that fits them, (D,) or (L, D). The L2 norm over all numbers of an image's codes, as
    the published code takes it; its mean over the images. At the average itself its gradient is 0.
    """
    norms: Tensor = (codes - average).flatten(1).norm(dim=1)
    return norms.mean()
