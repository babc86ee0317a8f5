"""Spectral normalisation (Miyato et al. 2018) with a separate power iteration.

PyTorch's version iterates in every training forward pass, so a network's output depends on the number of calls. Here a
forward pass has no side effect: `power_iterate` runs once after each optimizer step. Microbatches, ranks and tests of a
single loss all evaluate the same function.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.pooled import pooled_conv2d
from pixgraft.layers.ready import plain_conv


class SpectralConv2d(nn.Module):
    """A 2-D convolution with `weight / sigma`, where sigma estimates the weight's largest singular value.

    The weight W is treated as a matrix (out_channels, in_channels * k * k). The buffers `u` (out_channels,) and `v`
    (in_channels * k * k,) estimate its first singular vectors; sigma = u^T W v is differentiable with respect to W
    only. Weights start with the standard deviation `std`, by default He's; biases start at zero.
    """

    u: Tensor
    v: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        std: float | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_normal_(self.weight) if std is None else nn.init.normal_(self.weight, std=std)
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("v", torch.zeros(self.weight[0].numel()))
        if not self.weight.is_meta:  # meta tensors have no values, and each operation takes a millisecond
            power_iterate(self, iterations=10)

    def sigma(self) -> Tensor:
        """The estimated largest singular value, a scalar."""
        return torch.dot(self.u, self.weight.flatten(1) @ self.v)

    def normalized(self) -> Tensor:
        """The weight that the convolution uses."""
        with torch.autocast(self.weight.device.type, enabled=False):  # sigma, a sum of thousands of products
            return self.weight / self.sigma()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normalized(), self.bias, stride=self.stride, padding=self.padding)

    def pooled(self, x: Tensor) -> Tensor:
        """The output after 2x2 average pooling, for a stride of 1."""
        return pooled_conv2d(x, self.normalized(), self.bias, padding=self.padding)

    def ready(self) -> nn.Conv2d:
        """A plain convolution with the normalised weight."""
        return plain_conv(self.normalized(), self.bias, stride=self.stride, padding=self.padding)


@torch.no_grad()
def power_iterate(module: nn.Module, iterations: int = 1) -> None:
    """Run `iterations` steps of power iteration on `u` and `v` of every `SpectralConv2d` in `module`, in place."""
    for layer in module.modules():
        if isinstance(layer, SpectralConv2d):
            matrix = layer.weight.flatten(1)
            for _ in range(iterations):
                layer.v.copy_(F.normalize(matrix.t() @ layer.u, dim=0))
                layer.u.copy_(F.normalize(matrix @ layer.v, dim=0))
