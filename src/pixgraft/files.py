"""Bounded reading and atomic writing of files, and a digest of JSON."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, BinaryIO

from pixgraft.errors import PixgraftError

TEXT_LIMIT = 64 * 2**20
"""Bytes of the largest text that is read: descriptions, configurations, reports and logs are far smaller."""

_TEMPORARY = re.compile(r"\.([0-9a-f]{16}|\d+)\..{1,40}\.tmp")  # earlier versions had the process id


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read. Raises PixgraftError for a pipe or a device, which would never end; else OSError."""
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise PixgraftError(f"{path}: not a regular file; remove it")
    return file


def read_bytes(path: Path, limit: int = TEXT_LIMIT) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises PixgraftError, which names the file, for anything else (a pipe or a device would never end), for a larger
    file and for one that cannot be read; FileNotFoundError if it is missing.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise PixgraftError(f"{path}: {size:,} bytes, more than the {limit:,} allowed; remove it")
            return file.read(limit)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PixgraftError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: Path, limit: int = TEXT_LIMIT) -> Any:
    """The content of a JSON file. Raises as `read_bytes`, and PixgraftError if it is not JSON."""
    try:
        return json.loads(read_bytes(path, limit))
    except (ValueError, RecursionError) as error:
        raise PixgraftError(f"{path}: not JSON: cut short or edited") from error


def open_for_writing(path: Path, flags: int) -> BinaryIO:
    """Open a regular file to write to, never through a link; `flags` are those of `os.open`, such as O_APPEND.

    Raises PixgraftError for a link, a pipe or a device, which a folder of a stranger's may hold; else OSError.
    """
    if path.is_symlink():  # not every system has O_NOFOLLOW, and its error does not say what is wrong
        raise PixgraftError(f"{path}: a link, and nothing is written through one; remove it")
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags | safe, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PixgraftError(f"{path}: not a regular file; remove it")
    return os.fdopen(descriptor, "wb")


def make_folder(folder: Path) -> None:
    """Make a folder, if it is missing. Raises PixgraftError if it is a link or a file, or cannot be made."""
    if folder.is_symlink():
        raise PixgraftError(f"{folder}: a link, and nothing is written through one; put a folder in its place")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PixgraftError(f"cannot make {folder}: {error.strerror or error}; mend that") from error


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody can guess; `remove_leftovers` knows it by its form."""
    # Shortened to stay within the file system's limit.
    return path.with_name(f".{secrets.token_hex(8)}.{path.name[-40:]}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in `folder`; only while nobody else writes there."""
    for path in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name) and (path.is_file() or path.is_symlink()):
            with contextlib.suppress(OSError):
                path.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file in the same folder, then rename it to `path`, replacing an existing file.

    Raises PixgraftError, which names the path and the reason, if writing fails; the temporary file is then removed.
    """
    temporary = temporary_name(path)
    try:
        try:
            write_flushed(temporary, data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
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
