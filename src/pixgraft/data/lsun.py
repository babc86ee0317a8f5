"""LSUN (Yu et al. 2015): the images of one of its LMDB databases as files.

A database is a folder with data.mdb, whose values are JPEG or WebP files with a shorter side of 256 and whose keys are
their names, 40 hexadecimal digits. It is read by the package lmdb, in native code that maps the file into memory:
unlike images, a database made to harm may crash it.
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixgraft.data.check import Finding, without_name
from pixgraft.data.images import decode, fit, pixels
from pixgraft.data.outputs import check_made, output_folder, write_image
from pixgraft.data.sources import MAX_FILE_BYTES
from pixgraft.data.threads import in_threads
from pixgraft.errors import PixgraftError, printable, reason
from pixgraft.files import open_regular, removed_if_empty

DATA_FILE = "data.mdb"
_MAX_BYTES = 2**43
_MAX_IMAGES = 5_000_000
_KEY = re.compile(r"[0-9A-Za-z_-]{1,100}")
"""Keys that are names of files, on any system and outside of no folder."""


@dataclass(frozen=True)
class Extracted:
    """The result of `extract`."""

    count: int
    """Files written."""
    findings: list[Finding]
    """The images that cannot be used."""


def extract(
    path: Path, out: Path, *, size: int, limit: int = 0, progress: Callable[[int, int], None] | None = None
) -> Extracted:
    """Write the images of the database `path` into the folder `out` as KEY.png, the centred square at `size` pixels.

    `limit` takes the first ones by key; 0 takes all. A second run writes the same files. `progress` is called with
    (images done, images in all). An image that cannot be read is a finding of the result.

    Raises PixgraftError without the package lmdb, for a folder that holds no database or one that is cut short, and if
    `out` cannot be written to.
    """
    if size < 1 or limit < 0:
        raise PixgraftError("--size must be at least 1, and --limit 0 or more")
    with _opened(path) as database:
        with database.begin() as reading:
            keys = [bytes(key) for key in itertools.islice(_keys(path, reading), limit or _MAX_IMAGES)]
        if not keys:
            raise PixgraftError(f"{path}: a database without images; download it anew")
        check_made(out, path, (out / f"{name}.png" for key in keys if (name := _name(key)) is not None))

        def write(key: bytes) -> Finding | None:
            name = _name(key)
            if name is None:
                return Finding(repr(key[:40]), "a key that is no name for a file, as LSUN's are", usable=False)
            try:
                write_image(out / f"{name}.png", pixels(fit(decode(_value(database, key, name), name), size)))
            except PixgraftError as error:
                if str(error).startswith(f"{name}: "):
                    return Finding(name, without_name(name, error), usable=False)
                raise
            return None

        with removed_if_empty(out):
            output_folder(out)
            with contextlib.closing(in_threads(write, keys, progress)) as results:
                findings = [finding for _, finding in results if finding is not None]
    return Extracted(len(keys) - len(findings), findings)


def _keys(path: Path, reading: Any) -> Iterator[bytes]:
    try:
        yield from reading.cursor().iternext(keys=True, values=False)
    except Exception as error:  # lmdb.Error, which is not known before the import
        raise PixgraftError(f"{path}: the database is damaged ({reason(error)}): download it anew") from error


def _value(database: Any, key: bytes, name: str) -> bytes:
    """A copy of one image's file. Raises PixgraftError, which begins with `name`, if it is damaged or too large."""
    try:
        with database.begin(buffers=True) as reading:
            value = reading.get(key)
            if value is not None and len(value) <= MAX_FILE_BYTES:
                return bytes(value)
    except Exception as error:  # lmdb.Error
        raise PixgraftError(f"{name}: damaged in the database ({reason(error)})") from error
    raise PixgraftError(f"{name}: {'missing' if value is None else 'more bytes than are allowed'}")


def _name(key: bytes) -> str | None:
    text = key.decode(errors="replace")
    return text if _KEY.fullmatch(text) else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The database in the folder `path`, opened for reading; nothing is written, no lock file either."""
    try:
        import lmdb
    except ImportError:
        raise PixgraftError("LSUN's databases need the package lmdb: pip install 'pixgraft[lsun]'") from None
    try:
        with open_regular(path / DATA_FILE, _MAX_BYTES) as file:
            bytes_there = file.seek(0, 2)
    except (FileNotFoundError, PixgraftError) as error:
        problem = "none there" if isinstance(error, FileNotFoundError) else printable(str(error))
        raise PixgraftError(f"{path}: no LSUN database with a {DATA_FILE} ({problem}): unpack its zip first") from None
    try:
        database = lmdb.open(str(path), readonly=True, lock=False, readahead=False, create=False, max_spare_txns=8)
    except lmdb.Error as error:
        raise PixgraftError(f"{path}: no LSUN database ({reason(error)}): download it anew") from None
    with contextlib.closing(database):
        pages, page = database.info()["last_pgno"] + 1, database.stat()["psize"]
        if pages * page > bytes_there:  # reading beyond the end of a file would end the process
            problem = f"{bytes_there:,} bytes of {pages * page:,}"
            raise PixgraftError(f"{path / DATA_FILE}: cut short, {problem}: download it anew")
        yield database
