"""pix2pixHD: Wang et al. 2018, "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs".

One image for each condition, without style and noise. Left out are the local enhancer, for images beyond 1024 pixels,
and what needs instances: their edges, and the encoder of their features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.losses.adversarial import least_squares_loss
from pixgraft.methods.base import Losses
from pixgraft.methods.matching import MatchingConfig, MatchingSynthesis, Verdict
from pixgraft.methods.tasks import Synthesized
from pixgraft.networks.pix2pixhd import Generator


@dataclass(frozen=True, kw_only=True)
class Pix2PixHDConfig(MatchingConfig):
    """The defaults are the published code's."""

    downsamplings: int = 4
    """Halvings of the side in the generator."""
    blocks: int = 9
    """Residual blocks at the lowest resolution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.image_size.bit_length() - 3
        if not 1 <= self.downsamplings <= most:
            raise PixgraftError(
                f"downsamplings is {self.downsamplings}: with image_size {self.image_size} choose from 1 to {most}"
            )
        if not 0 <= self.blocks <= 64:
            raise PixgraftError(f"blocks is {self.blocks}: choose a number from 0 to 64")


class Pix2PixHD(MatchingSynthesis):
    """The global generator, with least squares losses."""

    name: ClassVar[str] = "pix2pixhd"
    Config: ClassVar[type] = Pix2PixHDConfig
    config: Pix2PixHDConfig

    def __init__(self, config: Pix2PixHDConfig) -> None:
        super().__init__(config)
        self.generator = Generator(
            condition_channels=config.condition_channels,
            base_channels=config.generator_channels,
            downsamplings=config.downsamplings,
            blocks=config.blocks,
        )

    def generate(self, condition: Tensor, images: Tensor) -> tuple[Tensor, Losses]:
        return self.generator(condition), {}

    def adversarial(self, logits: Sequence[Tensor], verdict: Verdict) -> Tensor:
        """Least squares, summed over the scales; the discriminator's are halved, as in the published code."""
        target = 0.0 if verdict == "fake" else 1.0
        total = torch.stack([least_squares_loss(each, target) for each in logits]).sum()
        return total if verdict == "fooled" else total / 2

    # --- inference ---

    @torch.no_grad()
    def samples(self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]) -> list[Synthesized]:
        """The same output for each of `noises`: the generator takes no noise."""
        codes = self.checked_styles(condition, style, noises)
        return [Synthesized(self.generator(self.encode(condition, codes.dtype)))] * len(noises)
