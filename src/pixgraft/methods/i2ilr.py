"""I2I-LR: Abid, Hedhli, Lalonde, Gagné, "Image-to-Image Translation with Low Resolution Conditioning", 2021.

A source Y is translated into X' = G(Y, x) that shrinks to the low-resolution (LR) target x = DS(X). The discriminator
sees an image together with the difference between what it shrinks to and its target. Every choice that the paper
leaves open, or that its published code makes otherwise, is a field of `I2ILRConfig`.

Shape letters: N images, S side of an image, L side of an LR target, C channels of a target (3, or 1 for grey).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.augment import augment
from pixgraft.layers.normalize import Statistic
from pixgraft.layers.spectral import power_iterate
from pixgraft.layers.straight_through import round_to
from pixgraft.losses.adversarial import (
    fake_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    real_loss,
)
from pixgraft.losses.penalties import r1_of_logits, r1_of_loss
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch, Losses, Phase
from pixgraft.methods.tasks import Graft, GraftConfig
from pixgraft.networks.i2ilr import Discriminator, Generator, GeneratorOptions

GREY_LEVEL = 2 / 255  # one step of an 8-bit image, the range being [-1, 1]


@dataclass(frozen=True, kw_only=True)
class I2ILRConfig(GraftConfig):
    """The defaults are the paper's at 128; `published` says where its code differs."""

    image_size: int = 128
    """S, a power of two from 32 to 512."""
    lr_size: int = 8
    """L, a power of two from 4 to S / 2."""
    target: Literal["color", "grey"] = "color"
    """A grey target is the supplement's colour ablation."""

    generator_channels: int = 64
    generator_max_channels: int = 512
    discriminator_channels: int = 128
    discriminator_max_channels: int = 512
    head: Literal["single", "patch"] = "single"
    """One logit, as StarGAN v2's discriminator gives, or the published code's 5x5."""
    statistic: Statistic = "variance"
    """What PONO hands over beside the mean."""
    shortcut: Literal["dynamic", "static"] = "dynamic"
    """The moment shortcut: through a convolution, or as in Li et al. 2019."""
    gain: Literal["gamma", "one_plus_gamma"] = "gamma"
    spectral_spadain: bool = True
    """Spectral normalisation on SPAdaIN's 1x1 convolutions too."""
    align_corners: bool = True

    difference: Literal["image", "difference"] = "image"
    """What eq. 5 rounds: the downscaled image, or the absolute difference."""
    difference_step: float = GREY_LEVEL
    difference_in_steps: bool = True
    """Divide the difference by `difference_step`, as eq. 5 does with r."""
    adversarial: Literal["minimax", "non_saturating"] = "minimax"
    adversarial_on_cycle: bool = False
    """Also judge the cycle's reconstructions; every real image and its R1 then count twice, for there are two fakes."""
    lambda_cycle: float = 1.0
    r1_of: Literal["logits", "loss"] = "logits"
    r1_gamma: float = 0.5
    r1_every: int = 1
    """Lazy regularisation: R1 at every n-th step, times n."""
    r1_batch: int = 8
    """Only for `r1_of` "loss": the batch over which the mean is taken before the gradient."""
    augment: tuple[Literal["translation", "cutout", "color"], ...] = ()
    """Differentiable augmentation (Zhao et al. 2020) of all that the discriminator sees, for small data sets."""

    generator_lr: float = 1e-3
    discriminator_lr: float = 4e-3
    betas: tuple[float, float] = (0.0, 0.99)

    def __post_init__(self) -> None:
        s, low = self.image_size, self.lr_size
        if s not in (32, 64, 128, 256, 512):
            raise PixgraftError(f"image_size is {s}: choose 32, 64, 128, 256 or 512")
        if low < 4 or low > s // 2 or low & (low - 1):
            sizes = ", ".join(str(2**e) for e in range(2, s.bit_length() - 1))
            raise PixgraftError(f"lr_size is {low}: with image_size {s} choose one of {sizes}")
        generator = min(self.generator_channels, self.generator_max_channels)
        discriminator = min(self.discriminator_channels, self.discriminator_max_channels)
        if generator < 2 or min(discriminator, self.r1_every, self.r1_batch) < 1:
            raise PixgraftError("generator channels must be at least 2; other channels, r1_every and r1_batch 1")
        if min(self.generator_lr, self.discriminator_lr) <= 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise PixgraftError("learning rates must be above 0, and betas from 0 to below 1")
        if not self.difference_step > 0:
            raise PixgraftError(f"difference_step is {self.difference_step}: it must be above 0")

    @property
    def lr_channels(self) -> int:
        return 1 if self.target == "grey" else 3


def published(image_size: int) -> I2ILRConfig:
    """The configuration of the code that was published with the paper, in its every choice."""
    return I2ILRConfig(
        image_size=image_size,
        discriminator_channels=2**14 // image_size,
        head="patch",
        statistic="deviation",
        spectral_spadain=False,
        difference="difference",
        difference_step=8 / 255,
        difference_in_steps=False,
        adversarial="non_saturating",
        adversarial_on_cycle=True,
        r1_of="loss",
        r1_gamma=10.0,
        r1_batch=4,
    )


