"""Readers of untrusted files of tensors: only tensors and plain values load, and no code in a file runs."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from pixgraft.errors import PixgraftError, reason
from pixgraft.files import open_regular, read_bytes
from pixgraft.layouts.pickles import MAX_BYTES, SCALAR, Call, RefusedError, checked_name, kind_of, number, tensor_call
from pixgraft.layouts.torch_file import TorchFile, read_torch

Plain = bool | int | float | str | None
"""The value of an option, as published files hold them beside the tensors."""


_MAX_PARTS = 100_000
"""The most values in the groups of a file; published ones have some thousand."""


@dataclass(frozen=True)
class Content:
    """The named content of a checkpoint: groups of tensors, and sets of plain values such as the options of a run.

    A tensor that stands by itself is a group of one, under its own name: {"latent_avg": {"latent_avg": tensor}}.
    """

    groups: dict[str, dict[str, Tensor]]
    values: dict[str, dict[str, Plain]]
    omitted: tuple[str, ...] = ()
    """The networks of the file that the reader left out, each with the reason."""
    beside: tuple[Path, ...] = ()
    """Other files of the same checkpoint that the reader read too."""


def read_content(file: Path) -> Content:
    """The groups of tensors and the plain values in a PyTorch file, without anything else in it.

    Raises PixgraftError if the file is missing, is not a PyTorch file, was cut short, or asks for code to be run.
    """
    check_readable(file)
    content = _load(file)
    alone = {name: {name: value} for name, value in content.items() if _is_named_tensor((name, value))}
    return Content({**_groups(content), **alone}, _values(content))


def read_networks(file: Path) -> Content:
    """As `read_content`, for checkpoints with a file for each network, such as latest_net_G.pth and latest_net_D.pth.

    Of any of them, those beside it are read too. A file's tensors are a group under the name of its network, "G" for
    one whose name does not say.
    """
    parts = re.fullmatch(r"(.*_net_)([GDE])(\.\w+)", file.name)
    name = parts[2] if parts else "G"
    files = {other: file.with_name(f"{parts[1]}{other}{parts[3]}") for other in "GDE"} if parts else {}
    files = {other: path for other, path in files.items() if path.is_file()} | {name: file}
    groups: dict[str, dict[str, Tensor]] = {}
    for name, path in files.items():
        for key, tensors in read_content(path).groups.items():
            if list(tensors) == [key]:
                groups.setdefault(name, {}).update(tensors)
            else:
                groups[key] = tensors
    return Content(groups, {}, beside=tuple(path for path in files.values() if path != file))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a PyTorch file (any other suffix) that holds one set of them.

    The set is the whole file, as torchvision saves it, or the only group of tensors in it.

    Raises PixgraftError if the file is missing, was cut short or is of another kind, if it holds no tensors or several
    groups, or if it asks for code to be run.
    """
    check_readable(file)
    if file.suffix.lower() == ".safetensors":
        try:
            tensors, _ = read_safetensors(read_bytes(file, MAX_BYTES))
        except ValueError as error:
            raise PixgraftError(f"{file}: cut short or not a safetensors file ({error}): get it again") from None
    else:
        content = _load(file)
        groups = _groups(content)
        tensors = {name: value for name, value in content.items() if _is_named_tensor((name, value))}
        if not tensors and len(groups) > 1:
            names = ", ".join(sorted(groups)[:4])
            raise PixgraftError(f"{file}: holds {len(groups)} groups of tensors ({names}), not one: save one by itself")
        if not tensors and groups:
            (tensors,) = groups.values()
    if not tensors:
        raise PixgraftError(f"{file}: holds no named tensors: choose a file of weights")
    return tensors


def read_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata in the bytes of a safetensors file; ValueError, in one line, if they are none."""
    try:
        tensors = safetensors.torch.load(data)
        for name in tensors:
            checked_name(name)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except Exception as error:  # on damaged bytes the reader raises more than its own error
        raise ValueError(reason(error)) from None
    return tensors, header.get("__metadata__") or {}


def check_readable(file: Path) -> bytes:
    """The first 512 bytes of a file; PixgraftError if it cannot be read, or is a web page."""
    try:
        with open_regular(file, MAX_BYTES) as stream:
            head = stream.read(512)
    except OSError as error:
        raise PixgraftError(f"{file}: cannot be read: {error.strerror or error}: check the path") from None
    if head.lstrip()[:1] == b"<":
        raise PixgraftError(f"{file}: a web page, not a checkpoint: download the file behind the link")
    return head


def _load(file: Path) -> dict[Any, Any]:
    """The named content: tensors, groups of tensors, and dicts of plain values; of anything else only records."""
    content: dict[Any, Any] = read_torch(file, _content)
    return content


def _content(opened: TorchFile) -> dict[Any, Any]:
    if not isinstance(opened.content, dict):
        raise RefusedError(f"holds a {kind_of(opened.content)}, not named groups of tensors: get another")
    parts = 0

    def read(record: Any) -> Any:
        nonlocal parts
        if call := tensor_call(record):
            return opened.tensor(call)
        group = record.state if isinstance(record, Call) and record.name == "argparse.Namespace" else record
        if not isinstance(group, dict):
            return record
        parts += len(group)  # a short file may have the same large group under many names
        if parts > _MAX_PARTS:
            raise RefusedError(f"describes more than {_MAX_PARTS:,} values: get another copy")
        calls = {name: tensor_call(value) for name, value in group.items() if isinstance(name, str)}
        if len(calls) == len(group) and all(calls.values()):
            return {name: opened.tensor(call) for name, call in calls.items() if call}
        return {name: _plain(value) for name, value in group.items()}

    return {name: read(record) for name, record in opened.content.items()}


def _plain(record: Any) -> Any:
    return number(record) if isinstance(record, Call) and record.name == SCALAR else record


def _groups(content: dict[Any, Any]) -> dict[str, dict[str, Tensor]]:
    return {
        str(name): dict(group)
        for name, group in content.items()
        if isinstance(group, Mapping) and group and all(map(_is_named_tensor, group.items()))
    }


def _values(content: dict[Any, Any]) -> dict[str, dict[str, Plain]]:
    sets = {
        name: {key: value for key, value in group.items() if isinstance(key, str) and isinstance(value, Plain)}
        for name, group in content.items()
        if isinstance(name, str) and isinstance(group, Mapping)
    }
    return {name: values for name, values in sets.items() if values}


def _is_named_tensor(item: tuple[object, object]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor)
