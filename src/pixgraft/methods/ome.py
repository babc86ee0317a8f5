"""OME: Guo, Shao, Li 2023, "Image-to-image translation using an offset-based multi-scale codes GAN encoder".

In each of N steps the encoder takes the condition and the current image and outputs offsets of the codes (eqs. 1 to 4).
Each step has its own losses and update of the encoder; the next step starts from its detached outputs. StyleGAN2 takes
one code for each layer (eq. 5). With ProGAN, the feature maps of all codes after `cut` layers are fused (eqs. 6 to 11).
There is no public code; the switches are those of Tables 2 and 3.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import joined
from pixgraft.methods.base import Batch, Losses, NetworkRole, Phase
from pixgraft.methods.encoding import EncodingConfig, PriorEncoding
from pixgraft.methods.ranger import Ranger
from pixgraft.methods.tasks import SCALES, Encoded
from pixgraft.networks import progan
from pixgraft.networks.ome import DynamicFusion, Encoder, static_fusion
from pixgraft.networks.progan import stage_widths


@dataclass(frozen=True, kw_only=True)
class OMEConfig(EncodingConfig):
    """The defaults are the paper's for faces with StyleGAN2."""

    steps: int = 5
    """N, number of steps."""
    updates: Literal["each_step", "each_batch"] = "each_step"
    """The paper back-propagates the loss "according to each forward" pass. Update the weights after each step, or once
    a batch by the sum of the steps' gradients."""
    offsets: bool = True
    """OB: several steps with offsets; false: one step."""
    many_codes: bool = True
    """MC: several codes; false: StyleGAN2's layers share one code, and ProGAN has one instead of `progan_codes`."""
    many_scales: bool = True
    """MS: codes from features of three scales; false: all codes from the lowest resolution."""
    dynamic_fusion: bool = True
    """DF, for ProGAN: learned fusion of the feature maps; false: their mean."""
    progan_codes: int = 20
    """M, number of codes for ProGAN."""
    cut: int = 8
    """Number of ProGAN's layers before the fusion."""

    depth: Literal[34, 50] = 50
    """Number of layers of the ResNet: 50 for faces, 34 for scenes."""
    backbone: Literal["random", "imagenet"] = "random"
    """What the ResNet begins from, which the paper leaves open: random weights, or torchvision's for ImageNet."""
    encoder_channels: int = 64
    """Channels of the ResNet's first layer."""
    pyramid_channels: int = 256
    """Channels of the feature pyramid."""
    small_stem: bool = False
    """A first layer of stride 1, for inputs below 128 pixels."""
    lr: float = 1e-3
    """Learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise PixgraftError(f"steps is {self.steps}: choose a number from 1")
        if self.many_scales and not self.many_codes:
            raise PixgraftError("many_scales without many_codes: one code comes of one scale: switch both off")
        if self.generator == "progan":
            layers = 2 * self.image_size.bit_length() - 4
            if not 1 <= self.cut < layers:
                raise PixgraftError(f"cut is {self.cut}: choose 1 to {layers - 1} of ProGAN's {layers} layers")
            if self.many_codes and self.progan_codes < 3:
                raise PixgraftError(f"progan_codes is {self.progan_codes}: choose 3 or more, or many_codes=false")
        if self.backbone == "imagenet" and self.encoder_channels != 64:
            raise PixgraftError("backbone imagenet: its first layer has 64 channels: leave encoder_channels at 64")
        if self.lr <= 0:
            raise PixgraftError(f"lr is {self.lr}: it must be above 0")


class OME(PriorEncoding):
    """Encoder, frozen generator, fusion network if any, and one phase for each step."""

    name: ClassVar[str] = "ome"
    Config: ClassVar[type] = OMEConfig
    config: OMEConfig
    encoder: Encoder

    def __init__(self, config: OMEConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(
            in_channels=config.condition_channels + 3,
            image_size=config.input_size,
            codes=self.codes,
            code_dim=self.code_dim,
            many_codes=config.many_codes,
            many_scales=config.many_scales,
            order="styles" if config.generator == "stylegan2" else "even",
            depth=config.depth,
            base_channels=config.encoder_channels,
            small_stem=config.small_stem,
            width=config.pyramid_channels,
            head_channels=config.head_channels,
        )
        self.fusion: DynamicFusion | None = None
        if config.generator == "progan" and config.dynamic_fusion and config.many_codes:
            widths = stage_widths(config.image_size, config.base_channels, config.max_channels)
            self.fusion = DynamicFusion(widths[(config.cut - 1) // 2])
            self.averaged = (*self.averaged, "fusion")  # type: ignore[misc]

    @property
    def codes(self) -> int:
        config = self.config
        if config.generator == "stylegan2":
            return super().codes
        return config.progan_codes if config.many_codes else 1

    @property
    def steps(self) -> int:
        """N; 1 without offsets."""
        return self.config.steps if self.config.offsets else 1

    @property
    def max_steps(self) -> int | None:
        return None

    @property
    def scales(self) -> tuple[str, ...]:
        return tuple(SCALES[number] for number in self.encoder.scales)

    # --- pretrained networks ---

    def required_networks(self) -> dict[NetworkRole, str]:
        imagenet = self.config.backbone == "imagenet"
        backbone: dict[NetworkRole, str] = {"backbone": f"resnet{self.config.depth}"} if imagenet else {}
        return super().required_networks() | backbone

    @torch.no_grad()
    def attach_network(self, role: NetworkRole, network: nn.Module) -> None:
        """As in `Method`. A backbone's weights are copied.

        Its first layer takes one image: it is copied for the current image, beside random weights for the condition. A
        small stem has a first layer of another shape, which stays random with its normalisation.
        """
        if role != "backbone":
            super().attach_network(role, network)
            return
        trunk, state = self.encoder.trunk, dict(network.state_dict())
        first = state.pop("conv1.weight")
        if self.config.small_stem:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("bn1.")}
        else:
            trunk.conv1.weight[:, -first.shape[1] :] = first
        trunk.load_state_dict(state, strict=False)  # the layouts have checked that nothing else is missing

    # --- parts of the losses ---

    def generate(self, codes: Tensor) -> Tensor:
        """Eqs. 5 and 11: images (N, 3, S, S) from codes (N, M, D), not clamped."""
        if not isinstance(self.generator, progan.Generator):
            return super().generate(codes)
        cut = self.config.cut
        maps = self.generator.features(codes.flatten(0, 1), layers=cut).unflatten(0, codes.shape[:2])
        fused = static_fusion(maps) if self.fusion is None else self.fusion(maps)
        return self.generator.from_features(fused, layers=cut)

    def moved(self, condition: Tensor, codes: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """One step (eqs. 1 to 4): the next codes (N, M, D) and images (N, 3, S, S) from the current ones."""
        inputs = joined(condition, image.clamp(-1, 1), kind=self.condition.kind, classes=self.condition.classes)
        codes = codes + self.encoder(inputs)
        return codes, self.generate(codes)

    def started(self, count: int) -> tuple[Tensor, Tensor]:
        """The start codes (N, M, D) and their images (N, 3, S, S) for N = `count` conditions."""
        codes = self.start.codes.unsqueeze(0)
        with torch.no_grad():
            image = self.generate(codes)
        return codes.expand(count, -1, -1), image.expand(count, -1, -1, -1)

    # --- the phases ---

    def phases(self) -> list[Phase]:
        if self.config.updates == "each_batch":
            return [Phase(name="steps", losses=self.all_losses, optimizer="encoder")]
        return [
            Phase(name=f"step{number}", losses=partial(self.step_losses, number), optimizer="encoder")
            for number in range(1, self.steps + 1)
        ]

    def step_losses(self, number: int, batch: Batch) -> Losses:
        """Eq. 15 after step `number`, counted from 1, which starts from the outputs of the step before.

        These are popped from `batch.shared`, or computed if not there.
        """
        condition, shared = self.condition_of(batch), batch.shared
        if f"codes{number - 1}" in shared:
            codes, image = shared.pop(f"codes{number - 1}"), shared.pop(f"image{number - 1}")
        else:
            codes, image = self.started(len(batch.images))
            with torch.no_grad():
                for _ in range(number - 1):
                    codes, image = self.moved(condition, codes, image)
        codes, image = self.moved(condition, codes, image)
        shared[f"codes{number}"], shared[f"image{number}"] = codes.detach(), image.detach()
        return self.compared(image, batch.images, f"_{number}")

    def all_losses(self, batch: Batch) -> Losses:
        """Eq. 15 after every step. Steps are detached from each other, so that their gradients add up."""
        losses = [self.step_losses(number, batch) for number in range(1, self.steps + 1)]
        return {name: loss for each in losses for name, loss in each.items()}

    def optimizers(self) -> dict[str, Optimizer]:
        """Ranger for the encoder, the fusion network and, with `train_generator`, the generator."""
        parameters = list(self.encoder.parameters())
        if self.fusion is not None:
            parameters += self.fusion.parameters()
        if self.config.train_generator:
            trained = self.generator if isinstance(self.generator, progan.Generator) else self.generator.synthesis
            parameters += trained.parameters()
        return {"encoder": Ranger(parameters, lr=self.config.lr)}

    # --- inference ---

    @torch.no_grad()
    def encode(self, condition: Tensor, *, steps: int | None = None) -> Encoded:
        """Codes and images after each step; `steps` may exceed the configuration's."""
        number = self.steps if steps is None else steps
        if number < 1:
            raise PixgraftError(f"steps {number}: choose a number from 1")
        self.condition.check(condition)
        condition = condition.to(self.start.codes.device)
        codes, image = self.started(len(condition))
        encoded = Encoded([], [])
        for _ in range(number):
            codes, image = self.moved(condition, codes, image)
            encoded.codes.append(codes)
            encoded.images.append(image.clamp(-1, 1))
        return encoded
