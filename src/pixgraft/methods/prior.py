"""What generative priors share: a generator that makes images of codes alone, and its use."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from pixgraft.layers.noise import Noise
from pixgraft.methods.base import Method


class Prior(Method):
    """A method whose trained generator draws images; it takes no other image.

    Shape letters: N images, S side of an image, Z numbers of a code z.
    """

    batch_multiple: ClassVar[int] = 2
    """An image alone has no minibatch deviation."""

    @property
    def image_size(self) -> int:
        """S of the images that it makes now; a network that is still growing makes smaller ones."""
        size: int = self.config.image_size
        return size

    @property
    @abstractmethod
    def latent_size(self) -> int:
        """Z."""

    def draw_latents(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """`count` codes z (N, Z) of a unit normal distribution, drawn on the CPU one after the other.

        `random` is a CPU generator; None takes torch's own.
        """
        latents = torch.empty(count, self.latent_size)
        for row in latents:
            row.normal_(generator=random)
        return latents

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        """Noise maps for `count` images, as `sample` takes them; none where the generator has no noise."""
        return []

    @abstractmethod
    def sample(self, z: Tensor, *, truncation: float = 1.0, noise: Noise = "stored") -> Tensor:
        """Images (N, 3, S, S), clamped to [-1, 1], of codes z (N, Z); no gradient.

        `truncation` below 1 trades variety for likeness to the mean image. `noise` is the maps kept with the weights,
        new ones, none, or what `draw_noise` gives.
        """
