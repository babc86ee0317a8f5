"""Common parts of the published steps that `train_step.py` measures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pixgraft.engine.distributed import World
from pixgraft.engine.ema import Averages
from pixgraft.layers.spectral import power_iterate
from pixgraft.training.experiment import Experiment, TrainConfig
from pixgraft.training.trainer import Trainer

AVERAGE_DECAY = 0.999


@dataclass(frozen=True, kw_only=True)
class CommonSwitches:
    """Optimisations of a step that do not depend on the method."""

    trainer: bool = False
    """pixgraft's `Trainer`, which runs the method's phases."""
    fused: bool = False
    """Fused Adam, and the update of all averaged weights in one call."""
    channels_last: bool = False
    bfloat16: bool = False
    """Autocast, except in phases with a double backward."""
    memory: bool = False
    """glibc keeps the memory of freed tensors."""
    compile: bool = False


COMMON = (
    ("+ fused Adam, foreach averages", "fused"),
    ("+ channels last", "channels_last"),
    ("+ bfloat16", "bfloat16"),
)
LAST = (("+ freed memory is kept", "memory"), ("+ torch.compile", "compile"))


@dataclass(frozen=True)
class Kind:
    """One kind of step."""

    label: str
    run: Callable[[], object]
    count: int
    """How many of `LAZY` steps are of this kind."""


LAZY = 16
"""The longest period of a lazy phase, in steps."""


@torch.no_grad()
def average_in_a_loop(average: nn.Module, live: nn.Module, decay: float) -> None:
    """Update the exponential moving average, one parameter at a time."""
    for old, new in zip(average.parameters(), live.parameters(), strict=True):
        old.copy_(torch.lerp(new, old, decay))


class LoopAverages(Averages):
    """`Averages` that updates one parameter at a time."""

    def update(self, decay: float) -> None:
        for name, average in self.modules.items():
            average_in_a_loop(average, self._live[name], decay)
            power_iterate(average)


def trainer(kind: str, config: Any, switches: CommonSwitches, device: torch.device, batch: int) -> Trainer:
    """pixgraft's trainer with the given switches."""
    train = TrainConfig(
        batch=batch,
        average_decay=AVERAGE_DECAY,
        precision="bfloat16" if switches.bfloat16 else "float32",
        channels_last=switches.channels_last,
        compile=switches.compile,
    )
    result = Trainer(Experiment(name="benchmark", kind=kind, method=config, train=train), device, World(0, 1, 0))
    if not switches.fused:
        result.averages = LoopAverages({name: result.method.get_submodule(name) for name in result.averages.modules})
        for optimizer in result.optimizers.values():
            for group in optimizer.param_groups:
                group["fused"] = None  # as Adam() is without the argument
    return result
