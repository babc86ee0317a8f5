"""What pSp and OME share: a condition becomes codes of a frozen generator, whose image of them is compared with the
target.

Shape letters: N images, S side of the generator's images, s side at which conditions enter and images are compared, C
channels of a condition as data keeps it, M codes (of StyleGAN2 one for each layer), D numbers of a code.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import Condition, ConditionSpec, condition_channels, fitted
from pixgraft.losses.identity import face_crop, identity
from pixgraft.losses.reconstruction import l2
from pixgraft.methods.base import Losses, Method, MethodConfig, NetworkRole
from pixgraft.methods.progan import ProGAN
from pixgraft.methods.stylegan2 import StyleGAN2
from pixgraft.methods.tasks import Encoding
from pixgraft.networks import progan, stylegan2

Kind = Literal["self", "labels", "sketch", "image", "lr"]
"""What the condition is: the target itself (inversion), or as `layers.conditions` says."""


@dataclass(frozen=True, kw_only=True)
class EncodingConfig(MethodConfig):
    """What both methods have; the defaults are the papers' for faces at 1024."""

    prior: str = ""
    """The trained generator: a model or run folder of stylegan2 or progan, or a bundled model's name."""
    generator: Literal["stylegan2", "progan"] = "stylegan2"
    image_size: int = 1024
    """S; this and the next four are the generator's, and are checked against the prior's."""
    base_channels: int = 32768
    max_channels: int = 512
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    train_generator: bool = False

    input_size: int = 256
    """s, a power of two from 32 to 1024."""
    condition: Kind = "lr"
    classes: int = 19
    """Of labels."""

    lambda_l2: float = 1.0
    lambda_perceptual: float = 0.8
    perceptual: Literal["lpips-alex", "lpips-vgg", "squeezenet"] = "lpips-alex"
    """The network of the perceptual distance. Where LPIPS' weights are not to be had, training says so and takes
    SqueezeNet, which comes with the package."""
    lambda_identity: float = 0.1
    identity: Literal["irse50", "mobilefacenet"] = "irse50"
    """The network that embeds faces; it needs weights of its own."""

    def __post_init__(self) -> None:
        s = self.input_size
        if not 32 <= s <= 1024 or s & (s - 1):
            raise PixgraftError(f"input_size is {s}: choose a power of two from 32 to 1024")
        if self.condition == "labels" and not 2 <= self.classes <= 256:
            raise PixgraftError(f"classes is {self.classes}: choose a number from 2 to 256")
        if min(self.lambda_l2, self.lambda_perceptual, self.lambda_identity) < 0:
            raise PixgraftError("the lambdas must be at least 0")

    @property
    def training_size(self) -> int:
        return self.input_size

    @property
    def condition_spec(self) -> ConditionSpec:
        inversion = self.condition == "self"
        kind: Condition = "image" if self.condition == "self" else self.condition
        return ConditionSpec(kind, self.input_size, self.classes if kind == "labels" else 0, inversion)

    @property
    def condition_channels(self) -> int:
        """Channels of a condition as the networks take it."""
        return condition_channels(self.condition_spec.kind, self.classes)


class Start(nn.Module):
    """The code that all others are offsets from: the generator's average, (M, D)."""

    codes: Tensor

    def __init__(self, codes: int, code_dim: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(codes, code_dim))


