"""The table of presets. Parameters are counted on the meta device, and nothing is initialised there."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from rich.table import Table
from torch.overrides import TorchFunctionMode

from pixgraft.methods import METHODS
from pixgraft.presets import PRESETS
from pixgraft.training.experiment import Experiment

INITIAL = {"normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "normalize", "div", "mul"}
"""Functions by which networks draw and scale their initial values."""


class _Uninitialised(TorchFunctionMode):
    """Skips initialisation: on the meta device it computes nothing, but imports torch._dynamo, which takes seconds."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        if function.__name__ in INITIAL:
            return next(each for each in (*args, *(kwargs or {}).values()) if isinstance(each, torch.Tensor))
        return (torch.empty if function is torch.randn else function)(*args, **(kwargs or {}))


def parameter_count(experiment: Experiment) -> int:
    """The number of parameters of all networks of an experiment's method."""
    with torch.device("meta"), _Uninitialised():
        method = METHODS[experiment.kind](experiment.method)
    return sum(parameter.numel() for parameter in method.parameters())


def presets_table() -> Table:
    """Every preset with its image size, all its networks' parameters and its training."""
    table = Table(box=None, pad_edge=False)
    for column in ("preset", "image", "made from", "parameters", "batch", "images"):
        table.add_column(column, justify="left" if column == "preset" else "right", no_wrap=True)
    for name, make in PRESETS.items():
        experiment = make()
        train, config = experiment.train, experiment.method
        table.add_row(
            name, str(config.image_size), config.input_summary, f"{parameter_count(experiment) / 1e6:.1f} M",
            str(train.batch), f"{train.images:,}",
        )  # fmt: skip
    return table
