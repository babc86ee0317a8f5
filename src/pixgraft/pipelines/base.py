"""What every pipeline is: a trained model in use, for people, for notebooks and for folders of files.

A pipeline answers a call with a `Result`. For files it says which jobs its options ask for (`plan`), and the driver in
`files.py` does the rest. Images are uint8 (N, 3, S, S) within results, floats in [-1, 1] as `Result.tensors`.
"""

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.grids import sheet
from pixgraft.data.images import decode, from_uint8, png_bytes, to_tensor
from pixgraft.data.outputs import output_folder
from pixgraft.errors import PixgraftError
from pixgraft.files import read_bytes, write_bytes
from pixgraft.layers.ready import lower_weights, make_ready
from pixgraft.models import Model
from pixgraft.pipelines.engines import on_engine
from pixgraft.pipelines.inputs import InputFile
from pixgraft.pipelines.options import IN_FLOAT32, Computing
from pixgraft.version import __version__

OUTPUT_LIMIT = 2**30
"""Bytes of the largest output of an earlier run that is read."""
REPORT_FORMAT = 2
"""Format of the reports; docs/reports.md describes it."""
UNFINISHED = "not finished: the same command makes it"
"""The note in a report that is no finished work's."""
GPU_PASS = 16
"""Images in each pass of a GPU, which a single one would leave idle. A CPU takes one: filling up would cost it more."""


# --- results ---


