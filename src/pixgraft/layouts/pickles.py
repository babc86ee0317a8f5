"""A reader of pickles that runs nothing, and the tensors that it finds in them.

pickletools of the standard library reads the opcodes. They only build plain containers, and records of the calls that
the file asks for. No name is imported and no call is made. What a checkpoint needs (tensors, storages, numbers of
numpy) is then read from the records, with its size checked.
"""

import math
import pickletools
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

MAX_BYTES = 2**32
"""The largest file of tensors that is read; published ones have at most 1.3 GB."""

PARAMETER, TENSOR = "torch._utils._rebuild_parameter", "torch._utils._rebuild_tensor_v2"
SCALAR, DTYPE = "numpy.core.multiarray.scalar", "numpy.dtype"
DICTS = {
    "collections.OrderedDict", "collections.defaultdict", "collections.Counter", "dnnlib.util.EasyDict",
    "dnnlib.EasyDict",
}  # fmt: skip
_SUBCLASS = "torch._tensor._rebuild_from_type_v2"
_WRAPPERS = {PARAMETER, f"{PARAMETER}_with_state"}
_TENSORS = {"torch._utils._rebuild_tensor", TENSOR, "torch._utils._rebuild_tensor_v3"}
_DTYPES = {str(each): each for each in vars(torch).values() if isinstance(each, torch.dtype) and "q" not in str(each)}
_STORAGES = {
    "Float": torch.float32, "Half": torch.float16, "Double": torch.float64, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
}  # fmt: skip
STORAGE_TYPES = {
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()},
    **{f"torch.cuda.{name}Storage": dtype for name, dtype in _STORAGES.items()},
    "torch.storage.UntypedStorage": torch.uint8,
}
"""The types of storages, with the type of their elements."""
TORCH_NAMES = frozenset({
    *DICTS, SCALAR, DTYPE, _SUBCLASS, *_WRAPPERS, *_TENSORS, *_DTYPES, *STORAGE_TYPES, "argparse.Namespace",
    "builtins.set", "builtins.complex", "builtins.bytearray", "builtins.list", "builtins.dict", "builtins.int",
    "builtins.float", "builtins.str", "_codecs.encode", "torch.Size", "torch.Tensor", "torch.device",
    "torch.nn.parameter.Parameter", "torch._utils._rebuild_sparse_tensor", "torch.serialization._get_layout",
    "torch._utils._rebuild_meta_tensor_no_storage",
})  # fmt: skip
"""The names in checkpoints that PyTorch's reader of tensors alone reads too, and a few harmless ones besides."""

MAX_NAME = 1000
"""The most characters in a name of a tensor or a group; published ones have at most some hundred."""

_MAX_NUMBERS = 10_000
"""The most keys of dicts that are no text; numbers can be chosen so that each is looked up in many steps."""

_SCALAR_BYTES = 64

_VALUES = {
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}


@dataclass(frozen=True, eq=False, slots=True)
class Name:
    """The name of a function or class in a file; it is never looked up."""

    name: str


@dataclass(eq=False, slots=True)
class Call:
    """The record of a call that a file asks for; it is never made. A persistent id has no name."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


class RefusedError(Exception):
    """The fault of a file and its remedy, without the file's name."""


class ForeignError(RefusedError):
    """A pickle has an opcode or a name that is not allowed; the text begins with "uses" or "names"."""

    def __init__(self, verb: str, what: str) -> None:
        super().__init__(f"{verb} {what}")
        self.what = what


