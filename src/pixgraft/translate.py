"""Weights and images in, images and a report out.

`load(MODEL).translate(source, target)` is for one's own programs; `translate_files` is what the command does: every
output is a PNG with a JSON report of the same name beside it, which is also how a second run knows what is finished.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from pixgraft import devices
from pixgraft.data.grids import tiled
from pixgraft.data.images import decode, fit, png_bytes, read_lr, to_tensor, to_uint8
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes
from pixgraft.layers.resample import to_grey
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.metrics.consistency import OPERATOR, Consistency, consistency, project
from pixgraft.models import Model, load_model
from pixgraft.version import __version__

Pairing = Literal["all", "name", "order"]
Picture = str | Path | Image.Image | Tensor
GREY_LEVELS = 127.5  # in one unit of [-1, 1]


@dataclass(frozen=True)
class Translation:
    """One output image and how well it shrinks to its target, in grey levels (0..255)."""

    pixels: Tensor
    """uint8 (3, S, S)."""
    consistency: Consistency
    """Of these very pixels."""
    unprojected: Consistency | None
    """Of the network's own output, where the image was projected."""

    @property
    def image(self) -> Image.Image:
        """The output as a Pillow image."""
        return Image.fromarray(self.pixels.permute(1, 2, 0).numpy())


class Translator:
    """A trained model, ready for images."""

    def __init__(self, model: Model, device: torch.device) -> None:
        if not isinstance(model.method, I2ILR):
            raise PixgraftError(f"{model.name}: a model of {model.method.name}, which does not take source and target")
        self.model, self.device = model, device
        self.method = model.method
        self.image_size: int = self.method.config.image_size
        self.lr_size: int = self.method.config.lr_size

    def source(self, picture: Picture) -> Tensor:
        """A source as (3, S, S) in [-1, 1]: any picture, centre-cropped and resized; a tensor is taken as it is."""
        if isinstance(picture, Tensor):
            return self._checked(picture, self.image_size, 3)
        return to_tensor(fit(_opened(picture), self.image_size))

    def target(self, picture: Picture) -> Tensor:
        """A target as (C, L, L) in [-1, 1]: any picture, shrunk unless it has that size; a tensor is taken as it is."""
        channels = self.method.config.lr_channels
        if isinstance(picture, Tensor):
            return self._checked(picture, self.lr_size, channels)
        lr = read_lr(_opened(picture), hr=self.image_size, lr=self.lr_size)
        return to_grey(lr.unsqueeze(0)).squeeze(0) if channels == 1 else lr

    @staticmethod
    def _checked(tensor: Tensor, size: int, channels: int) -> Tensor:
        if tensor.shape != (channels, size, size):
            raise PixgraftError(f"a tensor of shape {tuple(tensor.shape)}: expected ({channels}, {size}, {size})")
        return tensor.float().cpu()

    def translate(self, source: Picture, target: Picture, *, project: bool = False) -> Translation:
        """Graft the detail of `source` onto `target`.

        Either is a path, a Pillow image or a tensor in [-1, 1]: (3, S, S), and (C, L, L). `project` makes the output
        shrink to the target within one grey level in every cell. The same inputs give the same bytes.

        Raises PixgraftError for what is no usable image.
        """
        return self.batch([(self.source(source), self.target(target))], projected=project)[0]

    def batch(self, pairs: list[tuple[Tensor, Tensor]], *, projected: bool = False) -> list[Translation]:
        """The same for pairs of tensors that `source` and `target` gave, in one pass of the network."""
        sources = torch.stack([source for source, _ in pairs]).to(self.device)
        targets = torch.stack([target for _, target in pairs]).to(self.device)
        levels = (targets.cpu() + 1) * GREY_LEVELS
        own = to_uint8(self.method.translate(sources, targets)).cpu()
        before = consistency(own, levels)
        if not projected:
            return [Translation(pixels, figure, None) for pixels, figure in zip(own, before, strict=True)]
        moved = project(own, levels).to(torch.uint8)
        after = consistency(moved, levels)
        return [Translation(p, figure, was) for p, figure, was in zip(moved, after, before, strict=True)]


def _opened(picture: str | Path | Image.Image) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    source = open_source(picture)
    if len(source.names) != 1:
        raise PixgraftError(f"{picture}: {len(source.names)} images: name one")
    return decode(source.read(source.names[0]), str(picture))


