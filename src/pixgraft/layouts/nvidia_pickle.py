"""The networks in a `.pkl` of NVIDIA's stylegan2-ada-pytorch, or a StyleGAN2 of stylegan3, as plain tensors.

Such a file is a pickle of a dict with the networks "G", "D" and "G_ema" (github.com/NVlabs/stylegan2-ada-pytorch). Each
object in it names a function, torch_utils.persistence._reconstruct_persistent_obj, whose arguments are the source of
its class, to be run, and its state. Nothing is run: the networks are read from the records of these calls, as
`pickles.records` gives them. Each storage in it is a file in PyTorch's old format.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pixgraft.errors import PixgraftError, reason
from pixgraft.files import read_bytes
from pixgraft.layouts.pickles import (
    DICTS,
    DTYPE,
    MAX_BYTES,
    PARAMETER,
    SCALAR,
    TENSOR,
    Call,
    ForeignError,
    RefusedError,
    TensorReader,
    called,
    checked_name,
    expect,
    kind_of,
    number,
    numpy_dtype,
    records,
    tensor_call,
)
from pixgraft.layouts.reading import check_readable
from pixgraft.layouts.torch_file import MAGIC, legacy

_MAX_PARTS = 1_000_000
"""The most opcodes in one pickle, and values in all its networks; StyleGAN2 at 1024 pixels has some 10,000s."""

_NETWORK = "torch_utils.persistence._reconstruct_persistent_obj"
_VERSION = 6
_STORAGE = "torch.storage._load_from_bytes"
_ARRAY, _NEW_ARRAY = "numpy.core.multiarray._reconstruct", "numpy.core.numeric._frombuffer"
_NAMES = {
    _NETWORK, *DICTS, "builtins.set", PARAMETER, TENSOR, _STORAGE, SCALAR, DTYPE, _ARRAY, _NEW_ARRAY, "numpy.ndarray",
}  # fmt: skip

_PICKLE = rb"\x80[\2-\5]"


@dataclass(frozen=True)
class PickledNetwork:
    """One network of a file."""

    class_name: str
    init_args: dict[str, Any]
    """The keyword arguments that it was built with: numbers, strings, None, and lists, tuples and dicts of them."""
    tensors: dict[str, Tensor]
    """Parameters and buffers, on the CPU and contiguous, under their dotted names."""


def is_plain_pickle(head: bytes) -> bool:
    """Whether a file with this head is a pickle, but not in PyTorch's old format."""
    return bool(re.match(_PICKLE, head)) and MAGIC.to_bytes(10, "little") not in head[:32]


def read_nvidia_pickle(file: Path) -> dict[str, PickledNetwork]:
    """The networks "G", "D" and "G_ema", as far as the file has them. Nothing that the file names is run.

    Raises PixgraftError if the file is missing, was cut short or is of another kind (a web page, a pickle of
    TensorFlow), if it names a function or class that no StyleGAN2 needs, if it asks for more memory than it has bytes,
    or if it holds a StyleGAN3 or a conditional model.
    """
    check_readable(file)
    data = read_bytes(file, MAX_BYTES)
    size = len(data)
    try:
        if not re.match(_PICKLE, data):
            raise RefusedError("cut short or no pickle of stylegan2-ada-pytorch: get the .pkl that its page links to")
        content = records(io.BytesIO(data), _NAMES, _MAX_PARTS)
        del data  # the records are copies
        return _Reader(size).networks(content)
    except ForeignError as foreign:
        if foreign.what.startswith(("'dnnlib.tflib.", "'tfutil.")):
            wanted = "TensorFlow's pickle, not PyTorch's: get the model from stylegan2-ada-pytorch's page"
        else:
            wanted = f"{foreign}, which no StyleGAN2 needs: nothing of it was run; get another copy"
        raise PixgraftError(f"{file}: {wanted}") from None
    except RefusedError as refused:
        raise PixgraftError(f"{file}: {refused}") from None
    except Exception as error:  # damaged bytes break the records in any way
        raise PixgraftError(f"{file}: cut short or damaged ({reason(error)}): get it again") from None


