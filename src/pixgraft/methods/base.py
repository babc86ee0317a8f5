"""The base of all methods: networks, and the phases of a training step as data.

A method never calls `.backward()`, moves devices, writes logs or knows its rank; `training/` does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import ConditionSpec

Losses = dict[str, Tensor]
NetworkRole = Literal["perceptual", "identity", "backbone"]
"""The use of a frozen network: distances between images, or embeddings of faces."""
PerceptualNetwork = Literal["lpips-alex", "lpips-vgg", "squeezenet"]
"""The network of a perceptual loss. If the weights of LPIPS are missing, training uses the bundled SqueezeNet and
reports it."""


@dataclass
class Batch:
    """Training data of one (micro)step, and the tensors that its phases pass on."""

    images: Tensor
    """(N, 3, S, S) in [-1, 1]."""
    shared: dict[str, Tensor]
    """Detached tensors for later phases of the same step, so that no image is generated twice. Empty at the start."""
    condition: Tensor | None = None
    """uint8 (N, C, S, S): class indices in one channel, or levels 0..255. For a method of domains, uint8 (N, 1, 1, 1):
    each image's index into `MethodConfig.domains`. None if the data has neither."""
    observed: dict[str, Tensor] = field(default_factory=dict)
    """Statistics for `Method.adapt` and the log: detached means over the batch's images. Empty at the start."""

    def to(self, device: torch.device) -> "Batch":
        """A copy on `device`, with `shared` and `observed` empty."""
        condition = None if self.condition is None else self.condition.to(device)
        return Batch(self.images.to(device), {}, condition)

    def split(self, size: int) -> list["Batch"]:
        """Parts of `size` images, in order, with `shared` and `observed` empty; the last may be smaller."""
        images = self.images.split(size)
        if self.condition is None:
            return [Batch(part, {}) for part in images]
        return [Batch(part, {}, condition) for part, condition in zip(images, self.condition.split(size), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One update within a step."""

    name: str
    losses: Callable[[Batch], Losses]
    """Returns weighted scalars whose sum is minimised. Each is a mean over the batch's images, so that the average over
    microbatches and processes is the loss of the whole batch."""
    optimizer: str
    """Name of the optimizer; the phase updates its parameters and no others."""
    networks: tuple[str, ...] = ()
    """Sub-modules: of the optimizer's parameters, the phase updates theirs alone. Empty: all."""
    every: int = 1
    """The phase runs at every n-th step, with its losses times n (lazy regularisation, Karras et al. 2020)."""
    precise: bool = False
    """Run in float32 and uncompiled, as a double backward requires."""

    def parameters(self, method: nn.Module, optimizer: Optimizer) -> list[nn.Parameter]:
        """The parameters that the phase updates, in the order of its optimizer."""
        every: list[nn.Parameter] = [each for group in optimizer.param_groups for each in group["params"]]
        chosen = {each for name in self.networks for each in method.get_submodule(name).parameters()}
        return [each for each in every if each in chosen or not self.networks]


Config = TypeVar("Config", bound="MethodConfig")


class MethodConfig:
    """The base of all configurations; each is a frozen dataclass."""

    image_size: int
    """Side of an output image in pixels."""
    domains: tuple[str, ...] = ()
    """Folders whose names are the labels of their images; empty if the method has no use for such labels."""

    @property
    def training_size(self) -> int:
        """Side of a training image in pixels."""
        return self.image_size

    @property
    def condition_spec(self) -> ConditionSpec | None:
        """Specification of the condition; None if the method takes none."""
        return None

    @property
    def perceptual_network(self) -> str:
        """Name of the feature network of the perceptual loss; empty if the loss is not used."""
        return ""

    def with_perceptual_network(self, name: str) -> "MethodConfig":
        """A copy with another feature network for the perceptual loss, if the configuration has the field."""
        return replace(self, perceptual=name)  # type: ignore[type-var]  # every configuration is a dataclass

    def continued(self: Config) -> Config:
        """The settings of training that begins from trained networks: schedules of an untrained start are over."""
        return self

    @property
    def input_summary(self) -> str:
        """A short description of the input, for the list of presets."""
        spec = self.condition_spec
        if spec is None:
            return "codes"
        return f"{spec.classes} labels" if spec.kind == "labels" else "self" if spec.inversion else spec.kind


def check_adam(learning_rates: tuple[float, ...], betas: tuple[float, float]) -> None:
    """Raise PixgraftError unless all learning rates are above 0 and the betas in [0, 1)."""
    if min(learning_rates) <= 0 or not all(0 <= beta < 1 for beta in betas):
        raise PixgraftError("learning rates must be above 0, and betas from 0 to below 1")


@dataclass(frozen=True)
class Preview:
    """Example outputs during training."""

    grid: Tensor
    """Rows of images (R, C, 3, S, S) in [-1, 1]."""
    diversity: float
    """How much outputs differ, as the task's `preview` defines it."""


class Method(nn.Module, ABC):
    """The base of all methods: the interface that training and the tasks rely on."""

    name: ClassVar[str]
    task: ClassVar[str]
    """Input and output: "graft", "synthesize", "encode" or "sample"; see `methods/tasks.py`."""
    averaged: ClassVar[tuple[str, ...]]
    """Sub-modules with an exponential moving average of their weights, which inference uses."""
    frozen: ClassVar[tuple[str, ...]] = ()
    """Sub-modules that training leaves unchanged but inference needs, such as a frozen generator."""
    takes_inputs: ClassVar[bool] = True
    """Whether outputs are made of images or conditions."""
    several_outputs: ClassVar[bool] = True
    """Whether one input has several outputs."""
    batch_multiple: ClassVar[int] = 1
    """Divisor of the size of batches, microbatches and the parts of a batch on each process."""
    Config: ClassVar[type]
    """The dataclass of the configuration."""

    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self._features: dict[NetworkRole, nn.Module] = {}  # not registered as sub-modules

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases of a step, in order."""

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """New optimizers by name. Call once, after the method was moved to its device."""

    @abstractmethod
    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Example outputs for real images (N, 3, S, S) and, if the method takes any, conditions (N, C, S, S)."""

    @abstractmethod
    def outputs(self, batch: Batch, others: Tensor, randoms: Sequence[torch.Generator]) -> Tensor:
        """One output (N, 3, S, S) for each item of a batch, as `pixgraft evaluate` measures the task; no gradient.

        `others` (N, 3, S, S) are other images of the same data, and `randoms` each item's CPU generator. What the task
        has no use for is ignored.
        """

    # --- training state ---

    def set_progress(self, images_seen: int) -> None:
        """Set the state that depends on the number of images seen alone, such as the size of a growing network.

        Called before each step and when a trained model is loaded. A new method is in the state of finished training.
        """

    def adapt(self, observed: dict[str, Tensor], images: int) -> None:
        """Update buffers that follow running statistics, after a step on `images` images.

        `observed` is `Batch.observed`, averaged over all images of the step.
        """

    def compilable(self) -> list[nn.Module]:
        """Modules for `torch.compile`: those whose `forward` training calls."""
        return list(self.children())

    # --- pretrained networks ---

    def required_networks(self) -> dict[NetworkRole, str]:
        """Names of the feature networks that the losses use under this configuration, by role.

        "perceptual" maps two batches of images (N, 3, H, W) in [-1, 1] to distances (N,); "identity" embeds faces;
        the weights of "backbone" are what training begins from.
        """
        return {}

    @property
    def prior(self) -> str:
        """The model that `load_prior` takes the generator from; empty if the method needs none."""
        return ""

    def load_prior(self, prior: "Method") -> None:
        """Copy the networks of a trained prior, before training."""

    def attach_network(self, role: NetworkRole, network: nn.Module) -> None:
        """Freeze `network` and use it for `role`. It moves with the method, and is neither trained nor saved."""
        parameter = next(self.parameters())
        self._features[role] = network.to(parameter.device, parameter.dtype).eval().requires_grad_(False)

    def loss_network(self, role: NetworkRole) -> nn.Module:
        """The network attached for `role`. Raises PixgraftError if there is none."""
        if role not in self._features:
            raise PixgraftError(f"{self.name}: its losses need a {role} network: attach one before training")
        return self._features[role]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Method":
        """Apply `fn` to the attached networks too; `to`, `double` and others call this."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for network in self._features.values():
            network._apply(fn, recurse)
        return self
