"""Where images come from: a folder, a zip that is read without unpacking, or one image file."""

import contextlib
import functools
import os
import posixpath
import re
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from pixgraft.data.images import SUFFIXES
from pixgraft.data.splits import Split
from pixgraft.errors import PixgraftError, printable, reason
from pixgraft.files import BoundedZip, read_bytes

MAX_FILE_BYTES = 2**30
"""A larger file is not read: no image within the limit of pixels needs it, and a zip can claim any size."""

FRAME_FILE = "frame.json"
"""The file beside images of faces that says where their landmarks lie; `data/frame.py` reads it."""

MAX_DEPTH = 100
"""The most folders above an image. Deeper paths are too long for outputs of the same names."""

_ZIP_BYTES, _DIRECTORY_BYTES = 2**50, 2**27
"""The largest zip, and the largest directory in one, of some million images."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the others zipfile unpacks whole blocks, of any size."""

_ELSEWHERE = re.compile(r"/|[A-Za-z]:|.*\\|(.*/)?\.\.(/|$)", re.DOTALL)
"""A name in a zip that, on some system, leads out of the folder that it is joined to."""


class ImageSource(Protocol):
    """Named image files. Reading is safe from several threads, and in forked or spawned processes.

    A folder joined with a name is a path beneath that folder.
    """

    path: Path
    """The folder, zip or image file itself."""
    names: list[str]
    """The image files, sorted, relative to the folder's or zip's root, with forward slashes."""
    skipped: list[str]
    """The other visible files, sorted, but for `FRAME_FILE`: their suffix is not an image's."""

    def read(self, name: str) -> bytes:
        """The file's bytes.

        Raises PixgraftError, which names the file, if it cannot be read or its name is no UTF-8.
        """

    def close(self) -> None:
        """Close the files that are held open."""


class FolderSource:
    """Image files beneath a folder; built by `open_source`."""

    def __init__(self, path: Path, root: Path, names: list[str], skipped: list[str]) -> None:
        self.path, self.root, self.names, self.skipped = path, root, names, skipped

    def read(self, name: str) -> bytes:
        file = self.root / name
        _check_text(self.path, name)
        try:
            return read_bytes(file, MAX_FILE_BYTES)
        except FileNotFoundError:
            raise PixgraftError(f"{file}: not there; restore or remove it") from None

    def close(self) -> None:
        """Nothing is held open."""


class ZipSource:
    """Image files inside a zip; built by `open_source`."""

    def __init__(self, path: Path, names: list[str], skipped: list[str]) -> None:
        self.path, self.names, self.skipped = path, names, skipped
        self._open()

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._zip = _open_zip(self.path)
        self._entries = {_inside(entry.filename): entry for entry in self._zip.infolist()}

    def __reduce__(self) -> tuple[type["ZipSource"], tuple[Path, list[str], list[str]]]:
        return ZipSource, (self.path, self.names, self.skipped)

    def holds(self, name: str) -> bool:
        """Whether there is an entry of that name, an image or not."""
        return name in self._entries

    def read(self, name: str, limit: int | None = None) -> bytes:
        """As in `ImageSource`, for any entry of at most `limit` bytes (`MAX_FILE_BYTES`), which its CRC checks."""
        limit = MAX_FILE_BYTES if limit is None else limit
        if self._process != os.getpid():  # after a fork the file position is shared with the parent
            self._open()
        label = f"{self.path}/{name}"
        _check_text(self.path, name)
        try:
            with self._lock:
                entry = self._entries[name]
                if entry.file_size > limit:
                    problem = f"{entry.file_size:,} bytes, more than the {limit:,} allowed"
                    raise PixgraftError(f"{label}: {problem}; remove it")
                if entry.compress_type not in _METHODS:
                    raise PixgraftError(f"{label}: compressed by a method other than deflate: make the zip anew")
                with self._zip.open(entry) as file:  # in parts: zipfile joins them in quadratic time
                    return b"".join(iter(lambda: file.read(2**20), b""))
        except PixgraftError:
            raise
        except Exception as error:  # on damaged bytes zipfile and its decompressors raise almost anything
            problem = f"missing from the zip or damaged inside it ({reason(error)})"
            raise PixgraftError(f"{label}: {problem}; make the zip anew") from error

    def close(self) -> None:
        """Close the zip; nothing can be read afterwards."""
        self._zip.close()


