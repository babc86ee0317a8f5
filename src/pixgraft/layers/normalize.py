"""Normalisations that separate what an image shows from how its features are scaled.

Shape letters: N images, C channels, H height, W width.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.equalized import EqualizedLinear
from pixgraft.layers.spectral import SpectralConv2d

Statistic = Literal["deviation", "variance"]
EPSILON = 1e-5


class _Pono(torch.autograd.Function):
    """Layer normalisation over C at each position, which has fast kernels, with its moments as outputs.

    Written out because PyTorch's variance over C is several times slower with channels_last on a CPU, and its layer
    norm gives no gradient to the moments. It has no double backward; nothing here needs one through a generator.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        bessel = (channels - 1) / channels  # layer norm divides by the biased deviation
        last = x.permute(0, 2, 3, 1)
        # CUDA's autocast would give float32, and the backward kernel wants one type throughout.
        with torch.autocast(x.device.type, enabled=False):
            y, mean, rstd = torch.native_layer_norm(last, (channels,), None, None, EPSILON * bessel)
        ctx.save_for_backward(last, y, mean, rstd)
        moments = (mean.permute(0, 3, 1, 2), (rstd * bessel**0.5).reciprocal().permute(0, 3, 1, 2))
        return (y * bessel**0.5).permute(0, 3, 1, 2), moments[0].to(x.dtype), moments[1].to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        last, y, mean, rstd = ctx.saved_tensors
        of_y, of_mean, of_deviation = (g.permute(0, 2, 3, 1) for g in gradients)
        channels = last.shape[-1]
        bessel = (channels - 1) / channels
        of_x: Tensor = torch.ops.aten.native_layer_norm_backward(
            (of_y * bessel**0.5).contiguous(), last, (channels,), mean, rstd, None, None, (True, False, False)
        )[0]
        # d mean / dx = 1 / C, and d deviation / dx = (x - mean) / ((C - 1) deviation).
        of_x = torch.addcmul(of_x + of_mean / channels, of_deviation * (bessel**0.5 / (channels - 1)), y)
        return of_x.permute(0, 3, 1, 2)


_apply_pono: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] = _Pono.apply


def pono(x: Tensor, statistic: Statistic = "deviation") -> tuple[Tensor, Tensor, Tensor]:
    """Positional normalisation (Li et al. 2019): zero mean and unit unbiased variance over C at each position.

    Takes (N, C, H, W) with C at least 2. Returns it normalised, the mean (N, 1, H, W) that was taken out, and the
    deviation (N, 1, H, W) that it was divided by, or that one's square where `statistic` is "variance".
    """
    y, mean, deviation = _apply_pono(x)
    return y, mean, deviation if statistic == "deviation" else deviation.square()


class InstanceNorm(nn.Module):
    """Instance normalisation (biased variance over H, W) with a learned gain and offset for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return _laid_out_as(x, F.instance_norm(x, weight=self.weight, bias=self.bias, eps=EPSILON))


def _laid_out_as(x: Tensor, y: Tensor) -> Tensor:
    """y with the channels last if x's are: PyTorch's instance norm puts them first, and each layer after it pays."""
    layout = torch.channels_last
    return y.contiguous(memory_format=layout) if x.is_contiguous(memory_format=layout) else y


def pixel_norm(x: Tensor) -> Tensor:
    """Pixel normalisation (Karras et al. 2018): (N, C, H, W) with a mean square of 1 over C at each position."""
    with torch.autocast(x.device.type, enabled=False):  # CUDA's autocast would give float32
        return F.rms_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=1e-8).permute(0, 3, 1, 2)


class AdaIN(nn.Module):
    """Adaptive instance normalisation (Huang and Belongie 2017): each channel's gain and offset from a style code.

    An equalized linear layer gives both; the gain is what it adds to 1 (Karras et al. 2019).
    """

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.style = EqualizedLinear(style_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(N, C, H, W) and codes (N, style_dim) give (N, C, H, W)."""
        gain, offset = self.style(style).to(x.dtype)[..., None, None].chunk(2, dim=1)
        return torch.addcmul(offset, 1 + gain, _laid_out_as(x, F.instance_norm(x, eps=EPSILON)))


class SPAdaIN(nn.Module):
    """Spatially adaptive instance normalisation (Wang et al. 2020): gain and offset at each position from a condition.

    `gain` says whether the 1x1 convolution gives gamma itself or what is added to 1. `spectral` puts spectral
    normalisation on both 1x1 convolutions.
    """

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        *,
        gain: Literal["gamma", "one_plus_gamma"] = "gamma",
        spectral: bool = False,
    ) -> None:
        super().__init__()
        self.gain = gain
        convolution = SpectralConv2d if spectral else nn.Conv2d
        self.gamma = convolution(condition_channels, channels, 1)
        self.beta = convolution(condition_channels, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, C, H, W) and a condition (N, condition_channels, H, W) give (N, C, H, W)."""
        gamma = self.gamma(condition)
        if self.gain == "one_plus_gamma":
            gamma = 1 + gamma
        return torch.addcmul(self.beta(condition), gamma, F.instance_norm(x, eps=EPSILON))


class MomentShortcut(nn.Module):
    """Puts moments that `pono` took out in the encoder back in the decoder (I2I-LR, section 3.3).

    "dynamic": a spectral-norm 3x3 convolution turns mean and deviation into beta and gamma, so that the source's
    structure can move to where the target wants it. "static": they go back as they are.
    """

    def __init__(self, kind: Literal["dynamic", "static"] = "dynamic") -> None:
        super().__init__()
        self.conv = SpectralConv2d(2, 2, 3, padding=1) if kind == "dynamic" else None

    def forward(self, x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """(N, C, H, W) and two maps (N, 1, H, W) give x * gamma + beta."""
        if self.conv is None:
            return x * deviation + mean
        beta, gamma = self.conv(torch.cat((mean, deviation), dim=1)).chunk(2, dim=1)
        return torch.addcmul(beta, x, gamma)
