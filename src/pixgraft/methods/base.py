"""What a method is: networks, and the phases of its training step as data.

A method never calls `.backward()`, moves devices, writes logs or knows its rank; the loop in `train.py` does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import ConditionSpec

Losses = dict[str, Tensor]
NetworkRole = Literal["perceptual", "identity"]
"""What a frozen network is for: distances between two images, or between two faces."""


@dataclass
class Batch:
    """The images of one (micro)step, what they are to be made from, and what its phases leave for each other.

    `images` is (N, 3, S, S) in [-1, 1]. `shared` starts empty: a phase may put tensors there that a later phase of the
    same step needs (a generated image, detached), so that no image is generated twice in one step. `condition` is
    uint8 (N, C, S, S) as data keeps it: class indices in one channel, or levels 0..255; None for images alone.

    `observed` starts empty too: what a phase has seen that `Method.adapt` or the log wants, each a detached mean over
    the batch's images.
    """

    images: Tensor
    shared: dict[str, Tensor]
    condition: Tensor | None = None
    observed: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Batch":
        """The same on a device, with nothing shared yet."""
        condition = None if self.condition is None else self.condition.to(device)
        return Batch(self.images.to(device), {}, condition)

    def split(self, size: int) -> list["Batch"]:
        """Parts of `size` images, in order, with nothing shared yet; the last may be smaller."""
        images = self.images.split(size)
        if self.condition is None:
            return [Batch(part, {}) for part in images]
        return [Batch(part, {}, own) for part, own in zip(images, self.condition.split(size), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One update within a step.

    `losses` returns weighted scalars whose sum is minimised, each a mean over the batch's images, so that microbatches
    and processes average to the whole. `optimizer` names the optimizer whose parameters, and no others, then move.
    A phase with `every` n runs at each n-th step, times n (lazy regularisation, Karras et al. 2020). `precise` keeps it
    in float32 and uncompiled, as a double backward needs.
    """

    name: str
    losses: Callable[[Batch], Losses]
    optimizer: str
    every: int = 1
    precise: bool = False


class MethodConfig:
    """The base of every method's configuration, which is a frozen dataclass: what training and lists need of it."""

    image_size: int
    """Side of the output in pixels."""

    @property
    def training_size(self) -> int:
        """Side in pixels that training images are fitted to."""
        return self.image_size

    @property
    def condition_spec(self) -> ConditionSpec | None:
        """The condition that the method takes; None if it takes images or codes alone."""
        return None

    @property
    def input_summary(self) -> str:
        """What an image is made from, in a few words, for the list of presets."""
        spec = self.condition_spec
        if spec is None:
            return "codes"
        return f"{spec.classes} labels" if spec.kind == "labels" else "self" if spec.inversion else spec.kind


@dataclass(frozen=True)
class Preview:
    """What a method shows of itself at intervals: rows of images (R, C, 3, S, S), and how much its outputs differ."""

    grid: Tensor
    diversity: float


class Method(nn.Module, ABC):
    """The base of every method: what the engine and the commands rely on, and nothing else."""

    name: ClassVar[str]
    task: ClassVar[str]
    """What goes in and what comes out: "graft", "synthesize", "encode" or "sample"; see `methods/tasks.py`."""
    averaged: ClassVar[tuple[str, ...]]
    """Sub-modules that keep an exponential moving average, which is what `translate` and `preview` use once trained."""

    frozen: ClassVar[tuple[str, ...]] = ()
    """Further sub-modules that a trained model needs as they are, such as a frozen generator."""

    batch_multiple: ClassVar[int] = 1
    """Images that belong together: batches, microbatches and processes' shares are multiples of it."""
    Config: ClassVar[type]
    """The dataclass of its configuration."""

    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self._features: dict[NetworkRole, nn.Module] = {}  # a plain dict: nothing in it is registered

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases of a step, in their order."""

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """New optimizers by name; call it once, after the method stands on its device."""

    @abstractmethod
    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """A grid made of some fixed real images (N, 3, S, S), and their conditions (N, C, S, S) if it takes any."""

    # --- what changes in the course of training ---

    def set_progress(self, images_seen: int) -> None:
        """Set what depends on how long training has run and on nothing else, such as the size that a network is grown
        to. Called before each step, and where a trained method is opened; a new one is as at the end of training."""

    def adapt(self, observed: dict[str, Tensor], images: int) -> None:
        """Move what follows training's own course, in buffers, after a step on `images` images.

        `observed` is what the phases left in `Batch.observed`, averaged over all images of the step.
        """

    def compilable(self) -> list[nn.Module]:
        """The modules whose forward training calls, for `torch.compile`."""
        return list(self.children())

    # --- networks that others trained ---

    def required_networks(self) -> dict[NetworkRole, str]:
        """The frozen networks that its losses use under this configuration: a feature network's name for each role.

        "perceptual" is a distance, two batches of images (N, 3, H, W) in [-1, 1] to (N,); "identity" embeds faces.
        """
        return {}

    @property
    def prior(self) -> str:
        """The model whose generator it builds on, for `load_prior`; empty if on none."""
        return ""

    def load_prior(self, prior: "Method") -> None:
        """Take the networks of a trained prior as one's own, before training."""

    def attach_network(self, role: NetworkRole, network: nn.Module) -> None:
        """Lend the method a network for a role. It is frozen, and neither trained, averaged nor saved with the method.

        It goes wherever the method stands, now and when the method moves.
        """
        parameter = next(self.parameters())
        self._features[role] = network.to(parameter.device, parameter.dtype).eval().requires_grad_(False)

    def loss_network(self, role: NetworkRole) -> nn.Module:
        """The network that was attached for a role. Raises PixgraftError if there is none."""
        if role not in self._features:
            raise PixgraftError(f"{self.name}: its losses need a {role} network: attach one before training")
        return self._features[role]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Method":
        """What `to`, `double` and the like go through."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for network in self._features.values():
            network._apply(fn, recurse)
        return self