def open_source(path: str | Path, *, under: str = "") -> ImageSource:
    """The images of a folder (searched recursively), of a zip, or of a single image file.

    Only files with a suffix in `SUFFIXES`, in upper or lower case, count. Hidden files and folders and `__MACOSX` are
    ignored; links to files are followed, links to folders are not. `under` selects the names beneath one folder, such
    as "train", or those of a list, as `Split` says; names remain relative to the root of `path`.

    Raises PixgraftError if the path is missing or none of the three, if the zip is damaged or encrypted, names an image
    twice, or by an absolute path, one with .. or one with a backslash, if an image lies more than `MAX_DEPTH`
    folders deep, and if there is no image.
    """
    path = Path(path)
    _check_text(path, str(path))
    try:
        path.stat()
        if path.suffix.lower() == ".pack" and path.is_file():
            raise PixgraftError(f"{path}: a packed file, which train and data check read: give the images themselves")
        if path.is_dir():
            return FolderSource(path, path, *_select(path, _walk(path), under))
        if path.suffix.lower() in SUFFIXES:
            return FolderSource(path, path.parent, [path.name], [])
        if path.suffix.lower() == ".zip" or (path.is_file() and zipfile.is_zipfile(path)):
            return ZipSource(path, *_list_zip(path, under))
    except FileNotFoundError:
        raise PixgraftError(f"{path}: no such file or folder; check the path") from None
    except OSError as error:
        raise PixgraftError(f"{path}: cannot be read: {error.strerror or error}") from error
    raise PixgraftError(f"{path}: neither a folder, a zip nor an image ({' '.join(SUFFIXES)})")


class StandardInput:
    """The one image that the program is fed; built by `open_sources`."""

    path, skipped = Path("-"), list[str]()

    def __init__(self) -> None:
        self.names = ["stdin"]

    @functools.cached_property
    def _data(self) -> bytes:
        data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise PixgraftError(f"stdin: more than the {MAX_FILE_BYTES:,} bytes allowed; give a file")
        return data

    def read(self, name: str) -> bytes:
        return self._data

    def close(self) -> None:
        """Nothing is held open."""


class SeveralSources:
    """Several files, folders and zips as one folder, that which holds them all; built by `open_sources`."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        within = [posixpath.abspath(source.path.as_posix()) for source in sources]
        self.path = Path(posixpath.commonpath([posixpath.dirname(each) for each in within]))
        self._parts: dict[str, tuple[ImageSource, str]] = {}
        self.skipped: list[str] = []
        for source, place in zip(sources, within, strict=True):
            root = posixpath.relpath(place, self.path.as_posix())
            one = isinstance(source, FolderSource) and source.root != source.path
            for name in source.names:
                joined = root if one else f"{root}/{name}"
                if joined in self._parts:
                    raise PixgraftError(f"{self.path / joined}: given twice: give it once")
                self._parts[joined] = source, name
            self.skipped += [f"{root}/{name}" for name in source.skipped]
        self._sources = sources
        self.names = sorted(self._parts)

    def read(self, name: str) -> bytes:
        source, within = self._parts[name]
        return source.read(within)

    def close(self) -> None:
        """Close the zips."""
        for source in self._sources:
            source.close()


def open_sources(paths: Sequence[str | Path]) -> ImageSource:
    """As `open_source`, for one path or several; - is the image on the standard input.

    Raises PixgraftError as that, for an image that is given twice, and for - beside others.
    """
    if "-" in map(str, paths):
        if len(paths) > 1:
            raise PixgraftError("-: the standard input, which holds one image: give it alone")
        return StandardInput()
    sources = [open_source(path) for path in paths]
    return sources[0] if len(sources) == 1 else SeveralSources(sources)


def _walk(root: Path) -> Iterable[str]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if _visible(name)]
        relative = PurePosixPath(Path(folder).relative_to(root).as_posix())
        if len(relative.parts) > MAX_DEPTH:
            raise _too_deep(root, str(relative))
        for name in files:
            yield str(relative / name)


def is_image(name: str) -> bool:
    """Whether a file's name ends in an image's suffix."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _inside(name: str) -> str:
    """A name in a zip without the parts "." that some programs write."""
    return "/".join(part for part in name.split("/") if part != ".") if "./" in name else name


