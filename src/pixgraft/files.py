"""Files written whole or not at all, and a digest by which an edited description is known."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

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


def json_sha256(content: dict[str, Any]) -> str:
    """SHA-256 of `content` in the one canonical form of its JSON; ValueError if it is not JSON, as nan is not."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
