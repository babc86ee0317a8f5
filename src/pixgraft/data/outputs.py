"""Where outputs go: never among the inputs; what they are named after; and the images that making a data set writes."""

import json
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from pixgraft.data.images import png_bytes
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes


def check_outside(out: Path, *inputs: Path) -> None:
    """PixgraftError if the folder `out` lies within one of the folders `inputs`."""
    for path in inputs:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise PixgraftError(f"{out}: is inside {path}, so outputs would become inputs: choose another folder")


def check_spared(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """PixgraftError if one of the files `inputs` would be replaced by one of `outputs`."""
    replaced = {path.resolve() for path in outputs}
    for path in inputs:
        if path.resolve() in replaced:
            raise PixgraftError(f"{path}: an output would replace it: choose another folder for the outputs")


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
    """Whether this program wrote a file, by the text in its first bytes, or the file is empty."""
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            return False
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    return not start or b"pixgraft" in start or (path.suffix == ".json" and b'"weights_sha256"' in start)


def check_replaceable(out: Path, label: str, outputs: Iterable[str]) -> None:
    """Raise PixgraftError if an output, or the report LABEL.json, would replace a file that no earlier run wrote.

    Folders are no files; writing there fails by itself.
    """
    present = [path for path in (out / name for name in outputs) if path.exists() and not path.is_dir()]
    report = out / f"{label}.json"
    damaged = any(map(is_output, present))  # what stands beside our output is its report, whatever became of it
    if report.exists() and not report.is_dir() and not (report.is_file() and damaged):
        present.append(report)
    for path in present:
        if not is_output(path):
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


def remove_earlier(out: Path, label: str, written: Container[str], inputs: Iterable[Path]) -> None:
    """Remove what an earlier run wrote for `label`: the files that its report LABEL.json lists, and then the report.

    Left alone are files that this run has as `inputs`, those named in `written`, which it writes for any label, and
    those that this program did not write. Raises PixgraftError if a file cannot be removed.
    """
    read = {path.resolve() for path in inputs}
    path = out / f"{label}.json"
    report = read_report(path)
    if report is None:
        return
    listed = [report.get("strip"), *(outputs if isinstance(outputs := report.get("outputs"), list) else ())]
    for name in [part for each in listed for part in (each.values() if isinstance(each, dict) else [each])]:
        # A report may have been edited: no more than files beside it that are named like its own.
        ours = isinstance(name, str) and name.startswith(label) and name.endswith((".png", ".safetensors"))
        beside = ours and Path(name).name == name and "\0" not in name
        if beside and name not in written and (out / name).resolve() not in read and is_output(out / name):
            remove(out / name)
    remove(path)


def read_report(path: Path) -> dict[str, Any] | None:
    """The report in a file; None if there is none, or it is none of this program's."""
    try:
        report = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) and "weights_sha256" in report else None


def remove(path: Path) -> None:
    """Remove an output of an earlier run. Raises PixgraftError if that cannot be done."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise PixgraftError(f"{path}: of an earlier run, cannot be removed: {error.strerror}: remove it") from error


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
    write_bytes(path, png_bytes(image, {}))
