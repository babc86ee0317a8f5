"""Convolutional trunks of ImageNet classifiers, with the layer numbers of `features` in torchvision's networks.

AlexNet (Krizhevsky 2014, one tower), VGG16 (Simonyan and Zisserman 2015), SqueezeNet 1.0 and 1.1 (Iandola et al. 2016).
Each function returns a new `nn.Sequential`; its state dict has torchvision's keys without "features.".
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn


def tapped(trunk: nn.Sequential, x: Tensor, taps: Collection[int]) -> list[Tensor]:
    """Outputs of the layers with the numbers `taps`, in the trunk's order; `x` is already normalised."""
    maps = []
    for index, layer in enumerate(trunk):
        x = layer(x)
        if index in taps:
            maps.append(x)
    return maps


def alexnet() -> nn.Sequential:
    """AlexNet's trunk: convolutions 0, 3, 6, 8 and 10 with 64, 192, 384, 256 and 256 channels."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )


def vgg16() -> nn.Sequential:
    """VGG16's trunk: five stages of 64, 128, 256, 512 and 512 channels that end in pools 4, 9, 16, 23 and 30."""
    layers: list[nn.Module] = []
    c_in = 3
    for width, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(c_in, width, 3, padding=1), nn.ReLU()]
            c_in = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class Fire(nn.Module):
    """SqueezeNet's module: a 1x1 convolution to few channels, then parallel 1x1 and 3x3; ReLU after each."""

    def __init__(self, c_in: int, squeezed: int, c_out: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, c_out // 2, 1)
        self.expand3x3 = nn.Conv2d(squeezed, c_out // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        x = self.squeeze(x).relu()
        return torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1).relu()


def squeezenet1_0() -> nn.Sequential:
    """SqueezeNet 1.0's trunk: a 7x7 convolution to 96 channels, then Fire modules 3 to 5, 7 to 10 and 12 up to 512."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(96, 16, 128),
        Fire(128, 16, 128),
        Fire(128, 32, 256),
        _pool(),
        Fire(256, 32, 256),
        Fire(256, 48, 384),
        Fire(384, 48, 384),
        Fire(384, 64, 512),
        _pool(),
        Fire(512, 64, 512),
    )


def squeezenet1_1() -> nn.Sequential:
    """SqueezeNet 1.1's trunk: a 3x3 convolution to 64 channels, then Fire modules 3, 4, 6, 7 and 9 to 12 up to 512."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(64, 16, 128),
        Fire(128, 16, 128),
        _pool(),
        Fire(128, 32, 256),
        Fire(256, 32, 256),
        _pool(),
        Fire(256, 48, 384),
        Fire(384, 48, 384),
        Fire(384, 64, 512),
        Fire(512, 64, 512),
    )


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)
