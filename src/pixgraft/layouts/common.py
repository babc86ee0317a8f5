"""What every layout needs: names mapped to ours, and a network filled with tensors that fit it exactly."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError

Network = TypeVar("Network", bound=nn.Module)
Tensors = Mapping[str, Tensor]
StateDicts = Mapping[str, Tensors]
Reader = Callable[[Tensors, str], nn.Module]
"""A group of tensors, and its name for errors, to the network."""
Renaming = Sequence[tuple[str, str]]
"""Patterns and their replacements, applied to a published name one after the other."""


def renamed(name: str, renaming: Renaming) -> str:
    """The published name in our naming."""
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name


def count(names: Tensors, pattern: str) -> int:
    """The number of different values of the pattern's first group at the beginnings of the names."""
    return len({match[1] for match in (re.match(pattern, name) for name in names) if match})


def lone_tensor(groups: StateDicts, name: str) -> Tensor | None:
    """The tensor of that name beside the groups, either by itself or in a group of one, as `read_content` gives it.

    None if there is no such tensor. Raises PixgraftError if the name belongs to anything else.
    """
    value: object = groups.get(name)
    if isinstance(value, Mapping) and list(value) == [name]:
        value = value[name]
    if value is not None and not (isinstance(value, Tensor) and value.is_floating_point()):
        raise PixgraftError(f"{name} is no tensor of floats: choose another file or layout")
    return value


def filled(network: Network, tensors: Tensors, group: str, renaming: Renaming = ()) -> Network:
    """The same network, with all its tensors taken from the group, in eval mode; one of `planned` gets its memory here.

    `num_batches_tracked` of batch normalisation may be missing: old files lack it, and eval mode does not read it.

    Raises PixgraftError, which names the group and a tensor, if a tensor is missing, unknown, misshapen or not of
    floats.
    """
    expected = network.state_dict()
    published = {renamed(name, renaming): name for name in tensors}
    lacking = [name for name in expected if name not in published and not name.endswith("num_batches_tracked")]
    if lacking:
        naming = "in our naming; " if renaming else ""
        raise PixgraftError(f"group {group} lacks {min(lacking)} ({naming}{len(lacking)} such)")
    unknown = [name for ours, name in published.items() if ours not in expected]
    if unknown:
        raise PixgraftError(f"group {group} has an unknown {min(unknown)} ({len(unknown)} such)")
    for ours, name in published.items():
        tensor, place = tensors[name], expected[ours]
        if tensor.shape != place.shape:
            raise PixgraftError(f"group {group}: {name} is {tuple(tensor.shape)}, expected {tuple(place.shape)}")
        if place.is_floating_point() and not tensor.is_floating_point():
            raise PixgraftError(f"group {group}: {name} holds {str(tensor.dtype)[6:]}, expected floats")
    state = {ours: tensors[name] for ours, name in published.items()}
    absent = {name: expected[name] for name in expected.keys() - state.keys()}
    state |= {name: torch.zeros(place.shape, dtype=place.dtype) for name, place in absent.items()}
    if any(tensor.is_meta for tensor in expected.values()):
        network.to_empty(device="cpu")
    network.load_state_dict(state)
    return network.eval()


def empty(build: Callable[[], Network]) -> Network:
    """A network without values; random weights for all its tensors would take seconds."""
    return planned(build).to_empty(device="cpu")


def planned(build: Callable[[], Network]) -> Network:
    """A network without memory, for sizes that a file claims: `filled` first compares its shapes with the tensors."""
    with torch.device("meta"):
        return build()


def read_all(groups: StateDicts, readers: Mapping[str, Reader], none: str) -> dict[str, nn.Module]:
    """The networks of the groups that there are, each by the reader of its name; PixgraftError(`none`) without any."""
    networks = {name: reader(groups[name], name) for name, reader in readers.items() if name in groups}
    if not networks:
        raise PixgraftError(none)
    return networks


def shape_of(tensors: Tensors, name: str, dimensions: int, group: str, model: str = "StyleGAN2") -> torch.Size:
    """The shape of a tensor; PixgraftError if it is missing, empty or has another number of dimensions."""
    if name not in tensors or tensors[name].ndim != dimensions or not tensors[name].numel():
        raise PixgraftError(f"group {group}, as of {model}: {name} is missing or of another shape")
    return tensors[name].shape


def width(layer: nn.Module, dimension: int) -> int:
    """The size of a layer's weight along a dimension: 0 for the output channels, 1 for the input channels."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.shape[dimension]
