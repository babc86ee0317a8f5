"""Modulated convolution (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", section 2.2).

A style scales each input channel of the weights (eq. 1). Demodulation normalises each output channel to unit standard
deviation (eq. 3). Both forms are plain PyTorch and differentiable any number of times.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.equalized import EqualizedLinear
from pixgraft.layers.filtered import blur

EPSILON = 1e-8

Form = Literal["scaled", "grouped"]
"""Implementation of the convolution with per-image weights. "scaled" scales the features before and after a shared
convolution; "grouped" computes each image's weights and runs one grouped convolution. They agree up to rounding. On a
CPU "scaled" is never slower, and up to three times as fast for small images with many channels."""


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    *,
    bias: Tensor | None = None,
    gain: float = 1.0,
    upsample: bool = False,
    form: Form = "scaled",
    energy: Tensor | None = None,
) -> Tensor:
    """Convolve features (N, C, H, W) with a weight (O, C, k, k), k odd, and styles (N, C); returns (N, O, H, W).

    `upsample` doubles H and W with the filter [1, 3, 3, 1] and needs k = 3. The result is multiplied by `gain` before
    the `bias` (O,) is added. `energy` (C, O) is the weight's squares summed over k x k, if it is known.
    """
    if form == "scaled":
        return _scaled(x, weight, style, bias, gain, upsample, energy)
    return _grouped(x, weight, style, bias, gain, upsample)


def weight_energy(weight: Tensor) -> Tensor:
    """The squares of a weight (O, C, k, k), summed over k x k: (C, O)."""
    return weight.square().sum((2, 3)).T


def _scaled(
    x: Tensor, weight: Tensor, style: Tensor, bias: Tensor | None, gain: float, upsample: bool, energy: Tensor | None
) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):  # a sum of thousands of squares needs float32
        power = style.square() @ (weight_energy(weight) if energy is None else energy)
        demodulation = gain * torch.rsqrt(power + EPSILON)
    x = x * style.to(x.dtype)[..., None, None]
    if upsample:
        x = blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), padding=1, gain=4.0)
    else:
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    demodulation = demodulation.to(x.dtype)[..., None, None]
    buffer = x if not torch.is_grad_enabled() else None
    if bias is None:
        return torch.mul(x, demodulation, out=buffer)
    return torch.addcmul(bias.to(x.dtype).view(-1, 1, 1), x, demodulation, out=buffer)


def _grouped(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor | None, gain: float, upsample: bool) -> Tensor:
    count, side = len(x), weight.shape[-1]
    with torch.autocast(x.device.type, enabled=False):
        weights = weight * style[:, None, :, None, None]
        weights = weights * (gain * torch.rsqrt(weights.square().sum((2, 3, 4), keepdim=True) + EPSILON))
    x = x.reshape(1, -1, *x.shape[2:])
    if upsample:
        x = F.conv_transpose2d(x, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=count)
    else:
        x = F.conv2d(x, weights.flatten(0, 1), padding=side // 2, groups=count)
    x = x.reshape(count, -1, *x.shape[2:])
    if upsample:
        x = blur(x, padding=1, gain=4.0)
    return x if bias is None else x + bias.to(x.dtype).view(-1, 1, 1)


class ModulatedConv2d(nn.Module):
    """A modulated and demodulated convolution; an equalized linear layer maps a code to the style.

    Weights are equalized: initialised from N(0, 1) and divided by sqrt(fan_in) in each forward pass. Styles start near
    1. `gain` multiplies the output, bias included. `form` may be changed at any time.
    """

    energy: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        style_dim: int,
        upsample: bool = False,
        gain: float = 1.0,
        form: Form = "scaled",
    ) -> None:
        super().__init__()
        self.upsample, self.gain, self.form = upsample, gain, form
        self.affine: nn.Module = EqualizedLinear(style_dim, in_channels, bias_start=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("energy", None)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map features (N, in_channels, H, W) and codes (N, style_dim) to (N, out_channels, H, W), or 2 H and 2 W."""
        with torch.autocast(x.device.type, enabled=False):
            style = self.affine(code.to(self.bias.dtype)) * self.scale  # the style is smaller than the weight
        return modulated_conv2d(
            x, self.weight, style, bias=self.bias * self.gain, gain=self.gain, upsample=self.upsample, form=self.form,
            energy=self.energy,
        )  # fmt: skip

    def ready(self) -> "ModulatedConv2d":
        """The same layer, which remembers the sums of its squared weights."""
        self.energy = weight_energy(self.weight)
        return self

    def lower(self, dtype: torch.dtype) -> None:
        """Round the weight; `energy` stays that of the weight before."""
        self.weight = nn.Parameter(self.weight.to(dtype), requires_grad=False)


class ModulatedPixels(nn.Module):
    """A modulated 1x1 convolution with bias and without demodulation, for few output channels (features to RGB).

    The weights are computed per image: scaling the features would take longer than everything else.
    """

    def __init__(self, in_channels: int, out_channels: int, *, style_dim: int) -> None:
        super().__init__()
        self.affine = EqualizedLinear(style_dim, in_channels, bias_start=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map features (N, in_channels, H, W) and codes (N, style_dim) to (N, out_channels, H, W)."""
        with torch.autocast(x.device.type, enabled=False):
            style = self.affine(code.to(self.weight.dtype)) * self.scale
            weights = (self.weight.flatten(1) * style[:, None]).to(x.dtype)
            bias = self.bias.to(x.dtype)
            if x.dtype == torch.bfloat16 and x.is_contiguous(memory_format=torch.channels_last):
                # A bfloat16 product copies transposed features, which takes four times as long as the product.
                pixels = torch.baddbmm(bias, x.permute(0, 2, 3, 1).flatten(1, 2), weights.mT).mT
            else:
                pixels = torch.baddbmm(bias[:, None], weights, x.flatten(2))
        return pixels.reshape(len(x), -1, *x.shape[2:])
