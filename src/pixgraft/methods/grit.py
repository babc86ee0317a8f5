"""GRIT: Suri, Meshry, Davis, Shrivastava, "GRIT: GAN Residuals for Image-to-Image Translation".

A condition (a label map, a sketch, an image) and a style code become two images: a reconstruction, which alone is
compared with the real image, and a residual. Their sum is the translation, which alone the discriminator judges; so the
residual is free to draw detail that differs from the real image's, and a different one for each noise.

The paper's supplement, which has its sizes and rates, is not to be had: they are fields of `GRITConfig`, and follow
StEP (Meshry et al. 2021) where the paper is silent. Not taken from it are its minibatch statistic in the discriminator,
by which an image's loss would depend on its batch, and its pretraining of the style encoder.

Shape letters: N images, S side of an image, C channels of a condition as data keeps it, K as the networks take it, D
numbers of a style code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import Condition, ConditionSpec, condition_channels, encoded
from pixgraft.losses.adversarial import least_squares_loss
from pixgraft.losses.penalties import r1_of_logits
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch, Losses, MethodConfig, NetworkRole, Phase
from pixgraft.methods.tasks import Synthesis, Synthesized
from pixgraft.networks.grit import Discriminator, Generator, NoiseInto, Output, StyleEncoder

PRIOR_LR = 1e-2
"""Learning rate of the codes' distribution, which has to follow codes that themselves move."""


@dataclass(frozen=True, kw_only=True)
class GRITConfig(MethodConfig):
    """The defaults are the paper's at 256, and StEP's where it says nothing."""

    image_size: int = 256
    """S, a power of two from 32 to 512."""
    condition: Condition = "labels"
    """A map of class indices, a grey drawing, a colour image, or a small image that was enlarged to S."""
    classes: int = 19
    """Of labels."""

    noise: bool = True
    residual: bool = True
    """Without it the reconstruction is also what the discriminator judges. Table 3's rows are neither, noise, both."""
    noise_start: float = 0.0
    """Deviation of the noise's weights at the start, which the paper leaves open; see `NoiseInjection`."""
    noise_into: NoiseInto = "both"
    """What the noise changes: both images, and then L_rec works against it, or the residual alone, if there is one."""
    reconstruction: Literal["l1", "perceptual"] = "l1"
    """The perceptual loss, which the paper tried too, needs a network and another `lambda_reconstruction`."""
    adversarial_into: Literal["sum", "residual"] = "sum"
    """Where L_adv's gradient goes: into both parts of the sum, as eq. 2 stands, or into the residual alone."""

    generator_channels: int = 32
    generator_max_channels: int = 512
    downsamplings: int = 3
    blocks: int = 4
    """Residual blocks at the lowest size: as many in the encoder as in the decoder."""
    pixel_norm: bool = True
    """In the upsampling blocks, before AdaIN."""
    style_dim: int = 8
    style_channels: tuple[int, ...] = (64, 128, 192, 256)
    discriminator_channels: int = 32
    discriminator_max_channels: int = 512
    discriminator_layers: int = 3
    discriminator_scales: int = 3
    discriminator_norm: bool = True
    """Instance norm in the discriminator, which hides from it how strong a detail is."""

    lambda_reconstruction: float = 10.0
    lambda_adversarial: float = 1.0
    lambda_style: float = 0.01
    """Of the codes' mean square."""
    r1_gamma: float = 0.0
    r1_every: int = 16
    """Lazy regularisation: R1, which the paper does without, at every n-th step, times n."""

    generator_lr: float = 1e-3
    style_lr: float = 1e-4
    discriminator_lr: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)

    def __post_init__(self) -> None:
        s = self.image_size
        if s not in (32, 64, 128, 256, 512):
            raise PixgraftError(f"image_size is {s}: choose 32, 64, 128, 256 or 512")
        if self.condition == "labels" and not 2 <= self.classes <= 256:
            raise PixgraftError(f"classes is {self.classes}: choose 2 to 256")
        if self.adversarial_into == "residual" and not self.residual:
            raise PixgraftError('adversarial_into is "residual" without a residual: choose "sum"')
        if self.downsamplings < 1 or s >> self.downsamplings < 4:
            largest = s.bit_length() - 3
            raise PixgraftError(
                f"downsamplings is {self.downsamplings}: with image_size {s} choose from 1 to {largest}"
            )
        layers, scales = self.discriminator_layers, self.discriminator_scales
        if min(layers, scales) < 1 or s >> (layers + scales - 1) < 2:
            most = s.bit_length() - 1
            raise PixgraftError(
                f"discriminator_layers and discriminator_scales are {layers} and {scales}: "
                f"with image_size {s} choose each from 1, and {most} together at most"
            )
        if len(self.style_channels) < 2 or s >> len(self.style_channels) < 1:
            raise PixgraftError(
                f"style_channels has {len(self.style_channels)} widths: "
                f"with image_size {s} choose 2 to {s.bit_length() - 1}"
            )
        widths = (
            self.generator_channels,
            self.generator_max_channels,
            self.discriminator_channels,
            self.discriminator_max_channels,
            *self.style_channels,
        )
        if min(*widths, self.style_dim, self.r1_every) < 1 or self.blocks < 0:
            raise PixgraftError("channels, style_dim and r1_every must be at least 1, and blocks 0")
        lambdas = (self.lambda_reconstruction, self.lambda_adversarial, self.lambda_style)
        if min(*lambdas, self.r1_gamma, self.noise_start) < 0:
            raise PixgraftError("the lambdas, r1_gamma and noise_start must be at least 0")
        rates = (self.generator_lr, self.style_lr, self.discriminator_lr)
        if min(rates) <= 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise PixgraftError("learning rates must be above 0, and betas from 0 to below 1")

    @property
    def condition_spec(self) -> ConditionSpec:
        return ConditionSpec(self.condition, self.image_size, self.classes if self.condition == "labels" else 0)

    @property
    def condition_channels(self) -> int:
        """K: one for each class, or those of the picture."""
        return condition_channels(self.condition, self.classes)


