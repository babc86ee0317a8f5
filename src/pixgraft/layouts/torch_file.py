"""PyTorch's files of tensors, read without running a word of them.

`torch.load(weights_only=True)` runs no code either, but a short file can make it take all memory, or never end. Here
sizes are checked against the file before anything is allocated, and a storage is read when a tensor of it is asked for.

There are two formats (torch/serialization.py). Since 1.6 a file is a zip of uncompressed records: `data.pkl`, a pickle
whose persistent ids name storages, and a record `data/KEY` for each. Before, it was five pickles (a magic number, the
version, the system, the content, and the keys of the storages), and then the storages, each with its length.
"""

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError, reason
from pixgraft.files import BoundedZip, open_regular
from pixgraft.layouts.pickles import (
    MAX_BYTES,
    STORAGE_TYPES,
    TORCH_NAMES,
    Call,
    ForeignError,
    RefusedError,
    TensorReader,
    called,
    elements,
    expect,
    records,
)

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
"""The beginning of a file in the old format."""

_PICKLE_BYTES = 64 * 2**20
"""The largest pickle that is read; storages do not count."""
_MAX_STEPS = 1_000_000
"""The most opcodes in one pickle; a checkpoint with the state of its optimizers has some 10,000s."""
_DIRECTORY_BYTES = 16 * 2**20
"""The largest directory of a zip, of some 200,000 records."""


class TorchFile:
    """The content of an open file as records, and its tensors."""

    def __init__(self, content: Any, storage: Callable[[Any], Tensor], size: int) -> None:
        self.content = content
        """What `pickles.records` gives."""
        # Tensors may be tied or expanded, and so have more bytes than the file, but not many more.
        self.tensor = TensorReader(storage, 4 * size + 2**24).tensor
        """Makes the tensor of a call, which `pickles.tensor_call` gives."""


def read_torch(file: Path, use: Callable[[TorchFile], Any]) -> Any:
    """What `use` makes of a file in either format, while it is open.

    Raises PixgraftError if the file cannot be read, is larger than `MAX_BYTES`, was cut short or damaged, or names
    anything but what tensors and plain values need.
    """
    try:
        with open_regular(file, MAX_BYTES) as stream:
            if stream.read(4) != b"PK\3\4":
                return use(_legacy_file(stream))
        with BoundedZip(file, MAX_BYTES, _DIRECTORY_BYTES) as archive:
            assert archive.file is not None
            return use(_zip(archive, archive.file))
    except ForeignError as error:
        what = error.what.strip("'")
        raise PixgraftError(
            f"{file}: not a checkpoint of tensors alone ({what}), or damaged: nothing of it was run; get another copy"
        ) from None
    except RefusedError as refused:
        raise PixgraftError(f"{file}: {refused}") from None
    except OSError as error:
        raise PixgraftError(f"{file}: cannot be read: {error.strerror or error}: check the path") from None
    except PixgraftError:
        raise
    except Exception as error:  # damaged bytes break the records in any way
        raise PixgraftError(f"{file}: cut short or not a PyTorch file ({reason(error)}): get it again") from None


