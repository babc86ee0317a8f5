"""Normalisation layers: positional (PONO), instance, batch, pixel, adaptive (AdaIN) and spatially adaptive (SPAdaIN).

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
    """Layer normalisation over C at each position, with the moments as outputs.

    PyTorch's variance over C is several times slower with channels_last on a CPU. Its layer norm has fast kernels, but
    no gradient for the moments. There is no double backward; no penalty here differentiates twice through a generator.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        bessel = (channels - 1) / channels  # layer norm divides by the biased deviation
        last = x.permute(0, 2, 3, 1)
        # CUDA's autocast would return float32, but the backward kernel needs a single dtype.
        with torch.autocast(x.device.type, enabled=False):
            y, mean, rstd = torch.native_layer_norm(last, (channels,), None, None, EPSILON * bessel)
        ctx.save_for_backward(last, y, mean, rstd)
        moments = (mean.permute(0, 3, 1, 2), (rstd * bessel**0.5).reciprocal().permute(0, 3, 1, 2))
        return (y * bessel**0.5).permute(0, 3, 1, 2), moments[0].to(x.dtype), moments[1].to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        last, y, mean, rstd = ctx.saved_tensors
        grad_y, grad_mean, grad_deviation = (g.permute(0, 2, 3, 1) for g in gradients)
        channels = last.shape[-1]
        bessel = (channels - 1) / channels
        grad_x: Tensor = torch.ops.aten.native_layer_norm_backward(
            (grad_y * bessel**0.5).contiguous(), last, (channels,), mean, rstd, None, None, (True, False, False)
        )[0]
        # d mean / dx = 1 / C, and d deviation / dx = (x - mean) / ((C - 1) deviation).
        grad_x = torch.addcmul(grad_x + grad_mean / channels, grad_deviation * (bessel**0.5 / (channels - 1)), y)
        return grad_x.permute(0, 3, 1, 2)


_apply_pono: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] = _Pono.apply


def pono(x: Tensor, statistic: Statistic = "deviation") -> tuple[Tensor, Tensor, Tensor]:
    """Positional normalisation (Li et al. 2019): zero mean and unit unbiased variance over C at each position.

    Takes (N, C, H, W) with C >= 2. Returns the normalised features, the mean (N, 1, H, W), and the standard deviation
    (N, 1, H, W) or, if `statistic` is "variance", its square.
    """
    form = _apply_pono if torch.is_grad_enabled() else _exported_pono if torch.compiler.is_exporting() else _pono_in_use
    y, mean, deviation = form(x)
    return y, mean, deviation if statistic == "deviation" else deviation.square()


def _pono_in_use(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_Pono.forward`, in one pass over the features: the layer norm's own gain makes the deviation unbiased."""
    channels = x.shape[1]
    bessel = (channels - 1) / channels
    gain = x.new_full((channels,), bessel**0.5)
    with torch.autocast(x.device.type, enabled=False):
        y, mean, rstd = torch.native_layer_norm(x.permute(0, 2, 3, 1), (channels,), gain, None, EPSILON * bessel)
    deviation = (rstd * bessel**0.5).reciprocal()
    return y.permute(0, 3, 1, 2), mean.permute(0, 3, 1, 2).to(x.dtype), deviation.permute(0, 3, 1, 2).to(x.dtype)


def _exported_pono(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_Pono.forward`, by the formula: other engines compute it with channels first faster than a layer norm."""
    mean = x.mean(1, keepdim=True)
    centred = x - mean
    deviation = (centred.square().sum(1, keepdim=True) / (x.shape[1] - 1) + EPSILON).sqrt()
    return centred / deviation, mean, deviation


class InstanceNorm(nn.Module):
    """Instance normalisation (biased variance over H, W) with a learned gain and bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm(x, self.weight, self.bias)


def instance_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Instance normalisation of (N, C, H, W) with a gain and a bias (C,), in the features' own memory format.

    PyTorch's own returns channels first, forward and backward, which slows every later layer with channels_last. There
    each image goes through the kernels of batch normalisation, or of group normalisation where no gradient is needed.
    """
    layout = torch.channels_last
    if x.is_contiguous() or not x.is_contiguous(memory_format=layout):
        return F.instance_norm(x, weight=weight, bias=bias, eps=EPSILON)
    if x.device.type != "cpu":
        return F.instance_norm(x, weight=weight, bias=bias, eps=EPSILON).contiguous(memory_format=layout)
    if not torch.is_grad_enabled():
        return F.group_norm(x, x.shape[1], weight, bias, EPSILON)
    return torch.cat([F.batch_norm(each, None, None, weight, bias, True, 0.0, EPSILON) for each in x.split(1)])


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation without gain and bias, whose running statistics follow the passes with gradients alone.

    A pass without gradients, as for another phase's images, then changes nothing. In training the statistics are those
    of a microbatch of one process; eval mode uses the running ones, so that an image does not depend on its batch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not torch.is_grad_enabled():
            return F.batch_norm(x, None, None, training=True, eps=self.eps)
        return super().forward(x)


def pixel_norm(x: Tensor) -> Tensor:
    """Pixel normalisation (Karras et al. 2018): scale (N, C, H, W) to a mean square of 1 over C at each position."""
    with torch.autocast(x.device.type, enabled=False):  # CUDA's autocast would return float32
        return F.rms_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=1e-8).permute(0, 3, 1, 2)


class AdaIN(nn.Module):
    """Adaptive instance normalisation (Huang and Belongie 2017): gain and offset per channel from a style code.

    A linear layer, `equalized` as in Karras et al. 2019 or plain, computes gain - 1 and offset.
    """

    def __init__(self, channels: int, style_dim: int, *, equalized: bool = True) -> None:
        super().__init__()
        self.style: nn.Module = (EqualizedLinear if equalized else nn.Linear)(style_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Normalise (N, C, H, W) with codes (N, style_dim)."""
        gain, offset = self.style(style).to(x.dtype)[..., None, None].chunk(2, dim=1)
        return torch.addcmul(offset, 1 + gain, instance_norm(x))


class SPAdaIN(nn.Module):
    """Spatially adaptive instance normalisation (Wang et al. 2020): gain and offset at each position from a condition.

    The gain is the output gamma of a 1x1 convolution, or 1 + gamma if `gain` is "one_plus_gamma". `spectral` applies
    spectral normalisation to both 1x1 convolutions.
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
        """Normalise (N, C, H, W) with a condition (N, condition_channels, H, W)."""
        gamma = self.gamma(condition)
        if self.gain == "one_plus_gamma":
            gamma = 1 + gamma
        return torch.addcmul(self.beta(condition), gamma, instance_norm(x))


class MomentShortcut(nn.Module):
    """Returns the moments that `pono` removed in the encoder to the decoder (I2I-LR, section 3.3).

    "dynamic": a 3x3 convolution with spectral norm maps mean and deviation to beta and gamma, so that the source's
    structure can follow the target's. "static": the moments are used unchanged.
    """

    def __init__(self, kind: Literal["dynamic", "static"] = "dynamic") -> None:
        super().__init__()
        self.conv = SpectralConv2d(2, 2, 3, padding=1) if kind == "dynamic" else None

    def forward(self, x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """x * gamma + beta, for x (N, C, H, W) and moments (N, 1, H, W)."""
        if self.conv is None:
            return x * deviation + mean
        beta, gamma = self.conv(torch.cat((mean, deviation), dim=1)).chunk(2, dim=1)
        return torch.addcmul(beta, x, gamma)
