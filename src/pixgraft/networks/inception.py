"""InceptionV3 (Szegedy et al. 2016) as the Fréchet inception distance uses it (Heusel et al. 2017), in three forms.

The network of the standard is TensorFlow's of 2015-12-05, in the layout of mseitzer/pytorch-fid. Unlike later versions,
its average pools exclude the padding from the mean, and its last block has a max pool instead of the paper's average
pool. torchvision's network, by which StarGAN v2 measures, is the later version, in the same layout.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.networks.inputs import levels, normalised, resized_levels

SIDE = 299
Size = int | tuple[int, int]
Pool = Callable[[Tensor], Tensor]
"""A pool of 3 x 3 with stride 1, to the same size."""
Form = Literal["pytorch-fid", "clean-fid", "torchvision"]


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
    return F.avg_pool2d(x, 3, 1, 1)


def _inner_average_pool(x: Tensor) -> Tensor:
    """The mean without the padding."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


def _bilinear(images: Tensor) -> Tensor:
    """As in pytorch-fid: bilinear without antialiasing, so that large images alias."""
    return F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)


def _clean(images: Tensor) -> Tensor:
    """As in clean-fid: Pillow's bicubic filter with antialiasing on stored images, and no rounding after it.

    The levels 0..255 become (x - 128) / 128, as in TensorFlow's graph; values from another normalisation differ.
    """
    x = F.interpolate(levels(images), (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
    return ((x - 128) / 128).to(images)


def _imagenet(images: Tensor) -> Tensor:
    """As in StarGAN v2: Pillow's bilinear filter on stored images, rounded, and ImageNet's normalisation.

    torchvision's own conversion of that normalisation (`transform_input`) is left out there.
    """
    return normalised(resized_levels(images, SIDE, SIDE))


INPUTS: dict[Form, Callable[[Tensor], Tensor]] = {
    "pytorch-fid": _bilinear, "clean-fid": _clean, "torchvision": _imagenet
}  # fmt: skip
"""Images (N, 3, H, W) in [-1, 1] to the network's input (N, 3, 299, 299), by form."""


class Mixed5(nn.Module):
    """Block at 35 x 35 with parallel branches: 1x1, 5x5, two 3x3, and a pool; 224 + pool_channels output channels."""

    def __init__(self, c_in: int, pool_channels: int, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
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
        return torch.cat((self.branch1x1(x), large, double, self.branch_pool(self.pool(x))), 1)


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

    def __init__(self, width: int, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
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
        return torch.cat((self.branch1x1(x), single, double, self.branch_pool(self.pool(x))), 1)


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

    def __init__(self, c_in: int, pool: Pool) -> None:
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
        parts = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        )
        return torch.cat(parts, 1)


class InceptionV3(nn.Module):
    """Images to the 2048 features of the last pool ("pool3"). The classification layers are omitted.

    `form` says what computes the published values: pytorch-fid; clean-fid (Parmar, Zhang, Zhu 2022), the same network
    on images that are resized with antialiasing; or StarGAN v2 (Choi et al. 2020), torchvision's network. Values of
    different forms are not comparable.
    """

    def __init__(self, form: Form = "pytorch-fid") -> None:
        super().__init__()
        self.form = form
        average, last = (_average_pool,) * 2 if form == "torchvision" else (_inner_average_pool, _max_pool)
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2, valid=True)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3, valid=True)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3, valid=True)
        self.Mixed_5b = Mixed5(192, 32, average)
        self.Mixed_5c = Mixed5(256, 64, average)
        self.Mixed_5d = Mixed5(288, 64, average)
        self.Mixed_6a = Mixed6a()
        self.Mixed_6b = Mixed6(128, average)
        self.Mixed_6c = Mixed6(160, average)
        self.Mixed_6d = Mixed6(160, average)
        self.Mixed_6e = Mixed6(192, average)
        self.Mixed_7a = Mixed7a()
        self.Mixed_7b = Mixed7(1280, average)
        self.Mixed_7c = Mixed7(2048, last)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in [-1, 1], resized to 299 x 299, to non-negative features (N, 2048)."""
        return self.maps(images)[-1].mean((2, 3))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps (N, 64, 73, 73), (N, 192, 35, 35), (N, 768, 17, 17) and (N, 2048, 8, 8).

        Their spatial means are pytorch-fid's features of 64, 192, 768 and 2048 dimensions.
        """
        x = INPUTS[self.form](images)
        first = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
        second = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(first)), 3, 2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(second))))
        third = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        fourth = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(third)))
        return [first, second, third, fourth]
