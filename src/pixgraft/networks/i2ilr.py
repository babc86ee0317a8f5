"""The generator and discriminator of I2I-LR (Abid et al. 2021, "Image-to-Image Translation with Low Resolution
Conditioning", section 3.3 and Figures 3 and 4).

Shape letters: N images, C channels, S side of the sharp image, L side of the low-resolution (LR) target.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.normalize import InstanceNorm, MomentShortcut, SPAdaIN, Statistic, pono
from pixgraft.layers.resample import upsample
from pixgraft.layers.spectral import SpectralConv2d

SLOPE = 0.2
UNIT_VARIANCE = 1 / math.sqrt(2)  # a residual sum of two parts of variance 1

Moments = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """What the paper leaves open in the generator's blocks."""

    statistic: Statistic = "deviation"
    shortcut: Literal["dynamic", "static"] = "dynamic"
    gain: Literal["gamma", "one_plus_gamma"] = "gamma"
    spectral_spadain: bool = False
    align_corners: bool = True


class EncoderBlock(nn.Module):
    """Pono ResBlk (Figure 4a): instance norm, convolution, PONO, twice; hands the moments on."""

    def __init__(self, c_in: int, c_out: int, *, downsample: bool, statistic: Statistic) -> None:
        super().__init__()
        self.downsample = downsample
        self.statistic: Statistic = statistic
        self.norm1 = InstanceNorm(c_in)
        self.conv1 = SpectralConv2d(c_in, c_out, 3, padding=1)
        self.norm2 = InstanceNorm(c_out)
        self.conv2 = SpectralConv2d(c_out, c_out, 3, padding=1)
        self.skip = SpectralConv2d(c_in, c_out, 1, bias=False) if c_in != c_out else None

    def forward(self, x: Tensor) -> tuple[Tensor, Moments, Moments]:
        """(N, c_in, s, s) gives (N, c_out, s or s/2, ...) and the moments at s and at the outgoing size."""
        h = self.conv1(F.leaky_relu(self.norm1(x), SLOPE))
        h, *first = pono(h, self.statistic)
        if self.downsample:
            h = F.avg_pool2d(h, 2)
            x = F.avg_pool2d(x, 2)  # before the 1x1 convolution, which commutes with it and then costs a quarter
        h = self.conv2(F.leaky_relu(self.norm2(h), SLOPE))
        h, *second = pono(h, self.statistic)
        if self.skip is not None:
            x = self.skip(x)
        return (x + h) * UNIT_VARIANCE, (first[0], first[1]), (second[0], second[1])


class DecoderBlock(nn.Module):
    """Pono SPAdaIN ResBlk (Figure 4b): SPAdaIN on the LR target, convolution, moment shortcut, twice."""

    def __init__(self, c_in: int, c_out: int, *, lr_channels: int, upsamples: bool, options: GeneratorOptions) -> None:
        super().__init__()
        self.upsamples = upsamples
        self.align_corners = options.align_corners
        self.norm1 = SPAdaIN(c_in, lr_channels, gain=options.gain, spectral=options.spectral_spadain)
        self.conv1 = SpectralConv2d(c_in, c_out, 3, padding=1)
        self.shortcut1 = MomentShortcut(options.shortcut)
        self.norm2 = SPAdaIN(c_out, lr_channels, gain=options.gain, spectral=options.spectral_spadain)
        self.conv2 = SpectralConv2d(c_out, c_out, 3, padding=1)
        self.shortcut2 = MomentShortcut(options.shortcut)
        self.skip = SpectralConv2d(c_in, c_out, 1, bias=False) if c_in != c_out else None

    def forward(self, x: Tensor, lr: Tensor, first: Moments, second: Moments) -> Tensor:
        """`lr` has x's size; `second`, the encoder block's moments at that size, comes back first, being its mirror."""
        h = self.conv1(F.leaky_relu(self.norm1(x, lr), SLOPE))
        h = self.shortcut1(h, *second)
        if self.skip is not None:
            x = self.skip(x)
        if self.upsamples:
            h, x, lr = (upsample(t, 2, align_corners=self.align_corners) for t in (h, x, lr))
        h = self.conv2(F.leaky_relu(self.norm2(h, lr), SLOPE))
        h = self.shortcut2(h, *first)
        out: Tensor = (x + h) * UNIT_VARIANCE
        return out


