"""pSp's encoders (Richardson et al. 2021, "Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation"):
conditions to the codes of a StyleGAN2 generator, as differences from its average code.

`StyleEncoder` is the paper's: features of three sizes, and a convolutional head for each style (map2style).
`SingleStyleEncoder` is the ablation in W: one code for all styles from the last features. Layers and their names are
those of GradualStyleEncoder and BackboneEncoderUsingLastLayerIntoW in eladrich/pixel2style2pixel. Shape letters: L
styles, D dimension of a code, S side of a condition.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.equalized import EqualizedLinear
from pixgraft.layers.resample import upsample
from pixgraft.networks.irse import STAGES, input_layer, irse50_body

Maps = Literal["pyramid", "smallest", "largest"]
COARSE, MIDDLE = 3, 7
"""Styles below `COARSE` use the smallest features, those below `MIDDLE` the middle ones, the others the largest."""


class _Backbone(nn.Module, ABC):
    """The common trunk of both encoders: the body of IR-SE-50, with four stages. `layers` is L.

    `styles` is L, 2 log2(side) - 2 for the side of the generator's images. `stages` holds the body's (channels,
    blocks), `input_size` the conditions' side, `head_channels` the width of the heads, D if it is 0, `maps` the
    features of the styles. The defaults are the published network; smaller inputs have fewer layers in the heads.
    """

    def __init__(
        self,
        *,
        condition_channels: int,
        styles: int,
        code_dim: int = 512,
        input_size: int = 256,
        stages: Sequence[tuple[int, int]] = STAGES,
        head_channels: int = 0,
        maps: Maps = "pyramid",
    ) -> None:
        super().__init__()
        if len(stages) != 4:
            raise PixgraftError(f"stages {stages}: pSp's encoder has four: give each its channels and blocks")
        if input_size not in (32, 64, 128, 256, 512, 1024):
            raise PixgraftError(f"input_size {input_size}: a power of two from 32 to 1024 is expected: choose one")
        self.condition_channels, self.input_size, self.stages = condition_channels, input_size, tuple(stages)
        self.layers, self.code_dim, self.head_channels = styles, code_dim, head_channels or code_dim
        self.maps = maps
        self.input_layer = input_layer(condition_channels, stages[0][0])
        self.body = irse50_body(stages)
        self._ends = list(itertools.accumulate(count for _, count in stages))
        self._add_heads()

    @abstractmethod
    def _add_heads(self) -> None:
        """Make the layers from features to codes."""

    def _features(self, conditions: Tensor) -> list[Tensor]:
        """The outputs of the stages, with the sides S / 2, S / 4, S / 8 and S / 16."""
        expected = (self.condition_channels, self.input_size, self.input_size)
        if conditions.ndim != 4 or conditions.shape[1:] != expected:
            raise PixgraftError(f"conditions {tuple(conditions.shape)}: the encoder takes (N, {_listed(expected)})")
        x, features = self.input_layer(conditions), []
        for start, end in itertools.pairwise((0, *self._ends)):
            x = self.body[start:end](x)
            features.append(x)
        return features


class StyleHead(nn.Module):
    """map2style: features to a code, by convolutions that halve the side down to one pixel, and a linear layer."""

    def __init__(self, c_in: int, channels: int, code_dim: int, *, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(side.bit_length() - 1):
            layers += [nn.Conv2d(channels if index else c_in, channels, 3, stride=2, padding=1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualizedLinear(channels, code_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, side, side) to (N, code_dim)."""
        code: Tensor = self.linear(self.convs(x).flatten(1))
        return code


class StyleEncoder(_Backbone):
    """W+ encoder: a code for each style, from features of the style's scale."""

    def _add_heads(self) -> None:
        (fine, _), (middle, _), (coarse, _) = self.stages[1:]
        sides = [self.input_size // (16, 8, 4)[self._scale(i)] for i in range(self.layers)]
        channels, code_dim = self.head_channels, self.code_dim
        self.styles = nn.ModuleList(StyleHead(coarse, channels, code_dim, side=side) for side in sides)
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)

    def _scale(self, style: int) -> int:
        """The features of a style: 0 is the smallest map, 2 the largest."""
        if self.maps != "pyramid":
            return 0 if self.maps == "smallest" else 2
        return 0 if style < COARSE else 1 if style < MIDDLE else 2

    def forward(self, conditions: Tensor) -> Tensor:
        """Map conditions (N, C, S, S) to codes (N, L, D) relative to the generator's average code.

        Raises PixgraftError for conditions of another shape.
        """
        _, fine, middle, coarse = self._features(conditions)
        middle = upsample(coarse, 2, align_corners=True) + self.latlayer1(middle)
        fine = upsample(middle, 2, align_corners=True) + self.latlayer2(fine)
        features = ((coarse, middle, fine)[self._scale(i)] for i in range(self.layers))
        return torch.stack([head(x) for head, x in zip(self.styles, features, strict=True)], 1)


class SingleStyleEncoder(_Backbone):
    """W encoder, with the parameters of `StyleEncoder`: one code for all styles from the smallest features' mean."""

    def _add_heads(self) -> None:
        self.linear = EqualizedLinear(self.stages[-1][0], self.code_dim)

    def forward(self, conditions: Tensor) -> Tensor:
        """Map conditions (N, C, S, S) to codes (N, L, D), equal for all L styles; otherwise as `StyleEncoder`."""
        code: Tensor = self.linear(self._features(conditions)[-1].mean((2, 3)))
        return code.unsqueeze(1).expand(-1, self.layers, -1)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
