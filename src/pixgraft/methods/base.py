"""What a method is: networks, and the phases of its training step as data.

A method never calls `.backward()`, moves devices, writes logs or knows its rank; the loop in `train.py` does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

Losses = dict[str, Tensor]


@dataclass
class Batch:
    """The images of one (micro)step, and what its phases leave for each other.

    `images` is (N, 3, S, S) in [-1, 1]. `shared` starts empty: a phase may put tensors there that a later phase of the
    same step needs (a generated image, detached), so that no image is generated twice in one step.
    """

    images: Tensor
    shared: dict[str, Tensor]


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


@dataclass(frozen=True)
class Preview:
    """What a method shows of itself at intervals: rows of images (R, C, 3, S, S), and how much its outputs differ."""

    grid: Tensor
    diversity: float


class Method(nn.Module, ABC):
    """The base of every method: what the engine and the commands rely on, and nothing else."""

    name: ClassVar[str]
    averaged: ClassVar[tuple[str, ...]]
    """Sub-modules that keep an exponential moving average, which is what `translate` and `preview` use once trained."""

    group: ClassVar[int] = 1
    """Images that belong together: batches, microbatches and processes' shares are multiples of it."""
    Config: ClassVar[type]
    """The dataclass of its configuration."""

    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases of a step, in their order."""

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """New optimizers by name; call it once, after the method stands on its device."""

    @abstractmethod
    def preview(self, images: Tensor) -> Preview:
        """A grid made of some fixed real images (N, 3, S, S)."""
