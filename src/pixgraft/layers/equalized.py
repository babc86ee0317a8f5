"""Layers with an equalized learning rate (Karras et al. 2018, "Progressive Growing of GANs", section 4.1).

Weights are initialised from N(0, 1) and multiplied by He's constant in each forward pass. Adam's step size does not
depend on the gradient's scale, so every layer then learns equally fast relative to the size of its weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.pooled import pooled_conv2d
from pixgraft.layers.ready import plain_conv, plain_linear, plain_transposed


class EqualizedConv2d(nn.Module):
    """A 2-D convolution with `weight * gain / sqrt(fan_in)` and `bias * bias_gain`.

    `gain` is sqrt(2) before a (leaky) ReLU and 1 before a linear operation. StyleGAN2 uses the same gain for biases.
    Biases are initialised to zero.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        gain: float = math.sqrt(2),
        bias_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.bias_gain = stride, padding, bias_gain
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.scaled_bias(), stride=self.stride, padding=self.padding)

    def pooled(self, x: Tensor) -> Tensor:
        """The output after 2x2 average pooling, for a stride of 1."""
        return pooled_conv2d(x, self.weight * self.scale, self.scaled_bias(), padding=self.padding)

    def scaled_bias(self) -> Tensor | None:
        """The bias (out_channels,) that is added, if there is one."""
        return self.bias if self.bias is None or self.bias_gain == 1 else self.bias * self.bias_gain

    def ready(self) -> nn.Module:
        """A plain convolution with the scaled weight and bias."""
        return plain_conv(self.weight * self.scale, self.scaled_bias(), stride=self.stride, padding=self.padding)


class UpsamplingConv2d(EqualizedConv2d):
    """Nearest-neighbour upsampling of (N, C, s, s) by 2 and a 3x3 convolution in one step, as in the published code.

    Repeated pixels are multiplied by sums of the weights: a 4x4 transposed convolution needs 4 products instead of 9.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.sums(), self.bias, stride=2, padding=1)

    def sums(self) -> Tensor:
        """The weights (c_in, c_out, 4, 4) of the transposed convolution."""
        turned = (self.weight * self.scale).transpose(0, 1).flip(2, 3)
        return F.avg_pool2d(turned, 2, stride=1, padding=1, divisor_override=1)

    def ready(self) -> nn.ConvTranspose2d:
        """The transposed convolution."""
        return plain_transposed(self.sums(), self.bias, stride=2, padding=1)


class EqualizedLinear(nn.Module):
    """A linear layer with `weight * gain * lr_multiplier / sqrt(in_features)` and `bias * bias_gain * lr_multiplier`.

    `lr_multiplier` scales the learning rate, but not the initial function, as in StyleGAN's mapping network. The
    initial bias is `bias_start * bias_gain`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_start: float = 0.0,
        gain: float = 1.0,
        bias_gain: float = 1.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_start / lr_multiplier))
        self.scale = gain * lr_multiplier / math.sqrt(in_features)
        self.bias_scale = bias_gain * lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.bias_scale)

    def ready(self) -> nn.Linear:
        """A plain linear layer with the scaled weight and bias."""
        return plain_linear(self.weight * self.scale, self.bias * self.bias_scale)
