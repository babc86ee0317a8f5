"""pSp's encoders (Richardson et al. 2021, "Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation"):
conditions to the codes of a StyleGAN2 generator, as differences from its average code.

`StyleEncoder` is the paper's: features of three sizes, and a small network of convolutions for each style, which it
calls map2style. `SingleStyleEncoder` gives one code of the last features for all styles, its ablation in W. Layers and
their names are those of eladrich/pixel2style2pixel, where the two are GradualStyleEncoder and
BackboneEncoderUsingLastLayerIntoW. Shape letters: L styles, D numbers of a code, S side of a condition.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.equalized import EqualizedLinear
from pixgraft.layers.resample import upsample
from pixgraft.networks.irse import STAGES, input_layer, irse50_body

COARSE, MIDDLE = 3, 7
"""The styles below `COARSE` come of the smallest features, those below `MIDDLE` of the next, the others of the largest.
"""


class _Backbone(nn.Module):
    """What both encoders begin with: the body of IR-SE-50, of four stages. `layers` is L."""

    def __init__(
        self, condition_channels: int, styles: int, code_dim: int, input_size: int, stages: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__()
        if len(stages) != 4:
            raise PixgraftError(f"stages {stages}: pSp's encoder has four: give each its channels and blocks")
        if input_size not in (32, 64, 128, 256, 512, 1024):
            raise PixgraftError(f"input_size {input_size}: a power of two from 32 to 1024 is expected: choose one")
        self.condition_channels, self.input_size, self.stages = condition_channels, input_size, tuple(stages)
        self.layers, self.code_dim = styles, code_dim
        self.input_layer = input_layer(condition_channels, stages[0][0])
        self.body = irse50_body(stages)
        self._ends = list(itertools.accumulate(count for _, count in stages))

    def _features(self, conditions: Tensor) -> list[Tensor]:
        """What each stage gives, of the sides S / 2, S / 4, S / 8, S / 16."""
        expected = (self.condition_channels, self.input_size, self.input_size)
        if conditions.ndim != 4 or conditions.shape[1:] != expected:
            raise PixgraftError(f"conditions {tuple(conditions.shape)}: the encoder takes (N, {_listed(expected)})")
        x, features = self.input_layer(conditions), []
        for start, end in itertools.pairwise((0, *self._ends)):
            x = self.body[start:end](x)
            features.append(x)
        return features


class StyleHead(nn.Module):
    """map2style: features of one side to one code, halved by convolutions until a single pixel is left."""

    def __init__(self, c_in: int, code_dim: int, *, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(side.bit_length() - 1):
            layers += [nn.Conv2d(code_dim if index else c_in, code_dim, 3, stride=2, padding=1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualizedLinear(code_dim, code_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c_in, side, side) gives (N, code_dim)."""
        code: Tensor = self.linear(self.convs(x).flatten(1))
        return code


class StyleEncoder(_Backbone):
    """A code for each style, W+, of the features whose size fits the style's.

    `styles` are the generator's, 2 log2(side of its images) - 2. `stages` are channels and blocks of the body, and
    `input_size` is the conditions' side: the published network is that of the defaults, and smaller inputs have
    shallower heads.
    """

    def __init__(
        self,
        *,
        condition_channels: int,
        styles: int,
        code_dim: int = 512,
        input_size: int = 256,
        stages: Sequence[tuple[int, int]] = STAGES,
    ) -> None:
        super().__init__(condition_channels, styles, code_dim, input_size, stages)
        (fine, _), (middle, _), (coarse, _) = stages[1:]
        sides = [input_size // (16 if i < COARSE else 8 if i < MIDDLE else 4) for i in range(styles)]
        self.styles = nn.ModuleList(StyleHead(coarse, code_dim, side=side) for side in sides)
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)

    def forward(self, conditions: Tensor) -> Tensor:
        """Conditions (N, C, S, S) give codes (N, L, D), to which the generator's average code is still to be added.

        Raises PixgraftError for conditions of other channels or another side.
        """
        _, fine, middle, coarse = self._features(conditions)
        middle = upsample(coarse, 2, align_corners=True) + self.latlayer1(middle)
        fine = upsample(middle, 2, align_corners=True) + self.latlayer2(fine)
        features = (coarse if i < COARSE else middle if i < MIDDLE else fine for i in range(self.layers))
        return torch.stack([head(x) for head, x in zip(self.styles, features, strict=True)], 1)


class SingleStyleEncoder(_Backbone):
    """One code for all styles, W: a linear layer of the mean of the smallest features; built as `StyleEncoder` is."""

    def __init__(
        self,
        *,
        condition_channels: int,
        styles: int,
        code_dim: int = 512,
        input_size: int = 256,
        stages: Sequence[tuple[int, int]] = STAGES,
    ) -> None:
        super().__init__(condition_channels, styles, code_dim, input_size, stages)
        self.linear = EqualizedLinear(stages[-1][0], code_dim)

    def forward(self, conditions: Tensor) -> Tensor:
        """Conditions (N, C, S, S) give codes (N, L, D), all L the same; else as `StyleEncoder`."""
        code: Tensor = self.linear(self._features(conditions)[-1].mean((2, 3)))
        return code.unsqueeze(1).expand(-1, self.layers, -1)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