class I2ILR(Graft):
    """Generator, discriminator and the three phases of a step."""

    name: ClassVar[str] = "i2ilr"
    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    batch_multiple: ClassVar[int] = 2
    Config: ClassVar[type] = I2ILRConfig
    config: I2ILRConfig

    def __init__(self, config: I2ILRConfig) -> None:
        super().__init__(config)
        self.generator = Generator(
            image_size=config.image_size,
            lr_size=config.lr_size,
            lr_channels=config.lr_channels,
            base_channels=config.generator_channels,
            max_channels=config.generator_max_channels,
            options=GeneratorOptions(
                statistic=config.statistic,
                shortcut=config.shortcut,
                gain=config.gain,
                spectral_spadain=config.spectral_spadain,
                align_corners=config.align_corners,
            ),
        )
        self.discriminator = Discriminator(
            image_size=config.image_size,
            lr_size=config.lr_size,
            lr_channels=config.lr_channels,
            base_channels=config.discriminator_channels,
            max_channels=config.discriminator_max_channels,
            head=config.head,
        )

    # --- what the terms are made of ---

    def difference(self, images: Tensor, lr: Tensor) -> Tensor:
        """Eq. 5: how far images (N, 3, S, S) are from shrinking to `lr`; (N, C, L, L), rounded straight through."""
        config = self.config
        small = self.downscale(images)
        if config.difference == "image":
            difference = (lr - round_to(small, config.difference_step)).abs()
        else:
            difference = round_to((lr - small).abs(), config.difference_step)
        return difference / config.difference_step if config.difference_in_steps else difference

    def pairs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Each image's own target and its partner's, (N, C, L, L) both: neighbours (0, 1), (2, 3), ... are X and Y.

        Both directions of eq. 3 are then one batch. A split of the batch that keeps neighbours keeps the pairs.
        """
        own = self.downscale(images)
        return own, own.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)

    def judge(self, images: Tensor, lr: Tensor) -> Tensor:
        """D's logits for images that ought to shrink to `lr` (eq. 6)."""
        logits: Tensor = self.discriminator(
            augment(images, self.config.augment), self.difference(images, lr)
        )
        return logits

    # --- the phases ---

    def phases(self) -> list[Phase]:
        """The generator goes first: it leaves its images, detached, to the discriminator, and no graph is kept."""
        phases = [
            Phase(name="generator", losses=self.generator_losses, optimizer="generator"),
            Phase(name="discriminator", losses=self.discriminator_losses, optimizer="discriminator"),
        ]
        if self.config.r1_gamma > 0:
            every = self.config.r1_every
            phases.append(
                Phase(name="r1", losses=self.r1_losses, optimizer="discriminator", every=every, precise=True)
            )
        return phases

    def generator_losses(self, batch: Batch) -> Losses:
        """The generator's side of eq. 7, and eq. 8."""
        config = self.config
        source = batch.images
        own, partner = self.pairs(source)
        adversarial = (
            minimax_generator_loss if config.adversarial == "minimax" else non_saturating_generator_loss
        )

        translation = self.generator(source, partner)  # G(X, y) and G(Y, x)
        cycle = self.generator(translation, own)  # G(G(X, y), x) and G(G(Y, x), y)
        losses = {
            "generator": adversarial(self.judge(translation, partner)),
            "cycle": config.lambda_cycle * l1(cycle, source),
        }
        if config.adversarial_on_cycle:
            losses["generator_cycle"] = adversarial(self.judge(cycle, own))
        batch.shared |= {"translation": translation.detach(), "cycle": cycle.detach()}
        return losses

    def discriminator_losses(self, batch: Batch) -> Losses:
        """The discriminator's side of eq. 7, on the images that the generator's phase left (or anew, if it did not)."""
        config = self.config
        own, partner = self.pairs(batch.images)
        if "translation" not in batch.shared:
            with torch.no_grad():
                batch.shared["translation"] = self.generator(batch.images, partner)
                if config.adversarial_on_cycle:
                    batch.shared["cycle"] = self.generator(batch.shared["translation"], own)
        times = 2 if config.adversarial_on_cycle else 1
        losses = {
            "real": times * real_loss(self.judge(batch.images, own)),
            "fake": fake_loss(self.judge(batch.shared["translation"], partner)),
        }
        if config.adversarial_on_cycle:
            losses["fake_cycle"] = fake_loss(self.judge(batch.shared["cycle"], own))
        return losses

    def r1_losses(self, batch: Batch) -> Losses:
        """gamma / 2 times R1 on the real images, whose LR difference is zero (eq. 6)."""
        config = self.config
        images = batch.images.detach().requires_grad_()
        seen = augment(images, config.augment)
        logits = self.discriminator(seen, torch.zeros_like(self.downscale(images)))
        if config.r1_of == "logits":
            penalty = r1_of_logits(images, logits)
        else:
            penalty = r1_of_loss(images, logits, config.r1_batch)
        times = 2 if config.adversarial_on_cycle else 1
        return {"r1": times * config.r1_gamma / 2 * penalty}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network, at two rates (TTUR). The spectral norms follow the weights after each step."""
        config = self.config
        optimizers: dict[str, Optimizer] = {}
        for name, rate in (("generator", config.generator_lr), ("discriminator", config.discriminator_lr)):
            network = self.get_submodule(name)
            optimizer = Adam(network.parameters(), lr=rate, betas=config.betas, fused=True)
            optimizer.register_step_post_hook(lambda *_, network=network: power_iterate(network))
            optimizers[name] = optimizer
        return optimizers

    # --- use ---

    @torch.no_grad()
    def translate(self, source: Tensor, target: Tensor) -> Tensor:
        """Sources (N, 3, S, S) and LR targets (N, C, L, L), in [-1, 1], give images (N, 3, S, S) in [-1, 1].

        Nothing is drawn at random.
        """
        images: Tensor = self.generator(source, target)
        return images.float().clamp(-1, 1)
