"""StyleGAN2: Karras, Laine, Aittala, Hellsten, Lehtinen, Aila 2020, "Analyzing and Improving the Image Quality of
StyleGAN", with the adaptive augmentation of Karras et al. 2020, "Training Generative Adversarial Networks with Limited
Data" (ADA) for small data sets.

Non-saturating loss with lazy R1 (section 3.1), path length regularisation (section 3.2) and style mixing. Shape
letters: N images, S side of an image, Z dimension of a code z, D dimension of a code w, L layers that take a code w.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.adaptive import adapted, adaptive_augment
from pixgraft.layers.noise import Noise
from pixgraft.losses.adversarial import fake_loss, non_saturating_generator_loss, real_loss
from pixgraft.losses.penalties import path_lengths, r1_of_logits
from pixgraft.methods.base import Batch, Losses, MethodConfig, Phase, check_adam
from pixgraft.methods.sampling import Sampling
from pixgraft.networks.stylegan2 import Discriminator, Generator, widths

W_MEAN_DECAY = 0.995
"""Decay of the running mean of w at each step."""

ADAPT_EVERY = 4
"""Steps between updates of the augmentation's probability, over which r_t is averaged (ADA, section 3.1)."""


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config(MethodConfig):
    """The defaults are the paper's configuration F at 1024."""

    image_size: int = 1024
    """S, a power of two from 8 to 1024."""
    base_channels: int = 32768
    """A layer of side x has base_channels / x channels, at most max_channels."""
    max_channels: int = 512
    """The most channels of a layer of the generator."""
    z_dim: int = 512
    """Numbers of a code z."""
    w_dim: int = 512
    """Numbers of a code w."""
    mapping_layers: int = 8
    """Layers of the mapping network from z to w."""
    discriminator_base_channels: int = 32768
    """As `base_channels`, of the discriminator."""
    discriminator_max_channels: int = 512
    """As `max_channels`, of the discriminator."""

    mixing: float = 0.9
    """Probability of style mixing in training."""
    r1_gamma: float = 10.0
    """gamma of R1; 0: no R1."""
    r1_every: int = 16
    """Lazy regularisation: R1 at every n-th step, times n."""
    path_weight: float = 2.0
    """Weight of path length regularisation; 0 disables it."""
    path_every: int = 4
    """Path length regularisation at every n-th step, times n."""
    path_decay: float = 0.01
    """Weight of a new value in the running mean of path lengths."""
    path_shrink: int = 2
    """Factor by which the batch of the path length phase is smaller."""

    augment: tuple[Literal["blit", "geometric", "color"], ...] = ("blit", "geometric", "color")
    """Kinds of adaptive augmentation (ADA): shifts and turns by whole pixels, other geometry, colour."""
    augment_target: float = 0.0
    """Target of r_t, the mean sign of the logits of real images; 0 disables augmentation."""
    augment_images: int = 500_000
    """Minimum number of images in which the probability of augmentation rises from 0 to 1."""

    generator_lr: float = 0.002
    """Learning rate of the generator."""
    discriminator_lr: float = 0.002
    """Learning rate of the discriminator."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decays of the first and the second moment, before the correction for lazy phases."""

    def __post_init__(self) -> None:
        widths(self.image_size, self.base_channels, self.max_channels)
        widths(self.image_size, self.discriminator_base_channels, self.discriminator_max_channels)
        for name in ("z_dim", "w_dim", "mapping_layers", "r1_every", "path_every", "path_shrink", "augment_images"):
            if getattr(self, name) < 1:
                raise PixgraftError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        for name in ("mixing", "path_decay", "augment_target"):
            if not 0 <= getattr(self, name) <= 1:
                raise PixgraftError(f"{name} is {getattr(self, name)}: choose a number from 0 to 1")
        if self.augment_target and not self.augment:
            raise PixgraftError("augment_target without augment: name what is to be done to images, or set it to 0")
        if min(self.r1_gamma, self.path_weight) < 0:
            raise PixgraftError("r1_gamma and path_weight must be at least 0")
        check_adam((self.generator_lr, self.discriminator_lr), self.betas)

    def continued(self) -> "StyleGAN2Config":
        """The augmentation rises in at most 100,000 images, as in ADA's published code."""
        return replace(self, augment_images=min(self.augment_images, 100_000))


class _Known:
    """The last number of a tensor, read from its device only where something else than `set` changed it."""

    def __init__(self) -> None:
        self._tensor: Tensor | None = None
        self._version, self._value = 0, 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Known":
        return _Known()

    def value(self, tensor: Tensor) -> float:
        """The number, as a float."""
        if tensor is not self._tensor or tensor._version != self._version:
            self.set(tensor, float(tensor.flatten()[-1]))
        return self._value

    def set(self, tensor: Tensor, value: float) -> None:
        """Say that the tensor's last number is `value` now."""
        self._tensor, self._version, self._value = tensor, tensor._version, value


