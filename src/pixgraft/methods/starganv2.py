"""StarGAN v2: Choi, Uh, Yoo, Ha, "StarGAN v2: Diverse Image Synthesis for Multiple Domains", 2020.

The generator G(x, s) gives a source x the style s, which the mapping network F draws for a domain or the style encoder
E takes from a reference of that domain. As the I2I-LR papers compare with it, x is their source and the reference is
their target. Each step has a half with latent codes and a half with references, as in the published code.

The published model for CelebA-HQ also adds high-pass features of the source, masked by a landmark network (its w_hpf);
that part is not here.

Shape letters: N images, S side of an image, L side of a target, D dimension of a style, Z of a latent code.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import upsample
from pixgraft.losses.adversarial import fake_loss, non_saturating_generator_loss, real_loss
from pixgraft.losses.penalties import r1_of_logits
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch, Losses, Phase, check_adam
from pixgraft.methods.tasks import Graft, GraftConfig
from pixgraft.networks.starganv2 import Discriminator, Generator, MappingNetwork, StyleEncoder

LATENT, REFERENCE = "latent", "reference"
"""The halves of a step: where the styles come from."""


@dataclass(frozen=True, kw_only=True)
class StarGANv2Config(GraftConfig):
    """The defaults are the paper's for one domain at 256."""

    image_size: int = 256
    """S, a power of two from 32 to 512."""
    lr_size: int = 256
    """L, a power of two from 4 to S. The style encoder sees every image at this size, enlarged again, in training too.

    At S it sees sharp references: the paper's model, and the way in which I2I-LR's paper compares with it. At 8 it
    knows of the target no more than I2I-LR does.
    """
    domains: tuple[str, ...] = ()
    """Names of the folders that are the domains; none: all images are of one."""

    channels: int = 64
    """First channels of all networks, 2^14 / S as published; doubled at each halving, up to `max_channels`."""
    max_channels: int = 512
    """Their most."""
    style_dim: int = 64
    """Numbers of a style."""
    latent_dim: int = 16
    """Numbers of the code that the mapping network makes a style of."""
    hidden_dim: int = 512
    """Width of the mapping network."""
    residual: bool = True
    """Shortcuts in G's decoder. False, with one halving more: the published model for CelebA-HQ, less its masks."""

    lambda_style: float = 1.0
    """Weight of the style's reconstruction."""
    lambda_diversity: float = 1.0
    """At the start of training; 2 for AFHQ."""
    diversity_images: int = 800_000
    """The images in which `lambda_diversity` falls to 0; 0: it stays."""
    lambda_cycle: float = 1.0
    """Weight of the cycle loss."""
    r1_gamma: float = 1.0
    """gamma of R1; 0: no R1."""
    r1_every: int = 1
    """Lazy regularisation: R1 at every n-th step, times n."""

    generator_lr: float = 1e-4
    """Of the style encoder too."""
    mapping_lr: float = 1e-6
    """Learning rate of the mapping network."""
    discriminator_lr: float = 1e-4
    """Learning rate of the discriminator."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decays of the first and the second moment."""
    weight_decay: float = 1e-4
    """Adam's weight decay."""

    def __post_init__(self) -> None:
        s, low = self.image_size, self.lr_size
        if s not in (32, 64, 128, 256, 512):
            raise PixgraftError(f"image_size is {s}: choose 32, 64, 128, 256 or 512")
        if not 4 <= low <= s or low & (low - 1):
            sizes = ", ".join(str(2**e) for e in range(2, s.bit_length()))
            raise PixgraftError(f"lr_size is {low}: with image_size {s} choose one of {sizes}")
        if len(self.domains) == 1 or len(set(self.domains)) < len(self.domains) or len(self.domains) > 255:
            raise PixgraftError("domains: name two to 255 different folders, or none for images of one domain")
        if any(not name or "/" in name for name in self.domains):
            raise PixgraftError("domains: name single folders, without a slash")
        widths = (self.channels, self.max_channels, self.style_dim, self.latent_dim, self.hidden_dim, self.r1_every)
        if min(widths) < 1:
            raise PixgraftError("channels, dimensions and r1_every must be at least 1")
        check_adam((self.generator_lr, self.mapping_lr, self.discriminator_lr), self.betas)
        weights = ("lambda_style", "lambda_diversity", "diversity_images", "lambda_cycle", "r1_gamma", "weight_decay")
        for name in weights:
            if getattr(self, name) < 0:
                raise PixgraftError(f"{name} is {getattr(self, name)}: it must be at least 0")


