"""pSp: Richardson et al. 2021, "Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation", and its use for
super-resolution.

The encoder outputs a code for each layer of the generator in one pass, as an offset from the average code. The losses
are L2, a perceptual distance, identity and the distance of the codes from the average.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import encoded
from pixgraft.losses.latent import w_norm
from pixgraft.methods.base import Batch, Losses, NetworkRole, Phase
from pixgraft.methods.encoding import EncodingConfig, PriorEncoding
from pixgraft.methods.ranger import Ranger
from pixgraft.methods.tasks import Encoded
from pixgraft.networks.irse import STAGES
from pixgraft.networks.psp import Maps, SingleStyleEncoder, StyleEncoder


@dataclass(frozen=True, kw_only=True)
class PSPConfig(EncodingConfig):
    """The defaults are for super-resolution of faces; the preset psp-official-1024 has the published code's."""

    space: Literal["w+", "w"] = "w+"
    """One code for each layer, or one for all layers."""
    stages: tuple[tuple[int, int], ...] = STAGES
    """Channels and blocks of the four stages of IR-SE-50."""
    maps: Maps = "pyramid"
    """The features that styles come from: three sizes, or all from the smallest or the largest map (an ablation)."""
    backbone: Literal["random", "irse50"] = "random"
    """What the encoder's body begins from: random weights, or those of face recognition, as in the published code."""
    sketches: Literal["signed", "unit"] = "signed"
    """Drawings at the encoder's input are in [-1, 1], or in [0, 1] as in the published code."""
    noise: Literal["stored", "random"] = "stored"
    """The generator's noise maps in training. The published code draws new ones for each image."""
    lambda_w: float = 0.005
    """Weight of the distance of the codes from the average."""
    lr: float = 1e-4
    """Learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generator != "stylegan2":
            raise PixgraftError("generator: pSp has a code for each layer of StyleGAN2: choose stylegan2, or ome")
        if self.backbone == "irse50" and self.stages != STAGES:
            raise PixgraftError(f"backbone irse50: its stages are {STAGES}: leave stages as they are")
        if self.lambda_w < 0 or self.lr <= 0:
            raise PixgraftError("lambda_w must be at least 0, and lr above 0")


class PSP(PriorEncoding):
    """Encoder, frozen generator and the single phase of a step."""

    name: ClassVar[str] = "psp"
    Config: ClassVar[type] = PSPConfig
    config: PSPConfig
    encoder: StyleEncoder | SingleStyleEncoder

    def __init__(self, config: PSPConfig) -> None:
        super().__init__(config)
        network = StyleEncoder if config.space == "w+" else SingleStyleEncoder
        self.encoder = network(
            condition_channels=config.condition_channels,
            styles=self.codes,
            code_dim=self.code_dim,
            input_size=config.input_size,
            stages=config.stages,
            head_channels=config.head_channels,
            maps=config.maps,
        )

    def required_networks(self) -> dict[NetworkRole, str]:
        backbone: dict[NetworkRole, str] = {} if self.config.backbone == "random" else {"backbone": "irse50"}
        return super().required_networks() | backbone

    def attach_network(self, role: NetworkRole, network: nn.Module) -> None:
        """As in `Method`. A backbone's weights are copied; its first layer's only if conditions have 3 channels."""
        if role != "backbone":
            super().attach_network(role, network)
            return
        self.encoder.body.load_state_dict(network.get_submodule("body").state_dict())
        if self.encoder.condition_channels == 3:
            self.encoder.input_layer.load_state_dict(network.get_submodule("input_layer").state_dict())

    def codes_of(self, condition: Tensor) -> Tensor:
        """Codes (N, M, D) of conditions, uint8 (N, C, s, s)."""
        start = self.start.codes
        inputs = encoded(condition, self.condition.kind, self.config.classes, start.dtype)
        if self.condition.kind == "sketch" and self.config.sketches == "unit":
            inputs = (inputs + 1) / 2
        offsets: Tensor = self.encoder(inputs)
        return start + offsets.to(start.dtype)

    def phases(self) -> list[Phase]:
        return [Phase(name="encoder", losses=self.encoder_losses, optimizer="encoder")]

    def encoder_losses(self, batch: Batch) -> Losses:
        """Losses between the generator's image and the target, and between the codes and the average code."""
        codes = self.codes_of(self.condition_of(batch))
        images = self.generator.get_submodule("synthesis")(codes, noise=self.config.noise)
        losses = self.compared(images, batch.images)
        if self.config.lambda_w:
            losses["w_norm"] = self.config.lambda_w * w_norm(codes, self.start.codes)
        return losses

    def optimizers(self) -> dict[str, Optimizer]:
        """Ranger for the encoder and, with `train_generator`, the generator's synthesis network."""
        parameters = list(self.encoder.parameters())
        if self.config.train_generator:
            parameters += self.generator.get_submodule("synthesis").parameters()
        return {"encoder": Ranger(parameters, lr=self.config.lr)}

    @torch.no_grad()
    def encode(self, condition: Tensor, *, steps: int | None = None) -> Encoded:
        if steps not in (None, 1):
            raise PixgraftError(f"steps {steps}: psp models take one step; remove steps or use an OME model")
        self.condition.check(condition)
        codes = self.codes_of(condition.to(self.start.codes.device))
        return Encoded([codes], [self.decode(codes)])
