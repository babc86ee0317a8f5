"""Where outputs go: never among the inputs; what they are named after; and how files that belong together are written.

Files are told apart by device and inode: links, hard links and file systems to which case is nothing give one file
several names.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from pixgraft.data.images import WRITTEN, png_bytes
from pixgraft.errors import PixgraftError
from pixgraft.files import (
    read_json,
    refuse_link,
    remove_leftovers,
    removed_if_empty,
    unfinished,
    write_bytes,
    write_flushed,
)
from pixgraft.version import __version__

GENERATOR = "_generator"
"""End of the name of the one kind of folder among outputs: the model folder of a generator tuned to an image."""


class Given:
    """The files that a command was given: those named, and all within the folders named."""

    def __init__(self, paths: Iterable[Path | str | None]) -> None:
        """Paths that are not there, such as a bundled model's name, count for nothing."""
        self._paths = [Path(path) for path in paths if path]

    @cached_property
    def _files(self) -> dict[tuple[int, int], Path]:
        files: dict[tuple[int, int], Path] = {}
        for path in self._all():
            if (identity := _identity(path)) is not None:
                files.setdefault(identity, path)
        return files

    def _all(self) -> Iterator[Path]:
        yield from self._paths
        for path in self._paths:
            for folder, _, names in os.walk(path):
                yield from (Path(folder, name) for name in names)

    def same(self, path: Path) -> Path | None:
        """The file given that `path` is, under whatever name; None if it is none of them."""
        identity = _identity(path)  # first: where there is no such file yet, nobody has to look through the folders
        return None if identity is None else self._files.get(identity)


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, a link's being its target's; None if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def check_outside(out: Path, *inputs: Path) -> None:
    """PixgraftError if the folder `out` lies within one of the folders `inputs`."""
    for path in inputs:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise PixgraftError(f"{out}: is inside {path}, so outputs would become inputs: choose another folder")


def check_spared(given: Given, outputs: Iterable[Path]) -> None:
    """PixgraftError if one of the files given would be replaced by one of `outputs`."""
    for path in outputs:
        if (lost := given.same(path)) is not None:
            raise PixgraftError(f"{lost}: an output would replace it: choose another folder for the outputs")


def check_made(out: Path, source: Path, outputs: Iterable[Path]) -> None:
    """As `check_spared` and `check_outside`, for images at any depth of `out` that are made of others.

    They replace only files that this program wrote, and none if `out` holds `source` elsewhere within it. No folder
    between `out` and them is a link.
    """
    paths = list(outputs)
    check_outside(out, source)
    check_spared(Given([source]), paths)
    around = source.resolve().is_relative_to(out.resolve())
    folders: set[Path] = set()
    for path in paths:
        if os.path.lexists(path) and (around or not is_output(path)):
            problem = f"is there, beside {source}" if around else "is there, and no earlier run wrote it"
            raise PixgraftError(f"{path}: {problem}: choose another folder for the outputs")
        folders.update(each for each in path.parents if each != out and each.is_relative_to(out))
    for folder in sorted(folders):
        refuse_link(folder)


def check_writable(out: Path) -> None:
    """PixgraftError if the folder `out` can neither be written to nor be made; nothing is made."""
    there = next((path for path in (out, *out.absolute().parents) if os.path.lexists(path)), out)
    reason = "Not a directory" if not there.is_dir() else "" if os.access(there, os.W_OK | os.X_OK) else "not writable"
    if reason:
        raise PixgraftError(f"{out}: cannot be made: {reason}: choose another folder")


def output_folder(out: Path, *inputs: Path) -> Path:
    """Make the folder `out`, with those above it.

    Raises PixgraftError if it lies within one of the folders `inputs`, or cannot be made.
    """
    check_outside(out, *inputs)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PixgraftError(f"{out}: cannot be made: {error.strerror}: choose another folder") from error
    return out


def is_output(path: Path) -> bool:
    """Whether this program wrote a file, by the text in its first bytes, or in its last ones: where WebP has it."""
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            return False
        with path.open("rb") as file:
            start = file.read(4096)
            if path.suffix.lower() in WRITTEN and b"pixgraft" not in start:
                file.seek(max(len(start), path.stat().st_size - 4096))
                start += file.read(4096)
    except OSError:
        return False
    return b"pixgraft" in start or (path.suffix == ".json" and b'"weights_sha256"' in start)


def check_replaceable(out: Path, label: str, outputs: Iterable[str]) -> None:
    """Raise PixgraftError if an output, or the report LABEL.json, would replace a file that no earlier run wrote.

    Folders are no files; writing there fails by itself.
    """
    present = [path for path in (out / name for name in outputs) if path.exists() and not path.is_dir()]
    report = out / f"{label}.json"
    damaged = any(map(is_output, present))  # what stands beside our output is its report, whatever became of it
    if report.exists() and not report.is_dir() and not (report.is_file() and damaged):
        present.append(report)
    emptied = is_output(report)  # a crash of the machine may leave an empty file
    for path in present:
        if not is_output(path) and not (emptied and path.is_file() and not path.stat().st_size):
            raise PixgraftError(f"{path}: is there, and no earlier run wrote it: move it, or choose another folder")


