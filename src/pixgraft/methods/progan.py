"""ProGAN: Karras, Aila, Laine, Lehtinen 2018, "Progressive Growing of GANs for Improved Quality, Stability, and
Variation".

Both networks grow from 4x4: a new size fades in over `fade_images`, then settles for `settle_images` (section 2 and
appendix A). How far they are grown follows from the images seen alone, so that a run can stop anywhere. WGAN-GP with a
drift term. Not taken over are the optimizer's new start at each size and the smaller batches of large ones: a
microbatch saves the memory.

Shape letters: N images, S side at full size, s side now, Z numbers of a code z.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.noise import Noise
from pixgraft.losses.penalties import drift, wgan_gp
from pixgraft.methods.base import Batch, Losses, MethodConfig, Phase
from pixgraft.methods.tasks import Sampling
from pixgraft.networks.progan import BASE_CHANNELS, MAX_CHANNELS, Discriminator, Generator, stage_widths


@dataclass(frozen=True, kw_only=True)
class ProGANConfig(MethodConfig):
    """The defaults are the paper's at 1024."""

    image_size: int = 1024
    """S, a power of two from 4 to 1024."""
    z_dim: int = 512
    base_channels: int = BASE_CHANNELS
    """Channels at a side are base_channels / side and at most max_channels."""
    max_channels: int = MAX_CHANNELS

    start_size: int = 4
    """The side that training begins at."""
    fade_images: int = 600_000
    settle_images: int = 600_000

    lambda_gradient: float = 10.0
    """Of WGAN-GP's penalty."""
    drift_weight: float = 1e-3

    generator_lr: float = 1e-3
    discriminator_lr: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)

    def __post_init__(self) -> None:
        stage_widths(self.image_size, self.base_channels, self.max_channels)
        start = self.start_size
        if not 4 <= start <= self.image_size or start & (start - 1):
            raise PixgraftError(f"start_size is {start}: choose a power of two from 4 to {self.image_size}")
        if self.z_dim < 1:
            raise PixgraftError(f"z_dim is {self.z_dim}: it must be 1 or more")
        if self.fade_images < 0 or self.settle_images < 0:
            raise PixgraftError("fade_images and settle_images must be at least 0")
        if min(self.lambda_gradient, self.drift_weight) < 0:
            raise PixgraftError("lambda_gradient and drift_weight must be at least 0")
        rates = (self.generator_lr, self.discriminator_lr)
        if min(rates) <= 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise PixgraftError("learning rates must be above 0, and betas from 0 to below 1")

    def grown(self, images_seen: int) -> tuple[int, float]:
        """The side s after so many images, and the share of it that is faded in, up to 1."""
        side, left = self.start_size, images_seen - self.settle_images
        while side < self.image_size and left >= 0:
            side *= 2
            if left < self.fade_images:
                return side, left / self.fade_images
            left -= self.fade_images + self.settle_images
        return side, 1.0


class ProGAN(Sampling):
    """Generator, discriminator and the phases of a step; `resolution` s and `alpha` say how far they are grown."""

    name: ClassVar[str] = "progan"
    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    Config: ClassVar[type] = ProGANConfig
    config: ProGANConfig

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__(config)
        self.generator = Generator(
            image_size=config.image_size,
            z_dim=config.z_dim,
            base_channels=config.base_channels,
            max_channels=config.max_channels,
        )
        self.discriminator = Discriminator(
            image_size=config.image_size, base_channels=config.base_channels, max_channels=config.max_channels
        )
        self.resolution, self.alpha = config.image_size, 1.0

    @property
    def latent_size(self) -> int:
        return self.config.z_dim

    @property
    def image_size(self) -> int:
        return self.resolution

    def set_progress(self, images_seen: int) -> None:
        """Grow to what the schedule says."""
        self.resolution, self.alpha = self.config.grown(images_seen)

    # --- what the terms are made of ---

    def generate(self, count: int) -> Tensor:
        """New images (N, 3, s, s)."""
        return self.generate_from(torch.randn(count, self.config.z_dim, device=next(self.parameters()).device))

    def generate_from(self, z: Tensor) -> Tensor:
        """Images (N, 3, s, s) of codes z (N, Z), not clamped."""
        images: Tensor = self.generator(z, resolution=self.resolution, alpha=self.alpha)
        return images

    def shrink(self, images: Tensor) -> Tensor:
        """Real images (N, 3, S, S) at the side s, faded between it and the side below as generated ones are."""
        images = F.avg_pool2d(images, self.config.image_size // self.resolution)
        if self.alpha == 1:
            return images
        below = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="nearest")
        return torch.lerp(below, images, self.alpha)

    def judged(self, images: Tensor) -> Tensor:
        """Logits (N, 1) of images at the side s."""
        logits: Tensor = self.discriminator(images, alpha=self.alpha)
        return logits

    # --- the phases ---

    def phases(self) -> list[Phase]:
        """The generator goes first: it leaves its images, detached, to the discriminator and its penalty."""
        return [
            Phase(name="generator", losses=self.generator_losses, optimizer="generator"),
            Phase(name="discriminator", losses=self.discriminator_losses, optimizer="discriminator", precise=True),
        ]

    def generator_losses(self, batch: Batch) -> Losses:
        """-D(G(z)): WGAN's."""
        images = self.generate(len(batch.images))
        batch.shared["image"] = images.detach()
        return {"generator": -self.judged(images).mean()}

    def discriminator_losses(self, batch: Batch) -> Losses:
        """D(G(z)) - D(x), the gradient penalty between the two, and the drift term, which are one loss in one step.

        On the images that the generator's phase left (or made anew, if it did not).
        """
        config = self.config
        if "image" not in batch.shared:
            with torch.no_grad():
                batch.shared["image"] = self.generate(len(batch.images))
        fake, real = batch.shared["image"], self.shrink(batch.images)
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = torch.lerp(real, fake, share).requires_grad_()
        judged = self.judged(real)
        return {
            "wasserstein": self.judged(fake).mean() - judged.mean(),
            "penalty": config.lambda_gradient * wgan_gp(between, self.judged(between)),
            "drift": config.drift_weight * drift(judged),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network."""
        config = self.config
        rates = {"generator": config.generator_lr, "discriminator": config.discriminator_lr}
        return {
            name: Adam(self.get_submodule(name).parameters(), lr=lr, betas=config.betas, fused=True)
            for name, lr in rates.items()
        }

    # --- use ---

    @torch.no_grad()
    def synthesize(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        """Images at the side s; there is no noise to choose."""
        return self.generate_from(codes).clamp(-1, 1)
