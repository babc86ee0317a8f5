"""Bounded reading and atomic writing of files, and a digest of JSON."""

import contextlib
import hashlib
import io
import json
import math
import os
import platform
import re
import secrets
import shutil
import stat
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pixgraft.errors import PixgraftError

TEXT_LIMIT = 64 * 2**20
"""Bytes of the largest text that is read: descriptions, configurations, reports and logs are far smaller."""

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_TEMPORARY = re.compile(  # earlier versions had the process id alone
    r"\.((?P<host>[0-9a-f]{8})-(?P<process>\d{1,10})-[0-9a-f]{16}|(?P<former>\d{1,10}))\.(?P<name>.{1,40})\.tmp"
)
_DAY = 24 * 3600
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path, limit: int = TEXT_LIMIT) -> io.BufferedReader:
    """A regular file of at most `limit` bytes, opened for reading. Raises as `read_bytes`."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        file: io.BufferedReader = io.BufferedReader(
            io.FileIO(path, opener=lambda name, flags: os.open(name, flags | _NO_WAITING))
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError for a name with a NUL
        raise PixgraftError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size <= limit:
        return file
    file.close()
    if stat.S_ISREG(status.st_mode):
        raise PixgraftError(f"{path}: {status.st_size:,} bytes, more than the {limit:,} allowed; remove it")
    raise PixgraftError(f"{path}: not a regular file; remove it")


def read_bytes(path: Path, limit: int = TEXT_LIMIT) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises PixgraftError, which names the file, for anything else (a pipe or a device would never end), for a larger
    file and for one that cannot be read; FileNotFoundError if it is missing.
    """
    try:
        with open_regular(path, limit) as file:
            return file.read(os.fstat(file.fileno()).st_size)  # as many bytes are allocated as are asked for
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PixgraftError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: Path, limit: int = TEXT_LIMIT) -> Any:
    """The content of a JSON file, whose numbers are finite. Raises as `read_bytes`, and PixgraftError if it is none."""
    try:
        return json.loads(read_bytes(path, limit), parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise PixgraftError(f"{path}: not JSON: cut short or edited") from error


_unfinished: set[Path] = set()
_made: list[Path] = []
_guard = threading.RLock()  # reentrant: a signal's handler may interrupt its holder


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """The place beside `path` for what will be renamed to it, a hidden name in the same folder.

    What is still there at the end is removed, file or folder; also if a signal ends the program.
    """
    place = temporary_name(path)
    with _guard:
        _unfinished.add(place)
    try:
        yield place
    finally:
        discard(place)
        with _guard:
            _unfinished.discard(place)


def check_free(folder: Path) -> None:
    """Raise PixgraftError if `folder` is a file or a folder that is not empty, which `new_folder` cannot make."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise PixgraftError(f"{folder}: is there and not empty: choose another folder")
    except OSError as error:
        raise PixgraftError(f"{folder}: cannot be made: {error.strerror}: choose another folder") from error


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, which is renamed to it at the end: it is complete or absent.

    Raises PixgraftError if `folder` is there and not empty, or cannot be written.
    """
    check_free(folder)
    target = folder.resolve()
    remove_leftovers(target.parent, target.name)
    with unfinished(target) as place:
        try:
            place.mkdir(parents=True)
            yield place
            if target.exists():
                target.rmdir()  # empty; not every system can rename onto a folder
            place.rename(target)
        except OSError as error:
            raise PixgraftError(
                f"{folder}: cannot be made: {error.strerror or error}: choose another folder"
            ) from error


@contextlib.contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """At the end `folder`, and those above it, are removed if they were made in between and hold nothing; also if a
    signal ends the program."""
    missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    with _guard:
        _made[:0] = missing
    try:
        yield
    finally:
        _remove_empty(missing)
        with _guard:
            _made[:] = [path for path in _made if path not in missing]


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def discard(place: Path) -> None:
    """Remove a file, a folder with all in it, or of a link itself alone. What cannot be removed stays."""
    with contextlib.suppress(OSError):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)


def abandon() -> None:
    """Remove all that is unfinished, for a process that ends at once: no other thread can begin a file afterwards."""
    _guard.acquire()
    for place in list(_unfinished):
        discard(place)
    _remove_empty(_made)


