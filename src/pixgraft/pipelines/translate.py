"""A translator and whole folders in, images and reports out.

Every output is a PNG with a JSON report of the same name beside it, which is also how a second run knows what is
finished.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.grids import tiled
from pixgraft.data.images import decode, png_bytes, to_tensor
from pixgraft.data.outputs import labels, output_folder
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes
from pixgraft.layers.resample import enlarge
from pixgraft.metrics.consistency import OPERATOR
from pixgraft.pipelines.translator import Translation, Translator
from pixgraft.version import __version__

Pairing = Literal["all", "name", "order"]
GRID_SIDE = 32
"""A larger grid can be neither looked at nor, with thousands of images, held in memory."""


@dataclass(frozen=True)
class Job:
    """One output to make: names within the two sources, and the output's name without suffix."""

    source: str
    target: str
    output: str


@dataclass(frozen=True)
class Done:
    """What became of one job: its report, or why there is none."""

    job: Job
    report: dict[str, Any] | None
    failure: str = ""
    skipped: bool = False
    """Finished by an earlier run."""


def plan(sources: list[str], targets: list[str], pairing: Pairing) -> list[Job]:
    """All pairs, targets varying fastest, or one target for each source: of the same stem, or in the same place.

    Raises PixgraftError if the two sides do not match.
    """
    if pairing == "all":
        pairs = [(source, target) for source in sources for target in targets]
    elif pairing == "order":
        if len(sources) != len(targets):
            raise PixgraftError(f"--pairs order: {len(sources)} sources but {len(targets)} targets: make them equal")
        pairs = list(zip(sources, targets, strict=True))
    else:
        for names in (sources, targets):
            stem, count = Counter(PurePosixPath(name).stem for name in names).most_common(1)[0]
            if count > 1:
                raise PixgraftError(f"--pairs name: {count} files are named {stem}: rename all but one")
        left, right = ({PurePosixPath(name).stem: name for name in names} for names in (sources, targets))
        lone = sorted(left.keys() ^ right.keys())
        if lone:
            raise PixgraftError(f"--pairs name: {lone[0]} is on one side only ({len(lone)} such): pair it or remove it")
        pairs = [(left[stem], right[stem]) for stem in sorted(left)]
    source_labels, target_labels = labels(sources), labels(targets)
    jobs: list[Job] = []
    taken: set[str] = set()
    for source, target in pairs:
        output = joined = f"{source_labels[source]}__{target_labels[target]}"
        number = 1
        while output.casefold() in taken:  # "a__b" + "c" and "a" + "b__c"; case is nothing to some file systems
            number += 1
            output = f"{joined}_{number}"
        taken.add(output.casefold())
        jobs.append(Job(source, target, output))
    return jobs


def translate_files(
    translator: Translator,
    source: str | Path,
    target: str | Path,
    out: Path,
    *,
    pairing: Pairing = "all",
    projected: bool = False,
    batch: int = 16,
    seed: int = 0,
    world: World | None = None,
    on_plan: Callable[[int, list[str]], None] = lambda jobs, passed_over: None,
    on_done: Callable[[Done], None] = lambda done: None,
) -> list[Done]:
    """Translate files or folders on either side into `out`; returns what became of each of this process's jobs.

    No input is lost: each job gives a file and a report, or a failure that says why. What an earlier run finished
    with the same inputs, weights and settings is skipped. With several processes each takes every size-th job.
    `on_plan` hears how many jobs there are and which files are no images by their suffix, `on_done` of each job made.

    Raises PixgraftError if nothing can be done at all: no such path, no images, nothing to match, `out` unwritable.
    """
    world = world or World(0, 1, 0)
    if batch < 1:
        raise PixgraftError(f"--batch {batch}: choose a number from 1")
    sources, targets = open_source(source), open_source(target)
    jobs = plan(sources.names, targets.names, pairing)[world.rank :: world.size]
    output_folder(out, sources.path, targets.path)
    settings = {
        "model": translator.model.name,
        "method": translator.method.name,
        "weights_sha256": translator.model.weights_sha256,
        "version": __version__,
        "seed": seed,
        "operator": OPERATOR + (" of the luminance" if translator.method.config.target == "grey" else ""),
        "projected": projected,
    }
    # Targets vary fastest: they come back for each source, while a source's turn comes once.
    left = _Inputs(sources, lambda image, _: translator.source(image), keep=1)
    right = _Inputs(targets, lambda image, name: translator.target(image, name=name), keep=4096)
    run = _Run(translator, left, right, out, settings)
    on_plan(len(jobs), [*sources.skipped, *targets.skipped])
    results = []
    for start in range(0, len(jobs), batch):
        for done in run.make(jobs[start : start + batch]):
            results.append(done)
            on_done(done)
    return results


class _Inputs:
    """One side's images: tensor and SHA-256 of the file, or why it is unusable. The last `keep` tensors are kept."""

    def __init__(self, files: ImageSource, prepare: Callable[[Image.Image, str], Tensor], *, keep: int) -> None:
        self._files, self._prepare = files, prepare
        self._sha256: dict[str, str] = {}
        self._kept = lru_cache(keep)(self._read)

    def sha256(self, name: str) -> str:
        """Of the file's bytes; PixgraftError if it cannot be read."""
        if name not in self._sha256:
            self._sha256[name] = hashlib.sha256(self._files.read(name)).hexdigest()
        return self._sha256[name]

    def __getitem__(self, name: str) -> Tensor:
        """The prepared tensor; PixgraftError, the same each time, if the file is unusable."""
        read = self._kept(name)
        if isinstance(read, str):
            raise PixgraftError(read)
        return read

    def _read(self, name: str) -> Tensor | str:
        """The tensor, or the reason why there is none, which is then kept too."""
        try:
            return self._prepare(decode(self._files.read(name), name), name)
        except PixgraftError as error:
            return str(error)


