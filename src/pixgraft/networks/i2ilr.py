"""The generator and discriminator of I2I-LR (Abid et al. 2021, "Image-to-Image Translation with Low Resolution
Conditioning", section 3.3 and Figures 3 and 4).

Shape letters: N images, C channels, S side of the full-resolution image, L side of the low-resolution (LR) target.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.equalized import EqualizedConv2d
from pixgraft.layers.normalize import InstanceNorm, MomentShortcut, SPAdaIN, Statistic, pono
from pixgraft.layers.ready import leaky_relu
from pixgraft.layers.resample import matched, upsample
from pixgraft.layers.spectral import SpectralConv2d

SLOPE = 0.2
UNIT_VARIANCE = 1 / math.sqrt(2)  # for the residual sum of two terms of variance 1

Moments = tuple[Tensor, Tensor]
WeightNorm = Literal["spectral", "equalized"]
"""How a discriminator's weights are scaled: by their spectral norm, or by He's constant (equalized learning rate)."""


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Options of the generator's blocks that the paper leaves open."""

    statistic: Statistic = "deviation"
    shortcut: Literal["dynamic", "static"] = "dynamic"
    gain: Literal["gamma", "one_plus_gamma"] = "gamma"
    spectral_spadain: bool = False
    align_corners: bool = True
    final_norm: Literal["instance", "spadain"] = "instance"
    """The normalisation before the output's convolution: StarGAN v2's, which removes each channel's mean and so makes
    an image's colours hard to set, or SPAdaIN with the enlarged LR target, which sets them directly."""
    output: Literal["image", "edit"] = "image"
    """What the last convolution gives: the image, or the gain and the offset of an edit of the source."""
    exact: bool = False
    """A last step without weights, `matched`, after which the image shrinks to the target."""


class EncoderBlock(nn.Module):
    """Pono ResBlk (Figure 4a): twice instance norm, convolution and PONO; it also returns the moments."""

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
        """Map (N, c_in, s, s) to (N, c_out, s or s/2, ...), the moments at side s, and those at the output's side."""
        h = self.conv1(leaky_relu(self.norm1(x), SLOPE))
        h, *first = pono(h, self.statistic)
        if self.downsample:
            h = F.avg_pool2d(h, 2)
            x = F.avg_pool2d(x, 2)  # commutes with the 1x1 convolution, which then costs a quarter
        h = self.conv2(leaky_relu(self.norm2(h), SLOPE))
        h, *second = pono(h, self.statistic)
        if self.skip is not None:
            x = self.skip(x)
        return (x + h) * UNIT_VARIANCE, (first[0], first[1]), (second[0], second[1])


class DecoderBlock(nn.Module):
    """Pono SPAdaIN ResBlk (Figure 4b): twice SPAdaIN with the LR target, convolution and moment shortcut."""

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
        """`lr` and the moments `second` have x's side; the encoder block's moments are used in reverse order."""
        h = self.conv1(leaky_relu(self.norm1(x, lr), SLOPE))
        h = self.shortcut1(h, *second)
        if self.skip is not None:
            x = self.skip(x)
        if self.upsamples:
            h, x, lr = (upsample(t, 2, align_corners=self.align_corners) for t in (h, x, lr))
        h = self.conv2(leaky_relu(self.norm2(h, lr), SLOPE))
        h = self.shortcut2(h, *first)
        return torch.mul(x + h, UNIT_VARIANCE)


class Generator(nn.Module):
    """G(source, lr): an image with the source's detail that shrinks to the LR target (Figure 3).

    The encoder halves the side from S to L and doubles the channels from `base_channels` up to `max_channels`; the
    decoder mirrors it. The network is fully convolutional: only the ratio S / L is fixed.
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
        self.align_corners, self.exact, self.edits = options.align_corners, options.exact, options.output == "edit"
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
        self.to_rgb_norm: InstanceNorm | SPAdaIN = InstanceNorm(c_in)
        if options.final_norm == "spadain":
            self.to_rgb_norm = SPAdaIN(c_in, lr_channels, gain=options.gain, spectral=options.spectral_spadain)
        self.to_rgb: nn.Module = _no_edit(c_in) if self.edits else SpectralConv2d(c_in, 3, 1)

    def forward(self, source: Tensor, lr: Tensor) -> Tensor:
        """Map sources (N, 3, S, S) and targets (N, lr_channels, L, L), both in [-1, 1], to images (N, 3, S, S).

        The output is not clamped, and is float32 under autocast too.
        """
        h = self.from_rgb(source)
        moments = []
        for block in self.encoder:
            h, first, second = block(h)
            moments.append((first, second))
        for level, block in enumerate(self.decoder):
            # The two lowest blocks have the target's side; for each other block the target is upsampled to its side.
            condition = upsample(lr, 2 ** max(level - 1, 0), align_corners=self.align_corners)
            h = block(h, condition, *moments.pop())
        if isinstance(self.to_rgb_norm, SPAdaIN):
            full = upsample(lr, 2 ** (len(self.decoder) - 1), align_corners=self.align_corners)
            h = self.to_rgb_norm(h, full)
        else:
            h = self.to_rgb_norm(h)
        rgb: Tensor = self.to_rgb(leaky_relu(h, SLOPE))
        rgb = rgb if rgb.dtype == torch.float64 else rgb.float()  # bfloat16 is coarser than grey levels
        if self.edits:
            rgb = source * (1 + rgb[:, 3:]) + rgb[:, :3]
        if not self.exact:
            return rgb
        with torch.autocast(rgb.device.type, enabled=False):
            return matched(rgb, lr.to(rgb.dtype))


def _no_edit(channels: int) -> nn.Conv2d:
    """The convolution to an edit's three offsets and its gain, which begins with zeros: the source as it is."""
    convolution = nn.Conv2d(channels, 4, 1)
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(cast(Tensor, convolution.bias))
    return convolution


