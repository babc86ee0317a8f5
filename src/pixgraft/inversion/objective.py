"""What searches minimise: how far images are from their targets, by pixels and by a perceptual distance.

Shape letters: N images, S side of a generated image, s side of a target, which is S or S divided by a factor.
"""

import torch
from torch import Tensor, nn

from pixgraft.data.degrade import enlarged
from pixgraft.layers.conditions import fitted
from pixgraft.layers.resample import bicubic, enlarge
from pixgraft.networks.perceptual import SMALLEST

LARGEST = 256
"""Side from which images are shrunk for the perceptual distance, as StyleGAN2's projector does."""


class Objective:
    """The distances of N images to N targets; each depends on its image alone."""

    def __init__(
        self, targets: Tensor, side: int, *, pixels: str = "l2", network: nn.Module | None = None, weight: float = 0.0
    ) -> None:
        """`targets` (N, 3, s, s) in [-1, 1] and `side` S. `network` has `embed`, as perceptual distances have."""
        self.targets, self.pixels = targets, pixels
        self.side, self.factor = side, side // targets.shape[-1]
        self.network, self.weight = (network, weight) if weight else (None, 0.0)
        with torch.no_grad():
            self.points = self._embedded(targets)

    def part(self, number: int) -> "Objective":
        """The objective of one image."""
        part = Objective.__new__(Objective)
        part.__dict__.update(self.__dict__)
        part.targets = self.targets[number : number + 1]
        part.points = None if self.points is None else self.points[number : number + 1]
        return part

    def shrunk(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) at the side of the targets, by the operator of `Degradation` without rounding."""
        return bicubic(images, self.factor)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """The parts (N,) of the loss of images (N, 3, S, S), by name: "pixels" and, if it counts, "perceptual"."""
        small = self.shrunk(images)
        # Whiter than white, and blacker than black, is as good: images are clamped in the end.
        beyond = (self.targets.abs() == 1) & (small * self.targets > 1)
        small = torch.where(beyond, self.targets, small)
        difference = small - self.targets
        by_pixel = difference.abs() if self.pixels == "l1" else difference.square()
        losses = {"pixels": by_pixel.mean((1, 2, 3))}
        points = self._embedded(small)
        if points is not None and self.points is not None:
            losses["perceptual"] = self.weight * (points - self.points).square().sum(1)
        return losses

    def _embedded(self, small: Tensor) -> Tensor | None:
        """Points (N, E) whose squared distances are perceptual: of the images enlarged again if they are small."""
        if self.network is None:
            return None
        images = small if self.factor == 1 else enlarged(small, self.side, "bicubic")
        if self.side > LARGEST:
            images = fitted(images, LARGEST)
        if self.side < SMALLEST:
            images = enlarge(images, -(-SMALLEST // self.side))
        points: Tensor = self.network.embed(images)  # type: ignore[operator]
        return points