def records(stream: BinaryIO, names: Collection[str], limit: int, persistent: list[Call] | None = None) -> Any:
    """The object that the pickle at the stream's position builds; the stream is then at its end.

    The stream must be one in memory, whose `read` gives no more than there is. `names` are the allowed functions and
    classes, `limit` the most opcodes. Persistent ids are added to `persistent`.

    Raises ForeignError, RefusedError for too many opcodes, and almost anything on damaged bytes.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    allowed, numbers = limit, 0

    def popped(count: int) -> list[Any]:
        return [stack.pop() for _ in range(count)][::-1]

    def since_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    def key(value: Any) -> Any:
        nonlocal numbers
        if isinstance(expect(value, str, int, type(None)), str):
            return checked_name(value)
        numbers += 1
        if numbers > _MAX_NUMBERS:
            raise RefusedError(f"more than {_MAX_NUMBERS:,} numbers as names, which no checkpoint has: get another")
        if value is not None and abs(value) >> 64:
            raise ValueError("a number too large for a key")
        return value

    argument: Any
    for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if step >= limit:
            raise RefusedError(f"more than {allowed:,} steps, which no checkpoint needs: get another copy")
        kind = opcode.name
        if kind in _VALUES:
            stack.append(_CONSTANTS.get(kind, argument))
        elif kind in ("SHORT_BINSTRING", "BINSTRING"):  # of Python 2
            stack.append(argument.encode("latin-1").decode())
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
            expect(stack[-1], list).extend(values)
        elif kind in ("SETITEM", "SETITEMS"):
            values = since_mark() if kind == "SETITEMS" else popped(2)
            expect(stack[-1], dict).update(zip(map(key, values[::2]), values[1::2], strict=True))
        elif kind == "ADDITEMS":
            values = since_mark()
            expect(stack[-1], set).update(map(key, values))
        elif kind in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if kind == "MEMOIZE" else argument] = stack[-1]
        elif kind in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif kind in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_allowed(names, *(argument.split(" ", 1) if kind == "GLOBAL" else popped(2))))
        elif kind in ("REDUCE", "NEWOBJ"):
            function, arguments = popped(2)
            name, given = expect(function, Name).name, expect(arguments, tuple)
            if name not in DICTS:
                stack.append(Call(name, given))
                continue
            content = given[0] if given and isinstance(given[0], dict | list) else {}
            if isinstance(content, list):  # the pairs of an OrderedDict of Python 2
                limit -= len(content)  # a file may ask for the same ones many times
                content = {key(name): value for name, value in content}
            stack.append(content)
        elif kind == "BINPERSID":
            stack.append(Call("", expect(stack.pop(), tuple)))
            if persistent is not None:
                persistent.append(stack[-1])
        elif kind == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], dict):  # a dict's own attributes, such as the versions of a state dict
                expect(stack[-1], Call).state = state
        elif kind not in ("PROTO", "FRAME", "STOP"):
            raise ForeignError("uses", kind)
    return stack.pop()


def _allowed(names: Collection[str], module: str, name: str) -> Name:
    full = f"{module}.{name}"[:200].replace("numpy._core.", "numpy.core.").replace("__builtin__.", "builtins.")
    if full not in names:
        raise ForeignError("names", ascii(full[:80]))
    return Name(full)


def checked_name(name: str) -> str:
    """The name; RefusedError if it is longer than `MAX_NAME`. A short file may join a long one to many others."""
    if len(name) > MAX_NAME:
        raise RefusedError(f"holds a name of more than {MAX_NAME:,} characters, which no checkpoint has: get another")
    return name


def expect(value: Any, *kinds: type) -> Any:
    """The value; TypeError if it is of none of the kinds."""
    if not isinstance(value, kinds):
        raise TypeError(f"a {kind_of(value)} in a wrong place")
    return value


def kind_of(value: Any) -> str:
    """A word for a record in a message: the name of its class in the file, if it has one."""
    if tensor_call(value):
        return "Tensor"
    return value.name.rpartition(".")[2][:40] if isinstance(value, Call) and value.name else type(value).__name__


def called(value: Any, name: str) -> Call:
    """The record of a call of `name`; TypeError if it is none."""
    if not isinstance(value, Call) or value.name != name:
        raise TypeError(f"no call of {name} where one belongs")
    return value


def tensor_call(record: Any) -> Call | None:
    """The call that makes a tensor, or the tensor of a parameter; None for other records."""
    for _ in range(3):
        if isinstance(record, Call) and record.name in _WRAPPERS:
            record = record.arguments[0]
        elif isinstance(record, Call) and record.name == _SUBCLASS:  # a tensor with attributes
            record = Call(expect(record.arguments[0], Name).name, expect(record.arguments[2], tuple))
    return record if isinstance(record, Call) and record.name in _TENSORS else None


class TensorReader:
    """Makes tensors from records of calls, of at most `bytes_left` bytes together.

    Records may share parts: a short file may describe many large views of one storage. `storage` gives the elements
    (N,) that a record stands for.
    """

    def __init__(self, storage: Callable[[Any], Tensor], bytes_left: int) -> None:
        self._storage, self._bytes_left = storage, bytes_left

    def tensor(self, call: Call) -> Tensor:
        """A view of the storage. Raises RefusedError if it is larger, ValueError for sizes without sense."""
        source, offset, size, stride, *more = call.arguments
        storage = self._storage(source)
        if call.name.endswith("_v3"):
            storage = storage.view(_DTYPES[more[2].name])
        elif len(more) > 2 and more[2]:  # negative or conjugate views
            raise RefusedError("holds tensors that are views of another kind: save a copy of them")
        size, stride = _sizes(size), _sizes(stride)
        if not len(size) == len(stride) <= 8 or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
            raise ValueError("a tensor without sense")
        count = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        self._bytes_left -= count * storage.itemsize
        if self._bytes_left < 0 or (count and last >= storage.numel()):
            raise RefusedError("has tensors larger than their bytes in the file: get another copy")
        return storage.as_strided(size, stride, offset) if count else storage.new_empty(size)


def _sizes(value: Any) -> Any:
    return value.arguments[0] if isinstance(value, Call) and value.name == "torch.Size" else value


def elements(data: bytearray, dtype: torch.dtype) -> Tensor:
    """The bytes as a tensor (N,) that shares their memory."""
    if not data:  # which frombuffer refuses
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(data, dtype=torch.uint8).view(dtype)


def number(call: Call) -> Any:
    """A number of numpy as one of Python."""
    dtype, data = called(call, SCALAR).arguments
    if isinstance(data, Call) and data.name == "_codecs.encode":  # bytes, in the older pickles
        data = data.arguments[0]
    if len(data) > _SCALAR_BYTES:  # many names may share it
        raise ValueError("a number of too many bytes")
    if isinstance(data, str):
        data = data.encode("latin-1")
    return np.frombuffer(data, numpy_dtype(dtype), count=1)[0].item()


def numpy_dtype(call: Any) -> np.dtype[Any]:
    """The numpy type of plain numbers; its byte order is the second part of the state."""
    (code, *_), state = called(call, DTYPE).arguments, call.state
    if not re.fullmatch(r"[biuf][1248]", code) or state[1] not in ("<", ">", "|"):
        raise ValueError("numbers of an unknown type")
    return np.dtype(f"{state[1]}{code}")
