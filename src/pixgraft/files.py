"""Files written whole or not at all."""

import os
from pathlib import Path

from pixgraft.errors import PixgraftError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place first, then rename it over what is there.

    Raises PixgraftError, which names the path and why, if it cannot be written; nothing is left behind then.
    """
    # The process's number keeps two writers apart, and a leftover of a killed one is overwritten, not tripped over.
    # Not the name and more, which may be too long.
    temporary = path.with_name(f".{os.getpid()}.{path.name[-40:]}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        mend = "choose a folder that exists, may be written to and has space left"
        raise PixgraftError(f"cannot write {path}: {error.strerror or error}; {mend}") from error
