"""GRIT: Suri, Meshry, Davis, Shrivastava, "GRIT: GAN Residuals for Image-to-Image Translation".

The generator maps a condition (label map, sketch or image) and a style code to two images, a reconstruction and a
residual, whose sum is the translation. The reconstruction loss applies to the reconstruction alone, and the adversarial
loss to the sum alone. The residual may therefore add detail that differs from the real image and varies with the noise.

The paper's supplement with network sizes and learning rates is not available. These are fields of `GRITConfig`; their
defaults follow StEP (Meshry et al. 2021). Two parts of StEP are left out: the minibatch statistic of its discriminator,
which makes the loss of an image depend on its batch, and the pretraining of the style encoder.

Shape letters: N images, S side of an image, C channels of a stored condition, K channels of an encoded condition, D
dimension of a style code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.losses.adversarial import least_squares_loss
from pixgraft.losses.penalties import r1_of_logits
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch, Losses, NetworkRole, PerceptualNetwork, Phase, check_adam
from pixgraft.methods.tasks import Synthesis, SynthesisConfig, Synthesized
from pixgraft.networks.grit import Discriminator, Generator, NoiseInto, Output, StyleEncoder

PRIOR_LR = 1e-2
"""Learning rate of the distribution of style codes, high because the codes change during training."""

COARSE = 4
"""Side in pixels of the squares whose means the diversity loss compares. Of single pixels a grain would satisfy it."""


@dataclass(frozen=True, kw_only=True)
class GRITConfig(SynthesisConfig):
    """The defaults are the paper's at 256, or StEP's where the paper gives none."""

    noise: bool = True
    """Noise maps in the decoder, from which samples differ."""
    residual: bool = True
    """Without a residual the translation is the reconstruction. Rows of Table 3: neither, noise, noise and residual."""
    noise_start: float = 0.0
    """Initial deviation of the noise weights, which the paper does not give; see `NoiseInjection`."""
    noise_into: NoiseInto = "both"
    """The images that the noise changes: both (L_rec then suppresses it), or only the residual (if there is one)."""
    reconstruction: Literal["l1", "perceptual"] = "l1"
    """L_rec. The paper's supplement compares L1 with a loss of VGG's features, and its Figure 3 uses both."""
    perceptual: PerceptualNetwork = "lpips-vgg"
    """The network of the perceptual L_rec. The paper names VGG (Johnson et al. 2016), but not the layers: the default
    takes those of LPIPS, with its weights."""
    adversarial_into: Literal["sum", "residual"] = "sum"
    """Target of the gradient of L_adv: both parts of the sum as in eq. 2, or the residual alone."""

    generator_channels: int = 32
    """Channels of the generator's first layer, doubled at each halving."""
    generator_max_channels: int = 512
    """Their most."""
    downsamplings: int = 3
    """Halvings of the side in the encoder."""
    blocks: int = 4
    """Residual blocks at the lowest resolution, in the encoder and again in the decoder."""
    pixel_norm: bool = True
    """Pixel norm before AdaIN in the upsampling blocks."""
    style_dim: int = 8
    """Numbers of a style."""
    style_channels: tuple[int, ...] = (64, 128, 192, 256)
    """Channels of the style encoder's layers."""
    discriminator_channels: int = 32
    """Channels of each discriminator's first layer, doubled at each halving."""
    discriminator_max_channels: int = 512
    """Their most."""
    discriminator_layers: int = 3
    """Convolutions of stride 2 in each discriminator."""
    discriminator_scales: int = 3
    """Discriminators, each on images of half the side."""
    discriminator_norm: bool = True
    """Instance norm in the discriminator, which removes the strength of a detail from its features."""

    lambda_reconstruction: float = 10.0
    """Weight of L_rec."""
    lambda_adversarial: float = 1.0
    """0: the reconstruction loss alone (Figure 3); the discriminator is not trained then."""
    lambda_style: float = 0.01
    """Weight of the mean square of the style codes."""
    lambda_diversity: float = 0.0
    """Weight of the diversity loss of samples with different noise (Yang et al. 2019, eq. 4); the paper has none."""
    diversity_bound: float = 0.05
    """The difference of two samples from which on the diversity loss is 0 (tau in eq. 4): mean absolute difference of
    their means over 4x4 pixels, in [-1, 1]."""
    r1_gamma: float = 0.0
    """gamma of R1; 0: no R1."""
    r1_every: int = 16
    """Lazy regularisation: R1, which the paper does not use, at every n-th step, times n."""

    generator_lr: float = 1e-3
    """Learning rate of the generator."""
    style_lr: float = 1e-4
    """Learning rate of the style encoder."""
    discriminator_lr: float = 1e-3
    """Learning rate of the discriminators."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decays of the first and the second moment."""

    def __post_init__(self) -> None:
        super().__post_init__()
        s = self.image_size
        if self.adversarial_into == "residual" and not self.residual:
            raise PixgraftError('adversarial_into is "residual" without a residual: choose "sum"')
        levels, most = self.downsamplings, s.bit_length() - 1
        if not 1 <= levels <= most - 2:
            raise PixgraftError(f"downsamplings is {levels}: with image_size {s} choose from 1 to {most - 2}")
        layers, scales = self.discriminator_layers, self.discriminator_scales
        if min(layers, scales) < 1 or layers + scales > most:
            raise PixgraftError(
                f"discriminator_layers and discriminator_scales are {layers} and {scales}: "
                f"with image_size {s} choose each from 1, and {most} together at most"
            )
        count = len(self.style_channels)
        if not 2 <= count <= most:
            raise PixgraftError(f"style_channels has {count} widths: with image_size {s} choose 2 to {most}")
        generator = min(self.generator_channels, self.generator_max_channels)
        discriminator = min(self.discriminator_channels, self.discriminator_max_channels)
        if min(generator, discriminator, *self.style_channels, self.style_dim, self.r1_every) < 1 or self.blocks < 0:
            raise PixgraftError("channels, style_dim and r1_every must be at least 1, and blocks 0")
        lambdas = (self.lambda_reconstruction, self.lambda_adversarial, self.lambda_style, self.lambda_diversity)
        if min(*lambdas, self.diversity_bound, self.r1_gamma, self.noise_start) < 0:
            raise PixgraftError("the lambdas, diversity_bound, r1_gamma and noise_start must be at least 0")
        if self.lambda_diversity and not self.noise:
            raise PixgraftError("lambda_diversity asks for samples that differ, but noise is false: set noise=true")
        check_adam((self.generator_lr, self.style_lr, self.discriminator_lr), self.betas)

    @property
    def perceptual_network(self) -> str:
        return self.perceptual if self.reconstruction == "perceptual" else ""


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
        name = self.config.perceptual_network
        return {"perceptual": name} if name else {}

    # --- parts of the losses ---

    def generate(self, batch: Batch) -> tuple[Output, Tensor]:
        """Eq. 1 with the style of each image and new noise: the outputs and the style codes (N, D)."""
        codes = self.style_encoder(batch.images)
        return self.sampled(batch, codes), codes

    def sampled(self, batch: Batch, codes: Tensor) -> Output:
        """Eq. 1 with style codes (N, D) and new noise."""
        noise = self.generator.draw_noise(len(batch.images))
        output: Output = self.generator(self.inputs(batch), codes, noise)
        if self.config.adversarial_into == "residual" and output.residual is not None:
            output = output._replace(image=output.reconstruction.detach() + output.residual)
        return output

    def judged(self, batch: Batch, images: Tensor, target: float) -> Tensor:
        """L_adv: least squares loss of images (N, 3, S, S) with the batch's conditions, summed over the scales."""
        logits = self.discriminator(self.inputs(batch), images)
        return torch.stack([least_squares_loss(each, target) for each in logits]).sum()

    # --- the phases ---

    def phases(self) -> list[Phase]:
        """The generator's phase comes first and shares its detached images with the discriminator's phase."""
        phases = [Phase(name="generator", losses=self.generator_losses, optimizer="generator")]
        if not self.config.lambda_adversarial:
            return phases
        phases.append(Phase(name="discriminator", losses=self.discriminator_losses, optimizer="discriminator"))
        if self.config.r1_gamma > 0:
            every = self.config.r1_every
            phases.append(Phase(name="r1", losses=self.r1_losses, optimizer="discriminator", every=every, precise=True))
        return phases

    def generator_losses(self, batch: Batch) -> Losses:
        """Eq. 2: L_rec of the reconstruction and L_adv of the sum, and the losses of style codes and their prior.

        The diversity loss is what the difference to a second sample lacks of its bound.
        """
        config = self.config
        output, codes = self.generate(batch)
        batch.shared["image"] = output.image.detach()
        distance = self.distance(output.reconstruction, batch.images)
        losses = {"reconstruction": config.lambda_reconstruction * distance}
        if config.lambda_adversarial:
            losses["generator"] = config.lambda_adversarial * self.judged(batch, output.image, 1.0)
        if config.lambda_diversity:
            other = self.sampled(batch, codes)
            difference = F.avg_pool2d(output.image - other.image, COARSE).abs().mean((1, 2, 3))
            losses["diversity"] = config.lambda_diversity * (config.diversity_bound - difference).relu().mean()
        losses["style"] = config.lambda_style * codes.square().mean()
        losses["prior"] = self.style_encoder.prior(codes.detach()).mean()
        return losses

    def distance(self, images: Tensor, targets: Tensor) -> Tensor:
        """L_rec, a scalar. Raises PixgraftError if a required perceptual network is not attached."""
        if self.config.reconstruction == "l1":
            return l1(images, targets)
        distances: Tensor = self.loss_network("perceptual")(images, targets)
        return distances.mean()

    def discriminator_losses(self, batch: Batch) -> Losses:
        """The discriminator's losses, on the images of the generator's phase or, without them, on new ones."""
        if "image" not in batch.shared:
            with torch.no_grad():
                batch.shared["image"] = self.generate(batch)[0].image
        return {"real": self.judged(batch, batch.images, 1.0), "fake": self.judged(batch, batch.shared["image"], 0.0)}

    def r1_losses(self, batch: Batch) -> Losses:
        """gamma / 2 times R1 on the real images with their conditions.

        R1 uses the mean logit of each scale, as L_adv does, so that gamma does not depend on the size of the maps.
        """
        images = batch.images.detach().requires_grad_()
        logits = self.discriminator(self.inputs(batch), images)
        penalty = r1_of_logits(images, torch.stack([each.mean((1, 2, 3)) for each in logits], dim=1))
        return {"r1": self.config.r1_gamma / 2 * penalty}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for generator, style encoder and its prior, at a rate each; Adam for the discriminator."""
        config = self.config
        style = [p for name, p in self.style_encoder.named_parameters() if not name.startswith("prior.")]
        groups = [
            {"params": list(self.generator.parameters()), "lr": config.generator_lr},
            {"params": style, "lr": config.style_lr},
            {"params": list(self.style_encoder.prior.parameters()), "lr": PRIOR_LR},
        ]
        discriminator = self.discriminator.parameters()
        return {
            "generator": Adam(groups, betas=config.betas, fused=True),
            "discriminator": Adam(discriminator, lr=config.discriminator_lr, betas=config.betas, fused=True),
        }

    # --- inference ---

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
        """Codes from the normal distribution fitted to the training images' codes."""
        return self.style_encoder.prior.draw(count, random)

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        return self.generator.draw_noise(count, random)

    @torch.no_grad()
    def samples(self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]) -> list[Synthesized]:
        """One output for each of `noises`; parts that do not depend on the noise are computed once."""
        shapes = [(1, side, side) for side in self.generator.noise_sides]
        codes = self.checked_styles(condition, style, noises, shapes)
        outputs: list[Output] = self.generator.samples(self.encode(condition, codes.dtype), codes, noises)
        return [
            Synthesized(each.image.clamp(-1, 1), {name: getattr(each, name) for name in self.components})
            for each in outputs
        ]
