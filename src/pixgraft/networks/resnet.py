"""The trunks of ResNet-34 and ResNet-50 (He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition",
Table 1): feature maps C2 to C5.

Modules have torchvision's names. As in torchvision, a bottleneck's 3x3 convolution halves the side; in the paper its
first 1x1 convolution does. Shape letters: N images, C channels, S side of an image.
"""

import itertools
from typing import Literal

from torch import Tensor, nn

from pixgraft.layers.ready import fold, relu

BLOCKS = (3, 4, 6, 3)
"""Number of residual blocks in each stage, at both depths."""
EXPANSION = 4
"""Ratio of a bottleneck's output channels to its inner channels."""


class BasicBlock(nn.Module):
    """ResNet-34's block: two 3x3 convolutions plus the identity, or a 1x1 convolution if the shape changes."""

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = _downsample(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, s, s) to (N, c_out, s / stride, s / stride)."""
        h = relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return relu(h + (x if self.downsample is None else self.downsample(x)))

    def ready(self) -> "BasicBlock":
        """The block without batch normalisations, which its convolutions hold."""
        fold(self, ("conv1", "bn1"), ("conv2", "bn2"))
        return self


class Bottleneck(nn.Module):
    """ResNet-50's block: 1x1 to a quarter of `c_out`, 3x3, and 1x1 to `c_out`, with the same shortcut."""

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        width = c_out // EXPANSION
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = _downsample(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, s, s) to (N, c_out, s / stride, s / stride)."""
        h = relu(self.bn1(self.conv1(x)))
        h = relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        return relu(h + (x if self.downsample is None else self.downsample(x)))

    def ready(self) -> "Bottleneck":
        """As `BasicBlock.ready`."""
        fold(self, ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
        return self


def _downsample(c_in: int, c_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


class ResNet(nn.Module):
    """A stem and four stages; each stage but the first halves the side and doubles the channels.

    `small_stem` is a 3x3 convolution of stride 1 without pooling, as in the paper's section 4.2, for images of 32 or 64
    pixels. The usual stem, 7x7 of stride 2 and a max pool, would leave C5 with 1 or 2 pixels per side: no spatial
    detail, and at 1 pixel no variance for batch normalisation in a batch of one. With the small stem an image of 64 has
    maps of the same sides as an image of 256 with the usual stem.

    `channels` and `strides` are those of C2 to C5; a stride is the number of image pixels per pixel of the map.
    """

    def __init__(
        self, *, depth: Literal[34, 50], in_channels: int = 3, base_channels: int = 64, small_stem: bool = False
    ) -> None:
        super().__init__()
        block: type[BasicBlock | Bottleneck] = BasicBlock if depth == 34 else Bottleneck
        wider = 1 if depth == 34 else EXPANSION
        self.channels = tuple(base_channels * wider << stage for stage in range(4))
        self.strides = (1, 2, 4, 8) if small_stem else (4, 8, 16, 32)

        if small_stem:
            self.conv1 = nn.Conv2d(in_channels, base_channels, 3, 1, 1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, base_channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.maxpool = None if small_stem else nn.MaxPool2d(3, 2, 1)
        stages = []
        for stage, (c_in, c_out) in enumerate(itertools.pairwise((base_channels, *self.channels))):
            first = block(c_in, c_out, stride=2 if stage else 1)
            stages.append(nn.Sequential(first, *(block(c_out, c_out, stride=1) for _ in range(BLOCKS[stage] - 1))))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map (N, in_channels, S, S) to C2 to C5, of sides S / 4 to S / 32, or S to S / 8 with the small stem."""
        h = relu(self.bn1(self.conv1(x)))
        if self.maxpool is not None:
            h = self.maxpool(h)
        c2 = self.layer1(h)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)

    def ready(self) -> "ResNet":
        """As `BasicBlock.ready`, for the stem."""
        fold(self, ("conv1", "bn1"))
        return self
