"""Minibatch standard deviation (Karras et al. 2018, "Progressive Growing of GANs", section 3): a channel by which a
discriminator recognises a generator whose images lack variation."""

import torch
from torch import Tensor


def minibatch_deviation(x: Tensor, *, group: int = 4) -> Tensor:
    """Append a channel to (N, C, H, W): the standard deviation over a group of images, averaged over C, H and W.

    Group m of M holds the images m, m + M, m + 2 M, ... Its size is the largest divisor of N that is at most `group`.
    A group of one image has the deviation 1e-4.
    """
    count = x.shape[0]
    members = next(size for size in range(min(group, count), 0, -1) if count % size == 0)
    values = x if x.dtype == torch.float64 else x.float()  # squares of small differences
    grouped = values.unflatten(0, (members, -1))
    variance = (grouped - grouped.mean(0)).square().mean(0)
    deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))
    channel = deviation.repeat(members).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
    return torch.cat((x, channel.to(x.dtype)), dim=1)
