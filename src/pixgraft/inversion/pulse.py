"""PULSE: Menon, Damian, Hu, Ravi, Rudin 2020, "PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of
Generative Models".

Codes stay on a sphere, where those of a Gaussian lie. In w each layer has one of its own: a Gaussian is fitted to what
the mapping network's last leaky ReLU gets, and turned into w by that ReLU. The loss is the difference of the shrunk
image to the input, and the angles between the layers' codes. Shape letters are those of `search.py`; L layers.
"""

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.engine.seeds import generator
from pixgraft.inversion.search import Drive, Search, mapped_samples, random_latents
from pixgraft.inversion.settings import Space
from pixgraft.losses.latent import geocross
from pixgraft.methods.sampling import Sampling
from pixgraft.networks.stylegan2 import SLOPE

RATE = 0.4
TOLERANCE = 1e-3
"""Mean squared difference, of images in [0, 1], within which the shrunk image is as good as the input."""
DOWNSCALING, CROSS = 100.0, 0.05
"""Weights of the two losses."""
MAPS = 5
"""Noise maps that are searched too, those of the first layers."""


def cycle(progress: float) -> float:
    """The factor of the learning rate: up from 0.1 to 1 and down again in nine tenths of the steps, then to 0.001."""
    if progress < 0.9:
        return 0.1 + 0.9 * (1 - abs(2 * progress / 0.9 - 1))
    return 0.1 + (progress - 0.9) / 0.1 * (0.001 - 0.1)


class Pulse(Search):
    """Variables: z (N, 1, Z), or a vector for each layer (N, L, D), and the first noise maps if these are searched."""

    def __init__(self, prior: Sampling, space: Space, *, maps: bool = False) -> None:
        super().__init__(prior)
        self.space, self.searched = space, MAPS if maps else 0

    @cached_property
    def fit(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) of what the mapping's last leaky ReLU gets, by that function's inverse."""
        before = F.leaky_relu(mapped_samples(self.prior), 1 / SLOPE)
        return before.mean(0), before.std(0)

    def begin(self, number: int, seed: int) -> list[Tensor]:
        if self.space == "z":
            drawn = random_latents(self.prior, seed, "start", number).unsqueeze(1)
        else:
            shape = (1, self.prior.style_layers, len(self.fit[0]))
            drawn = torch.randn(shape, generator=generator(seed, "start", number))
        maps = self.prior.draw_noise(1, generator(seed, "maps", number))[: self.searched]
        return [_on_sphere(drawn), *map(_on_sphere, maps)]

    @property
    def maps(self) -> list[Tensor]:
        return self.variables[1:]

    def codes(self, step: int, drive: Drive) -> Tensor:
        latents = self.variables[0]
        if self.space == "z":
            mapped = self.prior.mapped(latents[:, 0])
            return self.prior.spread(mapped) if self.prior.style_layers else mapped.unsqueeze(1)
        mean, deviation = self.fit
        return F.leaky_relu(latents * deviation + mean, SLOPE)

    def loss(self, losses: dict[str, Tensor], codes: Tensor) -> Tensor:
        """The difference counts down to the tolerance; of images in [-1, 1] it is four times that of [0, 1]."""
        downscaling = (losses["pixels"] / 4).clamp(min=TOLERANCE)
        cross = geocross(codes) if self.space == "w" else 0.0
        return DOWNSCALING * downscaling + CROSS * cross

    def rate(self, progress: float) -> float:
        return RATE * cycle(progress)

    def constrain(self) -> None:
        """The spherical step: every vector and every map gets its length back."""
        for each in self.variables:
            each.copy_(_on_sphere(each))


def _on_sphere(x: Tensor) -> Tensor:
    """Vectors (N, L, D) or maps (N, 1, s, s) of a mean square of 1, which a Gaussian's have in high dimensions."""
    axes = tuple(range(2, x.ndim))
    length = math.sqrt(math.prod(x.shape[2:]))
    lengths: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=True)
    return x * (length / lengths)