def _zip(archive: zipfile.ZipFile, stream: BinaryIO) -> TorchFile:
    names = [entry.filename for entry in archive.infolist()]
    (main,) = (name for name in names if name.endswith("/data.pkl") and name.count("/") == 1)
    if len(set(names)) < len(names):
        raise RefusedError("holds two records of one name: get another copy")
    folder = main.removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise RefusedError("holds a program of TorchScript, not tensors: get the checkpoint that it was made from")
    if archive.getinfo(main).file_size > _PICKLE_BYTES:
        raise RefusedError(f"its pickle has more than {_PICKLE_BYTES:,} bytes: get another copy")
    content = records(io.BytesIO(_record(stream, archive.getinfo(main))), TORCH_NAMES, _MAX_STEPS)
    order = f"{folder}byteorder"
    big = order in names and _record(stream, archive.getinfo(order)) == b"big"
    read: dict[str, bytearray] = {}

    def storage(call: Any) -> Tensor:
        kind, key, count = _persistent(call)
        dtype = STORAGE_TYPES[kind]
        if key not in read:
            entry = archive.getinfo(f"{folder}data/{key}")
            if entry.file_size != count * dtype.itemsize:
                raise RefusedError("has tensors larger than their bytes in the file: get another copy")
            read[key] = _record(stream, entry)
            if big:
                parts = 2 if dtype.is_complex else 1
                words = elements(read[key], torch.uint8).view(-1, max(1, dtype.itemsize // parts))
                words.copy_(words.flip(1))
        return elements(read[key], dtype)

    return TorchFile(content, storage, _size(stream))


def _record(stream: BinaryIO, entry: zipfile.ZipInfo) -> bytearray:
    """The bytes of a record, which is not compressed. A checksum of 0 is none: PyTorch may leave it out."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
        raise RefusedError("its records are compressed or encrypted, and PyTorch's are not: get the original")
    stream.seek(entry.header_offset)
    head = stream.read(30)
    if head[:4] != b"PK\3\4":
        raise ValueError("a record is not in its place")
    stream.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), io.SEEK_CUR)
    data = _read(stream, entry.file_size)
    if entry.CRC and zlib.crc32(data) != entry.CRC:
        raise ValueError("a record has another checksum")
    return data


def _read(stream: BinaryIO, size: int) -> bytearray:
    """The next `size` bytes; ValueError, before they are allocated, if there are fewer."""
    if size > _size(stream) - stream.tell():
        raise ValueError("a storage goes beyond the end")
    data = bytearray(size)
    if stream.readinto(data) != size:  # type: ignore[attr-defined]
        raise ValueError("a storage goes beyond the end")
    return data


def _size(stream: BinaryIO) -> int:
    place = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(place)
    return size


def _legacy_file(stream: BinaryIO) -> TorchFile:
    stream.seek(0)
    content, storage, _ = legacy(stream)
    return TorchFile(content, storage, _size(stream))


def legacy(stream: BinaryIO) -> tuple[Any, Callable[[Any], Tensor], int]:
    """A file in the old format: its content as records, its storages, and the place of its end.

    Raises ForeignError, RefusedError, and almost anything on damaged bytes.
    """
    pickles, persistent = io.BytesIO(stream.read(_PICKLE_BYTES)), list[Call]()
    magic, version, system = (records(pickles, TORCH_NAMES, _MAX_STEPS) for _ in range(3))
    if magic != MAGIC or version != VERSION or expect(system, dict)["little_endian"] is not True:
        raise ValueError("neither a zip nor of PyTorch's old format")
    content = records(pickles, TORCH_NAMES, _MAX_STEPS, persistent)
    keys = expect(records(pickles, TORCH_NAMES, _MAX_STEPS), list)
    types = {key: STORAGE_TYPES[kind] for kind, key, _ in map(_persistent, persistent)}
    places: dict[str, tuple[int, int]] = {}
    place = pickles.tell()
    for key in keys:
        expect(key, str)  # a deep tuple overflows the C stack when hashed
        stream.seek(place)
        count = int.from_bytes(_read(stream, 8), "little")
        places[key] = place + 8, count
        place += 8 + count * types[key].itemsize
    if place > _size(stream):
        raise ValueError("a storage goes beyond the end")
    read: dict[str, bytearray] = {}

    def storage(call: Any) -> Tensor:
        kind, key, count = _persistent(call)
        dtype = STORAGE_TYPES[kind]
        start, held = places[key]
        if count != held or dtype != types[key]:
            raise RefusedError("has tensors larger than their bytes in the file: get another copy")
        if key not in read:
            stream.seek(start)
            read[key] = _read(stream, count * dtype.itemsize)
        whole = elements(read[key], dtype)
        view = call.arguments[5]
        if view is None:
            return whole
        _, first, length = view  # a part of a storage, before PyTorch 0.4
        if not 0 <= first <= first + length <= count:
            raise ValueError("a storage beyond another")
        return whole[first : first + length]

    return content, storage, place


def _persistent(call: Any) -> tuple[str, str, int]:
    """The type, the key and the number of elements of a storage."""
    mark, kind, key, _, count, *_ = called(call, "").arguments
    if mark != "storage" or type(count) is not int or count < 0:
        raise ValueError("a storage of an unknown form")
    return kind.name, expect(key, str), count
