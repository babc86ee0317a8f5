"""IR-SE-50, the face embedding network of ArcFace (Deng et al. 2019) with squeeze and excitation (Hu et al. 2018), in
the layout of TreB1eN/InsightFace_Pytorch.

pSp's encoder (Richardson et al. 2021) also uses `input_layer` and `irse50_body`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.networks.inputs import resized

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))
"""(channels, blocks) of each stage. The first block of a stage halves the size."""
REDUCTION = 16
"""Ratio of the channels to the bottleneck of squeeze and excitation."""


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor in (0, 1), a function of the spatial means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // REDUCTION, 1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.fc2 = nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * scale.sigmoid()


class IRSEBlock(nn.Module):
    """Residual block: batch norm, convolution, PReLU, convolution, batch norm, squeeze and excitation."""

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        # The layout's other shortcut, a max pool over single pixels, takes every `stride`-th pixel.
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
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        return torch.add(self.shortcut_layer(x), self.res_layer(x))


def input_layer(channels: int, width: int = STAGES[0][0]) -> nn.Sequential:
    """The layer from (N, channels, H, W) to (N, width, H, W); `width` is that of the body's first stage."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


def irse50_body(stages: Sequence[tuple[int, int]] = STAGES) -> nn.Sequential:
    """The blocks of k stages, from (N, C, H, W) to (N, C', H / 2^k, W / 2^k).

    The default, as published, has 24 blocks from 64 to 512 channels and k = 4; blocks 2, 6, 20 and 23 end the stages.
    """
    blocks, c_in = [], stages[0][0]
    for c_out, count in stages:
        for index in range(count):
            blocks.append(IRSEBlock(c_in, c_out, stride=1 if index else 2))
            c_in = c_out
    return nn.Sequential(*blocks)


class IRSE50(nn.Module):
    """Faces to unit embeddings of 512 values; the inner product of two is the similarity of the persons."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = input_layer(3)
        self.body = irse50_body()
        # The published layout has dropout, without parameters, at index 1; features must not be random.
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Identity(), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map aligned faces (N, 3, H, W) in [-1, 1], resized to 112 x 112 with antialiasing, to (N, 512)."""
        x = self.body(self.input_layer(resized(images, 112, 112)))
        return F.normalize(self.output_layer(x), dim=1)
