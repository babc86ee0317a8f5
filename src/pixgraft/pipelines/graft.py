"""Task "graft" in use: the detail of a source image on a coarse target."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import PurePath, PurePosixPath
from typing import Any, ClassVar

import torch
from torch import Tensor

from pixgraft.data.alignment import Placement
from pixgraft.data.domains import domain_of
from pixgraft.data.grids import tiled
from pixgraft.data.images import decode, fit, read_lr, to_tensor, to_uint8
from pixgraft.data.outputs import labels
from pixgraft.data.sources import open_source
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import enlarge, to_grey
from pixgraft.methods.tasks import Graft
from pixgraft.metrics import consistency as lr
from pixgraft.metrics.consistency import OPERATOR, Consistency, consistency
from pixgraft.models import Model
from pixgraft.pipelines.base import Finished, Job, Pipeline, Plan, Result, Summary, passes, png
from pixgraft.pipelines.inputs import FileInputs, Picture, batch_of, input_entry, read_file, tensor_entry
from pixgraft.pipelines.options import IN_FLOAT32, Computing, GraftOptions
from pixgraft.pipelines.photographs import (
    Alignable,
    Photograph,
    aligned,
    aligned_setting,
    alignment_for,
    elsewhere,
    picture_of,
    report_alignments,
)

GRID_SIDE = 32
"""Most sources and targets of a grid: a larger one can be neither looked at nor held in memory."""


@dataclass(frozen=True, kw_only=True)
class GraftInput(Alignable):
    """A source (3, S, S) or a target (C, L, L) in [-1, 1]."""

    pixels: Tensor
    domain: int | None = None
    """Index of a target's domain; None if the model has none."""


@dataclass(kw_only=True)
class GraftResult(Result):
    """Grafted images, and how well each shrinks to its target, in grey levels (0..255)."""

    consistencies: list[Consistency]
    """Measured on `pixels`, after projection."""
    unprojected: list[Consistency] | None = None
    """Measured on the network's outputs, where the images were projected."""

    @property
    def consistency(self) -> Consistency:
        """The consistency of the first image."""
        return self.consistencies[0]

    def split(self) -> list["GraftResult"]:
        """One result for each image."""
        before = self.unprojected
        return [
            _measured(self.pixels[n : n + 1], self.consistencies[n : n + 1], before[n : n + 1] if before else None)
            for n in range(len(self.pixels))
        ]


def _measured(pixels: Tensor, after: list[Consistency], before: list[Consistency] | None) -> GraftResult:
    """A result whose report has the figures of its first image; of several, all of them."""
    figures = [
        {"difference": asdict(each)} | ({"difference_before_projection": asdict(before[n])} if before else {})
        for n, each in enumerate(after)
    ]
    measures = figures[0] if len(figures) == 1 else {"images": figures}
    return GraftResult(pixels=pixels, consistencies=after, unprojected=before, measures=measures)


