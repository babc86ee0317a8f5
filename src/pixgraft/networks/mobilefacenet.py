"""MobileFaceNet (Chen et al. 2018, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile
Devices", Table 1) for upright faces of 112 x 96, in the layout of Xiaoccer/MobileFaceNet_Pytorch.
"""

from torch import Tensor, nn

from pixgraft.networks.inputs import resized

HEIGHT, WIDTH = 112, 96

STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
"""(expansion, channels, blocks, stride of the first block) of each stage."""


class ConvBlock(nn.Module):
    """Convolution, batch normalisation and, unless `linear`, PReLU; depthwise if `groups` equals the channels."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.prelu = None if linear else nn.PReLU(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.prelu is None else self.prelu(x)


class Bottleneck(nn.Module):
    """Inverted residual block: 1x1 expansion, depthwise 3x3, 1x1 projection; added to x if the shapes are equal."""

    def __init__(self, c_in: int, c_out: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and c_in == c_out
        width = c_in * expansion
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(x)
        return x + h if self.residual else h


class MobileFaceNet(nn.Module):
    """Faces to embeddings of 128 values; the cosine of two is the similarity of the persons."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBlock(3, 64, 3, stride=2, padding=1)
        self.dw_conv1 = ConvBlock(64, 64, 3, padding=1, groups=64)
        blocks, c_in = [], 64
        for expansion, c_out, count, stride in STAGES:
            for index in range(count):
                blocks.append(Bottleneck(c_in, c_out, expansion=expansion, stride=1 if index else stride))
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = ConvBlock(128, 512, 1)
        self.linear7 = ConvBlock(512, 512, (HEIGHT // 16, WIDTH // 16), groups=512, linear=True)
        self.linear1 = ConvBlock(512, 128, 1, linear=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [-1, 1], resized to 112 x 96 (H x W) with antialiasing, to (N, 128), not normalised."""
        x = resized(images, HEIGHT, WIDTH) * (127.5 / 128)
        x = self.blocks(self.dw_conv1(self.conv1(x)))
        out: Tensor = self.linear1(self.linear7(self.conv2(x))).flatten(1)
        return out
