"""Task "graft" in use: the detail of a source image on a coarse target."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import Any, ClassVar

import torch
from torch import Tensor

from pixgraft.data.alignment import Placement
from pixgraft.data.domains import domain_of
from pixgraft.data.grids import tiled
from pixgraft.data.images import decode, fit, read_lr, to_tensor, to_uint8
from pixgraft.data.sources import open_sources
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import enlarge, to_grey
from pixgraft.methods.tasks import Graft
from pixgraft.metrics import consistency as lr
from pixgraft.metrics.consistency import OPERATOR, Consistency, consistency
from pixgraft.models import Model
from pixgraft.pipelines.base import Finished, Job, Pipeline, Plan, Result, Summary, passes, png
from pixgraft.pipelines.inputs import FileInputs, Photo, Picture, batch_of, input_entry, read_file, tensor_entry
from pixgraft.pipelines.options import IN_FLOAT32, Computing, Faces, GraftOptions
from pixgraft.pipelines.pairing import pairs
from pixgraft.pipelines.pasting import PastedResult, together, whole_settings
from pixgraft.pipelines.photographs import (
    Alignable,
    Photograph,
    aligned_setting,
    alignment_for,
    cut_out,
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
    listed = lr.figures(after, before)
    measures = listed[0] if len(listed) == 1 else {"images": listed}
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

    def in_photograph(
        self, source: Photo, target: Photo, *, faces: Faces = "all",
        project: bool = False, domain: str = "",
    ) -> PastedResult:  # fmt: skip
        """Each face of the target's photograph with the detail of the source's largest, pasted back; where the target
        is tiny, or the model does not shrink it, each face of the source's photograph. `image` is the whole picture,
        and `parts` are the faces' results.

        Raises PixgraftError as a call does, and for a photograph without a face.
        """
        to = alignment_for(self.model, faces)
        files = {role: read_file(each, role) for role, each in (("source", source), ("target", target))}
        sources, targets = (
            read(data, name, to, faces=faces, file=data)
            for read, (name, data) in zip((self.read_sources, self.read_targets), files.values(), strict=True)
        )
        index = self.domain_index(domain, str(target) if isinstance(target, str | PurePath) else "")
        paired = self._pairs_of_faces(sources, [replace(each, domain=index) for each in targets])
        options = GraftOptions(faces=faces, paste_back=True, project=project, domain=domain)
        (result,) = self._made([paired], options)
        entries = [input_entry(role, name, data) for role, (name, data) in files.items()]
        settings = self._settings(project, to, domain) | whole_settings(options)
        reported: PastedResult = self.reported(result, seed=0, settings=settings, inputs=entries)
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
        """The first of `read_sources`."""
        return self.read_sources(data, name, to)[0]

    def read_sources(
        self, data: bytes, name: str, to: Placement | None, *, faces: Faces = "largest", file: bytes = b""
    ) -> list[GraftInput]:
        """A source file, its largest face or each of all aligned if `to` is given, centre-cropped and resized.

        `file` is to be pasted into. Raises PixgraftError, which names it, for no image, and for one without a face to
        align.
        """
        cut = cut_out(decode(data, name), to, self.image_size, "source", name, faces=faces, file=file)
        return [
            GraftInput(
                pixels=to_tensor(fit(each.image, self.image_size)), alignments=each.alignments, notes=each.notes,
                cut=each.cut,
            )
            for each in cut
        ]  # fmt: skip

    def read_target(self, data: bytes, name: str, to: Placement | None = None) -> GraftInput:
        """The first of `read_targets`."""
        return self.read_targets(data, name, to)[0]

    def read_targets(
        self, data: bytes, name: str, to: Placement | None, *, faces: Faces = "largest", file: bytes = b""
    ) -> list[GraftInput]:
        """A target file, shrunk unless it has that size; if `to` is given and it is larger, its face is aligned first,
        or each of all.

        `file` is to be pasted into. Raises PixgraftError, which names it, for no image, one of fewer than L pixels, and
        one without a face to align.
        """
        found = []
        for photograph in self._targets(data, name, to, faces, file):
            try:
                small = read_lr(photograph.image, hr=self.image_size, lr=self.lr_size)
            except PixgraftError as error:
                raise PixgraftError(f"{name}: {error}") from None
            pixels = to_grey(small.unsqueeze(0)).squeeze(0) if self.lr_channels == 1 else small
            found.append(
                GraftInput(pixels=pixels, alignments=photograph.alignments, notes=photograph.notes, cut=photograph.cut)
            )
        return found

    def _targets(
        self, data: bytes, name: str, to: Placement | None, faces: Faces = "largest", file: bytes = b""
    ) -> list[Photograph]:
        picture = decode(data, name)
        tiny = to is not None and min(picture.size) <= self.lr_size
        cut = cut_out(
            picture, None if tiny else to, self.image_size, "target", name, faces=faces, side=self.lr_size, file=file
        )
        if tiny:
            shape = f"{picture.width} x {picture.height} pixels"
            cut[0].notes.append(f"target: not aligned: {shape}, as the model takes it")
        return cut

    def _pairs_of_faces(
        self, sources: Sequence[GraftInput], targets: Sequence[GraftInput]
    ) -> list[tuple[GraftInput, GraftInput]]:
        """A pair for each face of the photograph that is translated: the target's, which the output shrinks to; the
        source's where the target is tiny or the model's targets are not small. Of the other it is the largest face."""
        if self._into_target(targets):
            return [(_largest(sources), target) for target in targets]
        return [(source, _largest(targets)) for source in sources]

    def _into_target(self, targets: Sequence[GraftInput]) -> bool:
        cut = targets[0].cut
        return self.lr_size < self.image_size and cut is not None and min(cut.size) > self.lr_size

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

    def _made(self, photographs: list[list[tuple[GraftInput, GraftInput]]], options: GraftOptions) -> list[Result]:
        """The results of photographs, of each of which there are pairs of a source's and a target's face."""
        flat = [pair for each in photographs for pair in each]
        source, target = (torch.stack([each.pixels for each in side]) for side in zip(*flat, strict=True))
        domains = [target.domain for _, target in flat if target.domain is not None]
        results = self.batch(source, target, domains, project=options.project).split()
        for result, pair in zip(results, flat, strict=True):
            report_alignments(result, pair)
        rest = iter(results)
        whole = []
        for each in photographs:
            into = [pair[self._into_target([pair[1]])] for pair in each]
            whole.append(together([next(rest) for _ in each], into, options))
        return whole

    def _settings(self, project: bool, to: Placement | None, domain: str) -> dict[str, Any]:
        """The settings of a report."""
        given = ({} if to is None else {"aligned": aligned_setting(to)}) | ({"domain": domain} if domain else {})
        return self.settings | {"projected": project} | given

    # --- files ---

    def plan(self, options: GraftOptions) -> Plan:
        if not (options.source and options.target):
            raise PixgraftError(f"{self.model.name}: say what to translate: {self.usage}")
        to = alignment_for(self.model, options.align or options.faces)
        sources, targets = open_sources(options.source), open_sources(options.target)
        self.domain_index(options.domain, f"{targets.path}/{targets.names[0]}")  # refused before any work

        faces, pasted = options.faces or "largest", options.paste_back

        def read_source(data: bytes, name: str) -> list[GraftInput]:
            return self.read_sources(data, name, to, faces=faces, file=data if pasted else b"")

        def read_target(data: bytes, name: str) -> list[GraftInput]:
            found = self.read_targets(data, name, to, faces=faces, file=data if pasted else b"")
            return [replace(each, domain=self.domain_index(options.domain, f"{targets.path}/{name}")) for each in found]

        # Targets vary fastest: they come back for each source, while a source's turn comes once. Whole photographs
        # would take too much memory to wait for that.
        source_files = FileInputs("source", sources, read_source)
        target_files = FileInputs("target", targets, read_target, cached=1 if pasted else 4096)
        matched = pairs(sources.names, targets.names, options.pairs)
        numbered = faces == "all" and not pasted
        jobs = [
            Job(
                label,
                () if numbered else (f"{label}.png",),
                partial(lambda a, b: self._pairs_of_faces(source_files[a], target_files[b]), source, target),
                (source_files.file(source), target_files.file(target)),
                numbered=numbered,
            )
            for label, source, target in matched
        ]

        def make(prepared: list[list[tuple[GraftInput, GraftInput]]]) -> Sequence[Result]:
            return self._made(prepared, options)

        def hint() -> str:
            sides = ((sources, sources.names), (targets, targets.names))
            pictures = [partial(picture_of, side, name) for side, names in sides for name in names]
            return "" if to is not None else elsewhere(self.model.frame, pictures)

        def grid(finished: Finished) -> dict[str, bytes]:
            return {"grid.png": png(self._grid(matched, source_files, target_files, to, finished), finished.head)}

        if options.grid and (numbered or pasted):
            raise PixgraftError("--grid: of squares: leave it out, or --faces all and --paste-back")
        settings = self._settings(options.project, to, options.domain) | whole_settings(options)
        return Plan(
            jobs, make, settings, options.seed, paths=[*options.source, *options.target],
            skipped=[*sources.skipped, *targets.skipped],
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

        rows = [[white, white, *(sources[name][0].pixels for name in across)]]
        for name in down:
            whole = to_tensor(fit(self._targets(targets.source.read(name), name, to)[0].image, size))
            coarse = enlarge(targets[name][0].pixels.expand(3, -1, -1), size // self.lr_size)
            rows.append([whole, coarse, *(output(each, name) for each in across)])
        return tiled(torch.stack([torch.stack(row) for row in rows]))


def _largest(inputs: Sequence[GraftInput]) -> GraftInput:
    """The first of a photograph's faces; a note tells of the others."""
    if len(inputs) == 1:
        return inputs[0]
    first = inputs[0]
    role = first.cut.role if first.cut is not None else "photograph"
    return replace(first, notes=[*first.notes, f"{role}: {len(inputs)} faces: the largest was taken"])
