"""Gradient descent on one code: in z, in w, or in W+ with a code for each layer.

In w this is StyleGAN2's projector (Karras, Laine, Aittala, Hellsten, Lehtinen, Aila 2020, "Analyzing and Improving the
Image Quality of StyleGAN", section 5 and appendix D) with the constants of the authors' newer code; W+ is that of
Abdal, Qin, Wonka 2019, "Image2StyleGAN". Shape letters are those of `search.py`; L layers with a code.
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from pixgraft.engine.seeds import generator
from pixgraft.inversion.search import Drive, Search, mapped_samples, random_latents
from pixgraft.inversion.settings import Space
from pixgraft.losses.latent import noise_correlation
from pixgraft.methods.sampling import Sampling

RATE = 0.1
RISE, FALL = 0.05, 0.25
"""Shares of the steps in which the learning rate rises linearly from 0, and falls to 0 as a cosine."""
JITTER, JITTERED = 0.05, 0.75
"""Deviation of the noise added to w at first, in deviations of w; and the share of the steps until it is gone."""
CORRELATION = 1e5
"""Weight of the correlation of searched noise maps."""


def ramp(progress: float) -> float:
    """The factor of the learning rate after a share of the steps."""
    falling = min(1.0, (1 - progress) / FALL)
    return (0.5 - 0.5 * math.cos(math.pi * falling)) * min(1.0, progress / RISE)


class Projection(Search):
    """Variables: z (N, Z), w (N, 1, D) or W+ (N, L, D), and a noise map for each layer if these are searched too."""

    def __init__(self, prior: Sampling, space: Space, *, maps: bool = False, start: Tensor | None = None) -> None:
        """`start` (N, M, D) are codes to go on from, in w or W+: by default the mean code, or in z a random one.

        From given codes no noise is added, which would lead away from them.
        """
        super().__init__(prior)
        self.space, self.searches_maps, self.given = space, maps, start

    @cached_property
    def deviation(self) -> float:
        """The root mean squared distance of w from its mean."""
        w = mapped_samples(self.prior)
        return float((w - w.mean(0)).square().sum(1).mean().sqrt())

    def begin(self, number: int, seed: int) -> list[Tensor]:
        layers = self.prior.style_layers
        if self.space == "z":
            variables = [random_latents(self.prior, seed, "start", number)]
        elif self.given is not None and number == 0:
            variables = [self.given if self.space == "w+" else self.given.mean(1, keepdim=True)]
        else:
            drawn = random_latents(self.prior, seed, "start", number).to(self.device)
            code = self.prior.mapped(drawn)[0] if number else self.prior.start_code()
            variables = [code.repeat(1, layers if self.space == "w+" else 1, 1)]
        if self.searches_maps:
            variables += self.prior.draw_noise(1, generator(seed, "maps", number))
        return variables

    @property
    def maps(self) -> list[Tensor]:
        return self.variables[1:]

    def codes(self, step: int, drive: Drive) -> Tensor:
        code, layers = self.variables[0], self.prior.style_layers
        if self.space == "z":
            mapped = self.prior.mapped(code)
            return self.prior.spread(mapped) if layers else mapped.unsqueeze(1)
        scale = JITTER * max(0.0, 1 - step / drive.steps / JITTERED) ** 2 if drive.steps else 0.0
        if scale and self.given is None:
            noise = torch.randn(code.shape[1:], generator=generator(drive.seed, "jitter", step)).to(code)
            code = code + scale * self.deviation * noise
        return code.expand(-1, layers, -1)

    def loss(self, losses: dict[str, Tensor], codes: Tensor) -> Tensor:
        return super().loss(losses, codes) + CORRELATION * sum(map(noise_correlation, self.maps))

    def rate(self, progress: float) -> float:
        return RATE * ramp(progress)

    def constrain(self) -> None:
        """Noise maps keep a mean of 0 and a deviation of 1."""
        for each in self.maps:
            each -= each.mean((1, 2, 3), keepdim=True)
            each *= each.square().mean((1, 2, 3), keepdim=True).rsqrt()