def load(model: str | Path, *, device: str = "auto") -> Translator:
    """Open a bundled name, a run folder, a model folder or a Hugging Face repository id for use.

    Raises PixgraftError if it is none of these or its weights are damaged.
    """
    picked = devices.pick(device)
    return Translator(load_model(model, device=picked), picked)


# --- whole folders ---


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
        by_stem = [{PurePosixPath(name).stem: name for name in names} for names in (sources, targets)]
        for names, stems in zip((sources, targets), by_stem, strict=True):
            if len(stems) < len(names):
                twice = Counter(PurePosixPath(name).stem for name in names).most_common(1)[0][0]
                raise PixgraftError(f"--pairs name: two files are named {twice}: rename one")
        lone = sorted(by_stem[0].keys() ^ by_stem[1].keys())
        if lone:
            raise PixgraftError(f"--pairs name: {lone[0]} is on one side only ({len(lone)} such): add or remove it")
        pairs = [(by_stem[0][stem], by_stem[1][stem]) for stem in sorted(by_stem[0])]
    left, right = _labels(sources), _labels(targets)
    return [Job(source, target, f"{left[source]}__{right[target]}") for source, target in pairs]


def _labels(names: list[str]) -> dict[str, str]:
    """A file-name part for each name, different for different names: its stem, or its whole path where stems clash."""
    stems = Counter(PurePosixPath(name).stem for name in names)
    flat = {name: name.replace("/", "_") for name in names}
    clashes = Counter(flat.values())
    labels = {}
    for place, name in enumerate(names):
        stem = PurePosixPath(name).stem
        if stems[stem] == 1:
            labels[name] = stem
        else:
            labels[name] = flat[name] if clashes[flat[name]] == 1 else f"{flat[name]}_{place}"
    return labels


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
    on_plan: Callable[[int], None] = lambda jobs: None,
    on_done: Callable[[Done], None] = lambda done: None,
) -> list[Done]:
    """Translate files or folders on either side into `out`; returns what became of each of this process's jobs.

    No input is lost: each job gives a file and a report, or a failure that says why. What an earlier run finished
    with the same inputs, weights and settings is skipped. With several processes each takes every size-th job.
    `on_plan` hears how many jobs there are, `on_done` of each when it is finished.

    Raises PixgraftError if nothing can be done at all: no such path, no images, nothing to match, `out` unwritable.
    """
    world = world or World(0, 1, 0)
    if batch < 1:
        raise PixgraftError(f"--batch {batch}: choose a number from 1")
    sources, targets = open_source(source), open_source(target)
    jobs = plan(sources.names, targets.names, pairing)[world.rank :: world.size]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PixgraftError(f"{out}: cannot be made: {error.strerror}: choose another folder") from error
    run = _Run(translator, _Inputs(sources, translator.source), _Inputs(targets, translator.target), out)
    run.settings = {
        "model": translator.model.name,
        "method": translator.method.name,
        "weights_sha256": translator.model.weights_sha256,
        "version": __version__,
        "seed": seed,
        "operator": OPERATOR + (" of the luminance" if translator.method.config.target == "grey" else ""),
        "projected": projected,
    }
    on_plan(len(jobs))
    results = []
    for group in _grouped(jobs, batch):
        for done in run.make(group):
            results.append(done)
            on_done(done)
    return results


def _grouped(jobs: list[Job], size: int) -> Iterator[list[Job]]:
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]


class _Inputs:
    """One side's images, read once: tensor and SHA-256 of the file, or why it is unusable."""

    def __init__(self, files: ImageSource, prepare: Callable[[Image.Image], Tensor]) -> None:
        self._files, self._prepare = files, prepare
        self._sha256: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._tensors: dict[str, Tensor] = {}

    def sha256(self, name: str) -> str:
        """Of the file's bytes; PixgraftError if it cannot be read."""
        if name not in self._sha256:
            self._sha256[name] = hashlib.sha256(self._files.read(name)).hexdigest()
        return self._sha256[name]

    def __getitem__(self, name: str) -> Tensor:
        """The prepared tensor; PixgraftError, the same each time, if the file is unusable."""
        if name in self._failures:
            raise PixgraftError(self._failures[name])
        tensor = self._tensors.get(name)
        if tensor is None:
            try:
                picture = decode(self._files.read(name), name)
                try:
                    tensor = self._prepare(picture)
                except PixgraftError as error:
                    raise PixgraftError(f"{name}: {error}") from None
            except PixgraftError as error:
                self._failures[name] = str(error)
                raise
            if len(self._tensors) >= 4096:  # all pairs come back to a side's images; a huge folder must still fit
                self._tensors.clear()
            self._tensors[name] = tensor
        return tensor


