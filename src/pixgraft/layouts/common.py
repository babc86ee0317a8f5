"""What every layout needs: names mapped to ours, and a network filled with tensors that fit it exactly."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError

Tensors = Mapping[str, Tensor]
StateDicts = Mapping[str, Tensors]
Renaming = Sequence[tuple[str, str]]
"""Patterns and what replaces them, applied to a published name in turn."""


def renamed(name: str, renaming: Renaming) -> str:
    """The published name in our naming."""
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name


def count(names: Tensors, pattern: str) -> int:
    """How many different first groups the pattern finds at the names' beginnings."""
    return len({match[1] for match in (re.match(pattern, name) for name in names) if match})


def lone_tensor(groups: StateDicts, name: str) -> Tensor | None:
    """The tensor of that name which stands beside the groups: by itself, or as `read_checkpoint` gives it, in a group
    of one; None where there is none.

    Raises PixgraftError where something else has the name.
    """
    found: object = groups.get(name)
    if isinstance(found, Mapping) and list(found) == [name]:
        found = found[name]
    if found is not None and not (isinstance(found, Tensor) and found.is_floating_point()):
        raise PixgraftError(f"{name} is no tensor of floats: choose another file or layout")
    return found


def filled(network: nn.Module, tensors: Tensors, group: str, renaming: Renaming = ()) -> nn.Module:
    """The network itself, with all its tensors taken from the group, in eval mode.

    Batch normalisation's `num_batches_tracked`, which old files lack, may be missing: eval mode does not read it.

    Raises PixgraftError, which names the group and a tensor, where one is missing, unknown, misshapen or no float.
    """
    own = network.state_dict()
    published = {renamed(name, renaming): name for name in tensors}
    missing = [name for name in own if name not in published and not name.endswith("num_batches_tracked")]
    if missing:
        naming = "in our naming; " if renaming else ""
        raise PixgraftError(f"group {group} lacks {min(missing)} ({naming}{len(missing)} such)")
    unknown = [name for ours, name in published.items() if ours not in own]
    if unknown:
        raise PixgraftError(f"group {group} has an unknown {min(unknown)} ({len(unknown)} such)")
    for ours, name in published.items():
        tensor, place = tensors[name], own[ours]
        if tensor.shape != place.shape:
            raise PixgraftError(f"group {group}: {name} is {tuple(tensor.shape)}, expected {tuple(place.shape)}")
        if place.is_floating_point() and not tensor.is_floating_point():
            raise PixgraftError(f"group {group}: {name} holds {str(tensor.dtype)[6:]}, expected floats")
    state = {ours: tensors[name] for ours, name in published.items()}
    state |= {name: torch.zeros_like(own[name]) for name in own.keys() - state.keys()}
    network.load_state_dict(state)
    return network.eval()


def width(layer: nn.Module, dimension: int) -> int:
    """The size of a layer's weight along a dimension: 0 for what comes out of it, 1 for what goes in."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.shape[dimension]
