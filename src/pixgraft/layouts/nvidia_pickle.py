"""The networks in a `.pkl` of NVIDIA's stylegan2-ada-pytorch, or a StyleGAN2 of stylegan3, as plain tensors.

Such a file is a pickle of a dict with the networks "G", "D" and "G_ema" (github.com/NVlabs/stylegan2-ada-pytorch). Each
object in it names a function, torch_utils.persistence._reconstruct_persistent_obj, whose arguments are the source of
its class, to be run, and its state. This reader runs nothing: pickletools of the standard library reads the opcodes,
and they only build plain containers, and records of the calls that the file asks for. No name is imported and no call
is made. The few calls that a network needs (a tensor, a storage, a number of numpy) are then read from the records,
with their sizes checked.
"""

import io
import math
import pickletools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layouts.reading import check_readable

MAX_BYTES = 2**32
"""The largest file that is read; published ones have at most 400 MB."""

_MAX_PARTS = 1_000_000
"""The most opcodes in one pickle, and values in all its networks; StyleGAN2 at 1024 pixels has some 10,000s."""

_NETWORK = "torch_utils.persistence._reconstruct_persistent_obj"
_VERSION = 6
_DICTS = {"collections.OrderedDict", "dnnlib.util.EasyDict", "dnnlib.EasyDict"}
_PARAMETER, _TENSOR = "torch._utils._rebuild_parameter", "torch._utils._rebuild_tensor_v2"
_STORAGE = "torch.storage._load_from_bytes"
_SCALAR, _DTYPE = "numpy.core.multiarray.scalar", "numpy.dtype"
_ARRAY, _NEW_ARRAY = "numpy.core.multiarray._reconstruct", "numpy.core.numeric._frombuffer"
_STORAGES = {
    "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16, "torch.DoubleStorage": torch.float64,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
}  # fmt: skip
_NAMES = {
    _NETWORK, *_DICTS, "builtins.set", _PARAMETER, _TENSOR, _STORAGE, _SCALAR, _DTYPE, _ARRAY, _NEW_ARRAY,
    "numpy.ndarray", *_STORAGES,
}  # fmt: skip
_STORAGE_MAGIC, _STORAGE_VERSION = 0x1950A86A20F9469CFC6C, 1001
"""The beginning of PyTorch's old format, in which each storage is a pickle by itself."""

_PICKLE = rb"\x80[\2-\5]"

_VALUES = {
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}


@dataclass(frozen=True)
class PickledNetwork:
    """One network of a file."""

    class_name: str
    init_args: dict[str, Any]
    """The keyword arguments that it was built with: numbers, strings, None, and lists, tuples and dicts of them."""
    tensors: dict[str, Tensor]
    """Parameters and buffers, on the CPU and contiguous, under their dotted names."""


@dataclass(frozen=True, eq=False)
class _Name:
    """The name of a function or class in the file; it is never looked up."""

    name: str


@dataclass(eq=False)
class _Call:
    """The record of a call that the file asks for; it is never made."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


class _RefusedError(Exception):
    """The fault of a file and its remedy, without the file's name."""


def is_plain_pickle(head: bytes) -> bool:
    """Whether a file with this head is a pickle, but not in PyTorch's old format."""
    return bool(re.match(_PICKLE, head)) and _STORAGE_MAGIC.to_bytes(10, "little") not in head[:32]


def read_nvidia_pickle(file: Path) -> dict[str, PickledNetwork]:
    """The networks "G", "D" and "G_ema", as far as the file has them. Nothing that the file names is run.

    Raises PixgraftError if the file is missing, was cut short or is of another kind (a web page, a pickle of
    TensorFlow), if it names a function or class that no StyleGAN2 needs, if it asks for more memory than it has bytes,
    or if it holds a StyleGAN3 or a conditional model.
    """
    check_readable(file)
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise PixgraftError(f"{file}: {size:,} bytes, more than any StyleGAN2 has: choose another file")
        data = file.read_bytes()
    except OSError as error:
        raise PixgraftError(f"{file}: cannot be read: {error.strerror or error}") from None
    try:
        if not re.match(_PICKLE, data):
            raise _RefusedError("cut short or no pickle of stylegan2-ada-pytorch: get the .pkl that its page links to")
        content = _records(io.BytesIO(data))
        del data  # the records are copies
        return _Reader(size).networks(content)
    except _RefusedError as refused:
        raise PixgraftError(f"{file}: {refused}") from None
    except Exception as error:  # damaged bytes break the records in any way
        reason = " ".join(ascii(error).split())[:120]
        raise PixgraftError(f"{file}: cut short or damaged ({reason}): get it again") from None