class StyleGAN2(Sampling):
    """Generator, discriminator and the phases of a step.

    Buffers: `path_mean`, the running mean of path lengths; `probability` of augmentation; `signs`, the sum of r_t since
    the last update of `probability`, and the number of steps.
    """

    name: ClassVar[str] = "stylegan2"
    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    code_name: ClassVar[Literal["z", "w"]] = "w"
    has_noise: ClassVar[bool] = True
    Config: ClassVar[type] = StyleGAN2Config
    config: StyleGAN2Config
    path_mean: Tensor
    probability: Tensor
    signs: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        self.generator = Generator(
            image_size=config.image_size,
            base_channels=config.base_channels,
            max_channels=config.max_channels,
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            mapping_layers=config.mapping_layers,
        )
        self.discriminator = Discriminator(
            image_size=config.image_size,
            base_channels=config.discriminator_base_channels,
            max_channels=config.discriminator_max_channels,
        )
        self.register_buffer("path_mean", torch.zeros(()))
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(2))
        self._known = {name: _Known() for name in ("probability", "signs")}

    @property
    def latent_size(self) -> int:
        return self.config.z_dim

    @property
    def style_layers(self) -> int:
        return self.generator.synthesis.layers

    @property
    def code_shapes(self) -> list[tuple[int, ...]]:
        return [(self.config.w_dim,), (self.style_layers, self.config.w_dim)]

    # --- parts of the losses ---

    def training_codes(self, count: int) -> tuple[Tensor, Tensor]:
        """Random codes W+ (N, L, D), some with style mixing, and the w (N, D) of their first layers."""
        device = self.path_mean.device
        first = self.generator.mapping(torch.randn(count, self.config.z_dim, device=device))
        if not self.config.mixing:
            return self.generator.spread(first), first
        second = self.generator.mapping(torch.randn(count, self.config.z_dim, device=device))
        crossover = torch.randint(1, self.style_layers, (count,), device=device)
        unmixed = torch.rand(count, device=device) >= self.config.mixing
        return self.generator.mix(first, second, torch.where(unmixed, self.style_layers, crossover)), first

    def judged(self, images: Tensor) -> Tensor:
        """Logits (N, 1) of images (N, 3, S, S) after augmentation."""
        logits: Tensor = self.discriminator(self.augmented(images))
        return logits

    def augmented(self, images: Tensor) -> Tensor:
        """Images after augmentation with the current probability."""
        if not self.config.augment_target:
            return images
        return adaptive_augment(images, self._known["probability"].value(self.probability), groups=self.config.augment)

    def compilable(self) -> list[nn.Module]:
        """The generator's sub-modules, since its own `forward` is not called, and the discriminator."""
        return [*self.generator.children(), self.discriminator]

    # --- the phases ---

    def phases(self) -> list[Phase]:
        """The generator's phase comes first and shares its detached images with the discriminator's phase."""
        config = self.config
        phases = [Phase(name="generator", losses=self.generator_losses, optimizer="generator")]
        if config.path_weight:
            every = config.path_every
            phases.append(Phase(name="path", losses=self.path_losses, optimizer="generator", every=every, precise=True))
        phases.append(Phase(name="discriminator", losses=self.discriminator_losses, optimizer="discriminator"))
        if config.r1_gamma:
            every = config.r1_every
            phases.append(Phase(name="r1", losses=self.r1_losses, optimizer="discriminator", every=every, precise=True))
        return phases

    def generator_losses(self, batch: Batch) -> Losses:
        """-log s(D(G(z))), the non-saturating loss."""
        images, w = self.generate(len(batch.images))
        batch.shared["image"] = images.detach()
        batch.observed["w_mean"] = w.detach().mean(0)
        return {"generator": non_saturating_generator_loss(self.judged(images))}

    def generate(self, count: int) -> tuple[Tensor, Tensor]:
        """Images (N, 3, S, S) of `count` random codes with new noise, and the w (N, D) of their first layers."""
        codes, w = self.training_codes(count)
        images: Tensor = self.generator.synthesis(codes, noise="random")
        return images, w

    def path_losses(self, batch: Batch) -> Losses:
        """Eq. 4: the squared deviation of path lengths from their mean.

        The mean is the running mean of earlier steps, so that the loss of an image does not depend on its batch.
        """
        codes, _ = self.training_codes(max(1, len(batch.images) // self.config.path_shrink))
        lengths = path_lengths(self.generator.synthesis(codes, noise="random"), codes)
        batch.observed["path_length"] = lengths.detach().mean()
        return {"path": self.config.path_weight * (lengths - self.path_mean).square().mean()}

    def discriminator_losses(self, batch: Batch) -> Losses:
        """The logistic loss, on the images of the generator's phase or, without them, on new ones."""
        if "image" not in batch.shared:
            with torch.no_grad():
                batch.shared["image"] = self.generate(len(batch.images))[0]
        real = self.judged(batch.images)
        if self.config.augment_target:
            batch.observed["real_sign"] = real.detach().sign().mean()
            batch.observed["augmentation"] = self.probability.clone()
        return {"real": real_loss(real), "fake": fake_loss(self.judged(batch.shared["image"]))}

    def r1_losses(self, batch: Batch) -> Losses:
        """gamma / 2 times R1 on the real images after augmentation."""
        images = self.augmented(batch.images).detach().requires_grad_()
        return {"r1": self.config.r1_gamma / 2 * r1_of_logits(images, self.discriminator(images))}

    @torch.no_grad()
    def adapt(self, observed: dict[str, Tensor], images: int) -> None:
        """Update the means of w and of path lengths and, every `ADAPT_EVERY` steps, the augmentation's probability."""
        config = self.config
        if "w_mean" in observed:
            self.generator.w_mean.lerp_(observed["w_mean"].to(self.generator.w_mean), 1 - W_MEAN_DECAY)
        if "path_length" in observed:
            self.path_mean.lerp_(observed["path_length"].to(self.path_mean), config.path_decay)
        if "real_sign" in observed:
            steps = self._known["signs"].value(self.signs) + 1
            self.signs += torch.stack((observed["real_sign"], torch.ones_like(observed["real_sign"]))).to(self.signs)
            if steps < ADAPT_EVERY:
                self._known["signs"].set(self.signs, steps)
            else:
                mean, count = self.signs[0] / self.signs[1], images * ADAPT_EVERY
                target, speed = config.augment_target, config.augment_images
                self.probability.fill_(adapted(self.probability, mean, target=target, images=count, speed=speed))
                self.signs.zero_()

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network.

        A lazy phase at every n-th step adds one update in n: the learning rate is multiplied by n / (n + 1), and the
        betas are raised to that power (appendix B).
        """
        config = self.config
        optimizers: dict[str, Optimizer] = {}
        for name, lr, every in (
            ("generator", config.generator_lr, config.path_every if config.path_weight else 0),
            ("discriminator", config.discriminator_lr, config.r1_every if config.r1_gamma else 0),
        ):
            factor = every / (every + 1) if every else 1.0
            betas = (config.betas[0] ** factor, config.betas[1] ** factor)
            optimizers[name] = Adam(self.get_submodule(name).parameters(), lr=lr * factor, betas=betas, fused=True)
        return optimizers

    # --- inference ---

    @torch.no_grad()
    def codes(self, z: Tensor, *, truncation: float = 1.0) -> Tensor:
        return self.generator.truncate(self.generator.mapping(z), truncation)

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        return self.generator.synthesis.draw_noise(count, random)

    def stored_noise(self, count: int) -> list[Tensor]:
        maps = self.generator.synthesis.noise_maps("stored", count)
        return [each.expand(count, -1, -1, -1) for each in maps if each is not None]

    @torch.no_grad()
    def synthesize(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        return self.generated(codes, noise=noise).clamp(-1, 1)

    def generated(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        images: Tensor = self.generator.synthesis(self.spread(codes) if codes.ndim == 2 else codes, noise=noise)
        return images

    def start_code(self) -> Tensor:
        if not self.generator.w_mean.any():  # an untrained generator
            self.generator.estimate_w_mean(random=torch.Generator().manual_seed(0))
        return self.generator.w_mean.clone()

    def mapped(self, z: Tensor) -> Tensor:
        w: Tensor = self.generator.mapping(z)
        return w

    def code_weights(self) -> list[Tensor]:
        return self.generator.synthesis.style_weights()

    def fused_channels(self, side: int) -> int:
        config = self.config
        channels = widths(config.image_size, config.base_channels, config.max_channels)
        if side not in channels or side == config.image_size:
            raise PixgraftError(f"side {side}: the model has maps of {[*channels][:-1]} pixels to compose")
        return channels[side]

    def fused(self, codes: Tensor, weights: Tensor, side: int) -> Tensor:
        """As in `Sampling`; the RGB output of smaller sides, and the code of the remaining layers, are means over the
        M codes, which the paper leaves open."""
        count, many = codes.shape[:2]
        synthesis, level = self.generator.synthesis, side.bit_length() - 3
        x, rgb = synthesis.features(self.spread(codes.flatten(0, 1)), level)
        x = (x.unflatten(0, (count, many)) * weights[..., None, None]).sum(1)
        rgb = rgb if rgb is None else rgb.unflatten(0, (count, many)).mean(1)
        images: Tensor = synthesis.from_features(x, rgb, self.spread(codes.mean(1)), level)
        return images
