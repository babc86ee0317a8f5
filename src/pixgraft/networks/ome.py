"""The networks of OME (Guo, Shao, Li 2023, "Image-to-image translation using an offset-based multi-scale codes GAN
encoder"): the multi-scale encoder ME (section 3.2, Figure 3) and the dynamic fusion module DF (section 3.3).

There is no public code. The paper leaves two choices open. Here the scales are FPN's P3, P4 and P5, and F2C, the head
of a code, is pSp's map2style (Richardson et al. 2021): convolutions down to one pixel, then a linear layer.

Shape letters: N images, S side of an image, M codes, D dimension of a code, C channels.
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
"""Negative slope of the leaky ReLUs in the heads."""
START = 0.01
"""Initial standard deviation of the offsets, as a fraction of the root mean square of a head's convolutional features.

The first steps then stay close to the mean code, where the generator produces faces. With exact zeros, the layers below
the last one would have no gradient, nor would the fusion, while all codes are equal.
"""

Order = Literal["styles", "even"]


def codes_per_scale(codes: int, order: Order) -> tuple[int, int, int]:
    """Numbers of codes from the coarse, middle and fine map, in this order, each at least 1.

    "styles": 3, 4 and the rest, pSp's split of StyleGAN2's styles. "even": numbers as equal as possible, for ProGAN's
    codes, which all enter at the first layer. Raises PixgraftError for fewer than three codes.
    """
    if codes < 3:
        raise PixgraftError(f"codes is {codes}: three scales need three codes or more: switch many_scales off")
    if order == "even":
        return (codes + 2) // 3, (codes + 1) // 3, codes // 3
    fine = max(codes - 7, 1)
    coarse = min(3, codes - fine - 1)
    return coarse, codes - fine - coarse, fine


def _initialize(module: nn.Module, *, slope: float) -> None:
    """He initialisation of a module's convolutions, each before a leaky ReLU of `slope`; 1 means no ReLU."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and conv.bias is not None:
            nn.init.kaiming_normal_(conv.weight, a=slope)
            nn.init.zeros_(conv.bias)


class Pyramid(nn.Module):
    """A feature pyramid (FPN, Lin et al. 2017): maps projected to `width` channels, with the coarser ones added."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c_in, width, 1) for c_in in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        _initialize(self, slope=1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map (N, channels[i], s / 2^i, s / 2^i), finest first, to maps (N, width, ...) of the same sides."""
        merged: list[Tensor] = []
        for lateral, each in zip(reversed(self.lateral), reversed(maps), strict=True):
            projected: Tensor = lateral(each)
            merged.append(projected + enlarge(merged[-1], 2) if merged else projected)
        return [smooth(each) for smooth, each in zip(self.smooth, reversed(merged), strict=True)]


def code_head(c_in: int, side: int, code_dim: int, channels: int = 0) -> StyleHead:
    """F2C: a head from maps (N, c_in, side, side) to codes (N, D), initially close to zero (see `START`).

    `channels` is the width of its convolutions, D if it is 0.
    """
    head = StyleHead(c_in, channels or code_dim, code_dim, side=side)
    _initialize(head.convs, slope=SLOPE)
    nn.init.normal_(head.linear.weight, std=START)
    return head


class Encoder(nn.Module):
    """ME(I): offsets of the codes from the concatenated condition and current image (eq. 3).

    Switches of the ablation (section 4.2): without `many_scales` (MS) all codes come from the trunk's coarsest map and
    there is no pyramid; without `many_codes` (MC) there is one code, repeated M times, and so one scale. Disabled parts
    have no weights. `scales` holds the map of each of the M codes: 0 is the coarsest, 2 the finest.

    Raises PixgraftError for many scales without many codes, fewer codes than scales, or an image too small for the
    trunk.
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
        head_channels: int = 0,
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
        self.heads = nn.ModuleList(code_head(c_in, sides[scale], code_dim, head_channels) for scale in heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, S, S) to offsets (N, M, D), coarse codes first, float32 under autocast too.

        Raises PixgraftError for an input of another shape.
        """
        expected = (self.in_channels, self.image_size, self.image_size)
        if x.shape[1:] != expected:
            raise PixgraftError(f"encoder: an input of shape {tuple(x.shape[1:])} where {expected} is expected")
        _, *maps = self.trunk(x)
        if self.pyramid is not None:
            maps = self.pyramid(maps)
        maps.reverse()
        offsets = [head(maps[scale]) for head, scale in zip(self.heads, self.scales, strict=False)]
        codes = torch.stack(offsets, dim=1).expand(-1, self.codes, -1)  # a single code is repeated for every layer
        return codes if codes.dtype == torch.float64 else codes.float()


class DynamicFusion(nn.Module):
    """DF: a weighted mean of the M codes' feature maps, with weights computed from the maps (eqs. 7 to 10).

    A squeeze-and-excitation network without biases scores each code's map. Its sigmoids are in (0, 1), so no code's
    weight is more than e times another's.
    """

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        self.channels = channels
        squeezed = max(channels // reduction, 1)
        self.fc0 = nn.Linear(channels, squeezed, bias=False)
        self.fc1 = nn.Linear(squeezed, channels, bias=False)

    def weights(self, features: Tensor) -> Tensor:
        """Weights beta (N, M, C) of maps (N, M, C, H, W), which sum to 1 over the codes for each channel."""
        alpha: Tensor = self.fc1(self.fc0(features.mean((3, 4))).relu()).sigmoid()
        return alpha.softmax(1)

    def forward(self, features: Tensor) -> Tensor:
        """Fuse maps (N, M, C, H, W) to (N, C, H, W). Raises PixgraftError for maps of another shape."""
        if features.ndim != 5 or features.shape[2] != self.channels:
            raise PixgraftError(f"fusion: maps {tuple(features.shape)} where (N, M, {self.channels}, H, W) is expected")
        weights = self.weights(features).to(features.dtype)  # softmax is float32 under autocast
        return (features * weights[..., None, None]).sum(1)


def static_fusion(features: Tensor) -> Tensor:
    """Mean over the codes, (N, M, C, H, W) to (N, C, H, W): the ablation without DF."""
    return features.mean(1)