def provenance(head: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report that is known before the work and does not differ between two runs of it."""
    names = ("task", "method", "weights_sha256", "seed", "settings", "inputs")
    return {name: head[name] for name in names if name in head}


def caption(head: Mapping[str, Any]) -> str:
    """The sentence in every image file that it is no photograph."""
    model = PurePosixPath(head.get("model", "")).name
    return f"Synthesised by a neural network (pixgraft, model {model}); not a photograph."


def png(image: Tensor, head: Mapping[str, Any]) -> bytes:
    """A PNG of one image (3, H, W) or (1, H, W), with its provenance as text."""
    text = {
        "Software": f"pixgraft {__version__}",
        "Description": caption(head),
        "pixgraft": json.dumps(provenance(head), sort_keys=True),
    }
    return png_bytes(image, {key: value.encode("latin-1", "replace").decode("latin-1") for key, value in text.items()})


def report_bytes(report: Mapping[str, Any]) -> bytes:
    """A report as the bytes of its file."""
    return (json.dumps(report, indent=1) + "\n").encode()


@dataclass(kw_only=True)
class Result:
    """Images that a pipeline made, and what is known of them."""

    pixels: Tensor
    """uint8 (N, 3, S, S)."""
    measures: dict[str, Any] = field(default_factory=dict)
    """Figures of the report."""
    notes: list[str] = field(default_factory=list)
    """Remarks of the report, a sentence each."""
    sizes: list[dict[str, Any]] = field(default_factory=list)
    """Of the report: inputs of which other pixels were taken or made than they have."""
    report: dict[str, Any] = field(default_factory=dict)
    """The report, as docs/reports.md describes it."""
    interrupted: str = ""
    """The signal that ended the work before it was finished; its report notes `UNFINISHED`."""
    begun: bool = True
    """Whether the work, or that on each of its parts, had begun when the signal came; else nothing is written."""

    @property
    def images(self) -> list[Image.Image]:
        """The images for Pillow."""
        return [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in self.pixels]

    @property
    def image(self) -> Image.Image:
        """The first image."""
        return self.images[0]

    @property
    def tensors(self) -> Tensor:
        """The images as floats (N, 3, S, S) in [-1, 1]."""
        return from_uint8(self.pixels)

    def files(self, label: str, head: Mapping[str, Any]) -> dict[str, bytes]:
        """Contents of the files to write, by name; `label` begins each name, `head` is their provenance."""
        names = [label] if len(self.pixels) == 1 else [f"{label}_{number}" for number in range(len(self.pixels))]
        return {f"{name}.png": png(pixels, head) for name, pixels in zip(names, self.pixels, strict=True)}

    def save(self, folder: str | Path, *, name: str = "output") -> list[Path]:
        """Write the images as NAME.png (several: NAME_0.png and so on) with NAME.json, the report; returns the paths.

        Raises PixgraftError if the folder cannot be written to.
        """
        out = output_folder(Path(folder))
        files = self.files(name, self.report)
        report = self.report | {"outputs": described(files)}
        for file, data in (files | {f"{name}.json": report_bytes(report)}).items():
            write_bytes(out / file, data)
        return [out / file for file in files]

    def _repr_png_(self) -> bytes:
        return png(sheet(self.tensors), self.report)


def gathered(parts: Sequence[Result], each: str) -> dict[str, Any]:
    """What is known of `parts`, as one result of them has it; `each` is what a part is of, such as "face"."""
    if len(parts) == 1:
        measures, notes = parts[0].measures, parts[0].notes
    else:
        measures = {f"{each}s": [part.measures for part in parts]}
        notes = [f"{each} {number}: {note}" for number, part in enumerate(parts, start=1) for note in part.notes]
    return {
        "measures": measures, "notes": notes, "sizes": [size for part in parts for size in part.sizes],
        "interrupted": next((part.interrupted for part in parts if part.interrupted), ""),
        "begun": all(part.begun for part in parts),
    }  # fmt: skip


def described(files: Mapping[str, bytes]) -> list[dict[str, str]]:
    """The outputs of a report: file names and SHA-256."""
    return [{"file": name, "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()]


# --- jobs ---


@dataclass(frozen=True)
class Job:
    """One report's worth of work."""

    label: str
    """Stem of the report's name, with which the outputs' names begin."""
    outputs: tuple[str, ...]
    """Names of the files that the job writes beside its report."""
    prepare: Callable[[], Any]
    """Read and decode the inputs. Raises PixgraftError if one is unusable."""
    inputs: tuple[InputFile, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of this job alone."""
    numbered: bool = False
    """The job writes as many outputs as there are faces in its inputs, LABEL-1.png and so on; `outputs` is empty."""
    file: str = ""
    """Where its one image has a name of the user's: that name, the first of `outputs`. Its suffix says the format."""


@dataclass(frozen=True)
class Done:
    """What became of one job."""

    label: str
    report: dict[str, Any] | None
    """None if the job failed."""
    failure: str = ""
    finished_before: bool = False
    pixels: Tensor | None = None
    """The images, where they are not written to files of their own."""


@dataclass(frozen=True)
class Finished:
    """All jobs of a plan, as a summary is made of them."""

    results: Sequence[Done]
    """In the order of the jobs."""
    images: Sequence[Tensor]
    """Each job's images, uint8 (N, 3, S, S), where they are not stored."""
    folder: Path
    """Where the outputs are."""
    head: Mapping[str, Any]
    """The part of the summary's report that is known before the work."""

    def image(self, done: Done) -> Tensor:
        """The first stored image of a job, (3, S, S) in [-1, 1]."""
        assert done.report is not None
        path = self.folder / done.report["outputs"][0]["file"]
        return to_tensor(decode(read_bytes(path, OUTPUT_LIMIT), path.name))


@dataclass(frozen=True)
class Summary:
    """Files that are made of all jobs together, with a report of their own."""

    label: str
    outputs: tuple[str, ...]
    make: Callable[["Finished"], dict[str, bytes]]
    settings: dict[str, Any] = field(default_factory=dict)
    owns_folder: bool = False
    """The folder holds nothing but this work, whose files are numbered; the report is written first, as its mark."""


@dataclass(frozen=True)
class Plan:
    """What options ask of a pipeline."""

    jobs: list[Job]
    make: Callable[[list[Any]], Sequence[Result]]
    """Results of prepared inputs, one for each."""
    settings: dict[str, Any]
    seed: int
    paths: list[Path] = field(default_factory=list)
    """The inputs as the user named them, which no output may replace; those that are folders get no outputs."""
    read: list[Path] = field(default_factory=list)
    """What else is read, such as a palette, and may not be replaced either."""
    skipped: list[str] = field(default_factory=list)
    """Names of files that are no images by their suffix."""
    summary: Summary | None = None
    stored: bool = True
    """Whether each job's images are files of their own; otherwise the summary alone is written."""
    superseded: tuple[str, ...] = ()
    """Labels of summaries of an earlier run that these options do not ask for."""
    pass_size: int = 1
    """Jobs that `make` takes at once."""
    hint: Callable[[], str] = str
    """A line about the inputs that is worth telling before the work; empty if there is none. It may look at some."""
    watch: Callable[[Callable[[int, int], None]], None] | None = None
    """Takes what is to be told of the steps within `make`, as (done, all of them); None if it has none to tell of."""


# --- pipelines ---


def _checked(call: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a pipeline that refuses other arguments than its own in one line."""
    signature = inspect.signature(call)

    @wraps(call)
    def checked(self: "Pipeline", *args: Any, **options: Any) -> Any:
        try:
            signature.bind(self, *args, **options)
        except TypeError as error:
            raise PixgraftError(f"{self.model.name}: {error}: {self.usage}") from None
        return call(self, *args, **options)

    return checked


class Pipeline(ABC):
    """A trained model, ready for images."""

    Options: ClassVar[type]
    """The dataclass of its options for files."""
    takes: ClassVar[str]
    """What the task takes, with the Python call and the command line."""
    columns: ClassVar[dict[str, str]] = {}
    """Columns of the table of outputs: each heading, and the path of its figure within a report's measures."""

    def __init__(self, model: Model, device: torch.device, computing: Computing = IN_FLOAT32) -> None:
        """Make the model's networks ready for use: afterwards they can no longer be trained or saved.

        Raises PixgraftError for an engine that is not there, or that cannot compute as asked.
        """
        self.model, self.device, self.computing = model, device, computing
        self.pass_size = 1 if device.type == "cpu" else GPU_PASS
        make_ready(model.method)
        self.computed: Any = model.method
        """What computes images: the method, or another engine with the same functions."""
        if computing.engine == "torch":
            model.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if computing.precision == "bfloat16":
                lower_weights(model.method, torch.bfloat16)
        else:
            self.computed = on_engine(model, device, computing)

    def autocast(self) -> torch.autocast:
        """The context in which the method computes images."""
        reduced = self.computing.precision == "bfloat16" and self.computing.engine == "torch"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def __init_subclass__(cls) -> None:
        """Turn a call with another task's arguments into one line that shows the right call."""
        super().__init_subclass__()
        for name in cls.__dict__.keys() & {"__call__", "in_photograph"}:
            setattr(cls, name, _checked(cls.__dict__[name]))

    @abstractmethod
    def __call__(self, *args: Any, **options: Any) -> Result:
        """Images of what is given."""

    @abstractmethod
    def plan(self, options: Any) -> Plan:
        """The jobs that options ask for. Raises PixgraftError for options that do not fit the model or each other."""

    @property
    def usage(self) -> str:
        """What the model takes, with the right call."""
        return self.takes.format(model=self.model.name)

    def head(
        self, *, seed: int, settings: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """The part of a report that is known before the work, and by which finished work is recognised."""
        return {
            "format": REPORT_FORMAT,
            "pixgraft": __version__,
            "task": self.model.method.task,
            "method": self.model.method.name,
            "model": self.model.name,
            "weights_sha256": self.model.weights_sha256,
            "seed": seed,
            "settings": dict(settings) | self.computing.settings(),
            "inputs": list(inputs),
        }

    def reported(
        self, result: Any, *, seed: int, settings: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]] = ()
    ) -> Any:
        """`result`, of a call, with its report."""
        result.report = self.head(seed=seed, settings=settings, inputs=inputs) | self.tail(result) | self.machine()
        return result

    def tail(self, result: Result) -> dict[str, Any]:
        """The part of a report that is known after the work, still without its outputs."""
        notes = [*result.notes, *([UNFINISHED] if result.interrupted else [])]
        return {"outputs": [], "measures": result.measures, "notes": notes, "sizes": result.sizes}

    def machine(self) -> dict[str, Any]:
        """What an output's last bits depend on, beside its settings; asked for by the thread that computes."""
        return {"device": str(self.device), "threads": torch.get_num_threads(), **asdict(self.computing)}


def passes(count: int, size: int) -> Iterator[list[int]]:
    """Numbers 0 to count - 1 in lists of `size`, the last filled up with copies.

    PyTorch chooses its kernels by a batch's size, and other kernels round otherwise: in passes of one size an image's
    bytes do not depend on its company.
    """
    numbers = list(range(count))
    numbers += numbers[-1:] * (-count % size)
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
