"""IR-SE-50: the improved residual network with squeeze and excitation of ArcFace (Deng et al. 2019; Hu et al. 2018), in
the layout of TreB1eN/InsightFace_Pytorch.

`input_layer` and `irse50_body` are what pSp's encoder (Richardson et al. 2021) is made of too.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.networks.inputs import resized

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Of each stage: channels, blocks. The first block of each halves the size."""
REDUCTION = 16
"""How many times fewer channels squeeze and excitation has in between."""


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number in (0, 1) that the spatial means of all channels decide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(channels // REDUCTION, 1)
        self.fc1 = nn.Conv2d(channels, between, 1, bias=False)
        self.fc2 = nn.Conv2d(between, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * scale.sigmoid()


class IRSEBlock(nn.Module):
    """Normalisation, convolution, PReLU, convolution, normalisation, squeeze and excitation; added to a shortcut."""

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        # The layout's other shortcut, a pool over single pixels, holds no tensors: it takes every `stride`-th pixel.
        self.shortcut_layer = (
            nn.MaxPool2d(1, stride)
            if c_in == c_out
            else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(c_in),
            nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False),
            nn.PReLU(c_out),
            nn.Conv2d(c_out, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            SqueezeExcitation(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, c_in, H, W) gives (N, c_out, H / stride, W / stride)."""
        out: Tensor = self.shortcut_layer(x) + self.res_layer(x)
        return out


def input_layer(channels: int, width: int = STAGES[0][0]) -> nn.Sequential:
    """(N, channels, H, W) to (N, width, H, W), the width being that of the body's first stage."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


def irse50_body(stages: Sequence[tuple[int, int]] = STAGES) -> nn.Sequential:
    """The blocks of all stages, (N, C, H, W) to (N, C', H / 2^k, W / 2^k) for k stages from C channels to C'.

    As published 24 blocks, 64 channels to 512 at a 16th; blocks 2, 6, 20 and 23 are the last of their sizes.
    """
    blocks, c_in = [], stages[0][0]
    for c_out, count in stages:
        for index in range(count):
            blocks.append(IRSEBlock(c_in, c_out, stride=1 if index else 2))
            c_in = c_out
    return nn.Sequential(*blocks)


class IRSE50(nn.Module):
    """Faces to embeddings of 512 values and length 1; the product of two says how alike the persons are."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = input_layer(3)
        self.body = irse50_body()
        # The published layout drops out at 1: a place that holds no tensors, and features are not to be random.
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Identity(), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Aligned faces (N, 3, H, W) in [-1, 1], resized to 112 x 112 with antialiasing, give (N, 512)."""
        x = self.body(self.input_layer(resized(images, 112, 112)))
        return F.normalize(self.output_layer(x), dim=1)