class StarGANv2(Graft):
    """Four networks, and the phases of a step: two of the generator, two of the discriminator, and R1."""

    name: ClassVar[str] = "starganv2"
    averaged: ClassVar[tuple[str, ...]] = ("generator", "mapping_network", "style_encoder")
    batch_multiple: ClassVar[int] = 2
    Config: ClassVar[type] = StarGANv2Config
    config: StarGANv2Config

    def __init__(self, config: StarGANv2Config) -> None:
        super().__init__(config)
        widths = {"base_channels": config.channels, "max_channels": config.max_channels}
        size, styles, count = config.image_size, config.style_dim, max(len(config.domains), 1)
        self.generator = Generator(image_size=size, style_dim=styles, residual=config.residual, **widths)
        self.mapping_network = MappingNetwork(
            domains=count, latent_dim=config.latent_dim, style_dim=styles, hidden_dim=config.hidden_dim
        )
        self.style_encoder = StyleEncoder(image_size=size, domains=count, style_dim=styles, **widths)
        self.discriminator = Discriminator(image_size=size, domains=count, **widths)
        self.diversity_weight = 0.0 if config.diversity_images else config.lambda_diversity

    def set_progress(self, images_seen: int) -> None:
        """Set `diversity_weight`, which falls linearly."""
        config = self.config
        share = images_seen / config.diversity_images if config.diversity_images else 0.0
        self.diversity_weight = config.lambda_diversity * max(0.0, 1 - share)

    # --- parts of the losses ---

    def encode(self, images: Tensor, domain: Tensor | None) -> Tensor:
        """E: styles (N, D) of images (N, 3, S, S) that belong to the domains (N,), as it sees them at L."""
        return self.encode_target(self.downscale(images), domain)

    def encode_target(self, targets: Tensor, domain: Tensor | None) -> Tensor:
        """E: styles (N, D) of targets (N, 3, L, L)."""
        factor = self.config.image_size // self.config.lr_size
        styles: Tensor = self.style_encoder(upsample(targets, factor, align_corners=False), domain)
        return styles

    def domains(self, batch: Batch) -> Tensor | None:
        """The domain (N,) of each image; None if there is only one."""
        if not self.config.domains:
            return None
        if batch.condition is None:
            raise PixgraftError(f"{self.name}: images without domains: train on folders of these names")
        return batch.condition.flatten().long()

    def references(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """For each image the places (N,) in the batch of two references of one domain.

        The first is the next image, in a circle; the second the next after that of its domain, which is the first
        itself where no other is of it.
        """
        count, domain = len(batch.images), self.domains(batch)
        places = torch.arange(count, device=batch.images.device)
        first = (places + 1) % count
        steps = (places - first.unsqueeze(1) - 1) % count  # from the first reference on to each place
        if domain is not None:
            steps = steps.masked_fill(domain[first].unsqueeze(1) != domain, count)
        return first, steps.argmin(1)

    def target_domain(self, batch: Batch) -> Tensor | None:
        """The domain (N,) that each image is translated to: that of its reference."""
        domain = self.domains(batch)
        return None if domain is None else domain[self.references(batch)[0]]

    def draw_latents(self, batch: Batch) -> Tensor:
        """Latent codes (N, Z) from N(0, 1), by torch's global generator."""
        return torch.randn(len(batch.images), self.config.latent_dim, device=batch.images.device).to(batch.images)

    # --- the phases ---

    def phases(self) -> list[Phase]:
        """The generator's phases come first and share their detached images with the discriminator's phases.

        As in the published code, references train the generator alone.
        """
        phases = [
            Phase(name="generator_latent", losses=self.latent_losses, optimizer="generator"),
            Phase(
                name="generator_reference", losses=self.reference_losses, optimizer="generator",
                networks=("generator",),
            ),
            Phase(name="discriminator_latent", losses=self.discriminator_latent_losses, optimizer="discriminator"),
            Phase(
                name="discriminator_reference", losses=self.discriminator_reference_losses, optimizer="discriminator"
            ),
        ]  # fmt: skip
        if self.config.r1_gamma > 0:
            every = self.config.r1_every
            phases.append(Phase(name="r1", losses=self.r1_losses, optimizer="discriminator", every=every, precise=True))
        return phases

    def latent_losses(self, batch: Batch) -> Losses:
        """The full objective of G, F and E with styles by the mapping network."""
        target = self.target_domain(batch)
        style = self.mapping_network(self.draw_latents(batch), target)
        with torch.no_grad():
            other = self.mapping_network(self.draw_latents(batch), target)
        return self._generator_losses(batch, LATENT, style, other, self.encode(batch.images, self.domains(batch)))

    def reference_losses(self, batch: Batch) -> Losses:
        """The same for G with styles of references, which are the batch's images themselves."""
        with torch.no_grad():
            styles = self.encode(batch.images, self.domains(batch))
        first, second = self.references(batch)
        return self._generator_losses(batch, REFERENCE, styles[first], styles[second], styles)

    def _generator_losses(self, batch: Batch, half: str, style: Tensor, other: Tensor, own: Tensor) -> Losses:
        """Eq. 1 to 4 of G. `style` and `other` are two styles (N, D) of the target domain, `own` those of the images.

        The published code takes no gradient through the second image of eq. 3.
        """
        config, images, target = self.config, batch.images, self.target_domain(batch)
        fake = self.generator(images, style)
        losses = {
            f"adversarial_{half}": non_saturating_generator_loss(self.discriminator(fake, target)),
            f"style_{half}": config.lambda_style * l1(self.encode(fake, target), style),
            f"cycle_{half}": config.lambda_cycle * l1(self.generator(fake, own), images),
        }
        if config.lambda_diversity:
            with torch.no_grad():
                different = self.generator(images, other)
            losses[f"diversity_{half}"] = -self.diversity_weight * l1(fake, different)
        batch.shared[half] = fake.detach()
        return losses

    def discriminator_latent_losses(self, batch: Batch) -> Losses:
        """Eq. 1 of D on the images of the generator's phase or, without them, on new ones."""
        if LATENT not in batch.shared:
            with torch.no_grad():
                style = self.mapping_network(self.draw_latents(batch), self.target_domain(batch))
                batch.shared[LATENT] = self.generator(batch.images, style)
        return self._discriminator_losses(batch, LATENT)

    def discriminator_reference_losses(self, batch: Batch) -> Losses:
        """The same for references."""
        if REFERENCE not in batch.shared:
            with torch.no_grad():
                styles = self.encode(batch.images, self.domains(batch))
                batch.shared[REFERENCE] = self.generator(batch.images, styles[self.references(batch)[0]])
        return self._discriminator_losses(batch, REFERENCE)

    def _discriminator_losses(self, batch: Batch, half: str) -> Losses:
        return {
            f"real_{half}": real_loss(self.discriminator(batch.images, self.domains(batch))),
            f"fake_{half}": fake_loss(self.discriminator(batch.shared[half], self.target_domain(batch))),
        }

    def r1_losses(self, batch: Batch) -> Losses:
        """gamma / 2 times R1 on the real images, for each of the two halves."""
        images = batch.images.detach().requires_grad_()
        logits = self.discriminator(images, self.domains(batch))
        return {"r1": 2 * self.config.r1_gamma / 2 * r1_of_logits(images, logits)}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, with the mapping network's own rate."""
        config = self.config
        groups = [
            {"params": list(self.generator.parameters()), "lr": config.generator_lr},
            {"params": list(self.mapping_network.parameters()), "lr": config.mapping_lr},
            {"params": list(self.style_encoder.parameters()), "lr": config.generator_lr},
        ]
        settings = {"betas": config.betas, "weight_decay": config.weight_decay, "fused": True}
        return {
            "generator": Adam(groups, **settings),  # type: ignore[arg-type]
            "discriminator": Adam(self.discriminator.parameters(), lr=config.discriminator_lr, **settings),  # type: ignore[arg-type]
        }

    # --- inference ---

    @torch.no_grad()
    def translate(self, source: Tensor, target: Tensor) -> Tensor:
        return self.render(source, self.encode_target(target, None))

    @torch.no_grad()
    def translate_into(self, source: Tensor, target: Tensor, domain: Tensor) -> Tensor:
        return self.render(source, self.encode_target(target, domain))

    @torch.no_grad()
    def random_style(self, latents: Tensor, domain: Tensor | None = None) -> Tensor:
        """Styles (N, D) of latent codes (N, Z) from N(0, 1), in the domains (N,)."""
        styles: Tensor = self.mapping_network(latents, domain)
        return styles

    @torch.no_grad()
    def render(self, source: Tensor, style: Tensor) -> Tensor:
        """Images (N, 3, S, S) of sources (N, 3, S, S) in styles (N, D); no gradient."""
        images: Tensor = self.generator(source, style)
        return images.clamp(-1, 1)
