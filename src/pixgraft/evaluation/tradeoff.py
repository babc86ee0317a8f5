"""Quality against time: the passes of encoders, and searches in their generator that `pixgraft invert` made of the same
images. A search's pictures are those of its strip, and its seconds those of its report.

Shape letters: s side at which images are compared, T pictures of a search.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pixgraft import devices
from pixgraft.data.grids import tiles
from pixgraft.data.images import decode, from_uint8, pixels, to_uint8
from pixgraft.errors import PixgraftError, printable
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.encode import EncodingTable, Inputs, of_condition
from pixgraft.evaluation.rows import OutputFolder
from pixgraft.evaluation.subjects import Reals, Subject, hashed
from pixgraft.files import read_bytes, read_json
from pixgraft.inversion.settings import By, Space
from pixgraft.layers.conditions import fitted
from pixgraft.layers.resample import bicubic
from pixgraft.pipelines.base import OUTPUT_LIMIT, UNFINISHED
from pixgraft.records import from_dict, known

MADE = "name a folder that `pixgraft invert` wrote"
CLOCKS = ("seconds", "processor")
"""The inputs of a search's pictures that say what they took."""
ALIKE = 2.0
"""Mean difference in grey levels below which a strip's first picture is the image that was searched for."""


@dataclass(frozen=True)
class _Settings:
    """The settings of a search that describe it."""

    by: By
    space: Space
    steps: int
    tuning: int = 0
    optimizer: Literal["sgd", "adam", ""] = ""
    start_sha256: str | None = None
    starts: int = 1
    factor: int = 1

    def __str__(self) -> str:
        parts = [f"{self.by} in {self.space}, {self.steps:,} steps"]
        parts += [f"{self.tuning:,} of tuning"] if self.tuning else []
        parts += [f"by {self.optimizer}"] if self.optimizer else []
        parts += ["from an encoder's codes"] if self.start_sha256 else []
        parts += [f"from the best of {self.starts:,} starts"] if self.starts > 1 else []
        parts += [f"for images shrunk by {self.factor}"] if self.factor > 1 else []
        return ", ".join(parts)


@dataclass(frozen=True)
class _Picture:
    """What a report says of one picture of the strip."""

    step: int
    seconds: float
    processor: float | None = None


@dataclass(frozen=True)
class _Measures:
    search: tuple[_Picture, ...]
    batch: int


@dataclass(frozen=True)
class _Report:
    """The fields of a search's report that are used."""

    weights_sha256: str
    settings: _Settings
    measures: _Measures
    notes: tuple[str, ...]
    device: str
    threads: int

    @property
    def steps(self) -> list[int]:
        """The step of each of the T pictures."""
        return [each.step for each in self.measures.search]

    @property
    def way(self) -> list[Any]:
        """What the searches of all images have in common."""
        return [self.settings, self.weights_sha256, self.steps, self.measures.batch, self.device, self.threads]


def _read_report(path: Path) -> _Report:
    """A search's report. Raises PixgraftError, without the file's name, if it is none."""
    try:
        content = read_json(path)
        measures = content["measures"]
        parts = {
            "settings": known(_Settings, content["settings"]),
            "measures": known(_Measures, measures) | {"search": [known(_Picture, each) for each in measures["search"]]},
        }
        report = from_dict(_Report, known(_Report, content) | parts, "not a report")
    except (PixgraftError, OSError, LookupError, TypeError):
        raise PixgraftError(f"has no curve of a search: {MADE}") from None
    factor = report.settings.factor
    if not report.steps or report.steps != sorted(set(report.steps)) or factor < 1:
        raise PixgraftError(f"has no curve of a search: {MADE}")
    if "direction" in content["settings"]:
        raise PixgraftError("its images were moved along a direction: search without one")
    if UNFINISHED in report.notes:
        raise PixgraftError("a search that was stopped: the same command makes it anew")
    return report


