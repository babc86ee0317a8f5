"""The generator and the style encoder of SPADE (Park et al. 2019, "Semantic Image Synthesis with Spatially-Adaptive
Normalization", section 3 and appendix A).

Shape letters: N images, K channels of a condition, S side of an image, C channels of features of side s, D dimension of
a style.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.normalize import BatchNorm, instance_norm
from pixgraft.layers.output import tanh_image
from pixgraft.layers.resample import average_pool, doubled
from pixgraft.networks.patchgan import SLOPE, convolution, initialised, xavier_std

LARGEST = 256
"""The largest side of images that the style encoder takes; others are shrunk to it, as published."""
Norm = Literal["batch", "instance"]
"""The normalisation before the modulation; the paper's is batch normalisation."""
Modulation = tuple[Tensor, Tensor]
"""Gain - 1 and offset of each feature, both (N, C, s, s): functions of the condition alone."""


class SPADE(nn.Module):
    """Spatially adaptive normalisation (section 3.1, eq. 1): gain and offset at each position from the condition.

    Two layers of 3x3 convolutions, with `hidden` channels between them, compute gain - 1 and offset.
    """

    def __init__(self, channels: int, condition_channels: int, *, hidden: int, norm: Norm) -> None:
        super().__init__()
        self.norm = BatchNorm(channels) if norm == "batch" else None
        self.shared = convolution(condition_channels, hidden, 3, padding=1, xavier=True)
        self.gain = convolution(hidden, channels, 3, padding=1, xavier=True)
        self.offset = convolution(hidden, channels, 3, padding=1, xavier=True)

    def modulation(self, condition: Tensor) -> Modulation:
        """The modulation for conditions (N, K, s, s)."""
        h = F.relu(self.shared(condition))
        return self.gain(h), self.offset(h)

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """Normalise and modulate (N, C, s, s)."""
        gain, offset = modulation
        return torch.addcmul(offset, 1 + gain, instance_norm(x) if self.norm is None else self.norm(x))


class Block(nn.Module):
    """SPADE's residual block (Figure 4): twice SPADE, leaky ReLU and a convolution with spectral norm.

    The shortcut has SPADE and a 1x1 convolution where the number of channels changes.
    """

    def __init__(self, c_in: int, c_out: int, condition_channels: int, *, hidden: int, norm: Norm) -> None:
        super().__init__()
        middle = min(c_in, c_out)
        self.norm1 = SPADE(c_in, condition_channels, hidden=hidden, norm=norm)
        self.conv1 = convolution(c_in, middle, 3, padding=1, xavier=True, spectral=True)
        self.norm2 = SPADE(middle, condition_channels, hidden=hidden, norm=norm)
        self.conv2 = convolution(middle, c_out, 3, padding=1, xavier=True, spectral=True)
        self.norm_skip: SPADE | None = None
        self.skip: nn.Module | None = None
        if c_in != c_out:
            self.norm_skip = SPADE(c_in, condition_channels, hidden=hidden, norm=norm)
            self.skip = convolution(c_in, c_out, 1, bias=False, xavier=True, spectral=True)

    def modulations(self, condition: Tensor) -> list[Modulation]:
        """The modulations of the block's two or three norms, for conditions (N, K, s, s)."""
        norms = (self.norm1, self.norm2, self.norm_skip)
        return [norm.modulation(condition) for norm in norms if norm is not None]

    def forward(self, x: Tensor, modulations: Sequence[Modulation]) -> Tensor:
        """Map (N, c_in, s, s) to (N, c_out, s, s)."""
        h = self.conv1(F.leaky_relu(self.norm1(x, modulations[0]), SLOPE))
        h = self.conv2(F.leaky_relu(self.norm2(h, modulations[1]), SLOPE))
        if self.norm_skip is not None and self.skip is not None:
            x = self.skip(self.norm_skip(x, modulations[2]))
        return torch.add(x, h)


