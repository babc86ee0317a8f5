"""Atomic writing of files, and a digest of JSON."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pixgraft.errors import PixgraftError


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file in the same folder, then rename it to `path`, replacing an existing file.

    Raises PixgraftError, which names the path and the reason, if writing fails; the temporary file is then removed.
    """
    # The process id separates concurrent writers. The name is shortened to stay within the file system's limit.
    temporary = path.with_name(f".{os.getpid()}.{path.name[-40:]}.tmp")
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
    """Write `data` to `path` and flush it to the disk; not atomic. Raises OSError."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def json_sha256(content: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of `content`. Raises ValueError for values that are not JSON, such as NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