class Generator(nn.Module):
    """G(source, lr): the source's detail on a picture that shrinks to the LR target (Figure 3).

    The encoder halves S down to L, doubling channels from `base_channels` up to `max_channels`; the decoder mirrors
    it. Fully convolutional: only the ratio S / L is built in.
    """

    def __init__(
        self,
        *,
        image_size: int,
        lr_size: int,
        lr_channels: int = 3,
        base_channels: int = 64,
        max_channels: int = 512,
        options: GeneratorOptions | None = None,
    ) -> None:
        super().__init__()
        options = options or GeneratorOptions()
        self.align_corners = options.align_corners
        levels = int(math.log2(image_size // lr_size))
        widths = [min(base_channels << level, max_channels) for level in range(levels + 1)]

        self.from_rgb = SpectralConv2d(3, widths[0], 3, padding=1)
        encoder = [
            EncoderBlock(c_in, c_out, downsample=True, statistic=options.statistic)
            for c_in, c_out in itertools.pairwise(widths)
        ]
        encoder.append(EncoderBlock(widths[-1], widths[-1], downsample=False, statistic=options.statistic))
        self.encoder = nn.ModuleList(encoder)

        c_in = widths[-1]
        decoder = [DecoderBlock(c_in, c_in, lr_channels=lr_channels, upsamples=False, options=options)]
        for _ in range(levels):
            c_out = max(c_in // 2, min(base_channels, max_channels))
            decoder.append(DecoderBlock(c_in, c_out, lr_channels=lr_channels, upsamples=True, options=options))
            c_in = c_out
        self.decoder = nn.ModuleList(decoder)
        self.to_rgb_norm = InstanceNorm(c_in)
        self.to_rgb = SpectralConv2d(c_in, 3, 1)

    def forward(self, source: Tensor, lr: Tensor) -> Tensor:
        """Source (N, 3, S, S) and target (N, lr_channels, L, L), both in [-1, 1], give (N, 3, S, S), not clamped.

        The output is float32 under autocast too.
        """
        h = self.from_rgb(source)
        moments = []
        for block in self.encoder:
            h, first, second = block(h)
            moments.append((first, second))
        for level, block in enumerate(self.decoder):
            # The two lowest blocks work at the target's own size; the target is upsampled anew for each other one.
            condition = upsample(lr, 2 ** max(level - 1, 0), align_corners=self.align_corners)
            h = block(h, condition, *moments.pop())
        rgb: Tensor = self.to_rgb(F.leaky_relu(self.to_rgb_norm(h), SLOPE))
        return rgb if rgb.dtype == torch.float64 else rgb.float()  # grey levels are finer than bfloat16


class DiscriminatorBlock(nn.Module):
    """The residual block of StarGAN v2's discriminator, with spectral normalisation and without any other."""

    def __init__(self, c_in: int, c_out: int, *, downsample: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.conv1 = SpectralConv2d(c_in, c_out, 3, padding=1)
        self.conv2 = SpectralConv2d(c_out, c_out, 3, padding=1)
        self.skip = SpectralConv2d(c_in, c_out, 1, bias=False) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(x, SLOPE))
        if self.downsample:
            h = F.avg_pool2d(h, 2)
            x = F.avg_pool2d(x, 2)
        h = self.conv2(F.leaky_relu(h, SLOPE))
        if self.skip is not None:
            x = self.skip(x)
        out: Tensor = (x + h) * UNIT_VARIANCE
        return out


class Discriminator(nn.Module):
    """D(image, difference): is the image real, and does it shrink to the target?

    Blocks halve the image to L x L, where the LR difference joins the features. `head` "patch" then halves down to
    8x8 and ends in a valid 4x4 convolution (5x5 logits; 1x1 where L is 4), as the published code does; "single"
    halves down to 4x4 and gives one logit, as StarGAN v2 does.
    """

    def __init__(
        self,
        *,
        image_size: int,
        lr_size: int,
        lr_channels: int = 3,
        base_channels: int = 128,
        max_channels: int = 512,
        head: Literal["patch", "single"] = "patch",
    ) -> None:
        super().__init__()
        levels = int(math.log2(image_size // lr_size))
        self.from_rgb = SpectralConv2d(3, base_channels, 3, padding=1)
        blocks, width = [], base_channels
        for _ in range(levels):
            c_out = min(2 * width, max_channels)
            blocks.append(DiscriminatorBlock(width, c_out, downsample=True))
            width = c_out
        self.blocks = nn.ModuleList(blocks)

        c_out = min(2 * width, max_channels)
        joint = [DiscriminatorBlock(width + lr_channels, c_out, downsample=False)]
        final_size = min(8 if head == "patch" else 4, lr_size)
        halvings = int(math.log2(lr_size // final_size))
        joint += [DiscriminatorBlock(c_out, c_out, downsample=True) for _ in range(halvings)]
        self.joint = nn.ModuleList(joint)
        self.final = SpectralConv2d(c_out, c_out, 4)
        self.to_logits = SpectralConv2d(c_out, 1, 1)

    def forward(self, image: Tensor, difference: Tensor) -> Tensor:
        """Image (N, 3, S, S) and LR difference (N, lr_channels, L, L) give logits (N, 1, h, h), h being 5 or 1."""
        h = self.from_rgb(image)
        for block in self.blocks:
            h = block(h)
        h = torch.cat((h, difference.to(h.dtype)), dim=1)
        for block in self.joint:
            h = block(h)
        h = self.final(F.leaky_relu(h, SLOPE))
        logits: Tensor = self.to_logits(F.leaky_relu(h, SLOPE))
        return logits