class PriorEncoding(Encoding):
    """The base of both: generator, starting codes, losses and use. A subclass makes the encoder."""

    averaged: ClassVar[tuple[str, ...]] = ("encoder",)
    frozen: ClassVar[tuple[str, ...]] = ("generator", "start")
    config: EncodingConfig
    encoder: nn.Module

    def __init__(self, config: EncodingConfig) -> None:
        super().__init__(config)
        self.generator: stylegan2.Generator | progan.Generator
        if config.generator == "stylegan2":
            self.generator = stylegan2.Generator(
                image_size=config.image_size,
                base_channels=config.base_channels,
                max_channels=config.max_channels,
                z_dim=config.z_dim,
                w_dim=config.w_dim,
                mapping_layers=config.mapping_layers,
            )
        else:
            self.generator = progan.Generator(
                image_size=config.image_size,
                z_dim=config.z_dim,
                base_channels=config.base_channels,
                max_channels=config.max_channels,
            )
        self.start = Start(self.codes, self.code_dim)
        if config.train_generator:
            self.averaged, self.frozen = (*self.averaged, "generator"), ("start",)  # type: ignore[misc]

    @property
    @abstractmethod
    def codes(self) -> int:
        """M."""

    @property
    def start_codes(self) -> Tensor:
        return self.start.codes

    @property
    def layer_styles(self) -> bool:
        return self.config.generator == "stylegan2"

    @property
    def code_dim(self) -> int:
        """D: of w for StyleGAN2, of z for ProGAN."""
        return self.config.w_dim if self.config.generator == "stylegan2" else self.config.z_dim

    # --- borrowed networks ---

    def required_networks(self) -> dict[NetworkRole, str]:
        config = self.config
        wanted: dict[NetworkRole, str] = {}
        if config.lambda_perceptual:
            wanted["perceptual"] = config.perceptual
        if config.lambda_identity:
            wanted["identity"] = config.identity
        return wanted

    @property
    def prior(self) -> str:
        if not self.config.prior:
            raise PixgraftError(f"{self.name}: needs a trained generator: --set method.prior=MODEL names it")
        return self.config.prior

    @torch.no_grad()
    def load_prior(self, prior: Method) -> None:
        """Take a prior's generator, and start from its average code.

        ProGAN's codes have the mean zero, which has no direction for its first layer's normalisation to keep: there a
        code drawn once and for all takes its place.

        Raises PixgraftError if it is of another kind or size than the configuration's.
        """
        config = self.config
        if isinstance(prior, ProGAN) and (prior.resolution, prior.alpha) != (prior.config.image_size, 1.0):
            raise PixgraftError(f"{config.prior}: is still growing, now at {prior.resolution} pixels: train it on")
        expected: type[Method] = StyleGAN2 if config.generator == "stylegan2" else ProGAN
        if not isinstance(prior, StyleGAN2 | ProGAN) or not isinstance(prior, expected):
            mend = "--set method.generator=progan" if isinstance(prior, ProGAN) and self.name == "ome" else ""
            raise PixgraftError(
                f"{config.prior}: a model of {prior.name}, but method.generator is {config.generator}: "
                f"{mend or 'choose another prior'}"
            )
        names = ["image_size", "base_channels", "max_channels", "z_dim"]
        names += ["w_dim", "mapping_layers"] if config.generator == "stylegan2" else []
        for name in names:
            found, asked = getattr(prior.config, name), getattr(config, name)
            if found != asked:
                raise PixgraftError(
                    f"{config.prior}: its generator's {name} is {found}, but the configuration's is {asked}: "
                    f"--set method.{name}={found}, or choose another prior"
                )
        self.generator.load_state_dict(prior.generator.state_dict())
        if isinstance(prior, StyleGAN2):
            if not prior.generator.w_mean.any():  # of a generator that no one has trained
                prior.generator.estimate_w_mean(random=torch.Generator().manual_seed(0))
            self.start.codes.copy_(prior.generator.w_mean.expand_as(self.start.codes))
        else:
            drawn = prior.draw_latents(1, torch.Generator().manual_seed(0))
            self.start.codes.copy_(drawn.expand_as(self.start.codes))

    def compilable(self) -> list[nn.Module]:
        """The generator's parts, whose whole is not called, and the other networks."""
        others = [module for module in self.children() if module is not self.generator]
        return [*self.generator.children(), *others]

    # --- what the terms are made of ---

    def generate(self, codes: Tensor) -> Tensor:
        """Images (N, 3, S, S) of codes (N, M, D), not clamped, with the noise kept with the weights."""
        assert isinstance(self.generator, stylegan2.Generator)  # ome.py has its own way for ProGAN's
        images: Tensor = self.generator.synthesis(codes, noise="stored")
        return images

    def compared(self, images: Tensor, targets: Tensor, suffix: str = "") -> Losses:
        """Eq. 15 of OME, which pSp has too: images (N, 3, S, S) against targets (N, 3, s, s), at the side s.

        `suffix` ends the terms' names.
        """
        config = self.config
        small = fitted(images, config.input_size)
        losses = {f"l2{suffix}": config.lambda_l2 * l2(small, targets)}
        if config.lambda_perceptual:
            apart = self.loss_network("perceptual")(small, targets)
            losses[f"perceptual{suffix}"] = config.lambda_perceptual * apart.mean()
        if config.lambda_identity:
            embed = self.loss_network("identity")
            mine, theirs = (F.normalize(embed(face_crop(each)), dim=1) for each in (small, targets))
            losses[f"identity{suffix}"] = config.lambda_identity * identity(mine, theirs)
        return losses

    # --- use ---

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Raises PixgraftError for codes of another shape."""
        if codes.ndim != 3 or codes.shape[1:] != self.start.codes.shape:
            expected = ", ".join(map(str, self.start.codes.shape))
            raise PixgraftError(f"codes {tuple(codes.shape)}: the model's are (N, {expected})")
        return self.generate(codes).clamp(-1, 1)

    def random_codes(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """w of StyleGAN2, z of ProGAN."""
        z = torch.stack([torch.randn(self.config.z_dim, generator=random) for _ in range(count)])
        z = z.to(self.start.codes)
        if not isinstance(self.generator, stylegan2.Generator):
            return z
        with torch.no_grad():
            codes: Tensor = self.generator.mapping(z)
        return codes
