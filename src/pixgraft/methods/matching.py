"""The base of pix2pixHD and SPADE: a generator against multiscale PatchGANs, whose features of generated and real
images it matches, with a perceptual loss (Wang et al. 2018, section 3).

Instance edges, which the published code can add to label maps, are left out: conditions here have no instances. The
published perceptual loss compares features of VGG19; here it is the distance of a `PerceptualNetwork`. The published
code lets the learning rates fall in the second half of training; here they stay.

Shape letters: N images, S side of an image, K channels of an encoded condition.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.spectral import power_iterate
from pixgraft.losses.reconstruction import feature_matching
from pixgraft.methods.base import Batch, Losses, NetworkRole, PerceptualNetwork, Phase, check_adam
from pixgraft.methods.tasks import Synthesis, SynthesisConfig
from pixgraft.networks.patchgan import Discriminator

Verdict = Literal["real", "fake", "fooled"]
"""What logits are compared with: the discriminator's two targets, or the generator's."""


@dataclass(frozen=True, kw_only=True)
class MatchingConfig(SynthesisConfig):
    """The settings of both methods; the defaults are the published code's."""

    generator_channels: int = 64
    """Channels that the generator's widths are multiples of."""
    discriminator_channels: int = 64
    """Channels of each PatchGAN's first layer."""
    discriminator_layers: int = 3
    """Convolutions of stride 2 in each PatchGAN."""
    discriminator_scales: int = 2
    """PatchGANs, each on images of half the side."""
    discriminator_norm: bool = True
    """Instance norm in the discriminator, which removes the strength of a detail from its features."""

    lambda_features: float = 10.0
    """Weight of the feature matching loss."""
    lambda_perceptual: float = 10.0
    """Weight of the perceptual loss."""
    perceptual: PerceptualNetwork = "lpips-vgg"
    """The network of the perceptual loss. The published one is VGG19, by the L1 distance of five layers."""

    generator_lr: float = 2e-4
    """Learning rate of the generator."""
    discriminator_lr: float = 2e-4
    """Learning rate of the discriminators."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decays of the first and the second moment."""

    def __post_init__(self) -> None:
        super().__post_init__()
        layers, scales, most = self.discriminator_layers, self.discriminator_scales, self.image_size.bit_length() - 1
        if min(layers, scales) < 1 or layers + scales > most:
            raise PixgraftError(
                f"discriminator_layers and discriminator_scales are {layers} and {scales}: "
                f"with image_size {self.image_size} choose each from 1, and {most} together at most"
            )
        if min(self.generator_channels, self.discriminator_channels) < 1:
            raise PixgraftError("generator_channels and discriminator_channels must be at least 1")
        if min(self.lambda_features, self.lambda_perceptual) < 0:
            raise PixgraftError("the lambdas must be at least 0")
        check_adam((self.generator_lr, self.discriminator_lr), self.betas)

    @property
    def perceptual_network(self) -> str:
        return self.perceptual if self.lambda_perceptual else ""


class MatchingSynthesis(Synthesis):
    """Discriminator, losses and phases. A subclass adds its generator and says which adversarial loss it takes."""

    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    spectral: ClassVar[bool] = False
    """Whether the discriminator has spectral norms."""
    config: MatchingConfig
    generator: nn.Module

    def __init__(self, config: MatchingConfig) -> None:
        super().__init__(config)
        self.discriminator = Discriminator(
            condition_channels=config.condition_channels,
            base_channels=config.discriminator_channels,
            layers=config.discriminator_layers,
            scales=config.discriminator_scales,
            normalize=config.discriminator_norm,
            spectral=self.spectral,
        )

    def required_networks(self) -> dict[NetworkRole, str]:
        name = self.config.perceptual_network
        return {"perceptual": name} if name else {}

    # --- parts of the losses ---

    @abstractmethod
    def generate(self, condition: Tensor, images: Tensor) -> tuple[Tensor, Losses]:
        """Images (N, 3, S, S) of encoded conditions (N, K, S, S) in the style of `images`, and the style's losses."""

    @abstractmethod
    def adversarial(self, logits: Sequence[Tensor], verdict: Verdict) -> Tensor:
        """The adversarial loss of logits (N, 1, h, w) of each scale."""

    # --- the phases ---

    def phases(self) -> list[Phase]:
        """The generator's phase comes first and shares its detached images with the discriminator's phase."""
        return [
            Phase(name="generator", losses=self.generator_losses, optimizer="generator"),
            Phase(name="discriminator", losses=self.discriminator_losses, optimizer="discriminator"),
        ]

    def generator_losses(self, batch: Batch) -> Losses:
        """The adversarial loss, feature matching, the perceptual distance, and the style's losses."""
        config, condition = self.config, self.inputs(batch)
        images, losses = self.generate(condition, batch.images)
        batch.shared["image"] = images.detach()
        fake = self.discriminator(condition, images)
        losses["generator"] = self.adversarial([layers[-1] for layers in fake], "fooled")
        if config.lambda_features:
            with torch.no_grad():
                real = self.discriminator(condition, batch.images)
            matched = feature_matching([layers[:-1] for layers in fake], [layers[:-1] for layers in real])
            losses["features"] = config.lambda_features * matched
        if config.lambda_perceptual:
            distances: Tensor = self.loss_network("perceptual")(images, batch.images)
            losses["perceptual"] = config.lambda_perceptual * distances.mean()
        return losses

    def discriminator_losses(self, batch: Batch) -> Losses:
        """The discriminator's losses, on the images of the generator's phase or, without them, on new ones."""
        condition = self.inputs(batch)
        if "image" not in batch.shared:
            with torch.no_grad():
                batch.shared["image"] = self.generate(condition, batch.images)[0]
        real, fake = (self.discriminator(condition, images) for images in (batch.images, batch.shared["image"]))
        return {
            "real": self.adversarial([layers[-1] for layers in real], "real"),
            "fake": self.adversarial([layers[-1] for layers in fake], "fake"),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for what makes images and for the discriminator; each step moves the singular vectors on."""
        config = self.config
        made: dict[str, Optimizer] = {}
        rates = {"generator": config.generator_lr, "discriminator": config.discriminator_lr}
        for name, lr in rates.items():
            networks = [self.get_submodule(each) for each in (self.averaged if name == "generator" else (name,))]
            parameters = [parameter for network in networks for parameter in network.parameters()]
            made[name] = Adam(parameters, lr=lr, betas=config.betas, fused=True)
            for network in networks:
                made[name].register_step_post_hook(lambda *_, network=network: power_iterate(network))
        return made