class GRIT(Synthesis):
    """Generator, style encoder, discriminator and the phases of a step."""

    name: ClassVar[str] = "grit"
    averaged: ClassVar[tuple[str, ...]] = ("generator", "style_encoder")
    Config: ClassVar[type] = GRITConfig
    config: GRITConfig

    def __init__(self, config: GRITConfig) -> None:
        super().__init__(config)
        self.generator = Generator(
            image_size=config.image_size,
            condition_channels=config.condition_channels,
            style_dim=config.style_dim,
            base_channels=config.generator_channels,
            max_channels=config.generator_max_channels,
            downsamplings=config.downsamplings,
            blocks=config.blocks,
            noise=config.noise,
            noise_start=config.noise_start,
            noise_into=config.noise_into,
            residual=config.residual,
            normalize=config.pixel_norm,
        )
        self.style_encoder = StyleEncoder(style_dim=config.style_dim, channels=config.style_channels)
        self.discriminator = Discriminator(
            condition_channels=config.condition_channels,
            base_channels=config.discriminator_channels,
            max_channels=config.discriminator_max_channels,
            layers=config.discriminator_layers,
            scales=config.discriminator_scales,
            normalize=config.discriminator_norm,
        )

    def required_networks(self) -> dict[NetworkRole, str]:
        return {"perceptual": "squeezenet"} if self.config.reconstruction == "perceptual" else {}

    # --- what the terms are made of ---

    def encode(self, condition: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Conditions as data keeps them, uint8 (N, C, S, S), as the networks take them: floats (N, K, S, S)."""
        return encoded(condition, self.config.condition, self.config.classes, dtype)

    def condition_of(self, batch: Batch) -> Tensor:
        """A batch's conditions for the networks. Raises PixgraftError if it has none."""
        if batch.condition is None:
            raise PixgraftError("grit: images without conditions: train on pairs of both")
        return self.encode(batch.condition, batch.images.dtype)

    def generate(self, batch: Batch) -> tuple[Output, Tensor]:
        """Eq. 1 in each image's own style and with new noise; the outputs, and the style codes (N, D)."""
        codes = self.style_encoder(batch.images)
        noise = self.generator.draw_noise(len(batch.images))
        output: Output = self.generator(self.condition_of(batch), codes, noise)
        if self.config.adversarial_into == "residual" and output.residual is not None:
            output = output._replace(image=output.reconstruction.detach() + output.residual)
        return output, codes

    def judged(self, batch: Batch, images: Tensor, target: float) -> Tensor:
        """L_adv: D's logits for these images under the batch's conditions against `target`, summed over the scales."""
        logits = self.discriminator(self.condition_of(batch), images)
        return torch.stack([least_squares_loss(each, target) for each in logits]).sum()

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
        """Eq. 2: L_rec of the reconstruction alone and L_adv of the sum alone; and what keeps the style codes small."""
        config = self.config
        output, codes = self.generate(batch)
        batch.shared["image"] = output.image.detach()
        return {
            "reconstruction": config.lambda_reconstruction * self.distance(output.reconstruction, batch.images),
            "generator": config.lambda_adversarial * self.judged(batch, output.image, 1.0),
            "style": config.lambda_style * codes.square().mean(),
            "prior": self.style_encoder.prior(codes.detach()).mean(),
        }

    def distance(self, images: Tensor, targets: Tensor) -> Tensor:
        """L_rec, a scalar. Raises PixgraftError if the perceptual network that it needs was not attached."""
        if self.config.reconstruction == "l1":
            return l1(images, targets)
        apart: Tensor = self.loss_network("perceptual")(images, targets)
        return apart.mean()

    def discriminator_losses(self, batch: Batch) -> Losses:
        """The discriminator's side, on the images that the generator's phase left (or made anew, if it did not)."""
        if "image" not in batch.shared:
            with torch.no_grad():
                batch.shared["image"] = self.generate(batch)[0].image
        return {
            "real": self.judged(batch, batch.images, 1.0),
            "fake": self.judged(batch, batch.shared["image"], 0.0),
        }

    def r1_losses(self, batch: Batch) -> Losses:
        """gamma / 2 times R1 on the real images under their conditions.

        Of each scale's mean, which is what L_adv averages too: a gamma then means the same for maps of any size.
        """
        images = batch.images.detach().requires_grad_()
        logits = self.discriminator(self.condition_of(batch), images)
        penalty = r1_of_logits(images, torch.stack([each.mean((1, 2, 3)) for each in logits], dim=1))
        return {"r1": self.config.r1_gamma / 2 * penalty}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for the generator, with the style encoder at its own rate, and Adam for the discriminator."""
        config = self.config
        style = [p for name, p in self.style_encoder.named_parameters() if not name.startswith("prior.")]
        groups = [
            {"params": list(self.generator.parameters()), "lr": config.generator_lr},
            {"params": style, "lr": config.style_lr},
            {"params": list(self.style_encoder.prior.parameters()), "lr": PRIOR_LR},
        ]
        return {
            "generator": Adam(groups, betas=config.betas, fused=True),
            "discriminator": Adam(
                self.discriminator.parameters(), lr=config.discriminator_lr, betas=config.betas, fused=True
            ),
        }

    # --- use ---

    @property
    def components(self) -> tuple[str, ...]:
        return ("reconstruction", "residual") if self.config.residual else ("reconstruction",)

    @property
    def style_dim(self) -> int:
        return self.config.style_dim

    @torch.no_grad()
    def encode_style(self, images: Tensor) -> Tensor:
        codes: Tensor = self.style_encoder(images)
        return codes

    @torch.no_grad()
    def random_style(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """Codes of the normal distribution that was fitted to the training images' codes."""
        return self.style_encoder.prior.draw(count, random)

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        return self.generator.draw_noise(count, random)

    @torch.no_grad()
    def samples(
        self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]
    ) -> list[Synthesized]:
        """What the samples share is computed once.

        The image is clamped to [-1, 1]; the reconstruction is within it, and the residual, if there is one, too.
        """
        self.condition.check(condition)
        count = len(condition)
        shapes = [(count, 1, side, side) for side in self.generator.noise_sides]
        if any(noise is not None and [tuple(each.shape) for each in noise] != shapes for noise in noises):
            raise PixgraftError("the noise is for other images or another generator: take what draw_noise gives")
        codes = self.encode_style(style) if style.ndim == 4 else style
        if codes.shape != (count, self.style_dim):
            raise PixgraftError(
                f"styles are {tuple(style.shape)} for {count} conditions: "
                f"give as many images, or codes ({count}, {self.style_dim})"
            )
        outputs: list[Output] = self.generator.samples(self.encode(condition, codes.dtype), codes, noises)
        return [
            Synthesized(
                each.image.clamp(-1, 1),
                {"reconstruction": each.reconstruction}
                | ({} if each.residual is None else {"residual": each.residual}),
            )
            for each in outputs
        ]
