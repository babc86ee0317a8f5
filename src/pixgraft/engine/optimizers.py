"""The state of an optimizer as tensors and JSON, and its restoration, which accepts only what the optimizer makes."""

import copy
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pixgraft.engine.tensors import Specs, TensorSpec, difference, specs_of
from pixgraft.errors import PixgraftError, shown
from pixgraft.records import from_dict


@dataclass(frozen=True)
class OptimizerMeta:
    """What an optimizer's state has besides tensors."""

    param_groups: tuple[dict[str, Any], ...]
    """The settings of each group, and under "params" the numbers of its parameters."""
    values: dict[str, dict[str, Any]]
    """By the number of the parameter: the entries of its state that are no tensors."""


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as flat tensors ("0.exp_avg" is that of parameter 0) and the rest as JSON.

    The tensors are the live ones, not copies. `load_optimizer` restores both.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                values.setdefault(str(index), {})[name] = value
    return tensors, {"param_groups": state["param_groups"], "values": values}


def check_optimizer(optimizer: torch.optim.Optimizer, tensors: Specs, meta: OptimizerMeta) -> None:
    """Raise PixgraftError unless this is a state that `optimizer` makes for its parameters with its settings.

    A parameter may have no state, as one that was never updated. Settings that only this or only the saving version of
    PyTorch knows are ignored.
    """
    groups = optimizer.state_dict()["param_groups"]
    if len(meta.param_groups) != len(groups):
        raise _refusal(f"{len(meta.param_groups)} groups, not {len(groups)}")
    for number, (own, stored) in enumerate(zip(groups, meta.param_groups, strict=True)):
        if own["params"] != stored.get("params"):
            raise _refusal(f"group {number} is {shown(stored.get('params'))}, not {shown(own['params'])}")
        for name in own.keys() & stored.keys():
            if not _alike(own[name], stored[name]):
                raise _refusal(f"{name} of group {number} is {shown(stored[name])}, not {shown(own[name])}")
    parameters = {
        str(index): (number, parameter)
        for number, (own, group) in enumerate(zip(groups, optimizer.param_groups, strict=True))
        for index, parameter in zip(own["params"], group["params"], strict=True)
    }
    made: dict[tuple[int, torch.dtype], dict[str, Any]] = {}
    expected: Specs = {}
    for index in {name.partition(".")[0] for name in tensors} | meta.values.keys():
        if index not in parameters:
            raise _refusal(f"there is no parameter {shown(index)}")
        number, parameter = parameters[index]
        kind = (number, parameter.dtype)
        if kind not in made:
            made[kind] = _first_state(optimizer, optimizer.param_groups[number], parameter.dtype)
        plain = {name: type(value) for name, value in made[kind].items() if not isinstance(value, Tensor)}
        if plain != {name: type(value) for name, value in meta.values.get(index, {}).items()}:
            raise _refusal(f"the values of parameter {index} are {shown(meta.values.get(index))}")
        for name, value in made[kind].items():
            if isinstance(value, Tensor):
                shape = () if value.ndim == 0 else tuple(parameter.shape)
                expected[f"{index}.{name}"] = TensorSpec(value.dtype, shape)
    if reason := difference(expected, tensors):
        raise _refusal(reason)


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Restore the state of `optimizer_tensors`, bit for bit; `tensors` are copied.

    Raises PixgraftError if the state is not one that the optimizer makes: PyTorch itself would take it, and write
    beyond a tensor that is too small.
    """
    stored = from_dict(OptimizerMeta, meta, "the optimizer's state")
    check_optimizer(optimizer, specs_of(tensors), stored)
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in stored.values.items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        if tensor.ndim == 0 and not 0 <= float(tensor) < math.inf:
            raise _refusal(f"{key} is {float(tensor)}")
        # Files hold no strides, and fused optimizers ignore them: each tensor takes its parameter's memory format.
        like = parameters[int(index)] if tensor.shape == parameters[int(index)].shape else tensor
        copied = torch.empty_like(like, dtype=tensor.dtype, device=tensor.device, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[name] = copied
    # JSON has no tuples, and an optimizer does not check that betas are a tuple of floats.
    groups = [
        {name: _as(value, group.get(name, value)) for name, value in own.items()}
        for own, group in zip(optimizer.state_dict()["param_groups"], stored.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _first_state(optimizer: torch.optim.Optimizer, group: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The state that an optimizer makes in its first step, for a parameter of three elements."""
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=dtype, device="cpu"))
    parameter.grad = torch.zeros_like(parameter)
    probe = copy.copy(optimizer)  # has no hooks, which may change a network
    probe.param_groups = [{**group, "params": [parameter]}]
    probe.state = defaultdict(dict)
    probe.step()
    return dict(probe.state[parameter])


def _alike(own: Any, stored: Any) -> bool:
    """Whether a stored setting is the own one, to the rounding of another machine's powers."""
    if isinstance(own, list | tuple) and isinstance(stored, list | tuple):
        return len(own) == len(stored) and all(map(_alike, own, stored))
    if type(own) in (int, float) and type(stored) in (int, float):
        return math.isclose(own, stored, rel_tol=1e-9)
    return type(own) is type(stored) and bool(own == stored)


def _as(own: Any, stored: Any) -> Any:
    return tuple(map(float, stored)) if isinstance(own, tuple) else stored


def _refusal(reason: str) -> PixgraftError:
    return PixgraftError(
        f"the optimizer's state is of other parameters or settings ({reason}); resume with the configuration of its run"
    )