class GraftPipeline(Pipeline):
    """A model that grafts the detail of sources onto coarse targets."""

    Options: ClassVar[type] = GraftOptions
    takes: ClassVar[str] = (
        "it takes a source and a target: load({model!r})(source, target), or "
        "pixgraft translate {model} --source A --target B --out OUT"
    )
    columns: ClassVar[dict[str, str]] = {
        "mean difference": "difference.mean",
        "largest": "difference.largest",
        "cells beyond 1 level": "difference.beyond",
        "of cells": "difference.cells",
    }

    def __init__(self, model: Model, device: torch.device, computing: Computing = IN_FLOAT32) -> None:
        super().__init__(model, device, computing)
        assert isinstance(model.method, Graft)
        self.method = model.method
        self.image_size = self.method.config.image_size
        self.lr_size, self.lr_channels = self.method.config.lr_size, self.method.config.lr_channels
        self.domains = self.method.config.domains
        self.settings = {"operator": OPERATOR + (" of the luminance" if self.lr_channels == 1 else "")}

    def __call__(
        self, source: Picture, target: Picture, *, project: bool = False, align: bool = False, domain: str = ""
    ) -> GraftResult:
        """Graft the detail of `source` onto `target`.

        Either is a path, a Pillow image or a tensor, uint8 or float in [-1, 1]: a source (3, S, S), a target (C, L, L),
        or batches of both. `project` makes the output shrink to the target within one grey level in every cell. `align`
        warps the largest face of each image file to the model's frame. `domain` is that of the targets, for models of
        several; a path may name it by a folder. The same inputs give the same bytes.

        Raises PixgraftError for what is no usable image, or a tensor of another shape, type or range.
        """
        to = alignment_for(self.model, align)
        if align and isinstance(source, Tensor):
            raise PixgraftError("align is for image files: align the source's tensor first")
        sources, source_entry, source_read = self._given(source, "source", to)
        targets, target_entry, target_read = self._given(target, "target", to)
        if len(sources) != len(targets):
            raise PixgraftError(f"{len(sources)} sources and {len(targets)} targets: give as many of both")
        index = self.domain_index(domain, str(target) if isinstance(target, str | PurePath) else "")
        domains = [] if index is None else [index] * len(targets)
        result = self.batch(sources, targets, domains, project=project)
        report_alignments(result, [*source_read, *target_read])
        settings = self._settings(project, to, domain)
        reported: GraftResult = self.reported(result, seed=0, settings=settings, inputs=[source_entry, target_entry])
        return reported

    def _given(
        self, picture: Picture, role: str, to: Placement | None
    ) -> tuple[Tensor, dict[str, str], list[GraftInput]]:
        """The pixels (N, C, H, H) of a source or target, its entry in a report, and what was read, if it was a file."""
        if isinstance(picture, Tensor):
            size, channels = (self.image_size, 3) if role == "source" else (self.lr_size, self.lr_channels)
            return batch_of(picture, role, (channels, size, size)), tensor_entry(role, picture), []
        name, data = read_file(picture, role)
        read = (self.read_source if role == "source" else self.read_target)(data, name, to)
        return read.pixels.unsqueeze(0), input_entry(role, name, data), [read]

    def domain_index(self, domain: str, path: str) -> int | None:
        """The index of a target's domain, by its name or else by a folder in the target's path; None without domains.

        Raises PixgraftError if neither names one of the model's domains.
        """
        if not self.domains:
            if domain:
                raise PixgraftError(f"domain {domain}: {self.model.name} has no domains: leave it out")
            return None
        index = domain_of(f"{domain}/_" if domain else path, self.domains)
        if index is None:
            listed = ", ".join(self.domains)
            problem = f"domain {domain}" if domain else f"{path or 'the target'}: of no domain"
            raise PixgraftError(f"{problem}: {self.model.name} has {listed}: say which the target is of (--domain)")
        return index

    def read_source(self, data: bytes, name: str, to: Placement | None = None) -> GraftInput:
        """A source file, its face aligned if `to` is given, centre-cropped and resized.

        Raises PixgraftError, which names the file, for no image, and for one without a face to align.
        """
        photograph = aligned(decode(data, name), to, self.image_size, "source", name)
        pixels = to_tensor(fit(photograph.image, self.image_size))
        return GraftInput(pixels=pixels, alignments=photograph.alignments, notes=photograph.notes)

    def read_target(self, data: bytes, name: str, to: Placement | None = None) -> GraftInput:
        """A target file, shrunk unless it has that size; if `to` is given and it is larger, its face is aligned first.

        Raises PixgraftError, which names the file, for no image, one of fewer than L pixels, and one without a face to
        align.
        """
        photograph = self._target(data, name, to)
        try:
            small = read_lr(photograph.image, hr=self.image_size, lr=self.lr_size)
        except PixgraftError as error:
            raise PixgraftError(f"{name}: {error}") from None
        pixels = to_grey(small.unsqueeze(0)).squeeze(0) if self.lr_channels == 1 else small
        return GraftInput(pixels=pixels, alignments=photograph.alignments, notes=photograph.notes)

    def _target(self, data: bytes, name: str, to: Placement | None) -> Photograph:
        picture = decode(data, name)
        if to is None or min(picture.size) > self.lr_size:
            return aligned(picture, to, self.image_size, "target", name)
        note = f"target: not aligned: {picture.width} x {picture.height} pixels, as the model takes it"
        return Photograph(image=picture, notes=[note])

    def batch(
        self, sources: Tensor, targets: Tensor, domains: Sequence[int] = (), *, project: bool = False
    ) -> GraftResult:
        """Images of sources (N, 3, S, S) and targets (N, C, L, L) in [-1, 1], in passes of one size.

        `domains` has the index of each target's domain, if the model has several.
        """
        inputs = [sources, targets]
        translate = self.computed.translate
        if self.domains:
            inputs.append(torch.tensor(domains))
            translate = self.computed.translate_into
        with self.autocast():
            outputs = [
                to_uint8(translate(*(each[part].to(self.device) for each in inputs))).cpu()
                for part in passes(len(sources), self.pass_size)
            ]
        pixels = torch.cat(outputs)[: len(sources)]
        levels = (targets + 1) * 127.5
        before = consistency(pixels, levels)
        if not project:
            return _measured(pixels, before, None)
        moved = lr.project(pixels, levels).to(torch.uint8)
        return _measured(moved, consistency(moved, levels), before)

    def _settings(self, project: bool, to: Placement | None, domain: str) -> dict[str, Any]:
        """The settings of a report."""
        given = ({} if to is None else {"aligned": aligned_setting(to)}) | ({"domain": domain} if domain else {})
        return self.settings | {"projected": project} | given

    # --- files ---

    def plan(self, options: GraftOptions) -> Plan:
        if not (options.source and options.target):
            raise PixgraftError(f"{self.model.name}: say what to translate: {self.usage}")
        to = alignment_for(self.model, options.align)
        sources, targets = open_source(options.source), open_source(options.target)
        self.domain_index(options.domain, f"{targets.path}/{targets.names[0]}")  # refused before any work

        def read_target(data: bytes, name: str) -> GraftInput:
            read = self.read_target(data, name, to)
            return replace(read, domain=self.domain_index(options.domain, f"{targets.path}/{name}"))

        # Targets vary fastest: they come back for each source, while a source's turn comes once.
        source_files = FileInputs("source", sources, partial(self.read_source, to=to))
        target_files = FileInputs("target", targets, read_target, cached=4096)
        matched = pairs(sources.names, targets.names, options.pairs)
        jobs = [
            Job(
                label,
                (f"{label}.png",),
                partial(lambda a, b: (source_files[a], target_files[b]), source, target),
                (source_files.file(source), target_files.file(target)),
            )
            for label, source, target in matched
        ]

        def make(prepared: list[tuple[GraftInput, GraftInput]]) -> Sequence[Result]:
            source, target = (torch.stack([each.pixels for each in side]) for side in zip(*prepared, strict=True))
            domains = [target.domain for _, target in prepared if target.domain is not None]
            results = self.batch(source, target, domains, project=options.project).split()
            for result, pair in zip(results, prepared, strict=True):
                report_alignments(result, pair)
            return results

        def hint() -> str:
            sides = ((sources, sources.names), (targets, targets.names))
            pictures = [partial(picture_of, side, name) for side, names in sides for name in names]
            return "" if options.align else elsewhere(self.model.frame, pictures)

        def grid(finished: Finished) -> dict[str, bytes]:
            return {"grid.png": png(self._grid(matched, source_files, target_files, to, finished), finished.head)}

        return Plan(
            jobs, make, self._settings(options.project, to, options.domain), options.seed,
            paths=[sources.path, targets.path], skipped=[*sources.skipped, *targets.skipped],
            summary=Summary("grid", ("grid.png",), grid) if options.grid else None,
            superseded=() if options.grid else ("grid",), pass_size=self.pass_size, hint=hint,
        )  # fmt: skip

    def _grid(
        self, matched: list[tuple[str, str, str]], sources: FileInputs, targets: FileInputs, to: Placement | None,
        finished: Finished,
    ) -> Tensor:  # fmt: skip
        """The paper's Figure 5: sources across, targets and their shrunk versions down; a failed output is grey."""
        outputs = {
            (source, target): done
            for (_, source, target), done in zip(matched, finished.results, strict=True)
            if done.report
        }
        across = sorted({source for source, _ in outputs})[:GRID_SIDE]
        down = sorted({target for _, target in outputs})[:GRID_SIDE]
        size = self.image_size
        white, grey = torch.ones(3, size, size), torch.zeros(3, size, size)

        def output(source: str, target: str) -> Tensor:
            done = outputs.get((source, target))
            return grey if done is None else finished.image(done)

        rows = [[white, white, *(sources[name].pixels for name in across)]]
        for name in down:
            whole = to_tensor(fit(self._target(targets.source.read(name), name, to).image, size))
            coarse = enlarge(targets[name].pixels.expand(3, -1, -1), size // self.lr_size)
            rows.append([whole, coarse, *(output(each, name) for each in across)])
        return tiled(torch.stack([torch.stack(row) for row in rows]))


def pairs(sources: list[str], targets: list[str], pairing: str) -> list[tuple[str, str, str]]:
    """Labels, sources and targets of the outputs: all pairs, targets varying fastest, or pairs by stem or by order.

    Raises PixgraftError if the two sides do not match.
    """
    if pairing == "all":
        matched = [(source, target) for source in sources for target in targets]
    elif pairing == "order":
        if len(sources) != len(targets):
            raise PixgraftError(f"--pairs order: {len(sources)} sources but {len(targets)} targets: make them equal")
        matched = list(zip(sources, targets, strict=True))
    else:
        for names in (sources, targets):
            stem, count = Counter(PurePosixPath(name).stem for name in names).most_common(1)[0]
            if count > 1:
                raise PixgraftError(f"--pairs name: {count} files are named {stem}: rename all but one")
        left, right = ({PurePosixPath(name).stem: name for name in names} for names in (sources, targets))
        unmatched = sorted(left.keys() ^ right.keys())
        if unmatched:
            raise PixgraftError(
                f"--pairs name: {unmatched[0]} is on one side only ({len(unmatched)} such): pair it or remove it"
            )
        matched = [(left[stem], right[stem]) for stem in sorted(left)]
    source_labels, target_labels = labels(sources), labels(targets)
    jobs: list[tuple[str, str, str]] = []
    taken: set[str] = set()
    for source, target in matched:
        label = joined = f"{source_labels[source]}__{target_labels[target]}"
        number = 1
        while label.casefold() in taken:  # "a__b" + "c" and "a" + "b__c"; case is nothing to some file systems
            number += 1
            label = f"{joined}_{number}"
        taken.add(label.casefold())
        jobs.append((label, source, target))
    return jobs