def _convolution(
    norm: WeightNorm,
    c_in: int,
    c_out: int,
    size: int,
    *,
    padding: int = 0,
    bias: bool = True,
    gain: float = math.sqrt(2),
) -> SpectralConv2d | EqualizedConv2d:
    if norm == "spectral":
        return SpectralConv2d(c_in, c_out, size, padding=padding, bias=bias)
    return EqualizedConv2d(c_in, c_out, size, padding=padding, bias=bias, gain=gain)


class DiscriminatorBlock(nn.Module):
    """The residual block of StarGAN v2's discriminator, with normalised weights and no other normalisation."""

    def __init__(self, c_in: int, c_out: int, *, downsample: bool, norm: WeightNorm) -> None:
        super().__init__()
        self.downsample = downsample
        self.conv1 = _convolution(norm, c_in, c_out, 3, padding=1)
        self.conv2 = _convolution(norm, c_out, c_out, 3, padding=1)
        self.skip = _convolution(norm, c_in, c_out, 1, bias=False, gain=1.0) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(x, SLOPE)
        h = self.conv1.pooled(h) if self.downsample else self.conv1(h)
        h = self.conv2(F.leaky_relu(h, SLOPE))
        if self.downsample:
            x = F.avg_pool2d(x, 2)
        if self.skip is not None:
            x = self.skip(x)
        return torch.mul(x + h, UNIT_VARIANCE)


class Discriminator(nn.Module):
    """D(image, difference): logits of the image being real and shrinking to the target.

    Blocks halve the image to L x L, where the LR difference is concatenated to the features. `head` "patch", as in the
    published code, halves down to 8x8 and ends in a 4x4 convolution without padding (5x5 logits, or 1x1 for L = 4).
    "single", as in StarGAN v2, halves down to 4x4 and returns one logit.
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
        norm: WeightNorm = "spectral",
    ) -> None:
        super().__init__()
        levels = int(math.log2(image_size // lr_size))
        self.from_rgb = _convolution(norm, 3, base_channels, 3, padding=1, gain=1.0)
        blocks, width = [], base_channels
        for _ in range(levels):
            c_out = min(2 * width, max_channels)
            blocks.append(DiscriminatorBlock(width, c_out, downsample=True, norm=norm))
            width = c_out
        self.blocks = nn.ModuleList(blocks)

        c_out = min(2 * width, max_channels)
        joint = [DiscriminatorBlock(width + lr_channels, c_out, downsample=False, norm=norm)]
        final_size = min(8 if head == "patch" else 4, lr_size)
        halvings = int(math.log2(lr_size // final_size))
        joint += [DiscriminatorBlock(c_out, c_out, downsample=True, norm=norm) for _ in range(halvings)]
        self.joint = nn.ModuleList(joint)
        self.final = _convolution(norm, c_out, c_out, 4)
        self.to_logits = _convolution(norm, c_out, 1, 1, gain=1.0)

    def forward(self, image: Tensor, difference: Tensor) -> Tensor:
        """Map images (N, 3, S, S) and LR differences (N, lr_channels, L, L) to logits (N, 1, h, h); h is 5 or 1."""
        h = self.from_rgb(image)
        for block in self.blocks:
            h = block(h)
        h = torch.cat((h, difference.to(h.dtype)), dim=1)
        for block in self.joint:
            h = block(h)
        h = self.final(F.leaky_relu(h, SLOPE))
        logits: Tensor = self.to_logits(F.leaky_relu(h, SLOPE))
        return logits
