"""SqueezeNet 1.0 (Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters") as a feature
network, in torchvision's layout, with the input normalisation of the authors' weights.
"""

import torch
from torch import Tensor, nn

from pixgraft.networks.inputs import normalised, resized
from pixgraft.networks.perceptual import check_comparable, differences, embedded
from pixgraft.networks.trunks import squeezenet1_0, tapped

SIDE = 227
MEAN = (123.0, 117.0, 104.0)
"""Mean of red, green and blue in 0..255 that the authors subtracted; they did not divide by a deviation."""

TAPS = (1, 4, 5, 8, 9, 10, 12)
"""Layers of the perceptual distance: the first convolution and six Fire modules, like LPIPS's in SqueezeNet 1.1."""


class SqueezeNet(nn.Module):
    """Images to the 512 spatial means of the last feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.features = squeezenet1_0()
        # The published classes' logits; no feature. The layout has dropout, without parameters, at index 0.
        self.classifier = nn.Sequential(nn.Identity(), nn.Conv2d(512, 1000, 1), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in [-1, 1], resized to 227 x 227 with antialiasing, to non-negative (N, 512)."""
        last: Tensor = self.features(_centred(resized(images, SIDE, SIDE)))
        return last.mean((2, 3))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Seven feature maps with 96, 128, 256, 384, 384, 512 and 512 channels; the images are not resized.

        Images are (N, 3, H, W) in [-1, 1], at least 32 x 32. Heights are about H/2, H/4 (two), H/8 (three) and H/16.
        """
        return tapped(self.features, _centred(images), TAPS)


class SqueezeNetDistance(nn.Module):
    """PD-SqueezeNet: the perceptual distance of Zhang et al. 2018 with equal weights, so not comparable with LPIPS."""

    def __init__(self, network: SqueezeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances (N,) in [0, 2] between images (N, 3, H, W) in [-1, 1], which are not resized.

        Raises PixgraftError if the shapes differ or a side has fewer than 32 pixels.
        """
        check_comparable(x, y)
        parts = [d.sum(1) for d in differences(self.network.maps(x), self.network.maps(y))]
        return torch.stack(parts).mean(0)

    def embed(self, images: Tensor) -> Tensor:
        """Points (N, E) of images (N, 3, H, W) whose squared distances are the distances of the images."""
        check_comparable(images, images)
        return embedded(self.network.maps(images), [1 / len(TAPS)] * len(TAPS))


def _centred(images: Tensor) -> Tensor:
    return normalised(images, [level / 127.5 - 1 for level in MEAN], [1 / 127.5] * 3)
