"""The lock that keeps two processes from training into one folder."""

import os
import sys
from pathlib import Path
from types import TracebackType

from pixgraft.errors import PixgraftError

if sys.platform == "win32":
    import msvcrt

    def _acquire(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far behind the process id, which others read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _release(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _acquire(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(descriptor: int) -> None:
        # Said outright: closing would leave the lock with a forked child that still has the file open.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class RunLock:
    """A context manager that holds `folder/.lock` for this process; `folder` is made if it is missing.

    The system drops the lock when the process ends, however it ends; the file stays, empty. Entering raises
    PixgraftError naming the folder and the process that holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> "RunLock":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._refusal(error) from error
        try:
            _acquire(descriptor)
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except (BlockingIOError, PermissionError) as error:
            holder = os.pread(descriptor, 32, 0) if sys.platform != "win32" else os.read(descriptor, 32)
            os.close(descriptor)
            pid = holder.decode(errors="replace").strip() or "unknown"
            raise PixgraftError(
                f"{self.folder}: process {pid} is training into this folder; "
                "wait for it, stop it or choose another folder"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise self._refusal(error) from error
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            _release(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _refusal(self, error: OSError) -> PixgraftError:
        return PixgraftError(f"{self.folder}: cannot be locked: {error.strerror}; choose another folder")