class Searches:
    """The searches in a folder, one for each image of the table."""

    def __init__(self, row: OutputFolder, labels: Sequence[str], references: Reals, size: int) -> None:
        """Read all reports and strips once; `references` are the images uint8 (3, s, s), `size` is s.

        Raises PixgraftError, which names the file, for what is no search of these images, or not finished.
        """
        self.name, self.folder, self._labels, self._size = row.name, row.path, labels, size
        missing = [label for label in labels if not (self.folder / f"{label}.json").is_file()]
        if missing:
            count = f"no report for {len(missing):,} of {len(labels):,} images, the first {missing[0]}.json"
            raise PixgraftError(f"--row {self.name}: {self.folder}: {count}: {MADE}, of the images of --data")
        self._reports: list[_Report] = []
        self._strip = lru_cache(4)(self._read_strip)
        for unit, label in enumerate(labels):
            try:
                self._reports.append(_read_report(self.folder / f"{label}.json"))
                if self._reports[-1].way != self.first.way:
                    raise PixgraftError(f"searched otherwise than {labels[0]}: make all images by one command")
                self._check(self._read_strip(unit)[0], references[unit])
            except PixgraftError as error:
                raise PixgraftError(f"--row {self.name}: {self.folder / label}.json: {error}") from None
        pictures = [each for report in self._reports for each in report.measures.search]
        self.clocks = [name for name in CLOCKS if all(getattr(each, name) is not None for each in pictures)]
        """The clocks that all reports have."""

    @property
    def first(self) -> _Report:
        """The report of the first image."""
        return self._reports[0]

    def _read_strip(self, unit: int) -> Tensor:
        """The target and the T pictures of an image's search, uint8 (T + 1, 3, s, s)."""
        path = self.folder / f"{self._labels[unit]}_strip.png"
        try:
            found = tiles(pixels(decode(read_bytes(path, OUTPUT_LIMIT), path.name)), len(self.first.steps) + 1)
        except OSError as error:
            raise PixgraftError(f"{path.name}: {error.strerror or error}: search anew") from None
        if found is None or found.shape[-1] < self._size:
            shown = "not the strip of this search" if found is None else f"shows pictures of {found.shape[-1]} pixels"
            raise PixgraftError(f"{path.name}: {shown}, the table's are of {self._size}: search anew")
        return to_uint8(fitted(from_uint8(found), self._size))

    def _check(self, target: Tensor, reference: Tensor) -> None:
        """Raise PixgraftError unless the target is the reference, shrunk by the search's factor."""
        factor = self.first.settings.factor
        if self._size % factor:
            raise PixgraftError(f"its factor {factor} does not divide the table's {self._size} pixels: search anew")
        small = from_uint8(to_uint8(bicubic(from_uint8(reference).unsqueeze(0), factor)))
        expected = to_uint8(fitted(small, self._size))[0]
        if float((expected.float() - target.float()).abs().mean()) > ALIKE:
            raise PixgraftError("of another image than the one of that name in --data: search for these")

    def picture(self, place: int, unit: int, condition: Tensor) -> tuple[Tensor, Inputs]:
        """Picture `place` of an image's search, and what it took."""
        taken = self._reports[unit].measures.search[place]
        inputs = {name: torch.tensor([getattr(taken, name)], dtype=torch.float64) for name in self.clocks}
        return self._strip(unit)[place + 1].unsqueeze(0), inputs

    @property
    def identity(self) -> dict[str, Any]:
        """What the row is made from: the folder's name, a hash of its reports and strips, and what search it is."""
        outputs = {"name": self.folder.name, **hashed(self._files(), len(self._labels))}
        return {"outputs": outputs, "search": str(self.first.settings)}

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for label in self._labels:
            for name in (f"{label}.json", f"{label}_strip.png"):
                yield name, read_bytes(self.folder / name, OUTPUT_LIMIT)


class TradeoffTable(EncodingTable):
    """Encoders, pass by pass, beside searches in their generator, picture by picture."""

    def open_data(self) -> None:
        """As in `EncodingTable`; all searches are read. Raises PixgraftError for rows of different priors too."""
        super().open_data()
        first, pipeline = self.models[0]
        prior = pipeline.method.embedded_prior()
        for name, other in self.models[1:]:
            if not other.method.embedded_prior().is_same(prior):
                raise PixgraftError(f"{name}: its generator is not {first}'s: measure encoders of one prior")
        self.searches = {name: Searches(row, self.labels, self.data, self.size)
                         for name, row in self.rows if isinstance(row, OutputFolder)}  # fmt: skip
        searched = {pipeline.model.weights_sha256 for _, pipeline in self.models}
        for name, searches in self.searches.items():
            if searches.first.weights_sha256 not in searched:
                found = f"--row {name}: {searches.folder}: searched in another prior than {first}'s"
                raise PixgraftError(f"{found}: `pixgraft invert {pipeline.model.name}` searches in its generator")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The protocol's; only a CPU's work is that of the processor."""
        on_cpu = all(each.device.type == "cpu" for each in self.encoders.values())
        return tuple(name for name in super().metrics if name != "processor" or on_cpu)

    def subjects(self, columns: Sequence[Column]) -> list[Subject]:
        """A row for each pass, and for each picture of a search; the last one of each is paired and shown."""
        subjects: list[Subject] = []
        for name, row in self.rows:
            if isinstance(row, OutputFolder):
                subjects += self._of_searches(name, self.searches[name])
            else:
                subjects += self._of_passes(name)
        if not any(column.metric.of_sets for column in columns):  # these take several images
            start = of_condition(self.encoders[self.models[0][0]].start)
            subjects.append(self._subject("floor: starting codes", start, identity=self.identity(self.models[0][1])))
        return subjects

    def _of_passes(self, name: str) -> list[Subject]:
        outputs, pipeline = self.encoders[name], dict(self.models)[name]
        last = pipeline.method.steps
        on = devices.description(outputs.device)
        self.notes.append(f"{name}: one image at a time, on {on}; each pass is timed from the first one on.")
        clocks = CLOCKS if outputs.device.type == "cpu" else CLOCKS[:1]
        return [
            self._point(name, "pass", number, last, self._subject(
                f"{name}, pass {number}", of_condition(partial(outputs.timed, steps=number)), inputs=clocks,
                identity=self.identity(pipeline),
            ))
            for number in range(1, last + 1)
        ]  # fmt: skip

    def _of_searches(self, name: str, searches: Searches) -> list[Subject]:
        first, batch = searches.first, searches.first.measures.batch
        on = (
            f"{printable(first.device)[:20]} with {first.threads:,} thread{'s' * (first.threads != 1)}"
            + f", {batch:,} at once" * (batch > 1)
        )
        self.notes.append(f"{name}: {first.settings}; seconds are its reports', on {on}.")
        identity = searches.identity
        return [
            self._point(name, "step", step, first.steps[-1], self._subject(
                f"{name}, step {step}", partial(searches.picture, place), inputs=tuple(searches.clocks),
                identity=identity,
            ))
            for place, step in enumerate(first.steps)
        ]  # fmt: skip

    def _point(self, name: str, kind: str, number: int, last: int, subject: Subject) -> Subject:
        """A point of the curve of that name."""
        ends = number == last
        identity = subject.identity | {"curve": name, kind: number}
        return replace(subject, identity=identity, paired="" if ends else None, shown=ends)