class _Run:
    """What the jobs of one call have in common."""

    settings: dict[str, Any]

    def __init__(self, translator: Translator, sources: _Inputs, targets: _Inputs, out: Path) -> None:
        self._translator, self._sources, self._targets, self._out = translator, sources, targets, out

    def make(self, jobs: list[Job]) -> list[Done]:
        """The outputs of one batch, in its order."""
        results: dict[Job, Done] = {}
        ready: list[tuple[Job, dict[str, Any], tuple[Tensor, Tensor]]] = []
        for job in jobs:
            try:
                report = self._begin(job)
                former = self._finished(job, report)
                if former is not None:
                    results[job] = Done(job, former, skipped=True)
                else:
                    ready.append((job, report, (self._sources[job.source], self._targets[job.target])))
            except PixgraftError as error:
                results[job] = Done(job, None, failure=str(error))
        if ready:
            began = time.monotonic()
            made = self._translator.batch([pair for _, _, pair in ready], projected=self.settings["projected"])
            seconds = (time.monotonic() - began) / len(ready)
            for (job, report, _), translation in zip(ready, made, strict=True):
                results[job] = self._write(job, report, translation, seconds)
        return [results[job] for job in jobs]

    def _begin(self, job: Job) -> dict[str, Any]:
        """The part of a report that is known before the work, and by which finished work is recognised."""
        return {
            "output": f"{job.output}.png",
            **self.settings,
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
        data = png_bytes(made.pixels, self._metadata(report))
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

    @staticmethod
    def _metadata(report: dict[str, Any]) -> dict[str, str]:
        """What travels within the PNG: nothing that differs between two runs of the same work."""
        return {
            "Software": f"pixgraft {report['version']}",
            "Description": f"Synthesised by a neural network (pixgraft, model {PurePosixPath(report['model']).name}); "
            "not a photograph.",
            "pixgraft": json.dumps(
                {key: report[key] for key in ("method", "weights_sha256", "seed", "projected", "source", "target")},
                sort_keys=True,
            ),
        }


def figure(translator: Translator, source: str | Path, target: str | Path, out: Path, results: Iterable[Done]) -> Path:
    """The paper's Figure 5 from finished outputs: sources across, targets and what they shrink to down.

    Reads the PNGs back, so that outputs of earlier runs and other processes are in it; a missing one is grey. Returns
    the path of `grid.png` in `out`.
    """
    sources, targets = open_source(source), open_source(target)
    outputs = {(done.job.source, done.job.target): done.job.output for done in results if done.report}
    across = [name for name in sources.names if any(s == name for s, _ in outputs)]
    down = [name for name in targets.names if any(t == name for _, t in outputs)]
    size = translator.image_size
    white, grey = torch.ones(3, size, size), torch.zeros(3, size, size)

    def shown(files: ImageSource, name: str) -> Tensor:
        return to_tensor(fit(decode(files.read(name), name), size))

    def output(source: str, target: str) -> Tensor:
        path = out / f"{outputs.get((source, target), '')}.png"
        return to_tensor(decode(path.read_bytes(), path.name)) if path.is_file() else grey

    def enlarged(name: str) -> Tensor:
        lr = translator.target(decode(targets.read(name), name))
        factor = size // translator.lr_size
        return lr.repeat_interleave(factor, 1).repeat_interleave(factor, 2).expand(3, -1, -1)

    rows = [torch.stack([white, white, *(shown(sources, name) for name in across)])]
    for name in down:
        row = [shown(targets, name), enlarged(name), *(output(each, name) for each in across)]
        rows.append(torch.stack(row))
    path = out / "grid.png"
    label = {"Description": "First row: sources. First two columns: targets. The rest is synthesised by pixgraft."}
    write_bytes(path, png_bytes(tiled(torch.stack(rows)), label))
    return path
