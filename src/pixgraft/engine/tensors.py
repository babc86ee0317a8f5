"""Files of tensors (safetensors), which are held against what they should contain before any tensor is read."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from pixgraft.errors import PixgraftError, shown
from pixgraft.files import open_regular
from pixgraft.records import from_dict

HEADER_LIMIT = 8 * 2**20
"""Bytes of the largest header that is read; a thousand tensors need about 100,000."""

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""The types of tensors that are read."""

DIMENSIONS = 8


@dataclass(frozen=True)
class TensorSpec:
    """The type and the shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {shown(self.shape)}"


Specs = dict[str, TensorSpec]


@dataclass(frozen=True)
class _Entry:
    """A tensor in a file's header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def specs_of(tensors: Mapping[str, Tensor]) -> Specs:
    """What tensors there are."""
    return {name: TensorSpec(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def difference(expected: Specs, found: Specs) -> str:
    """The first difference between two sets of tensors, in words; empty if they are equal."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{shown(name)} is missing"
        if name not in expected:
            return f"{shown(name)} is one too many"
        if expected[name] != found[name]:
            return f"{shown(name)} is {found[name]} and should be {expected[name]}"
    return ""


def read_specs(path: Path) -> Specs:
    """The tensors in a file by its header, which has to account for each of its bytes.

    Raises PixgraftError for anything but a regular file of this format, and OSError.
    """
    with open_regular(path, 2**50) as file:  # its header alone is read
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, HEADER_LIMIT):
            raise PixgraftError("not a safetensors file")
        header = file.read(length)
    try:
        content = json.loads(header)
    except (ValueError, RecursionError):
        raise PixgraftError("not a safetensors file") from None
    if not isinstance(content, dict):
        raise PixgraftError("not a safetensors file")
    specs: Specs = {}
    total = 0
    for name, values in content.items():
        if name != "__metadata__":
            entry = from_dict(_Entry, values, f"tensor {shown(name)}")
            specs[name] = _checked(entry, shown(name))
            total += entry.data_offsets[1] - entry.data_offsets[0]
    if total != size - 8 - length:
        raise PixgraftError("not a safetensors file: its header does not account for its bytes")
    return specs


def _checked(entry: _Entry, name: str) -> TensorSpec:
    if entry.dtype not in DTYPES:
        raise PixgraftError(f"tensor {name}: {shown(entry.dtype)} is not one of {', '.join(DTYPES)}")
    if len(entry.shape) > DIMENSIONS or min(entry.shape, default=0) < 0:
        raise PixgraftError(f"tensor {name}: no tensor has the shape {shown(entry.shape)}")
    first, last = entry.data_offsets
    if first < 0 or last - first != math.prod(entry.shape) * DTYPES[entry.dtype].itemsize:
        raise PixgraftError(f"tensor {name}: its bytes are not those of its shape")
    return TensorSpec(DTYPES[entry.dtype], entry.shape)


def parsed(data: bytes) -> dict[str, Tensor]:
    """The tensors of a file of which `read_specs` took the header. Raises PixgraftError for damage beyond that."""
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # for some damage the reader raises more than its own error
        raise PixgraftError(f"not a safetensors file: {' '.join(str(error).split())[:120]}") from None
