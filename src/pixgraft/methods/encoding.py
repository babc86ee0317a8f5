"""The base of pSp and OME: an encoder maps a condition to codes of a frozen generator; the losses compare the
generator's image with the target.

Shape letters: N images, S side of the generator's images, s side of conditions and of the images in the losses, C
channels of a stored condition, M codes (one for each layer of StyleGAN2), D dimension of a code.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import Condition, ConditionSpec, Enlarging, condition_channels, fitted
from pixgraft.losses.identity import face_crop, identity
from pixgraft.losses.reconstruction import l2
from pixgraft.methods.base import Losses, Method, MethodConfig, NetworkRole, PerceptualNetwork
from pixgraft.methods.progan import ProGAN, ProGANConfig
from pixgraft.methods.sampling import Sampling
from pixgraft.methods.stylegan2 import StyleGAN2, StyleGAN2Config
from pixgraft.methods.tasks import Encoding
from pixgraft.networks import progan, stylegan2

Kind = Literal["self", "labels", "sketch", "image", "lr"]
"""The kind of the condition: the target itself (inversion), or a kind of `layers.conditions`."""


@dataclass(frozen=True, kw_only=True)
class EncodingConfig(MethodConfig):
    """The settings of both methods; the defaults are the papers' for faces at 1024."""

    prior: str = ""
    """The trained generator: a model folder or run folder of stylegan2 or progan, or the name of a bundled model."""
    generator: Literal["stylegan2", "progan"] = "stylegan2"
    """The method of the prior."""
    image_size: int = 1024
    """S. This and the next five fields describe the generator and must equal the prior's."""
    base_channels: int = 32768
    """A layer of side x has base_channels / x channels, at most max_channels."""
    max_channels: int = 512
    """The most channels of a layer of the generator."""
    z_dim: int = 512
    """Numbers of a code z."""
    w_dim: int = 512
    """Numbers of a code w; StyleGAN2 alone."""
    mapping_layers: int = 8
    """Layers of the mapping network; StyleGAN2 alone."""
    train_generator: bool = False
    """Train the generator too."""

    input_size: int = 256
    """s, a power of two from 32 to 1024."""
    condition: Kind = "lr"
    """A small image, the image itself, label maps, drawings or other images."""
    classes: int = 19
    """Number of classes of label maps."""
    enlarging: Enlarging = "bicubic"
    """For conditions of kind lr: the filter that enlarges them to s."""
    head_channels: int = 0
    """Width of the convolutions that lead to each code; 0: the code's dimension, as published."""

    lambda_l2: float = 1.0
    """Weight of the mean squared difference."""
    lambda_perceptual: float = 0.8
    """Weight of the perceptual loss."""
    perceptual: PerceptualNetwork = "lpips-alex"
    """The network of the perceptual loss."""
    lambda_identity: float = 0.1
    """Weight of the identity loss."""
    identity: Literal["irse50", "mobilefacenet"] = "irse50"
    """The network that embeds faces; its weights are not bundled."""

    def __post_init__(self) -> None:
        s = self.input_size
        if not 32 <= s <= 1024 or s & (s - 1):
            raise PixgraftError(f"input_size is {s}: choose a power of two from 32 to 1024")
        if self.condition == "labels" and not 2 <= self.classes <= 256:
            raise PixgraftError(f"classes is {self.classes}: choose a number from 2 to 256")
        if min(self.lambda_l2, self.lambda_perceptual, self.lambda_identity, self.head_channels) < 0:
            raise PixgraftError("the lambdas and head_channels must be at least 0")

    @property
    def generator_fields(self) -> dict[str, Any]:
        """The fields that describe the generator, which are its keyword arguments."""
        names = ["image_size", "base_channels", "max_channels", "z_dim"]
        names += ["w_dim", "mapping_layers"] if self.generator == "stylegan2" else []
        return {name: getattr(self, name) for name in names}

    @property
    def training_size(self) -> int:
        return self.input_size

    @property
    def condition_spec(self) -> ConditionSpec:
        kind: Condition = "image" if self.condition == "self" else self.condition
        return ConditionSpec(
            kind, self.input_size, self.classes if kind == "labels" else 0, self.condition == "self", self.enlarging
        )

    @property
    def perceptual_network(self) -> str:
        return self.perceptual if self.lambda_perceptual else ""

    @property
    def condition_channels(self) -> int:
        """Channels of an encoded condition, the networks' input."""
        return condition_channels(self.condition_spec.kind, self.classes)


class Start(nn.Module):
    """The start codes (M, D), the generator's average code; the encoder outputs offsets from them."""

    codes: Tensor

    def __init__(self, codes: int, code_dim: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(codes, code_dim))


