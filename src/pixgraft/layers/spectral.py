"""Spectral normalisation (Miyato et al. 2018) whose power iteration is a step of its own.

PyTorch's version iterates inside every training forward, so that a network's output depends on how often it was
called. Here a forward has no side effect: `power_iterate` runs once after each optimizer step, and micro-batches,
ranks and tests of a single loss all see the same function.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpectralConv2d(nn.Module):
    """A 2-D convolution by `weight / sigma`, sigma being an estimate of the weight's largest singular value.

    The weight is seen as a matrix (out_channels, in_channels * k * k). Buffers `u` (out_channels,) and `v`
    (in_channels * k * k,) are its current singular vectors; sigma = u^T W v is differentiable in W alone.
    Weights start from He's normal initialisation, biases from zero.
    """

    u: Tensor
    v: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__()
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_normal_(self.weight)
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("v", torch.zeros(self.weight[0].numel()))
        if not self.weight.is_meta:  # where there are no numbers, and each operation takes a millisecond
            power_iterate(self, iterations=10)

    def sigma(self) -> Tensor:
        """The estimated largest singular value, a scalar."""
        return torch.dot(self.u, self.weight.flatten(1) @ self.v)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # sigma is a sum over thousands of products
            weight = self.weight / self.sigma()
        return F.conv2d(x, weight, self.bias, padding=self.padding)


@torch.no_grad()
def power_iterate(module: nn.Module, iterations: int = 1) -> None:
    """Move every `SpectralConv2d` within `module` `iterations` steps toward its weight's singular vectors, in place."""
    for layer in module.modules():
        if isinstance(layer, SpectralConv2d):
            matrix = layer.weight.flatten(1)
            for _ in range(iterations):
                layer.v.copy_(F.normalize(matrix.t() @ layer.u, dim=0))
                layer.u.copy_(F.normalize(matrix @ layer.v, dim=0))