class _Run:
    """What the jobs of one call have in common."""

    def __init__(
        self, translator: Translator, sources: _Inputs, targets: _Inputs, out: Path, settings: dict[str, Any]
    ) -> None:
        self._translator, self._sources, self._targets, self._out = translator, sources, targets, out
        self._settings = settings

    def make(self, jobs: list[Job]) -> list[Done]:
        """The outputs of one batch, in its order."""
        results: dict[Job, Done] = {}
        ready: list[tuple[Job, dict[str, Any], tuple[Tensor, Tensor]]] = []
        for job in jobs:
            try:
                report = self._begin(job)
                if former := self._finished(job, report):
                    results[job] = Done(job, former, skipped=True)
                else:
                    ready.append((job, report, (self._sources[job.source], self._targets[job.target])))
            except PixgraftError as error:
                results[job] = Done(job, None, failure=str(error))
        began = time.monotonic()
        made = self._translator.batch([pair for *_, pair in ready], projected=self._settings["projected"])
        seconds = (time.monotonic() - began) / max(len(ready), 1)
        for (job, report, _), translation in zip(ready, made, strict=True):
            results[job] = self._write(job, report, translation, seconds)
        return [results[job] for job in jobs]

    def _begin(self, job: Job) -> dict[str, Any]:
        """The part of a report that is known before the work, and by which finished work is recognised."""
        return {
            "output": f"{job.output}.png",
            **self._settings,
            "source": {"name": job.source, "sha256": self._sources.sha256(job.source)},
            "target": {"name": job.target, "sha256": self._targets.sha256(job.target)},
        }

    def _finished(self, job: Job, report: dict[str, Any]) -> dict[str, Any] | None:
        """The report of an earlier run that made this very output, if both files are there."""
        try:
            former = json.loads((self._out / f"{job.output}.json").read_bytes())
            data = (self._out / report["output"]).read_bytes()
        except (OSError, ValueError):
            return None
        if not isinstance(former, dict) or any(former.get(key) != value for key, value in report.items()):
            return None
        return former if former.get("output_sha256") == hashlib.sha256(data).hexdigest() else None

    def _write(self, job: Job, report: dict[str, Any], made: Translation, seconds: float) -> Done:
        data = png_bytes(made.pixels, _metadata(report))
        report |= {
            "output_sha256": hashlib.sha256(data).hexdigest(),
            "difference": asdict(made.consistency),
            "difference_before_projection": asdict(made.unprojected) if made.unprojected else None,
            "device": str(self._translator.device),
            "seconds": round(seconds, 4),
        }
        try:
            write_bytes(self._out / report["output"], data)
            write_bytes(self._out / f"{job.output}.json", (json.dumps(report, indent=1) + "\n").encode())
        except PixgraftError as error:
            return Done(job, None, failure=str(error))
        return Done(job, report)


def _metadata(report: dict[str, Any]) -> dict[str, str]:
    """What travels within the PNG: nothing that differs between two runs of the same work."""
    model = PurePosixPath(report["model"]).name
    kept = ("method", "weights_sha256", "seed", "projected", "source", "target")
    return {
        "Software": f"pixgraft {report['version']}",
        "Description": f"Synthesised by a neural network (pixgraft, model {model}); not a photograph.",
        "pixgraft": json.dumps({key: report[key] for key in kept}, sort_keys=True),
    }


def figure(translator: Translator, source: str | Path, target: str | Path, out: Path, results: Iterable[Done]) -> Path:
    """The paper's Figure 5 from finished outputs: sources across, targets and what they shrink to down.

    Reads the PNGs back: outputs of earlier runs and other processes are in it; one that was not asked for, or failed,
    is grey. It shows the first `GRID_SIDE` of either side. Returns the path.
    """
    sources, targets = open_source(source), open_source(target)
    outputs = {(done.job.source, done.job.target): done.job.output for done in results if done.report}
    across = sorted({source for source, _ in outputs})[:GRID_SIDE]
    down = sorted({target for _, target in outputs})[:GRID_SIDE]
    size = translator.image_size
    white, grey = torch.ones(3, size, size), torch.zeros(3, size, size)

    def output(source: str, target: str) -> Tensor:
        if (source, target) not in outputs:
            return grey
        path = out / f"{outputs[source, target]}.png"
        return to_tensor(decode(path.read_bytes(), path.name))

    rows = [[white, white, *(translator.source(decode(sources.read(name), name)) for name in across)]]
    for name in down:
        picture = decode(targets.read(name), name)
        lr = enlarge(translator.target(picture).expand(3, -1, -1), size // translator.lr_size)
        rows.append([translator.source(picture), lr, *(output(each, name) for each in across)])
    path = out / "grid.png"
    label = {"Description": "First row: sources. First two columns: targets. The rest is synthesised by pixgraft."}
    write_bytes(path, png_bytes(tiled(torch.stack([torch.stack(row) for row in rows])), label))
    return path