class Generator(nn.Module):
    """G(condition, style): seven or eight blocks, between which the side is doubled `upsamplings` times, up to S.

    The first features have side S >> `upsamplings` (4, or 5 to 7, the published normal, more and most). They come from
    the style by a linear layer, or without a style (`style_dim` 0) from the condition. The widths fall from 16 times
    `base_channels` to `base_channels`, or to half of it with 7 upsamplings.

    Conditions are shrunk to the side of each block: label maps (`nearest`) by a pixel of each cell as published,
    drawings and other images by its mean.
    """

    def __init__(
        self,
        *,
        image_size: int,
        condition_channels: int,
        style_dim: int = 256,
        base_channels: int = 64,
        hidden: int = 128,
        upsamplings: int = 5,
        norm: Norm = "batch",
        nearest: bool = True,
    ) -> None:
        super().__init__()
        self.start_side, self.nearest = image_size >> upsamplings, nearest
        widths = [base_channels << level for level in (4, 4, 4, 4, 3, 2, 1, 0)]
        widths += [base_channels // 2] if upsamplings == 7 else []
        self.doubles = [False, upsamplings > 4, upsamplings > 5] + [True] * (len(widths) - 4)
        self.start: nn.Module
        if style_dim:
            features = widths[0] * self.start_side**2
            self.start = initialised(nn.Linear(style_dim, features), xavier_std(style_dim, features))
        else:
            self.start = convolution(condition_channels, widths[0], 3, padding=1, xavier=True)
        self.blocks = nn.ModuleList(
            Block(c_in, c_out, condition_channels, hidden=hidden, norm=norm)
            for c_in, c_out in itertools.pairwise(widths)
        )
        self.to_rgb = convolution(widths[-1], 3, 3, padding=1, xavier=True)

    def forward(self, condition: Tensor, style: Tensor | None = None) -> Tensor:
        """Map conditions (N, K, S, S) and styles (N, D), None without a style, to images (N, 3, S, S) in [-1, 1].

        Images are float32 under autocast too.
        """
        return self.samples(condition, [style])[0]

    def samples(self, condition: Tensor, styles: Sequence[Tensor | None]) -> list[Tensor]:
        """The output of `forward` for each of `styles`; what depends on the condition alone is computed once."""
        side, modulations = self.start_side, []
        for block, doubles in zip(self.blocks, self.doubles, strict=True):
            assert isinstance(block, Block)
            side <<= doubles
            modulations.append(block.modulations(self.shrunk(condition, side)))
        return [self.draw(self.first(condition, style), modulations) for style in styles]

    def shrunk(self, condition: Tensor, side: int) -> Tensor:
        """Conditions (N, K, S, S) at (N, K, side, side)."""
        factor = condition.shape[-1] // side
        return condition[..., ::factor, ::factor] if self.nearest else average_pool(condition, side)

    def first(self, condition: Tensor, style: Tensor | None) -> Tensor:
        """The first block's features."""
        if style is None:
            condition = self.shrunk(condition, self.start_side)
        features: Tensor = self.start(condition if style is None else style)
        return features.view(len(features), -1, self.start_side, self.start_side)

    def draw(self, x: Tensor, modulations: Sequence[Sequence[Modulation]]) -> Tensor:
        """Images of the first block's features, by each block's modulations."""
        for block, doubles, each in zip(self.blocks, self.doubles, modulations, strict=True):
            x = block(doubled(x) if doubles else x, each)
        return tanh_image(self.to_rgb(F.leaky_relu(x, SLOPE)))


class StyleEncoder(nn.Module):
    """E(image): mean and log-variance of the style (appendix A), from images of at most 256 pixels.

    Convolutions of stride 2 with spectral and instance norms lead to 4x4 features. The widths double up to 8 times
    `base_channels`.
    """

    def __init__(self, *, image_size: int, style_dim: int = 256, base_channels: int = 64) -> None:
        super().__init__()
        self.side = min(image_size, LARGEST)
        layers = self.side.bit_length() - 3
        widths = [3, *(base_channels << min(level, 3) for level in range(layers))]
        self.convs = nn.ModuleList(
            convolution(c_in, c_out, 3, stride=2, padding=1, bias=False, xavier=True, spectral=True)
            for c_in, c_out in itertools.pairwise(widths)
        )
        features = 16 * widths[-1]
        std = xavier_std(features, style_dim)
        self.to_mean = initialised(nn.Linear(features, style_dim), std)
        self.to_log_variance = initialised(nn.Linear(features, style_dim), std)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (N, 3, S, S) in [-1, 1] to means and log-variances (N, D), float32 under autocast too."""
        h = images
        if h.shape[-1] != self.side:
            h = F.interpolate(h, (self.side, self.side), mode="bilinear")
        for conv in self.convs:
            h = F.leaky_relu(instance_norm(conv(h)), SLOPE)
        mean, log_variance = self.to_mean(h.flatten(1)), self.to_log_variance(h.flatten(1))
        if mean.dtype != torch.float64:
            mean, log_variance = mean.float(), log_variance.float()
        return mean, log_variance
