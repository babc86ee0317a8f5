"""I2I-LR: Abid, Hedhli, Lalonde, Gagné, "Image-to-Image Translation with Low Resolution Conditioning", 2021.

The generator translates a source Y into X' = G(Y, x) that shrinks to the low-resolution (LR) target x = DS(X). The
discriminator takes an image and the difference between its downscaled version and the target. Choices that the paper
leaves open, and those in which its published code differs, are fields of `I2ILRConfig`.

Shape letters: N images, S side of an image, L side of an LR target, C channels of a target (3, or 1 for grey).
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.augment import augment
from pixgraft.layers.normalize import Statistic
from pixgraft.layers.spectral import power_iterate
from pixgraft.layers.straight_through import round_to
from pixgraft.losses.adversarial import fake_loss, minimax_generator_loss, non_saturating_generator_loss, real_loss
from pixgraft.losses.penalties import r1_of_logits, r1_of_loss
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch, Losses, Phase, check_adam
from pixgraft.methods.tasks import Graft, GraftConfig
from pixgraft.networks.i2ilr import Discriminator, Generator, GeneratorOptions, WeightNorm

GREY_LEVEL = 2 / 255  # one step of an 8-bit image in [-1, 1]
Augmentations = tuple[Literal["translation", "cutout", "color"], ...]


@dataclass(frozen=True, kw_only=True)
class I2ILRConfig(GraftConfig):
    """The defaults are the paper's at 128; `published` lists the settings of its code that differ."""

    image_size: int = 128
    """S, a power of two from 32 to 512."""
    lr_size: int = 8
    """L, a power of two from 4 to S / 2."""
    target: Literal["color", "grey"] = "color"
    """The supplement's colour ablation has grey targets."""

    generator_channels: int = 64
    """Channels of the generator's first layer, doubled at each halving."""
    generator_max_channels: int = 512
    """Their most."""
    discriminator_channels: int = 128
    """Channels of the discriminator's first layer, doubled at each halving."""
    discriminator_max_channels: int = 512
    """Their most."""
    head: Literal["single", "patch"] = "single"
    """A single logit as in StarGAN v2, or the 5x5 logits of the published code."""
    discriminator_norm: WeightNorm = "spectral"
    """The paper's spectral normalisation limits how sharply D can tell images apart; R1 alone limits "equalized"."""
    statistic: Statistic = "variance"
    """The second statistic of PONO, beside the mean."""
    shortcut: Literal["dynamic", "static"] = "dynamic"
    """The moment shortcut: through a convolution, or without one as in Li et al. 2019."""
    gain: Literal["gamma", "one_plus_gamma"] = "gamma"
    """A normalised feature is multiplied by gamma, or by 1 + gamma."""
    spectral_spadain: bool = True
    """Spectral normalisation also on the 1x1 convolutions of SPAdaIN."""
    align_corners: bool = True
    """How bilinear upsampling places its samples: corner on corner, or not."""
    final_norm: Literal["instance", "spadain"] = "instance"
    """The generator's last normalisation: StarGAN v2's, or SPAdaIN with the target, which sets colours directly."""

    output: Literal["image", "edit"] = "image"
    """What the generator's last convolution gives: the image, or an edit of the source, which the paper does not have.

    An edit multiplies the source by a gain and adds an offset, and begins as none. With `consistency` "exact" the
    untrained generator then returns the source moved to the target's colours, and the cycle loss begins near zero:
    detail need not be carried over first, only what does not fit the target be removed.
    """
    consistency: Literal["learned", "exact"] = "learned"
    """How translations come to shrink to their targets: by the losses alone, or by the generator's last step.

    The step moves the image by a smooth difference; beyond [-1, 1] it is still clamped. The discriminator then sees no
    LR differences, and learns to tell images apart by what they show. The paper has no such step.
    """
    difference: Literal["image", "difference"] = "image"
    """What is rounded: the downscaled image (eq. 5) and with it the target, or their absolute difference.

    Images are rounded to multiples of `difference_step` above -1; with a step of 2/255 these are the 8-bit levels. The
    paper leaves the target as it is, which then lies off that grid: a perfect image would differ by up to half a step.
    """
    difference_step: float = GREY_LEVEL
    """r of eq. 5 in [-1, 1]: what differs by less is rounded to no difference."""
    difference_in_steps: bool = True
    """Divide the difference by `difference_step`, as eq. 5 does with r."""
    adversarial: Literal["minimax", "non_saturating"] = "minimax"
    """The generator's loss: log(1 - D) as printed, or -log D."""
    adversarial_on_cycle: bool = False
    """Adversarial loss on the cycle's images too. With two fakes per real image, real loss and R1 are then doubled."""
    lambda_cycle: float = 1.0
    """Weight of the cycle loss."""
    lambda_cycle_start: float = 0.0
    """Above 0: the cycle's weight falls from here to `lambda_cycle`, geometrically, in `lambda_cycle_images` images."""
    lambda_cycle_images: int = 0
    """The images in which the cycle's weight falls to `lambda_cycle`."""
    cycle_noise: float = 0.0
    """Deviation, in grey levels, of noise added to a translation before it is translated back.

    Without noise the generator can hide the source in differences that no eye sees and 8 bits do not hold.
    """
    lambda_consistency: float = 0.0
    """Weight of the mean absolute LR difference, unrounded, as a loss of its own; the paper has none.

    While translations are far from their targets, the discriminator tells them by the difference alone, and teaches
    nothing else.
    """
    r1_of: Literal["logits", "loss"] = "logits"
    """Whose gradient R1 takes: that of the logits of each real image, or of the batch's mean loss."""
    r1_gamma: float = 0.5
    """gamma of R1; 0: no R1."""
    r1_every: int = 1
    """Lazy regularisation: R1 at every n-th step, times n."""
    r1_batch: int = 8
    """Only for `r1_of` "loss": batch size of the mean whose gradient is taken."""
    augment: Augmentations = ()
    """Differentiable augmentation (Zhao et al. 2020) of all images for the discriminator, for small data sets."""

    generator_lr: float = 1e-3
    """Learning rate of the generator."""
    discriminator_lr: float = 4e-3
    """Learning rate of the discriminator."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decays of the first and the second moment."""

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
        check_adam((self.generator_lr, self.discriminator_lr), self.betas)
        for name in ("lambda_cycle", "lambda_cycle_start", "lambda_cycle_images", "cycle_noise", "lambda_consistency"):
            if getattr(self, name) < 0:
                raise PixgraftError(f"{name} is {getattr(self, name)}: it must be at least 0")
        if self.lambda_cycle_start and not (self.lambda_cycle > 0 and self.lambda_cycle_images > 0):
            raise PixgraftError("lambda_cycle_start needs a lambda_cycle and a lambda_cycle_images above 0")
        if not self.difference_step > 0:
            raise PixgraftError(f"difference_step is {self.difference_step}: it must be above 0")

    def continued(self) -> "I2ILRConfig":
        """The cycle's weight has fallen."""
        return replace(self, lambda_cycle_start=0.0)

    @property
    def lr_channels(self) -> int:
        return 1 if self.target == "grey" else 3