def _finite(text: str) -> float:
    """A number that JSON knows: Python's reader takes nan too."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def file_sha256(path: Path, limit: int) -> str:
    """SHA-256 of a regular file of at most `limit` bytes. Raises as `read_bytes`, and OSError."""
    digest = hashlib.sha256()
    with open_regular(path, limit) as file:
        for part in iter(lambda: file.read(2**20), b""):
            digest.update(part)
    return digest.hexdigest()


def refuse_link(path: Path, mend: str = "remove it") -> None:
    """Raise PixgraftError if `path` is a link: it may lead anywhere in a folder of a stranger's."""
    if path.is_symlink():
        raise PixgraftError(f"{path}: a link, and nothing is written through one; {mend}")


def open_for_writing(path: Path, flags: int) -> BinaryIO:
    """Open a regular file to write to, never through a link; `flags` are those of `os.open`, such as O_APPEND.

    Raises PixgraftError for a link, a pipe or a device, which a folder of a stranger's may hold; else OSError.
    """
    refuse_link(path)  # not every system has O_NOFOLLOW, and its error does not say what is wrong
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags | safe, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PixgraftError(f"{path}: not a regular file; remove it")
    return os.fdopen(descriptor, "wb")


def make_folder(folder: Path) -> None:
    """Make a folder, if it is missing. Raises PixgraftError if it is a link or a file, or cannot be made."""
    refuse_link(folder, "put a folder in its place")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PixgraftError(f"cannot make {folder}: {error.strerror or error}; mend that") from error


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody can guess; `remove_leftovers` knows it by its form."""
    # Shortened to stay within the file system's limit.
    return path.with_name(f".{_HOST}-{os.getpid()}-{secrets.token_hex(8)}.{path.name[-40:]}.tmp")


def remove_leftovers(folder: Path, name: str = "", *, alone: bool = False) -> None:
    """Remove what killed processes left in `folder` under a temporary name; with `name`, what was to become that.

    Without `alone`, which says that nobody else writes there, that of a living process is spared, and of one of
    another machine for a day.
    """
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and match["name"] == (name[-40:] or match["name"]) and path not in _unfinished:
            with contextlib.suppress(OSError):
                if match["former"] and not (path.is_file() or path.is_symlink()):
                    continue  # earlier versions left no folders
                if alone or _is_abandoned(match, path.lstat().st_mtime):
                    discard(path)


def _is_abandoned(match: re.Match[str], written: float) -> bool:
    process = int(match["process"] or match["former"])
    old = time.time() - written > _DAY
    if match["host"] not in (None, _HOST) or os.name != "posix":  # elsewhere os.kill interrupts a process
        return old
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's, or no number of a process
        return old
    return False


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file in the same folder, then rename it to `path`, replacing an existing file.

    Raises PixgraftError, which names the path and the reason, if writing fails; the temporary file is then removed.
    """
    try:
        with unfinished(path) as temporary:
            write_flushed(temporary, data)
            temporary.replace(path)
    except OSError as error:
        mend = "choose a folder that exists, may be written to and has space left"
        raise PixgraftError(f"cannot write {path}: {error.strerror or error}; {mend}") from error


def write_flushed(path: Path, data: bytes) -> None:
    """Write `data` to a new file `path` and flush it to the disk; not atomic. Raises OSError, also if it exists."""
    with open_for_writing(path, os.O_EXCL) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def json_sha256(content: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of `content`. Raises ValueError for values that are not JSON, such as NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class _Limited(io.BufferedReader):
    """A file of which no more than `limit` bytes are read at once."""

    limit = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > self.limit:
            raise ValueError("a part of the zip is larger than is allowed")
        return super().read(size)


class BoundedZip(zipfile.ZipFile):
    """A zip, a regular file of at most `limit` bytes with a directory of at most `directory` bytes.

    In memory the directory takes ten times as many. Raises PixgraftError and FileNotFoundError as `open_regular`, and
    almost anything for a damaged zip, as zipfile does.
    """

    file: _Limited | None = None
    """The open file."""

    def __init__(self, path: Path, limit: int, directory: int) -> None:
        raw = open_regular(path, limit).detach()
        self.file = _Limited(raw)
        self.file.limit = max(directory, 2**17)  # zipfile looks for the directory in the last 64 KiB
        try:
            super().__init__(self.file)
        except BaseException:
            self.file.close()
            raise
        self.file.limit = limit

    def close(self) -> None:
        """Close the zip and its file."""
        super().close()
        if self.file is not None:
            self.file.close()