def _too_deep(path: Path, name: str) -> PixgraftError:
    start = "/".join(name.split("/")[:4])
    return PixgraftError(f"{path}: holds {printable(start[:80])}/..., more than {MAX_DEPTH} folders deep; move it up")


def _check_text(path: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:  # no log, report or hash could hold it
        raise PixgraftError(f"{path}: {printable(name)}: a name that is no UTF-8: rename it") from None


def _select(path: Path, names: Iterable[str], under: str) -> tuple[list[str], list[str]]:
    """The images and the other files among `names`, without hidden ones, that `under` selects."""
    split = Split(under)
    visible = sorted({name for name in names if name and _visible(name)})
    selected = [name for name in visible if split.holds(name)]
    images = [name for name in selected if is_image(name)]
    split.check(path, images)
    if not images:
        folders = sorted({name.split("/")[0] + "/" for name in visible if "/" in name})
        beneath = f" under {split.prefix} (it has {', '.join(folders[:5]) or 'no folders'})" if split.prefix else ""
        raise PixgraftError(f"{path}: no images{beneath}; put in files that end in one of {' '.join(SUFFIXES)}")
    if deep := next((name for name in images if name.count("/") > MAX_DEPTH), None):
        raise _too_deep(path, deep)
    others = set(selected).difference(images)
    return images, sorted(name for name in others if PurePosixPath(name).name != FRAME_FILE)


def read_beside(path: Path, name: str, limit: int) -> bytes | None:
    """A file that is no image, of at most `limit` bytes, in a folder or zip; None if it is not there.

    Raises PixgraftError, which names the file, if it is larger or cannot be read.
    """
    if path.is_dir():
        try:
            return read_bytes(path / name, limit)
        except FileNotFoundError:
            return None
    with contextlib.closing(ZipSource(path, [], [])) as source:
        return source.read(name, limit) if source.holds(name) else None


def files_beside(path: Path, names: Sequence[str], file: str, limit: int) -> Iterator[tuple[str, bytes]]:
    """The files named `file` beside images, sorted `names` in the folder or zip `path`: each one's path and content.

    The first lies in the deepest folder that holds all images, the others in those above it up to the root. Raises as
    `read_beside`.
    """
    folder = PurePosixPath(posixpath.commonpath([posixpath.dirname(names[0]), posixpath.dirname(names[-1])]))
    for each in dict.fromkeys((folder, *folder.parents)):
        name = str(each / file)
        if (data := read_beside(path, name, limit)) is not None:
            yield str(path / name), data


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return BoundedZip(path, _ZIP_BYTES, _DIRECTORY_BYTES)
    except (PixgraftError, FileNotFoundError):
        raise
    except Exception as error:  # on damaged bytes zipfile raises almost anything
        problem = f"not a zip, or one that was cut short or damaged ({reason(error)})"
        raise PixgraftError(f"{path}: {problem}; download or make it anew") from error


def _list_zip(path: Path, under: str) -> tuple[list[str], list[str]]:
    with _open_zip(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    names = [_inside(entry.filename) for entry in entries]
    outside = next((name for name in names if is_image(name) and _ELSEWHERE.match(name)), None)
    if outside is not None:
        problem = "names in a zip are relative, with forward slashes and without .."
        raise PixgraftError(f"{path}: holds {outside}: {problem}; make the zip anew")
    images, skipped = _select(path, names, under)
    selected = set(images)
    twice = next((name for name, count in Counter(names).items() if count > 1 and name in selected), None)
    if twice is not None:
        raise PixgraftError(f"{path}: holds {twice} twice; make the zip anew, with each file once")
    if any(entry.flag_bits & 1 and name in selected for entry, name in zip(entries, names, strict=True)):
        raise PixgraftError(f"{path}: the zip is encrypted; unpack it and give the folder")
    return images, skipped