def check_own(out: Path, mark: str) -> None:
    """Raise PixgraftError if the folder `out` holds files, but not the report `mark` of an earlier run of the same
    command."""
    try:
        content = next(iter(out.iterdir()), None) if out.is_dir() else None
    except OSError as error:
        raise PixgraftError(f"{out}: cannot be read: {error.strerror}: choose another folder") from error
    if content is not None and not is_output(out / mark):
        raise PixgraftError(f"{out}: is there, and holds other files ({content.name}): choose another folder")


def remove_earlier(out: Path, label: str, written: Container[str], given: Given) -> None:
    """Remove what an earlier run wrote for `label`: the files that its report LABEL.json lists, and then the report.

    Left alone are files that this run was `given`, those named in `written`, which it writes for any label, and
    those that this program did not write. Raises PixgraftError if a file cannot be removed.
    """
    path, generators = out / f"{label}.json", set()
    report = read_report(path)
    if report is None:
        return
    listed = [report.get("strip"), *(outputs if isinstance(outputs := report.get("outputs"), list) else ())]
    for name in [part for each in listed for part in (each.values() if isinstance(each, dict) else [each])]:
        # A report may have been edited: no more than files beside it that are named like its own.
        if not isinstance(name, str) or not name.startswith(label) or "\0" in name:
            continue
        part = re.fullmatch(rf"({re.escape(label)}(?:-\d+)?{re.escape(GENERATOR)})/[^/]+", name)
        if part and not (out / part[1]).is_symlink():
            generators.add(out / part[1])
        elif Path(name).name != name or not name.endswith((*WRITTEN, ".safetensors", ".svg")):
            continue
        if name not in written and given.same(out / name) is None and is_output(out / name):
            remove(out / name)
    for generator in generators:
        with contextlib.suppress(OSError):  # it is not there, or holds something else
            generator.rmdir()
    if given.same(path) is None:
        remove(path)


def read_report(path: Path) -> dict[str, Any] | None:
    """The report in a file; None if there is none, or it is none of this program's."""
    try:
        report = read_json(path)
    except (PixgraftError, OSError):
        return None
    return report if isinstance(report, dict) and "weights_sha256" in report else None


def remove(path: Path) -> None:
    """Remove an output of an earlier run. Raises PixgraftError if that cannot be done."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise PixgraftError(f"{path}: of an earlier run, cannot be removed: {error.strerror}: remove it") from error


def write_together(folder: Path, files: Mapping[str, bytes], *, pending: bytes) -> list[Path]:
    """Write files that belong together, by name; returns their paths. The last one is their mark.

    A folder that is not there appears with all of them. In one that is there they replace others one by one, when all
    are on the disk; meanwhile the mark says `pending`. Raises PixgraftError, which names the folder, if that fails.
    """
    new = not folder.exists()
    mark = folder / list(files)[-1]
    try:
        with removed_if_empty(folder):
            if new:
                output_folder(folder.parent)
                remove_leftovers(folder.resolve().parent, folder.name)
            else:
                remove_leftovers(folder)
            with unfinished(folder.resolve() if new else folder / "outputs") as beside:
                beside.mkdir()
                for name, data in files.items():
                    write_flushed(beside / name, data)
                if new:
                    beside.rename(folder)
                else:
                    write_bytes(mark, pending)
                    for name in files:
                        (beside / name).replace(folder / name)
    except OSError as error:
        mend = "choose a folder that may be written to and has space left"
        raise PixgraftError(f"{folder}: cannot be written: {error.strerror or error}; {mend}") from error
    return [folder / name for name in files]


def labels(names: list[str]) -> dict[str, str]:
    """A part of a file's name for each name: its stem, or its whole path where others have that stem; cut if it is very
    long. No two are the same, not even where upper and lower case are one: the later ones get a number."""
    stems = Counter(PurePosixPath(name).stem for name in names)

    def text(name: str) -> str:
        stem = PurePosixPath(name).stem
        whole = stem if stems[stem] == 1 else name.replace("/", "_")
        return whole.encode(errors="ignore")[:110].decode(errors="ignore")  # a whole name may have 255 bytes

    found = {name: text(name) for name in names}
    taken = {label.casefold() for label in found.values()}
    times: Counter[str] = Counter()
    for name, label in found.items():
        key = label.casefold()
        times[key] += 1
        if times[key] > 1:
            while (numbered := f"{label}_{times[key]}").casefold() in taken:
                times[key] += 1
            taken.add(numbered.casefold())
            found[name] = numbered
    return found


def write_image(path: Path, image: Tensor) -> None:
    """Write one image, (3, H, W) or (1, H, W), uint8 or float in [-1, 1], as a PNG, and the folders it lies in.

    Raises PixgraftError, which names the path and why, if it cannot be written.
    """
    output_folder(path.parent)
    write_bytes(path, png_bytes(image, {"pixgraft": __version__}))
