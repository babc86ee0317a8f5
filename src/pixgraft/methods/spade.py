"""SPADE: Park et al. 2019, "Semantic Image Synthesis with Spatially-Adaptive Normalization".

The generator gets the condition in every normalisation. Its style is that of a variational autoencoder: the encoder
gives mean and deviation of a normal distribution for an image, whose prior is the unit normal one. A style code here
holds both, (N, 2Z) for styles of Z numbers, and the noise of a sample is what the deviation multiplies, so that the
samples in an image's style are those of its distribution. With `style_dim` 0 there is no style, and one image for each
condition, as in the published checkpoints.

The published batch normalisation is synchronised over GPUs. Here each process and microbatch has its own statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.losses.adversarial import hinge_fake_loss, hinge_generator_loss, hinge_real_loss
from pixgraft.losses.latent import kl_divergence
from pixgraft.methods.base import Losses
from pixgraft.methods.matching import MatchingConfig, MatchingSynthesis, Verdict
from pixgraft.methods.tasks import Synthesized
from pixgraft.networks.spade import Generator, Norm, StyleEncoder

HINGE = {"real": hinge_real_loss, "fake": hinge_fake_loss, "fooled": hinge_generator_loss}
SHARE = 0.5**0.5
"""Of the deviation of styles drawn at random, the part that is the code's and the part that is the noise's: their
squares add up to 1, the prior's variance."""


@dataclass(frozen=True, kw_only=True)
class SPADEConfig(MatchingConfig):
    """The defaults are the published code's."""

    style_dim: int = 256
    """Z, numbers of a style; 0: no style."""
    hidden_channels: int = 128
    """Between the two convolutions of a modulation."""
    upsamplings: Literal[4, 5, 6, 7] = 5
    """Doublings of the side, from S / 2^n; 5 to 7 are the published code's "normal", "more" and "most"."""
    norm: Norm = "batch"
    """The normalisation before each modulation."""
    encoder_channels: int = 64
    """Channels of the style encoder's first layer."""
    lambda_kl: float = 0.05
    """Weight of the KL divergence of an image's style from the prior. The published code sums it over a GPU's images,
    here it is their mean."""

    generator_lr: float = 1e-4
    """Learning rate of the generator and the style encoder."""
    discriminator_lr: float = 4e-4
    """Learning rate of the discriminators."""
    betas: tuple[float, float] = (0.0, 0.9)
    """Adam's decays of the first and the second moment."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size >> self.upsamplings < 2:
            raise PixgraftError(f"upsamplings is {self.upsamplings}: with image_size {self.image_size} choose fewer")
        if min(self.hidden_channels, self.encoder_channels) < 1 or min(self.style_dim, self.lambda_kl) < 0:
            raise PixgraftError("hidden_channels and encoder_channels must be at least 1, style_dim and lambda_kl 0")


class SPADE(MatchingSynthesis):
    """Generator and style encoder, with hinge losses."""

    name: ClassVar[str] = "spade"
    spectral: ClassVar[bool] = True
    Config: ClassVar[type] = SPADEConfig
    config: SPADEConfig
    generator: Generator
    style_encoder: StyleEncoder

    def __init__(self, config: SPADEConfig) -> None:
        super().__init__(config)
        self.generator = Generator(
            image_size=config.image_size,
            condition_channels=config.condition_channels,
            style_dim=config.style_dim,
            base_channels=config.generator_channels,
            hidden=config.hidden_channels,
            upsamplings=config.upsamplings,
            norm=config.norm,
            nearest=config.condition == "labels",
        )
        if config.style_dim:
            self.averaged = ("generator", "style_encoder")  # type: ignore[misc]
            self.style_encoder = StyleEncoder(
                image_size=config.image_size, style_dim=config.style_dim, base_channels=config.encoder_channels
            )

    def generate(self, condition: Tensor, images: Tensor) -> tuple[Tensor, Losses]:
        """Images, each in a style drawn from the distribution of its own image, and the weighted KL divergence."""
        config = self.config
        if not config.style_dim:
            return self.generator(condition), {}
        mean, log_variance = self.style_encoder(images)
        (noise,) = self.draw_noise(len(images))
        style = torch.addcmul(mean, (log_variance / 2).exp(), noise.to(mean))
        losses = {"kl": config.lambda_kl * kl_divergence(mean, log_variance)} if config.lambda_kl else {}
        return self.generator(condition, style), losses

    def adversarial(self, logits: Sequence[Tensor], verdict: Verdict) -> Tensor:
        """The hinge losses, a mean over the scales."""
        return torch.stack([HINGE[verdict](each) for each in logits]).mean()

    # --- inference ---

    @property
    def style_dim(self) -> int:
        return 2 * self.config.style_dim

    @torch.no_grad()
    def encode_style(self, images: Tensor) -> Tensor:
        """Mean and deviation (N, 2Z) of each image's styles."""
        if not self.style_dim:
            return super().encode_style(images)
        mean, log_variance = self.style_encoder(images)
        return torch.cat((mean, (log_variance / 2).exp()), dim=1)

    def random_style(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """Codes whose means are drawn at random; with the noise their styles are distributed as the prior."""
        codes = torch.full((count, self.style_dim), SHARE, device="cpu")
        for code in codes[:, : self.config.style_dim]:
            code.normal_(std=SHARE, generator=random)
        return codes

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        """One tensor (N, Z) from N(0, 1), drawn on the CPU image by image; empty without a style."""
        noise = torch.empty(count, self.config.style_dim, device="cpu")
        for row in noise:
            row.normal_(generator=random)
        return [noise] if self.style_dim else []

    @torch.no_grad()
    def samples(self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]) -> list[Synthesized]:
        """One output for each of `noises`; zero noise gives the mean of the style."""
        codes = self.checked_styles(condition, style, noises, [(self.config.style_dim,)] if self.style_dim else [])
        if not self.style_dim:
            return [Synthesized(self.generator(self.encode(condition, codes.dtype)))] * len(noises)
        mean, deviation = codes.chunk(2, dim=1)
        styles = [torch.addcmul(mean, deviation, noise[0].to(mean)) if noise else mean for noise in noises]
        images = self.generator.samples(self.encode(condition, codes.dtype), styles)
        return [Synthesized(each) for each in images]
