"""Directions in a prior's codes in use: a file of them, and a sheet of images along each.

Shape letters: N codes, M codes of an image, D numbers of a code.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from pixgraft.data.grids import tiled
from pixgraft.data.images import MAX_PIXELS, from_uint8
from pixgraft.data.labels import Labels, read_labels
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError, unknown
from pixgraft.files import json_sha256
from pixgraft.inversion.directions import boundary, sefa
from pixgraft.layers.resample import average_pool
from pixgraft.pipelines.base import Finished, Job, Plan, Result, Summary, png
from pixgraft.pipelines.codes import CODES, DIRECTIONS, SavedCodes, directions_bytes, read_codes
from pixgraft.pipelines.options import LAYERS, DirectionOptions, at_least, layer_range
from pixgraft.pipelines.sample import SHOWN_SIDE, SamplingPipeline
from pixgraft.version import __version__

SPREAD = 1000
"""Random codes whose standard deviation along a direction is its unit."""
COLUMNS = 5
"""Images in each row of a sheet, from the smallest amount to the largest."""


@dataclass(frozen=True)
class _Found:
    """Directions (M, D) by name, and codes (n, M, D) to show them on."""

    directions: dict[str, Tensor]
    rows: Tensor
    inputs: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was measured, by the direction's name."""
    remarks: list[str] = field(default_factory=list)


def directions(pipeline: SamplingPipeline, options: DirectionOptions) -> Plan:
    """Find directions, and plan the file of them with a sheet NAME.png for each; the folder gets directions.json.

    Raises PixgraftError for options that do not fit the prior or each other, and for codes or labels that do not do.
    """
    at_least("samples", options.samples)
    at_least("count", options.count)
    if not 0 < options.amount <= 1000:
        raise PixgraftError(f"amount {options.amount}: choose a number above 0")
    given = {"codes": options.codes, "csv": options.csv, "label": options.label or None}
    for name, value in given.items():
        if (value is None) == (options.by == "labels"):
            raise PixgraftError(f"{name}: {'give it too' if value is None else 'leave it out'} with --by {options.by}")
    count = len(pipeline.method.code_weights())
    found = (_by_labels if options.by == "labels" else _by_sefa)(pipeline, options, count)
    names, rows, side = list(found.directions), found.rows, pipeline.method.image_size
    if len(names) * len(rows) * COLUMNS * side**2 > MAX_PIXELS:
        raise PixgraftError(f"samples {len(rows)}, directions {len(names)}: too many images in all: choose fewer")
    amounts = torch.linspace(-options.amount, options.amount, COLUMNS)
    codes = [
        row + float(amount) * found.directions[name]
        for name in names for row in rows for amount in amounts
    ]  # fmt: skip

    def make(prepared: list[Tensor]) -> Sequence[Result]:
        stacked = torch.stack(prepared)
        images = pipeline.images(stacked if pipeline.method.style_layers else stacked[:, 0])
        return [Result(pixels=each) for each in images.split(1)]

    def whole(finished: Finished) -> dict[str, bytes]:
        origin = {"by": options.by, "weights_sha256": pipeline.model.weights_sha256, "version": __version__}
        files = {DIRECTIONS: directions_bytes(found.directions, origin)}
        images = torch.cat(list(finished.images))
        images = from_uint8(images).unflatten(0, (len(names), len(rows), COLUMNS))
        for name, each in zip(names, images, strict=True):
            small = average_pool(each.flatten(0, 1), min(side, SHOWN_SIDE)).unflatten(0, (len(rows), COLUMNS))
            files[f"{name}.png"] = png(tiled(small), finished.head)
        return files

    jobs = [Job(str(n), (), partial(codes.__getitem__, n)) for n in range(len(codes))]
    settings = {"by": options.by, "layers": options.layers, "amounts": amounts.tolist(), "rows": len(rows)}
    about = {"directions": {name: found.figures.get(name, {}) for name in names}} | found.inputs
    summary = Summary("directions", (DIRECTIONS, *(f"{name}.png" for name in names)), whole, about)
    paths = [path for path in (options.codes, options.csv) if path is not None]
    return Plan(
        jobs, make, settings, options.seed, paths=paths, summary=summary, stored=False, pass_size=pipeline.pass_size,
        hint=lambda: "; ".join(found.remarks),
    )  # fmt: skip


def _within(direction: Tensor, count: int, first: int, last: int) -> Tensor:
    """A direction (D,) or (m, D) of the layers from `first` to `last` as one of all `count`, (M, D)."""
    whole = torch.zeros(count, direction.shape[-1])
    whole[first : last + 1] = direction
    return whole


# --- from the weights ---