class _Reader:
    """Reads networks from the records of a file of `size` bytes, and limits their values and bytes.

    Records may share parts: a short file may describe endless trees, and many views of one large storage.
    """

    def __init__(self, size: int) -> None:
        self.parts_left = _MAX_PARTS
        self.reader = TensorReader(self._storage, size)
        # By the ids of their bytes and records, which the content keeps alive.
        self.storages: dict[int, Tensor] = {}
        self.tensors: dict[int, Tensor] = {}

    def networks(self, content: Any) -> dict[str, PickledNetwork]:
        calls = {}
        if isinstance(content, dict):
            calls = {name: content[name] for name in ("G", "D", "G_ema") if content.get(name) is not None}
        if not calls:
            raise RefusedError(
                f"a pickle of a {kind_of(content)} without G, D or G_ema, not of stylegan2-ada-pytorch: choose another"
            )
        return {name: self._network(name, call) for name, call in calls.items()}

    def _network(self, name: str, call: Any) -> PickledNetwork:
        class_name, state = self._object(call)
        tensors: dict[str, Tensor] = {}
        self._walk(state, "", tensors)
        if state.get("_init_args"):
            raise RefusedError(f"{name} was built with unnamed arguments: save it from a run of the published training")
        arguments = self._plain(expect(state["_init_kwargs"], dict))
        classes = expect(self._plain(state.get("c_dim", arguments.get("c_dim", 0))), int)
        if classes != 0:
            raise RefusedError(f"{name} is a conditional model (c_dim {classes}): choose one without labels")
        return PickledNetwork(class_name, arguments, tensors)

    def _object(self, call: Any) -> tuple[str, dict[str, Any]]:
        """The name of an object's class, and its attributes."""
        (meta,) = called(call, _NETWORK).arguments
        if meta["version"] != _VERSION or meta["type"] != "class":
            raise RefusedError(
                f"of another version of NVIDIA's format than {_VERSION}: save it with stylegan2-ada-pytorch"
            )
        if meta["class_name"] == "SynthesisInput":  # no other network of NVIDIA's has it
            raise RefusedError("a StyleGAN3, which pixgraft does not have: choose a StyleGAN2")
        return expect(meta["class_name"], str), expect(meta["state"], dict)

    def _walk(self, state: dict[str, Any], prefix: str, tensors: dict[str, Tensor]) -> None:
        """Add the tensors in the attributes of a torch.nn.Module to `tensors`."""
        for kind in ("_parameters", "_buffers", "_modules"):
            for name, value in state[kind].items():
                self._count(1)
                full = checked_name(prefix + expect(name, str))
                if value is None:
                    continue
                if kind == "_modules":
                    self._walk(self._object(value)[1], f"{full}.", tensors)
                else:
                    tensors[full] = self._tensor(value)

    def _count(self, parts: int) -> None:
        self.parts_left -= parts
        if self.parts_left < 0:
            raise RefusedError(f"describes more than {_MAX_PARTS:,} values, which no StyleGAN2 has: get another copy")

    def _tensor(self, value: Any) -> Tensor:
        """The tensor of a record. Networks may share records, as G and G_ema do as one object: each counts once."""
        if id(value) not in self.tensors:
            call = tensor_call(value)
            if call is None:
                raise TypeError(f"a {kind_of(value)} where a tensor belongs")
            self.tensors[id(value)] = self.reader.tensor(call).contiguous()
        return self.tensors[id(value)]

    def _storage(self, call: Any) -> Tensor:
        (data,) = called(call, _STORAGE).arguments
        if id(data) not in self.storages:
            record, storage, end = legacy(io.BytesIO(data))
            if end != len(data):
                raise RefusedError("has tensors larger than their bytes in the file: get another copy")
            self.storages[id(data)] = storage(record)
        return self.storages[id(data)]

    def _plain(self, value: Any) -> Any:
        self._count(1)
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if isinstance(value, dict):
            return {key: self._plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self._plain, value))
        if isinstance(value, Call) and value.name == SCALAR:
            return number(value)
        if isinstance(value, Call) and value.name == _ARRAY:
            _, shape, dtype, fortran, data = value.state
            return self._array(data, dtype, shape, "F" if fortran else "C")
        if isinstance(value, Call) and value.name == _NEW_ARRAY:
            return self._array(*value.arguments)
        raise TypeError(f"a {kind_of(value)} among the arguments of a network")

    def _array(self, data: bytes, dtype: Any, shape: Any, order: Any) -> Any:
        numbers = np.frombuffer(data, numpy_dtype(dtype))
        self._count(numbers.size)
        return numbers.reshape(shape, order=order).tolist() if numbers.size else []
