"""Penalties on what a discriminator gives: R1 on real images (Mescheder et al. 2018), and those of WGAN-GP (Gulrajani
et al. 2017) and of ProGAN (Karras et al. 2018). Gradient penalties need a double backward.

They take images (N, C, H, W) that require a gradient and the logits (N, ...) that the discriminator gave for them, and
return a mean over the batch, a scalar without its weight: R1 the squared gradient norm without the gamma / 2.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _squared_gradient(of: Tensor, images: Tensor) -> Tensor:
    return _gradient(of, images).square().sum(1).mean()


def _gradient(of: Tensor, images: Tensor) -> Tensor:
    """The gradient of each image as a row (N, C * H * W)."""
    (gradient,) = torch.autograd.grad(of, images, create_graph=True)
    return gradient.flatten(1)


def r1_of_logits(images: Tensor, logits: Tensor) -> Tensor:
    """R1 as defined: the gradient of D's output, summed over its logits."""
    return _squared_gradient(logits.sum(), images)


def r1_of_loss(images: Tensor, logits: Tensor, batch: int) -> Tensor:
    """What I2I-LR's published code penalises: the gradient of the batch's mean softplus(-D).

    The mean over `batch` images makes each image's gradient `batch` times smaller, so the size that the code had in
    mind is an argument; the value then does not depend on how the batch is split over microbatches and processes.
    """
    per_image = F.softplus(-logits).flatten(1).mean(1)
    return _squared_gradient(per_image.sum() / batch, images)


def wgan_gp(images: Tensor, logits: Tensor) -> Tensor:
    """WGAN-GP, eq. 3, without its lambda: how far the norm of the gradient of D's output is from 1, squared.

    The images lie between real and generated ones, each at a random share of the way: x + u (G(z) - x), u in [0, 1).
    """
    gradient = _gradient(logits.sum(), images)
    norm: Tensor = gradient.norm(dim=1)  # where it is 0 so is its own gradient; a square root's would be infinite
    return (norm - 1).square().mean()


def drift(logits: Tensor) -> Tensor:
    """ProGAN, appendix A.1, without its weight: D(x)^2 on real images, which keeps the logits near zero.

    WGAN's own losses depend on no more than differences between logits. Needs no gradient of the images.
    """
    return logits.square().mean()


def path_lengths(images: Tensor, codes: Tensor) -> Tensor:
    """How far each image moves for a small step of its codes in a random direction (Karras et al. 2020, StyleGAN2,
    section 3.2): (N,), with a graph for its own gradient.

    `images` (N, C, H, W) were made of `codes` (N, L, D). Of the Jacobian's product with random images y of unit normal
    pixels, over sqrt(H W), the norm over D, as a root mean square over L. y comes from torch's own generator.
    """
    y = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * y).sum(), codes, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
