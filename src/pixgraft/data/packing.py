"""The writing of a packed file (`data/packed.py`) from a folder or zip: the one time that its images are decoded."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pixgraft.data.check import Finding, without_name
from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import Item, decoded
from pixgraft.data.outputs import Given, check_outside, check_spared, is_output
from pixgraft.data.packed import MAGIC, PREAMBLE, START, SUFFIX, PackIndex, PackOrigin, is_packed
from pixgraft.data.pairs import ItemSource
from pixgraft.data.sources import ImageSource
from pixgraft.data.threads import in_threads
from pixgraft.engine.distributed import cores
from pixgraft.errors import PixgraftError
from pixgraft.files import open_for_writing, refuse_link, unfinished
from pixgraft.records import to_dict


@dataclass(frozen=True)
class Packed:
    """What `write_pack` made."""

    path: Path
    count: int
    """Items in the file."""
    bytes: int
    findings: list[Finding]
    """The items left out."""


class _Digests:
    """A folder or zip of which each file's size and SHA-256 are kept as it is read."""

    def __init__(self, files: ImageSource) -> None:
        self.path, self.names, self.skipped = files.path, files.names, files.skipped
        self._files = files
        self.seen: dict[str, tuple[int, str]] = {}

    def read(self, name: str) -> bytes:
        data = self._files.read(name)
        self.seen[name] = len(data), hashlib.sha256(data).hexdigest()
        return data

    def close(self) -> None:
        self._files.close()


def check_pack_path(out: Path, source: ItemSource) -> None:
    """Raise PixgraftError unless a packed file of `source` may be written to `out`."""
    if not is_packed(out):
        raise PixgraftError(f"{out}: give the packed file a name that ends in {SUFFIX}")
    check_outside(out, source.path)
    check_spared(Given([source.path]), [out])
    refuse_link(out)
    if os.path.lexists(out) and not is_output(out):
        raise PixgraftError(f"{out}: is there, and no earlier run wrote it: move it, or choose another name")


def write_pack(
    source: ItemSource, out: Path, *, size: int, kind: ConditionKind | None = None, skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:  # fmt: skip
    """Write the items of `source`, decoded on all cores, to the packed file `out`, which replaces an earlier one.

    `skip_bad` leaves unusable items out. `progress` is called in this thread with (items done, items in all). Raises
    PixgraftError for the first unusable item otherwise, for a place that is not to be written to, and if writing fails.
    """
    check_pack_path(out, source)
    files = _Digests(source.files)
    digested = ItemSource(files, source.names, source.condition_names)
    written: list[int] = []
    findings = [Finding(file.name, file.problem, usable=False) for file in source.unpaired]
    digests = bytearray()

    def decode(index: int) -> Item | PixgraftError:
        try:
            return decoded(digested, index, size=size, kind=kind)
        except PixgraftError as error:
            return error

    items = in_threads(decode, range(len(source.names)), progress, ahead=4 * cores())
    try:
        with unfinished(out) as temporary, open_for_writing(temporary, os.O_EXCL) as file, contextlib.closing(items):
            file.write(bytes(START))
            for index, item in items:
                if isinstance(item, PixgraftError):
                    if not skip_bad:
                        raise item
                    name = source.names[index]
                    findings.append(Finding(name, without_name(name, item), usable=False))
                else:
                    digest = hashlib.sha256()
                    for part in item:
                        if part is not None:
                            file.write(values := part.numpy().tobytes())
                            digest.update(values)
                    digests += digest.digest()
                    written.append(index)
            if len(written) < 2:
                raise PixgraftError(f"{source.path}: {len(written)} usable images are too few to train on")
            file.write(digests)
            text = json.dumps(to_dict(_index(source, written, files, size, kind, bytes(digests)))).encode()
            place = file.tell()
            file.write(text)
            file.seek(0)
            file.write(PREAMBLE.pack(MAGIC, place, len(text), hashlib.sha256(text).digest()))
            file.flush()
            os.fsync(file.fileno())
            file.close()  # Windows renames no open file
            temporary.replace(out)
    except OSError as error:
        mend = "choose a folder that exists, may be written to and has space left"
        raise PixgraftError(f"cannot write {out}: {error.strerror or error}; {mend}") from error
    return Packed(out, len(written), place + len(text), findings)


def _index(
    source: ItemSource, written: list[int], files: _Digests, size: int, kind: ConditionKind | None, digests: bytes
) -> PackIndex:
    names, condition_names = (
        tuple(each[index] for index in written) if each else () for each in (source.names, source.condition_names)
    )
    listed = [(name, *files.seen[name]) for name in names + condition_names]
    return PackIndex(
        size=size,
        kind=kind.kind if kind else "",
        classes=kind.classes if kind else 0,
        colors=kind.colors if kind else (),
        names=names,
        condition_names=condition_names,
        digests=hashlib.sha256(digests).hexdigest(),
        origin=PackOrigin(
            path=str(source.path),
            bytes=sum(count for _, count, _ in listed),
            sha256=hashlib.sha256("".join(f"{digest}  {name}\n" for name, _, digest in listed).encode()).hexdigest(),
        ),
        frame=source.frame(),
    )
