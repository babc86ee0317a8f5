"""LPIPS 0.1 (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", eq. 1)."""

from typing import Literal

import torch
from torch import Tensor, nn

from pixgraft.networks.inputs import normalised
from pixgraft.networks.perceptual import check_comparable, differences, embedded
from pixgraft.networks.trunks import alexnet, squeezenet1_1, tapped, vgg16

Trunk = Literal["alex", "vgg", "squeeze"]

TRUNKS = {"alex": alexnet, "vgg": vgg16, "squeeze": squeezenet1_1}
TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29), "squeeze": (1, 4, 7, 9, 10, 11, 12)}
WIDTHS = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}


class LPIPS(nn.Module):
    """LPIPS 0.1 on a trunk. `heads` holds each map's non-negative channel weights, (1, C, 1, 1)."""

    def __init__(self, *, trunk: Trunk) -> None:
        super().__init__()
        self.taps = TAPS[trunk]
        self.trunk = nn.Sequential(*list(TRUNKS[trunk]())[: self.taps[-1] + 1])
        self.heads = nn.ParameterList(torch.ones(1, width, 1, 1) for width in WIDTHS[trunk])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances (N,) between images (N, 3, H, W) in [-1, 1], which are not resized; zero for equal images.

        Raises PixgraftError if the shapes differ or a side has fewer than 32 pixels.
        """
        check_comparable(x, y)
        # Separate passes: concatenation would include a y without gradient in the backward pass.
        maps_x, maps_y = (tapped(self.trunk, normalised(images), self.taps) for images in (x, y))
        parts = [d @ head.flatten() for d, head in zip(differences(maps_x, maps_y), self.heads, strict=True)]
        return torch.stack(parts).sum(0)

    def embed(self, images: Tensor) -> Tensor:
        """Points (N, E) of images (N, 3, H, W) whose squared distances are the LPIPS of the images."""
        check_comparable(images, images)
        maps = tapped(self.trunk, normalised(images), self.taps)
        return embedded(maps, [head.flatten() for head in self.heads])
