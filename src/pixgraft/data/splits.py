"""Which files of a folder or zip count: those beneath one folder, those that a list names, or all."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pixgraft.data.images import SUFFIXES
from pixgraft.errors import PixgraftError, printable
from pixgraft.files import read_bytes

LIST_SUFFIX = ".txt"
MAX_NAMES = 2_000_000
"""The most lines of a list, whose names take far more than their bytes."""

Name = tuple[str, ...]
"""A file's path in parts, without an image's suffix; numbers are without leading zeros."""


class Split:
    """A choice of files by the text that `--split` takes: a folder within the data, a list's path, or nothing for all.

    A list is a text file with a name a line; what follows a # is a comment. A name is a file's own, or has the folders
    before it too: "train/7". Suffixes and leading zeros count for nothing, so that 7, 7.jpg and 00007.png are one.
    """

    def __init__(self, text: str) -> None:
        """Raises PixgraftError for a list that cannot be read."""
        self.text = text
        self.list = Path(text) if text.endswith(LIST_SUFFIX) else None
        self.prefix = ""
        self._lines: dict[Name, str] = {}
        if self.list is not None:
            self._lines = _read_list(self.list)
        elif (inside := text.strip("/").removeprefix("./")) not in ("", "."):
            self.prefix = f"{inside}/"
        self._lengths = sorted({len(name) for name in self._lines})

    def holds(self, name: str) -> bool:
        """Whether the file of that path within the data is chosen."""
        if self.list is None:
            return name.startswith(self.prefix)
        return self._listed(name) is not None

    def check(self, path: Path, names: Iterable[str]) -> None:
        """Raise PixgraftError if the list has names that are none of `names`, the images chosen in the data `path`."""
        missing = set(self._lines)
        for name in names if missing else ():
            if (found := self._listed(name)) is not None:
                missing.discard(found)
        if missing:
            first = next(line for name, line in self._lines.items() if name in missing)
            more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
            problem = f"names {printable(first[:80])}, which {path} lacks{more}"
            raise PixgraftError(f"{self.list}: {problem}: give the whole data, or remove it from the list")

    def folder(self, path: Path) -> Path:
        """The folder of the chosen files in the folder `path`."""
        return path / self.prefix

    def _listed(self, name: str) -> Name | None:
        parts = _parts(name)
        return next((end for length in self._lengths if (end := parts[-length:]) in self._lines), None)


def _read_list(path: Path) -> dict[Name, str]:
    try:
        text = read_bytes(path).decode()
    except FileNotFoundError:
        raise PixgraftError(f"{path}: no such list of names: check the path, or name a folder in the data") from None
    except UnicodeDecodeError:
        raise PixgraftError(f"{path}: no list of names, a line each: it is no text in UTF-8") from None
    if text.count("\n") > MAX_NAMES:
        raise PixgraftError(f"{path}: a list of more than {MAX_NAMES:,} lines: name a folder in the data")
    lines = {_parts(name): name for line in text.split("\n") if (name := line.partition("#")[0].strip())}
    lines.pop((), None)
    if not lines:
        raise PixgraftError(f"{path}: names no files: write a name a line")
    return lines


def _parts(name: str) -> Name:
    path = PurePosixPath(name)
    path = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return tuple((part.lstrip("0") or "0") if part.isdecimal() else part for part in path.parts)