class PriorEncoding(Encoding):
    """Generator, start codes, losses and the task's functions. A subclass adds the encoder."""

    averaged: ClassVar[tuple[str, ...]] = ("encoder",)
    frozen: ClassVar[tuple[str, ...]] = ("generator", "start")
    config: EncodingConfig
    encoder: nn.Module

    def __init__(self, config: EncodingConfig) -> None:
        super().__init__(config)
        network = stylegan2.Generator if config.generator == "stylegan2" else progan.Generator
        self.generator: stylegan2.Generator | progan.Generator = network(**config.generator_fields)
        self.start = Start(self.codes, self.code_dim)
        if config.train_generator:
            self.averaged, self.frozen = (*self.averaged, "generator"), ("start",)  # type: ignore[misc]

    @property
    def codes(self) -> int:
        """M; by default 2 log2(S) - 2, the number of StyleGAN2's layers."""
        return 2 * self.config.image_size.bit_length() - 4

    @property
    def start_codes(self) -> Tensor:
        return self.start.codes

    @property
    def layer_styles(self) -> bool:
        return self.config.generator == "stylegan2"

    @property
    def code_dim(self) -> int:
        """D, dimension of w for StyleGAN2 and of z for ProGAN."""
        return self.config.w_dim if self.config.generator == "stylegan2" else self.config.z_dim

    # --- pretrained networks ---

    def required_networks(self) -> dict[NetworkRole, str]:
        config = self.config
        networks: dict[NetworkRole, str] = {}
        if config.lambda_perceptual:
            networks["perceptual"] = config.perceptual
        if config.lambda_identity:
            networks["identity"] = config.identity
        return networks

    @property
    def prior(self) -> str:
        if not self.config.prior:
            raise PixgraftError(f"{self.name}: needs a trained generator: --set method.prior=MODEL names it")
        return self.config.prior

    @torch.no_grad()
    def load_prior(self, prior: Method) -> None:
        """Copy a prior's generator, and set the start codes to `Sampling.start_code`.

        Raises PixgraftError if the prior's kind or size differs from the configuration's.
        """
        config = self.config
        if isinstance(prior, ProGAN) and (prior.resolution, prior.alpha) != (prior.config.image_size, 1.0):
            raise PixgraftError(f"{config.prior}: is still growing, now at {prior.resolution} pixels: train it on")
        prior_class: type[Method] = StyleGAN2 if config.generator == "stylegan2" else ProGAN
        if not isinstance(prior, StyleGAN2 | ProGAN) or not isinstance(prior, prior_class):
            mend = "--set method.generator=progan" if isinstance(prior, ProGAN) and self.name == "ome" else ""
            raise PixgraftError(
                f"{config.prior}: a model of {prior.name}, but method.generator is {config.generator}: "
                f"{mend or 'choose another prior'}"
            )
        for name, expected in config.generator_fields.items():
            actual = getattr(prior.config, name)
            if actual != expected:
                raise PixgraftError(
                    f"{config.prior}: its generator's {name} is {actual}, but the configuration's is {expected}: "
                    f"--set method.{name}={actual}, or choose another prior"
                )
        self.generator.load_state_dict(prior.generator.state_dict())
        self.start.codes.copy_(prior.start_code())

    def compilable(self) -> list[nn.Module]:
        """The generator's sub-modules, since its own `forward` is not called, and the other networks."""
        others = [module for module in self.children() if module is not self.generator]
        return [*self.generator.children(), *others]

    # --- parts of the losses ---

    def generate(self, codes: Tensor) -> Tensor:
        """Images (N, 3, S, S) of codes (N, M, D), not clamped, with the stored noise maps."""
        assert isinstance(self.generator, stylegan2.Generator)  # OME overrides this for ProGAN
        images: Tensor = self.generator.synthesis(codes, noise="stored")
        return images

    def compared(self, images: Tensor, targets: Tensor, suffix: str = "") -> Losses:
        """Eq. 15 of OME and the losses of pSp: images (N, 3, S, S) and targets (N, 3, s, s), compared at the side s.

        `suffix` is appended to the names of the losses.
        """
        config = self.config
        small = fitted(images, config.input_size)
        losses = {f"l2{suffix}": config.lambda_l2 * l2(small, targets)}
        if config.lambda_perceptual:
            distances = self.loss_network("perceptual")(small, targets)
            losses[f"perceptual{suffix}"] = config.lambda_perceptual * distances.mean()
        if config.lambda_identity:
            embed = self.loss_network("identity")
            output, target = (F.normalize(embed(face_crop(each)), dim=1) for each in (small, targets))
            losses[f"identity{suffix}"] = config.lambda_identity * identity(output, target)
        return losses

    # --- inference ---

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images of codes. Raises PixgraftError for codes of a wrong shape."""
        if codes.ndim != 3 or codes.shape[1:] != self.start.codes.shape:
            expected = ", ".join(map(str, self.start.codes.shape))
            raise PixgraftError(f"codes {tuple(codes.shape)}: the model's are (N, {expected})")
        return self.generate(codes).clamp(-1, 1)

    def embedded_prior(self) -> Sampling:
        fields = self.config.generator_fields
        prior: StyleGAN2 | ProGAN
        if isinstance(self.generator, stylegan2.Generator):
            # Searches need no discriminator: it gets one channel.
            fields |= {"discriminator_base_channels": self.config.image_size, "discriminator_max_channels": 1}
            prior = StyleGAN2(StyleGAN2Config(**fields))
        else:
            prior = ProGAN(ProGANConfig(**fields))
        prior.to(self.start.codes.device).requires_grad_(False).eval()
        prior.generator = self.generator
        return prior

    @torch.no_grad()
    def random_codes(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """Codes w of StyleGAN2 or z of ProGAN."""
        z = torch.stack([torch.randn(self.config.z_dim, generator=random) for _ in range(count)]).to(self.start.codes)
        return self.generator.mapping(z) if isinstance(self.generator, stylegan2.Generator) else z
