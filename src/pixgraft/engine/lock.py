"""The lock that keeps two processes from training into one folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pixgraft.errors import PixgraftError
from pixgraft.files import open_for_writing


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder/.lock` for this process; `folder` is created if it is missing.

    The system releases the lock when the process ends in any way; the file stays. It holds the process id while the
    lock is held.

    Raises PixgraftError, which names the folder and the process that holds the lock, or the reason that there is none.
    """
    file = folder / ".lock"
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise PixgraftError(f"{file}: a link or not a regular file: remove it")
    lock = FileLock(file, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holder = _holder(file)  # read first: old versions of filelock empty the file before they try
        lock.acquire()
        # Without flock in the file system filelock turns into a soft lock, which has its own record in the file.
        native = type(lock) is FileLock
        with contextlib.suppress(PermissionError):  # Windows: nobody can write to a locked file
            if native:
                with open_for_writing(file, os.O_TRUNC) as stream:
                    stream.write(f"{os.getpid()}\n".encode())
    except Timeout:
        raise PixgraftError(
            f"{folder}: process {holder} is training into this folder; wait for it, stop it or choose another folder"
        ) from None
    except OSError as error:
        lock.release()
        raise PixgraftError(f"{folder}: cannot be locked: {error.strerror}; choose another folder") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if native:
                open_for_writing(file, os.O_TRUNC).close()
        lock.release()


def _holder(file: Path) -> str:
    """The process id in a lock file, or "unknown"."""
    try:
        with file.open("rb") as stream:
            text = stream.read(32).decode(errors="replace").strip()
    except OSError:
        return "unknown"
    return text if text.isdecimal() else "unknown"
