"""Gradient penalties on real images (Mescheder et al. 2018); they need a double backward.

Both take images (N, C, H, W) that require a gradient and the logits (N, ...) that the discriminator gave for them, and
return the mean over the batch of the squared gradient norm, a scalar without the gamma / 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _squared_gradient(of: Tensor, images: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(of, images, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean()


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