def _by_sefa(pipeline: SamplingPipeline, options: DirectionOptions, count: int) -> _Found:
    weights = pipeline.method.code_weights()
    if options.layers is not None:
        groups = {f"layers-{options.layers}" if options.layers not in LAYERS else options.layers: options.layers}
    else:
        groups = {name: name for name, (first, _) in LAYERS.items() if first < count} if count > 1 else {"all": "0"}
    latents = pipeline.latents(options.seed, range(SPREAD))
    codes = pipeline.method.codes(latents.to(pipeline.device)).cpu()
    samples = pipeline.codes(latents[: options.samples])
    found = {}
    for name, layers in groups.items():
        first, last = layer_range(layers, count)
        for number, each in enumerate(sefa(weights[first : last + 1], options.count), 1):
            found[f"{name}-{number}"] = _within(each * (codes @ each).std(), count, first, last)
    return _Found(found, samples.unsqueeze(1).expand(-1, count, -1))


# --- from labels ---


def _by_labels(pipeline: SamplingPipeline, options: DirectionOptions, count: int) -> _Found:
    assert options.codes is not None
    assert options.csv is not None
    labels = read_labels(options.csv)
    saved, rows = _labelled(options.codes, labels, (count, pipeline.code_size))
    codes = torch.stack([each.codes for each in saved])
    first, last = (0, count - 1) if options.layers is None else layer_range(options.layers, count)
    directions, figures, remarks = {}, {}, []
    for text in options.label:
        kept, has = _classes(text, labels, rows)
        try:
            found = boundary(codes[kept, first : last + 1].flatten(1), has, generator(options.seed, "held out", text))
        except PixgraftError as error:
            raise PixgraftError(f"label {text}: {error}: give codes of more images") from None
        name = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:80]
        if name in directions:
            raise PixgraftError(f"label {text}: would be called {name}, as another is: leave one of them out")
        directions[name] = _within(found.direction.unflatten(0, (last + 1 - first, -1)), count, first, last)
        share = max(float(has.float().mean()), 1 - float(has.float().mean()))
        figures[name] = {
            "label": text, "codes": len(kept), "with_label": int(has.sum()), "held_out": found.held_out,
            "accuracy": round(found.accuracy, 4), "balanced_accuracy": round(found.balanced, 4),
        }  # fmt: skip
        remarks.append(
            f"{name}: right for {found.accuracy:.1%} of {found.held_out:,} held-out codes (the larger class is "
            f"{share:.1%} of all); balanced over both classes {found.balanced:.1%}, chance being 50 %"
        )
    inputs = {"codes_sha256": json_sha256({"codes": [each.sha256 for each in saved]}), "labels_sha256": labels.sha256}
    return _Found(directions, codes[: options.samples], inputs, figures, remarks)


def _labelled(folder: Path, labels: Labels, shape: tuple[int, ...]) -> tuple[list[SavedCodes], list[Mapping[str, str]]]:
    """The codes `shape` in a folder whose images have a row in the table, and those rows."""
    files = sorted(folder.glob(f"*{CODES}"))
    if not files:
        raise PixgraftError(f"{folder}: no files NAME{CODES}: give a folder that pixgraft translate or invert wrote")
    by_stem = {PurePosixPath(name).stem: row for name, row in labels.rows.items()}
    if len(by_stem) < len(labels.rows):
        raise PixgraftError(f"{labels.where}: several names that differ in their ends alone: write each stem once")
    named = [(path, by_stem.get(path.name.removesuffix(CODES))) for path in files]
    found = [(read_codes(path, shape), row) for path, row in named if row is not None]
    if not found:
        example = f"the first is {files[0].name}, the first row {next(iter(labels.rows), 'missing')}"
        raise PixgraftError(f"{labels.where}: no row for any of {len(files):,} codes ({example}): mend the names")
    return [codes for codes, _ in found], [row for _, row in found]


def _classes(text: str, labels: Labels, rows: Sequence[Mapping[str, str]]) -> tuple[Tensor, Tensor]:
    """Of rows those (n,) with a value in the label's column, and whether (n,) it is one of the label's values."""
    column, _, listed = text.partition("=")
    values = {each.strip() for each in listed.split(",")}
    if column not in labels.columns:
        raise unknown(f"column of {labels.where} (--label)", column, labels.columns)
    there = {row[column] for row in rows if column in row}
    for value in sorted(values - there):
        raise unknown(f"value of {column} in {labels.where} (--label)", value, sorted(there)[:50])
    kept = torch.tensor([number for number, row in enumerate(rows) if column in row])
    return kept, torch.tensor([rows[number][column] in values for number in kept.tolist()])
