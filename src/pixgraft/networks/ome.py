"""The networks of OME (Guo, Shao, Li 2023, "Image-to-image translation using an offset-based multi-scale codes GAN
encoder"): the multi-scale encoder ME (section 3.2, Figure 3) and the dynamic fusion module DF (section 3.3).

There is no public code. What the paper leaves open, and the choice: the scales are FPN's P3, P4 and P5; a code's
network (F2C) is that of pSp (Richardson et al. 2021), convolutions until one pixel is left and a linear layer.

Shape letters: N images, S side of an image, M codes, D numbers of a code, C channels.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import enlarge
from pixgraft.networks.psp import StyleHead
from pixgraft.networks.resnet import ResNet

SLOPE = 0.01
"""Of the leaky ReLUs in a code's network."""
START = 0.01
"""Deviation of the first offsets, relative to what a code's network makes of its map.

The first steps then stay about the mean code, where the generator makes faces. From exactly zero, nothing below the
last layer would learn at first; nor would the fusion, which has no gradient while all codes are alike.
"""

Order = Literal["styles", "even"]


def codes_per_scale(codes: int, order: Order) -> tuple[int, int, int]:
    """How many of M codes come from the coarse, the middle and the fine map, in this order; each has one at least.

    "styles": 3, 4 and the rest, pSp's split of StyleGAN2's styles. "even": ProGAN's codes, all of which enter at the
    first layer, in shares as equal as they can be. Raises PixgraftError for fewer than three codes.
    """
    if codes < 3:
        raise PixgraftError(f"codes is {codes}: three scales need three codes or more: switch many_scales off")
    if order == "even":
        return (codes + 2) // 3, (codes + 1) // 3, codes // 3
    fine = max(codes - 7, 1)
    coarse = min(3, codes - fine - 1)
    return coarse, codes - fine - coarse, fine


def _start(module: nn.Module, *, slope: float) -> None:
    """He's start for the convolutions in a module, each before a leaky ReLU of `slope`; 1 is none."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and conv.bias is not None:
            nn.init.kaiming_normal_(conv.weight, a=slope)
            nn.init.zeros_(conv.bias)


class Pyramid(nn.Module):
    """A feature pyramid (FPN, Lin et al. 2017): every map to `width` channels, with the coarser ones added to it."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c_in, width, 1) for c_in in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        _start(self, slope=1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (N, channels[i], s / 2^i, s / 2^i), finest first, give maps (N, width, ...) of the same sides."""
        merged: list[Tensor] = []
        for lateral, each in zip(reversed(self.lateral), reversed(maps), strict=True):
            own: Tensor = lateral(each)
            merged.append(own + enlarge(merged[-1], 2) if merged else own)
        return [smooth(each) for smooth, each in zip(self.smooth, reversed(merged), strict=True)]


def code_head(c_in: int, side: int, code_dim: int) -> StyleHead:
    """F2C: a network that makes a code (N, D) of a map (N, c_in, side, side); near zero at first, see `START`."""
    head = StyleHead(c_in, code_dim, side=side)
    _start(head.convs, slope=SLOPE)
    nn.init.normal_(head.linear.weight, std=START)
    return head


class Encoder(nn.Module):
    """ME(I): a set of offsets from a condition and the current image side by side (eq. 3).

    The ablation's switches (section 4.2): without `many_scales` (MS) all codes come from the trunk's coarsest map and
    there is no pyramid; without `many_codes` (MC) there is one code, repeated M times, and so one scale. What is
    switched off has no weights.

    `scales` says for each of the M codes where it comes from: 0 the coarsest map, 2 the finest.

    Raises:
        PixgraftError: many scales without many codes, fewer codes than scales, or an image too small for the trunk.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int = 256,
        codes: int = 18,
        code_dim: int = 512,
        many_codes: bool = True,
        many_scales: bool = True,
        order: Order = "styles",
        depth: Literal[34, 50] = 50,
        base_channels: int = 64,
        small_stem: bool = False,
        width: int = 256,
    ) -> None:
        super().__init__()
        if many_scales and not many_codes:
            raise PixgraftError("many_scales without many_codes: one code comes from one scale: switch both off")
        if codes < 1:
            raise PixgraftError(f"codes is {codes}: choose 1 or more")
        self.in_channels, self.image_size, self.codes = in_channels, image_size, codes
        self.trunk = ResNet(depth=depth, in_channels=in_channels, base_channels=base_channels, small_stem=small_stem)
        smallest = 2 * self.trunk.strides[-1]
        if image_size < smallest or image_size & (image_size - 1):
            mend = "" if small_stem else ", or a small_stem"
            raise PixgraftError(f"image_size is {image_size}: choose a power of two from {smallest}{mend}")

        self.pyramid: Pyramid | None = None
        if many_scales:
            self.pyramid = Pyramid(self.trunk.channels[1:], width)
            from_each = codes_per_scale(codes, order)
            self.scales = tuple(scale for scale, count in enumerate(from_each) for _ in range(count))
        else:
            self.scales = (0,) * codes
        sides = [image_size // stride for stride in reversed(self.trunk.strides)]
        c_in = width if many_scales else self.trunk.channels[-1]
        heads = self.scales if many_codes else (0,)
        self.heads = nn.ModuleList(code_head(c_in, sides[scale], code_dim) for scale in heads)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) gives offsets (N, M, D), coarse codes first, float32 under autocast too.

        Raises PixgraftError for an input of other channels or another side.
        """
        expected = (self.in_channels, self.image_size, self.image_size)
        if x.shape[1:] != expected:
            raise PixgraftError(f"encoder: an input of shape {tuple(x.shape[1:])} where {expected} is expected")
        _, *maps = self.trunk(x)
        if self.pyramid is not None:
            maps = self.pyramid(maps)
        maps.reverse()
        found = [head(maps[scale]) for head, scale in zip(self.heads, self.scales, strict=False)]
        codes = torch.stack(found, dim=1).expand(-1, self.codes, -1)  # the single code is every layer's
        return codes if codes.dtype == torch.float64 else codes.float()


class DynamicFusion(nn.Module):
    """DF: the maps that M codes have made, merged by weights that the maps themselves decide (eqs. 7 to 10).

    One squeeze-and-excitation network, without biases, judges each code's map. As its sigmoids end within (0, 1), no
    code's weight is over e times another's.
    """

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        self.channels = channels
        squeezed = max(channels // reduction, 1)
        self.fc0 = nn.Linear(channels, squeezed, bias=False)
        self.fc1 = nn.Linear(squeezed, channels, bias=False)

    def weights(self, features: Tensor) -> Tensor:
        """beta (N, M, C) of maps (N, M, C, H, W): for each channel they sum to 1 over the codes."""
        alpha: Tensor = self.fc1(self.fc0(features.mean((3, 4))).relu()).sigmoid()
        return alpha.softmax(1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, M, C, H, W) give (N, C, H, W). Raises PixgraftError for maps of another shape or other channels."""
        if features.ndim != 5 or features.shape[2] != self.channels:
            raise PixgraftError(f"fusion: maps {tuple(features.shape)} where (N, M, {self.channels}, H, W) is expected")
        weights = self.weights(features).to(features.dtype)  # softmax is float32 under autocast
        return (features * weights[..., None, None]).sum(1)


def static_fusion(features: Tensor) -> Tensor:
    """The ablation without DF: the mean over the codes, (N, M, C, H, W) to (N, C, H, W)."""
    return features.mean(1)