def published(image_size: int) -> I2ILRConfig:
    """The configuration of the published code."""
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
                final_norm=config.final_norm,
                output=config.output,
                exact=config.consistency == "exact",
            ),
        )
        self.discriminator = Discriminator(
            image_size=config.image_size,
            lr_size=config.lr_size,
            lr_channels=config.lr_channels,
            base_channels=config.discriminator_channels,
            max_channels=config.discriminator_max_channels,
            head=config.head,
            norm=config.discriminator_norm,
        )
        self.cycle_weight = config.lambda_cycle

    def set_progress(self, images_seen: int) -> None:
        """Set `cycle_weight`, the weight of eq. 8."""
        config = self.config
        self.cycle_weight = config.lambda_cycle
        if config.lambda_cycle_start:
            remaining = max(0.0, 1 - images_seen / config.lambda_cycle_images)
            self.cycle_weight *= (config.lambda_cycle_start / config.lambda_cycle) ** remaining

    # --- parts of the losses ---

    def difference(self, images: Tensor, lr: Tensor) -> Tensor:
        """Eq. 5: LR difference (N, C, L, L) of images (N, 3, S, S) and `lr`; rounding passes gradients through."""
        config, step = self.config, self.config.difference_step
        small = self.downscale(images)
        if config.difference == "image":
            difference = (round_to(lr + 1, step) - round_to(small + 1, step)).abs()
        else:
            difference = round_to((lr - small).abs(), step)
        return difference / step if config.difference_in_steps else difference

    def pairs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """LR images (N, C, L, L) of the images and of their partners; neighbours (0, 1), (2, 3), ... are X and Y.

        One batch thus holds both directions of eq. 3. Batches may be split between pairs.
        """
        lr = self.downscale(images)
        return lr, lr.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)

    def judge(self, images: Tensor, lr: Tensor | None = None) -> Tensor:
        """Logits of the discriminator (eq. 6) for images (N, 3, S, S).

        Generated images have targets `lr` (N, C, L, L); real images have none, and an LR difference of zero.
        """
        difference = torch.zeros_like(self.downscale(images)) if lr is None else self.difference(images, lr)
        logits: Tensor = self.discriminator(augment(images, self.config.augment), difference)
        return logits

    # --- the phases ---

    def phases(self) -> list[Phase]:
        """The generator's phase comes first and shares its detached images with the discriminator's phase."""
        phases = [
            Phase(name="generator", losses=self.generator_losses, optimizer="generator"),
            Phase(name="discriminator", losses=self.discriminator_losses, optimizer="discriminator"),
        ]
        if self.config.r1_gamma > 0:
            every = self.config.r1_every
            phases.append(Phase(name="r1", losses=self.r1_losses, optimizer="discriminator", every=every, precise=True))
        return phases

    def generator_losses(self, batch: Batch) -> Losses:
        """The generator's part of eq. 7, and eq. 8."""
        config = self.config
        source = batch.images
        source_lr, partner_lr = self.pairs(source)
        minimax = config.adversarial == "minimax"
        adversarial = minimax_generator_loss if minimax else non_saturating_generator_loss

        translation = self.generator(source, partner_lr)  # G(X, y) and G(Y, x)
        noise = config.cycle_noise * GREY_LEVEL
        noisy = translation + noise * torch.randn_like(translation) if noise else translation
        cycle = self.generator(noisy, source_lr)  # G(G(X, y), x) and G(G(Y, x), y)
        losses = {
            "generator": adversarial(self.judge(translation, partner_lr)),
            "cycle": self.cycle_weight * l1(cycle, source),
        }
        if config.lambda_consistency:
            losses["consistency"] = config.lambda_consistency * l1(self.downscale(translation), partner_lr)
        if config.adversarial_on_cycle:
            losses["generator_cycle"] = adversarial(self.judge(cycle, source_lr))
        batch.shared |= {"translation": translation.detach(), "cycle": cycle.detach()}
        return losses

    def discriminator_losses(self, batch: Batch) -> Losses:
        """The discriminator's part of eq. 7, on the images of the generator's phase or, without them, on new ones."""
        config = self.config
        source_lr, partner_lr = self.pairs(batch.images)
        if "translation" not in batch.shared:
            with torch.no_grad():
                batch.shared["translation"] = self.generator(batch.images, partner_lr)
                if config.adversarial_on_cycle:
                    batch.shared["cycle"] = self.generator(batch.shared["translation"], source_lr)
        times = 2 if config.adversarial_on_cycle else 1
        losses = {
            "real": times * real_loss(self.judge(batch.images)),
            "fake": fake_loss(self.judge(batch.shared["translation"], partner_lr)),
        }
        if config.adversarial_on_cycle:
            losses["fake_cycle"] = fake_loss(self.judge(batch.shared["cycle"], source_lr))
        return losses

    def r1_losses(self, batch: Batch) -> Losses:
        """gamma / 2 times R1 on the real images, which have an LR difference of zero (eq. 6)."""
        config = self.config
        images = batch.images.detach().requires_grad_()
        logits = self.judge(images)
        if config.r1_of == "logits":
            penalty = r1_of_logits(images, logits)
        else:
            penalty = r1_of_loss(images, logits, config.r1_batch)
        times = 2 if config.adversarial_on_cycle else 1
        return {"r1": times * config.r1_gamma / 2 * penalty}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network at its own rate (TTUR), with an update of the spectral norms after each step."""
        config = self.config
        optimizers: dict[str, Optimizer] = {}
        for name, rate in (("generator", config.generator_lr), ("discriminator", config.discriminator_lr)):
            network = self.get_submodule(name)
            optimizer = Adam(network.parameters(), lr=rate, betas=config.betas, fused=True)
            optimizer.register_step_post_hook(lambda *_, network=network: power_iterate(network))
            optimizers[name] = optimizer
        return optimizers

    # --- inference ---

    @torch.no_grad()
    def translate(self, source: Tensor, target: Tensor) -> Tensor:
        images: Tensor = self.generator(source, target)
        return images.float().clamp(-1, 1)
