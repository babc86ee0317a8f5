"""Resampling of StyleGAN2's features with the anti-aliasing filter [1, 3, 3, 1] (Karras et al. 2020, "Analyzing and
Improving the Image Quality of StyleGAN"; the filter is from Zhang 2019, "Making Convolutional Networks Shift-Invariant
Again").

Each function is one depthwise 4x4 convolution with zero padding, the fastest plain form on a CPU, above all with
channels_last. The output has the input's dtype, under autocast too.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.layers.constants import constant

TAPS = (1.0, 3.0, 3.0, 1.0)


def _kernel(x: Tensor, gain: float) -> Tensor:
    """The depthwise filter (C, 1, 4, 4), which sums to `gain`."""
    return constant(_filter, gain, like=x).expand(x.shape[1], 1, 4, 4)


def _filter(gain: float) -> Tensor:
    """The filter (4, 4), which sums to `gain`; its values are sums of few powers of two, exact in any precision."""
    taps = torch.tensor(TAPS) / sum(TAPS)
    return gain * torch.outer(taps, taps)


def blur(x: Tensor, padding: int, *, gain: float = 1.0) -> Tensor:
    """Filter (N, C, H, W) with `padding` zeros on each side; returns (N, C, H + 2 padding - 3, ...)."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, _kernel(x, gain), padding=padding, groups=x.shape[1])


def filtered_downsample(x: Tensor) -> Tensor:
    """Halve H and W, both even, of (N, C, H, W)."""
    slow = torch.is_grad_enabled() and x.dtype == torch.bfloat16 and x.device.type == "cpu"
    return _half(x) if slow else _downsample(x)


def _downsample(x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, _kernel(x, 1.0), stride=2, padding=1, groups=x.shape[1])


class _Half(torch.autograd.Function):
    """`_downsample` with a gradient in float32: in bfloat16 the CPU's kernel for it takes sixty times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return _downsample(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _spread(gradients[0], ctx.shape)


class _Spread(torch.autograd.Function):
    """The adjoint of `_Half`: each is the other's gradient."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, shape: torch.Size) -> Tensor:
        wide, layout = y.float(), torch.channels_last
        if not y.is_contiguous(memory_format=layout):
            layout = torch.contiguous_format
        unread = torch.empty(shape, dtype=wide.dtype, device=wide.device, memory_format=layout)
        x: Tensor = torch.ops.aten.convolution_backward(
            wide,
            unread,
            _kernel(wide, 1.0),
            None,
            (2, 2),
            (1, 1),
            (1, 1),
            False,
            (0, 0),
            shape[1],
            (True, False, False),
        )[0]
        return x.to(y.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _half(gradients[0]), None


_half: Callable[[Tensor], Tensor] = _Half.apply
_spread: Callable[[Tensor, torch.Size], Tensor] = _Spread.apply


def filtered_upsample(x: Tensor) -> Tensor:
    """Double H and W of (N, C, H, W)."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv_transpose2d(x, _kernel(x, 4.0), stride=2, padding=1, groups=x.shape[1])
