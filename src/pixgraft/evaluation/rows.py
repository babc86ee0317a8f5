"""The rows that a table is asked for by name: models, and folders of outputs that other programs made of its inputs."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from pixgraft.data.images import decode, pixels
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.data.threads import in_threads
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.subjects import hashed
from pixgraft.models import DESCRIPTION

REALS = "reals"
"""The name of the row of the reals' curves."""
READ_AHEAD = 64
"""Files of outputs that are held in memory while they are checked."""


@dataclass(frozen=True)
class NamedRow:
    """A row that is asked for."""

    name: str
    path: str
    is_model: bool
    """Whether the path is that of a model, or its name; otherwise it holds outputs."""


def named_rows(model: str, texts: Sequence[str]) -> list[NamedRow]:
    """The rows of MODEL, if there is one, under its path's name, and of each --row NAME=PATH.

    Raises PixgraftError for a text of another form, and for a name that is given twice.
    """
    rows = [NamedRow(Path(model).name, model, True)] if model else []
    for text in texts:
        name, equals, path = text.partition("=")
        if not (equals and name.strip() and path):
            raise PixgraftError(f"--row {text}: write NAME=PATH: the row's name, and a model or a folder of outputs")
        if not name.isprintable() or name == REALS:
            reason = "a name of the table's own" if name == REALS else "a name of characters that cannot be shown"
            raise PixgraftError(f"--row {text}: {reason}: choose another")
        if any(row.name == name for row in rows):
            raise PixgraftError(f"--row {text}: there is a row {name} before it: give each its own name")
        place = Path(path)
        model_folder = (place / DESCRIPTION).is_file() or (place / "checkpoints").is_dir()
        rows.append(NamedRow(name, path, model_folder or not place.exists()))
    return rows


class OutputFolder:
    """A folder or zip of images that another program made of a table's inputs, not yet matched with these."""

    def __init__(self, name: str, path: str) -> None:
        """`name` is the row's. Raises PixgraftError if there are no images."""
        self.name, self.path = name, Path(path)
        self._names = open_source(path).names

    def has(self, folder: str) -> bool:
        """Whether it has images within that folder."""
        return any(name.startswith(f"{folder}/") for name in self._names)

    def outputs(
        self, labels: Sequence[str], size: int, *, under: str = "", aliases: Mapping[str, str] | None = None
    ) -> "Outputs":
        """Its images within the folder `under`, matched with inputs of these labels, and checked to be of that size.

        `aliases` are other stems of files by the stems that they stand for.

        Raises PixgraftError, which names and counts what is missing or amiss.
        """
        source = open_source(self.path, under=under)
        where = f"--row {self.name}: {self.path}{f'/{under}' * bool(under)}"
        files, unused = _matched(source.names, labels, aliases or {}, where)
        return Outputs(source, files, size, where, unused)


def _matched(
    names: Sequence[str], labels: Sequence[str], aliases: Mapping[str, str], where: str
) -> tuple[list[list[str]], list[str]]:
    """Each label's files in the order of their numbers, and the files that are no outputs.

    An output is named LABEL, or LABEL_0, LABEL_1 and so on. Raises PixgraftError, which begins with `where`, for labels
    without outputs, and for numbers that are not those of the first label.
    """
    found: dict[str, dict[int, str]] = {label: {} for label in labels}
    unused = []
    for name in names:
        stem = PurePosixPath(name).stem
        stem = aliases.get(stem, stem)
        numbered = None if stem in found else re.fullmatch(r"(.+)_(0|[1-9]\d{0,4})", stem)
        label, number = (numbered[1], int(numbered[2])) if numbered else (stem, 0)
        if label not in found:
            unused.append(name)
        elif number in found[label]:
            raise PixgraftError(f"{where}: {found[label][number]} and {name} are one output of {label}: keep one")
        else:
            found[label][number] = name
    if missing := [label for label in labels if not found[label]]:
        count = f"no output for {len(missing):,} of {len(labels):,} inputs"
        example = f", but {unused[0]}" if len(missing) == len(labels) else ""
        form = f"name each {missing[0]}.png, or {missing[0]}_0.png, {missing[0]}_1.png for several"
        raise PixgraftError(f"{where}: {count}, the first {missing[0]}{example}: {form}")
    samples = len(found[labels[0]])
    for label in labels:
        if sorted(found[label]) != list(range(samples)):
            numbers = ", ".join(map(str, sorted(found[label])[:8]))
            first = f"{labels[0]} has {samples}"
            raise PixgraftError(f"{where}: {label} has outputs {numbers}, {first}: give each as many, numbered from 0")
    return [[name for _, name in sorted(found[label].items())] for label in labels], unused


class Outputs:
    """The images that another program made of each input."""

    def __init__(
        self, source: ImageSource, files: Sequence[Sequence[str]], size: int, where: str, unused: Sequence[str]
    ) -> None:
        """Read all files once. Raises PixgraftError, which begins with `where`, for an image that is unusable or not of
        that size."""
        self._source, self._files, self._where = source, files, where
        self.samples = len(files[0])
        """K, the number of outputs of each input."""
        names = [name for each in files for name in each]
        self.identity: dict[str, Any] = {
            "outputs": {"name": source.path.name, **hashed(self._read(names, size), len(names))}
        }
        """What a row of these is made from: the path's name, and a hash of the files' names and bytes."""
        files = f"{len(unused):,} other file{'s' * (len(unused) > 1)}"
        self.unused = f"{files} of {source.path.name} not used, such as {unused[0]}" if unused else ""
        """A remark on files that are no outputs; empty if there are none."""

    def __getitem__(self, unit: int) -> Tensor:
        """uint8 (K, 3, S, S)."""
        return torch.stack([pixels(decode(self._source.read(name), name)) for name in self._files[unit]])

    def _read(self, names: Sequence[str], size: int) -> Iterator[tuple[str, bytes]]:
        """The names and bytes of files that are images of that size."""

        def checked(name: str) -> bytes:
            data = self._source.read(name)
            image = decode(data, f"{self._where}: {name}")
            if image.size != (size, size):
                found = f"{image.width} x {image.height} pixels, but the table's are {size} x {size}"
                raise PixgraftError(f"{self._where}: {name} has {found}: resize the outputs")
            return data

        with contextlib.closing(in_threads(checked, names, ahead=READ_AHEAD)) as results:
            yield from results
