"""InceptionV3 (Szegedy et al. 2016) as the Fréchet inception distance uses it (Heusel et al. 2017).

The network is TensorFlow's of 2015-12-05, in the layout of mseitzer/pytorch-fid. Unlike later versions, its average
pools exclude the padding from the mean, and its last block has a max pool instead of the paper's average pool.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299
Size = int | tuple[int, int]


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, ReLU. Padding is "same", or none if `valid`."""

    def __init__(self, c_in: int, c_out: int, kernel_size: Size, *, stride: int = 1, valid: bool = False) -> None:
        super().__init__()
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (0, 0) if valid else (height // 2, width // 2)
        self.conv = nn.Conv2d(c_in, c_out, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _average_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Mixed5(nn.Module):
    """Block at 35 x 35 with parallel branches: 1x1, 5x5, two 3x3, and a pool; 224 + pool_channels output channels."""

    def __init__(self, c_in: int, pool_channels: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(c_in, 64, 1)
        self.branch5x5_1 = ConvBN(c_in, 48, 1)
        self.branch5x5_2 = ConvBN(48, 64, 5)
        self.branch3x3dbl_1 = ConvBN(c_in, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3)
        self.branch_pool = ConvBN(c_in, pool_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        large = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch1x1(x), large, double, self.branch_pool(_average_pool(x))), 1)


class Mixed6a(nn.Module):
    """Block from 35 x 35 to 17 x 17, and from 288 to 768 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = ConvBN(288, 384, 3, stride=2, valid=True)
        self.branch3x3dbl_1 = ConvBN(288, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3, stride=2, valid=True)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, 2)), 1)


class Mixed6(nn.Module):
    """Block at 17 x 17: 7x7 convolutions as pairs of 1x7 and 7x1 with `width` channels; 768 channels in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(768, 192, 1)
        self.branch7x7_1 = ConvBN(768, width, 1)
        self.branch7x7_2 = ConvBN(width, width, (1, 7))
        self.branch7x7_3 = ConvBN(width, 192, (7, 1))
        self.branch7x7dbl_1 = ConvBN(768, width, 1)
        self.branch7x7dbl_2 = ConvBN(width, width, (7, 1))
        self.branch7x7dbl_3 = ConvBN(width, width, (1, 7))
        self.branch7x7dbl_4 = ConvBN(width, width, (7, 1))
        self.branch7x7dbl_5 = ConvBN(width, 192, (1, 7))
        self.branch_pool = ConvBN(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(x), single, double, self.branch_pool(_average_pool(x))), 1)


class Mixed7a(nn.Module):
    """Block from 17 x 17 to 8 x 8, and from 768 to 1280 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBN(768, 192, 1)
        self.branch3x3_2 = ConvBN(192, 320, 3, stride=2, valid=True)
        self.branch7x7x3_1 = ConvBN(768, 192, 1)
        self.branch7x7x3_2 = ConvBN(192, 192, (1, 7))
        self.branch7x7x3_3 = ConvBN(192, 192, (7, 1))
        self.branch7x7x3_4 = ConvBN(192, 192, 3, stride=2, valid=True)

    def forward(self, x: Tensor) -> Tensor:
        small = self.branch3x3_2(self.branch3x3_1(x))
        large = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat((small, large, F.max_pool2d(x, 3, 2)), 1)


class Mixed7(nn.Module):
    """Block at 8 x 8: 3x3 convolutions, each split into parallel 1x3 and 3x1; 2048 output channels."""

    def __init__(self, c_in: int, *, pool: Literal["average", "max"]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = ConvBN(c_in, 320, 1)
        self.branch3x3_1 = ConvBN(c_in, 384, 1)
        self.branch3x3_2a = ConvBN(384, 384, (1, 3))
        self.branch3x3_2b = ConvBN(384, 384, (3, 1))
        self.branch3x3dbl_1 = ConvBN(c_in, 448, 1)
        self.branch3x3dbl_2 = ConvBN(448, 384, 3)
        self.branch3x3dbl_3a = ConvBN(384, 384, (1, 3))
        self.branch3x3dbl_3b = ConvBN(384, 384, (3, 1))
        self.branch_pool = ConvBN(c_in, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = _average_pool(x) if self.pool == "average" else F.max_pool2d(x, 3, 1, 1)
        parts = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        )
        return torch.cat(parts, 1)


class InceptionV3(nn.Module):
    """Images to the 2048 features of the last pool ("pool3"). The classification layer is omitted."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2, valid=True)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3, valid=True)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3, valid=True)
        self.Mixed_5b = Mixed5(192, 32)
        self.Mixed_5c = Mixed5(256, 64)
        self.Mixed_5d = Mixed5(288, 64)
        self.Mixed_6a = Mixed6a()
        self.Mixed_6b = Mixed6(128)
        self.Mixed_6c = Mixed6(160)
        self.Mixed_6d = Mixed6(160)
        self.Mixed_6e = Mixed6(192)
        self.Mixed_7a = Mixed7a()
        self.Mixed_7b = Mixed7(1280, pool="average")
        self.Mixed_7c = Mixed7(2048, pool="max")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in [-1, 1], resized to 299 x 299, to non-negative features (N, 2048).

        As in pytorch-fid, resizing is bilinear without antialiasing: large images alias, and values from another filter
        are not comparable.
        """
        return self.maps(images)[-1].mean((2, 3))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The four feature maps of pytorch-fid: (N, 64, 73, 73), (N, 192, 35, 35), (N, 768, 17, 17), (N, 2048, 8, 8).

        Their spatial means are pytorch-fid's features of 64, 192, 768 and 2048 dimensions.
        """
        x = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
        first = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
        second = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(first)), 3, 2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(second))))
        third = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        fourth = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(third)))
        return [first, second, third, fourth]