def _records(stream: BinaryIO) -> Any:
    """The object that the pickle at the stream's position builds; the stream is then at its end."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def popped(count: int) -> list[Any]:
        return [stack.pop() for _ in range(count)][::-1]

    def since_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    argument: Any
    for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if step == _MAX_PARTS:
            raise _RefusedError(f"more than {_MAX_PARTS:,} steps, which no StyleGAN2 needs: get another copy")
        kind = opcode.name
        if kind in _VALUES:
            stack.append(_CONSTANTS.get(kind, argument))
        elif kind in _EMPTY:
            stack.append(_EMPTY[kind]())
        elif kind in _TUPLES:
            stack.append(tuple(popped(_TUPLES[kind])))
        elif kind == "TUPLE":
            stack.append(tuple(since_mark()))
        elif kind == "MARK":
            marks.append(len(stack))
        elif kind in ("APPEND", "APPENDS"):
            values = since_mark() if kind == "APPENDS" else popped(1)
            _expect(stack[-1], list).extend(values)
        elif kind in ("SETITEM", "SETITEMS"):
            values = since_mark() if kind == "SETITEMS" else popped(2)
            _expect(stack[-1], dict).update(zip(map(_key, values[::2]), values[1::2], strict=True))
        elif kind == "ADDITEMS":
            values = since_mark()
            _expect(stack[-1], set).update(map(_key, values))
        elif kind in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if kind == "MEMOIZE" else argument] = stack[-1]
        elif kind in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif kind in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_allowed(*(argument.split(" ", 1) if kind == "GLOBAL" else popped(2))))
        elif kind in ("REDUCE", "NEWOBJ"):
            function, arguments = popped(2)
            name, given = _expect(function, _Name).name, _expect(arguments, tuple)
            stack.append({} if name in _DICTS and not given else _Call(name, given))
        elif kind == "BINPERSID":
            stack.append(_Call("", _expect(stack.pop(), tuple)))
        elif kind == "BUILD":
            state = stack.pop()
            _expect(stack[-1], _Call).state = state
        elif kind not in ("PROTO", "FRAME", "STOP"):
            raise _RefusedError(
                f"uses {kind}, which no StyleGAN2's pickle does: nothing of it was run; get another copy"
            )
    return stack.pop()


def _allowed(module: str, name: str) -> _Name:
    full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
    if full.startswith(("dnnlib.tflib.", "tfutil.")):
        raise _RefusedError("TensorFlow's pickle, not PyTorch's: get the model from stylegan2-ada-pytorch's page")
    if full not in _NAMES:
        raise _RefusedError(f"names {full[:80]!a}, which no StyleGAN2 needs: nothing of it was run; get another copy")
    return _Name(full)


def _key(value: Any) -> Any:
    # deep tuples overflow the C stack when hashed
    return _expect(value, str, int)


def _expect(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise TypeError(f"a {type(value).__name__.strip('_')} in a wrong place")
    return value


class _Reader:
    """Reads networks from the records of a file of `size` bytes, and limits their values and bytes.

    Records may share parts: a short file may describe endless trees, and many views of one large storage.
    """

    def __init__(self, size: int) -> None:
        self.bytes_left = size
        self.parts_left = _MAX_PARTS
        self.storages: dict[int, Tensor] = {}  # by the id of their bytes, which the records keep alive

    def networks(self, content: Any) -> dict[str, PickledNetwork]:
        calls = {}
        if isinstance(content, dict):
            calls = {name: content[name] for name in ("G", "D", "G_ema") if content.get(name) is not None}
        if not calls:
            kind = type(content).__name__.strip("_")
            raise _RefusedError(
                f"a pickle of a {kind} without G, D or G_ema, not of stylegan2-ada-pytorch: choose another"
            )
        return {name: self._network(name, call) for name, call in calls.items()}

    def _network(self, name: str, call: Any) -> PickledNetwork:
        class_name, state = self._object(call)
        tensors: dict[str, Tensor] = {}
        self._walk(state, "", tensors)
        if state.get("_init_args"):
            raise _RefusedError(
                f"{name} was built with unnamed arguments: save it from a run of the published training"
            )
        arguments = self._plain(_expect(state["_init_kwargs"], dict))
        classes = _expect(self._plain(state.get("c_dim", arguments.get("c_dim", 0))), int)
        if classes != 0:
            raise _RefusedError(f"{name} is a conditional model (c_dim {classes}): choose one without labels")
        return PickledNetwork(class_name, arguments, tensors)

    def _object(self, call: Any) -> tuple[str, dict[str, Any]]:
        """The name of an object's class, and its attributes."""
        (meta,) = _call(call, _NETWORK).arguments
        if meta["version"] != _VERSION or meta["type"] != "class":
            raise _RefusedError(
                f"of another version of NVIDIA's format than {_VERSION}: save it with stylegan2-ada-pytorch"
            )
        if meta["class_name"] == "SynthesisInput":  # no other network of NVIDIA's has it
            raise _RefusedError("a StyleGAN3, which pixgraft does not have: choose a StyleGAN2")
        return _expect(meta["class_name"], str), _expect(meta["state"], dict)

    def _walk(self, state: dict[str, Any], prefix: str, tensors: dict[str, Tensor]) -> None:
        """Add the tensors in the attributes of a torch.nn.Module to `tensors`."""
        for kind in ("_parameters", "_buffers", "_modules"):
            for name, value in state[kind].items():
                self._count(1)
                full = prefix + _expect(name, str)
                if value is None:
                    continue
                if kind == "_modules":
                    self._walk(self._object(value)[1], f"{full}.", tensors)
                else:
                    tensors[full] = self._tensor(value)

    def _count(self, parts: int) -> None:
        self.parts_left -= parts
        if self.parts_left < 0:
            raise _RefusedError(f"describes more than {_MAX_PARTS:,} values, which no StyleGAN2 has: get another copy")

    def _tensor(self, call: Any) -> Tensor:
        if isinstance(call, _Call) and call.name == _PARAMETER:
            call = call.arguments[0]
        source, offset, size, stride, *_ = _call(call, _TENSOR).arguments
        storage = self._storage(source)
        if not len(size) == len(stride) <= 8 or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
            raise ValueError("a tensor without sense")
        count = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        self.bytes_left -= count * storage.itemsize
        if self.bytes_left < 0 or (count and last >= storage.numel()):
            raise _RefusedError("has tensors larger than their bytes in the file: get another copy")
        return storage.as_strided(size, stride, offset).contiguous() if count else storage.new_empty(size)

    def _storage(self, call: Any) -> Tensor:
        """The elements of a storage. Its bytes are five pickles, the number of elements, and the elements."""
        (data,) = _call(call, _STORAGE).arguments
        if id(data) not in self.storages:
            stream = io.BytesIO(data)
            magic, version, system, kind, _ = (_records(stream) for _ in range(5))
            if magic != _STORAGE_MAGIC or version != _STORAGE_VERSION or system["little_endian"] is not True:
                raise ValueError("a storage of another format")
            _, storage_type, _, _, count, view = _call(kind, "").arguments
            dtype = _STORAGES[storage_type.name]
            claimed = int.from_bytes(stream.read(8), "little")
            elements = stream.read()
            if view is not None or claimed != count or count * dtype.itemsize != len(elements):
                raise _RefusedError("has tensors larger than their bytes in the file: get another copy")
            # frombuffer refuses an empty buffer, and warns about a read-only one
            self.storages[id(data)] = (
                torch.frombuffer(bytearray(elements), dtype=dtype) if count else torch.empty(0, dtype=dtype)
            )
        return self.storages[id(data)]

    def _plain(self, value: Any) -> Any:
        self._count(1)
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if isinstance(value, dict):
            return {key: self._plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self._plain, value))
        if isinstance(value, _Call) and value.name == _SCALAR:
            dtype, data = value.arguments
            return np.frombuffer(data, _dtype(dtype), count=1)[0].item()
        if isinstance(value, _Call) and value.name == _ARRAY:
            _, shape, dtype, fortran, data = value.state
            return self._array(data, dtype, shape, "F" if fortran else "C")
        if isinstance(value, _Call) and value.name == _NEW_ARRAY:
            return self._array(*value.arguments)
        raise TypeError(f"a {type(value).__name__.strip('_')} among the arguments of a network")

    def _array(self, data: bytes, dtype: Any, shape: Any, order: Any) -> Any:
        numbers = np.frombuffer(data, _dtype(dtype))
        self._count(numbers.size)
        return numbers.reshape(shape, order=order).tolist() if numbers.size else []


def _call(value: Any, name: str) -> _Call:
    if not isinstance(value, _Call) or value.name != name:
        raise TypeError(f"no call of {name} where one belongs")
    return value


def _dtype(call: Any) -> np.dtype[Any]:
    """The numpy type of plain numbers; its byte order is the second part of the state."""
    (code, *_), state = _call(call, _DTYPE).arguments, call.state
    if not re.fullmatch(r"[biuf][1248]", code) or state[1] not in ("<", ">", "|"):
        raise ValueError("numbers of an unknown type")
    return np.dtype(f"{state[1]}{code}")
