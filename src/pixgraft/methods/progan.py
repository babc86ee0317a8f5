"""ProGAN: Karras, Aila, Laine, Lehtinen 2018, "Progressive Growing of GANs for Improved Quality, Stability, and
Variation".

Both networks grow from 4x4: each new size fades in over `fade_images` images and then trains for `settle_images`
(section 2 and appendix A). The size depends on the number of images seen alone, so that a run can stop and resume at
any step. The loss is WGAN-GP with a drift term. Two details of the paper are left out: the optimizer is not reset at
each size, and the batch does not shrink at large sizes (microbatches limit the memory instead).

Shape letters: N images, S final side of an image, s current side, Z dimension of a code z.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.noise import Noise
from pixgraft.losses.penalties import drift, wgan_gp
from pixgraft.methods.base import Batch, Losses, MethodConfig, Phase, check_adam
from pixgraft.methods.sampling import Sampling
from pixgraft.networks.progan import BASE_CHANNELS, MAX_CHANNELS, Discriminator, Generator, stage_widths


@dataclass(frozen=True, kw_only=True)
class ProGANConfig(MethodConfig):
    """The defaults are the paper's at 1024."""

    image_size: int = 1024
    """S, a power of two from 4 to 1024."""
    z_dim: int = 512
    """Numbers of a code z."""
    base_channels: int = BASE_CHANNELS
    """A layer of side x has base_channels / x channels, at most max_channels."""
    max_channels: int = MAX_CHANNELS
    """The most channels of a layer."""

    start_size: int = 4
    """Side of the images at the start of training."""
    fade_images: int = 600_000
    """Images in which a new size is faded in."""
    settle_images: int = 600_000
    """Images at a size before the next one."""

    lambda_gradient: float = 10.0
    """Weight of the gradient penalty."""
    drift_weight: float = 1e-3
    """Weight of the mean square of the discriminator's logits of real images."""

    generator_lr: float = 1e-3
    """Learning rate of the generator."""
    discriminator_lr: float = 1e-3
    """Learning rate of the discriminator."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decays of the first and the second moment."""

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
        check_adam((self.generator_lr, self.discriminator_lr), self.betas)

    def continued(self) -> "ProGANConfig":
        """The networks are fully grown."""
        return replace(self, start_size=self.image_size)

    def grown(self, images_seen: int) -> tuple[int, float]:
        """The side s after `images_seen` images, and the weight in [0, 1] with which it is faded in."""
        side, remaining = self.start_size, images_seen - self.settle_images
        while side < self.image_size and remaining >= 0:
            side *= 2
            if remaining < self.fade_images:
                return side, remaining / self.fade_images
            remaining -= self.fade_images + self.settle_images
        return side, 1.0


class ProGAN(Sampling):
    """Generator, discriminator and the phases of a step, at side s `resolution` with fade-in weight `alpha`."""

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
        """Set side and fade-in weight by the schedule."""
        self.resolution, self.alpha = self.config.grown(images_seen)

    # --- parts of the losses ---

    def generate(self, count: int) -> Tensor:
        """Images (N, 3, s, s) of `count` random codes."""
        return self.generate_from(torch.randn(count, self.config.z_dim, device=next(self.parameters()).device))

    def generate_from(self, z: Tensor) -> Tensor:
        """Images (N, 3, s, s) of codes z (N, Z), not clamped."""
        images: Tensor = self.generator(z, resolution=self.resolution, alpha=self.alpha)
        return images

    def shrink(self, images: Tensor) -> Tensor:
        """Real images (N, 3, S, S) at the side s, faded in from half the side as generated images are."""
        images = F.avg_pool2d(images, self.config.image_size // self.resolution)
        if self.alpha == 1:
            return images
        coarse = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="nearest")
        return torch.lerp(coarse, images, self.alpha)

    def judged(self, images: Tensor) -> Tensor:
        """Logits (N, 1) of images at the side s."""
        logits: Tensor = self.discriminator(images, alpha=self.alpha)
        return logits

    # --- the phases ---

    def phases(self) -> list[Phase]:
        """The generator's phase comes first and shares its detached images with the discriminator's phase."""
        return [
            Phase(name="generator", losses=self.generator_losses, optimizer="generator"),
            Phase(name="discriminator", losses=self.discriminator_losses, optimizer="discriminator", precise=True),
        ]

    def generator_losses(self, batch: Batch) -> Losses:
        """-D(G(z)), the loss of WGAN."""
        images = self.generate(len(batch.images))
        batch.shared["image"] = images.detach()
        return {"generator": -self.judged(images).mean()}

    def discriminator_losses(self, batch: Batch) -> Losses:
        """D(G(z)) - D(x), the gradient penalty at points between the two, and the drift term.

        Generated images are those of the generator's phase or, without them, new ones.
        """
        config = self.config
        if "image" not in batch.shared:
            with torch.no_grad():
                batch.shared["image"] = self.generate(len(batch.images))
        fake, real = batch.shared["image"], self.shrink(batch.images)
        weights = torch.rand(len(real), 1, 1, 1, device=real.device)
        mixed = torch.lerp(real, fake, weights).requires_grad_()
        real_logits = self.judged(real)
        return {
            "wasserstein": self.judged(fake).mean() - real_logits.mean(),
            "penalty": config.lambda_gradient * wgan_gp(mixed, self.judged(mixed)),
            "drift": config.drift_weight * drift(real_logits),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network."""
        config = self.config
        rates = {"generator": config.generator_lr, "discriminator": config.discriminator_lr}
        return {
            name: Adam(self.get_submodule(name).parameters(), lr=lr, betas=config.betas, fused=True)
            for name, lr in rates.items()
        }

    # --- inference ---

    @torch.no_grad()
    def synthesize(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        """Images (N, 3, s, s), clamped to [-1, 1]; the generator has no noise, and `noise` has no effect."""
        return self.generated(codes).clamp(-1, 1)

    def generated(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        return self.generate_from(codes)

    def code_weights(self) -> list[Tensor]:
        weight = self.generator.layers[0].get_parameter("weight")  # (C, Z, 4, 4), a convolution of one pixel
        return [weight.transpose(0, 1).flatten(1).T]

    def fused_channels(self, side: int) -> int:
        config = self.config
        if (self.resolution, self.alpha) != (config.image_size, 1.0):
            raise PixgraftError(f"the model is still growing, now at {self.resolution} pixels: train it on")
        sides = [4 << stage for stage in range(config.image_size.bit_length() - 3)]
        if side not in sides:
            raise PixgraftError(f"side {side}: the model has maps of {sides} pixels to compose")
        return stage_widths(config.image_size, config.base_channels, config.max_channels)[sides.index(side)]

    def fused(self, codes: Tensor, weights: Tensor, side: int) -> Tensor:
        layers = 2 * (side.bit_length() - 2)
        maps = self.generator.features(codes.flatten(0, 1), layers=layers).unflatten(0, codes.shape[:2])
        return self.generator.from_features((maps * weights[..., None, None]).sum(1), layers=layers)
