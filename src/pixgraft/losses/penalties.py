"""Penalties on a discriminator (R1, Mescheder et al. 2018; WGAN-GP, Gulrajani et al. 2017; drift, Karras et al. 2018)
and StyleGAN2's path lengths (Karras et al. 2020). All but drift need a double backward.

Penalties take images (N, C, H, W) that require a gradient and their logits (N, ...). They return the mean over the
batch, a scalar without weight: R1 returns the squared gradient norm without gamma / 2.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _squared_gradient(value: Tensor, images: Tensor) -> Tensor:
    return _gradient(value, images).square().sum(1).mean()


def _gradient(value: Tensor, images: Tensor) -> Tensor:
    """The gradient of a scalar with respect to each image, (N, C * H * W)."""
    (gradient,) = torch.autograd.grad(value, images, create_graph=True)
    return gradient.flatten(1)


def r1_of_logits(images: Tensor, logits: Tensor) -> Tensor:
    """R1 as defined (Mescheder et al. 2018): the gradient of D's output, summed over its logits."""
    return _squared_gradient(logits.sum(), images)


def r1_of_loss(images: Tensor, logits: Tensor, batch: int) -> Tensor:
    """R1 as in I2I-LR's published code: the gradient of the batch mean of softplus(-D).

    That mean divides each image's gradient by the batch size. `batch` is therefore an argument: the value does not
    depend on how the batch is split over microbatches and processes.
    """
    per_image = F.softplus(-logits).flatten(1).mean(1)
    return _squared_gradient(per_image.sum() / batch, images)


def wgan_gp(images: Tensor, logits: Tensor) -> Tensor:
    """(|grad D| - 1)^2: the penalty of WGAN-GP, eq. 3, without lambda.

    The images are random interpolations of real and generated ones: x + u (G(z) - x), u in [0, 1).
    """
    gradient = _gradient(logits.sum(), images)
    norm: Tensor = gradient.norm(dim=1)  # has the gradient 0 at 0, where that of a square root is infinite
    return (norm - 1).square().mean()


def drift(logits: Tensor) -> Tensor:
    """D(x)^2 on real images (ProGAN, appendix A.1): keeps the logits near zero. Images need no gradient.

    WGAN's losses alone leave them undetermined, because they depend only on differences of logits.
    """
    return logits.square().mean()


def path_lengths(images: Tensor, codes: Tensor) -> Tensor:
    """Path lengths (N,) of StyleGAN2 (Karras et al. 2020, section 3.2), differentiable.

    `images` (N, C, H, W) are the generator's outputs for `codes` (N, L, D), J is their Jacobian. y is an image of
    N(0, 1) pixels over sqrt(H W), drawn from torch's global generator. The length is the norm of J^T y over D, as a
    root mean square over L.
    """
    y = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * y).sum(), codes, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
