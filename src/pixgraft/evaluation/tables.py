"""A table to be measured: its rows, its columns and what they depend on, for folders, pairs and models of any task."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column, columns
from pixgraft.evaluation.encode import EncodingTable
from pixgraft.evaluation.graft import GraftTable
from pixgraft.evaluation.model_table import ModelTable
from pixgraft.evaluation.options import EvaluationOptions, MeasuringOptions
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.rows import OutputFolder
from pixgraft.evaluation.sample import SamplingTable
from pixgraft.evaluation.subjects import Pictures, Reals, Subject, images_with_references, single_images
from pixgraft.evaluation.synthesize import SynthesisTable
from pixgraft.evaluation.tradeoff import TradeoffTable
from pixgraft.features import KINDS, available
from pixgraft.pipelines.base import Pipeline

MODEL_TABLES: dict[str, type[ModelTable[Any]]] = {
    "graft": GraftTable, "synthesize": SynthesisTable, "encode": EncodingTable, "sample": SamplingTable,
}  # fmt: skip
"""The tables of models by task."""

Rows = Sequence[tuple[str, Pipeline | OutputFolder]]
"""Rows by name: models, and folders of outputs."""

FOLDERS = Protocol("folders", "", "", ("fd", "kd", "precision", "recall", "density", "coverage"))
PAIRS = Protocol("pairs", "", "", ("l1", "psnr", "ssim", "perceptual"))
"""The protocols of folders and pairs of images, which measure no model."""


@dataclass(frozen=True)
class Measurement:
    """A table to be measured."""

    title: str
    subjects: Sequence[Subject]
    columns: list[Column]
    protocol: dict[str, Any]
    """Everything that two comparable results have in common."""
    reals: Reals | None = None
    published: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    people: Reals | None = None
    """The images whose people count where groups are told apart, see `Group.people`."""
    takes_rows: bool = False
    """Whether other rows can stand beside these: then they are compared in pairs, and later calls may add some."""


def folder_measurement(options: EvaluationOptions) -> Measurement:
    """One set of images against another, or against the references of the same images."""
    assert options.real is not None and options.fake is not None
    real = Pictures(options.real, split=options.real_split, size=options.size)
    fake = Pictures(options.fake, split=options.fake_split, size=options.size)
    name, title = fake.path.name, f"against {real.path.name}"
    paired = options.pairs != "no"
    protocol = PAIRS if paired else FOLDERS
    asked = columns(options.metrics or protocol.metrics, options.features)
    described = _base(protocol, options.size, options) | {"images": len(fake)}
    if paired:
        described |= {"reference": real.description(), "pairs": options.pairs}
        reals = real if any(column.metric.needs == "real" for column in asked) else None
        subject = images_with_references(name, fake, real, options.pairs)
        return Measurement(f"{name} {title}, in pairs", [subject], asked, described, reals)
    name += f"/{fake.split}" if fake.split else ""
    described["real"] = real.description()
    sizes = [f"{each.path.name}'s are {each[0].shape[2]} x {each[0].shape[1]}" for each in (real, fake)]
    notes = [f"The images differ in size: {', '.join(sizes)}. Each network resizes them from there; --size N fits all "
             "to one size first."] if real[0].shape != fake[0].shape else []  # fmt: skip
    return Measurement(f"{name} {title}", [single_images(name, fake)], asked, described, real, notes=notes)


def model_table(rows: Rows, protocol: Protocol, options: MeasuringOptions) -> ModelTable[Any]:
    """The table of rows by name, models and folders of outputs made elsewhere.

    Raises PixgraftError if none is a model, for a model of another task than the protocol's, and for what its table
    cannot measure.
    """
    for name, row in rows:
        if not isinstance(row, OutputFolder) and (task := row.model.method.task) != protocol.task:
            made = f"{name}: a model of {row.model.method.name}, whose task is {task}"
            raise PixgraftError(f"{made}: {protocol.name} measures the task {protocol.task}")
    if all(isinstance(row, OutputFolder) for _, row in rows):
        without = "rows of outputs alone do not say what the inputs are"
        raise PixgraftError(f"--row {rows[0][0]}: {without}: give a model too, whose inputs they were made of")
    table: type[ModelTable[Any]] = TradeoffTable if protocol.tradeoff else MODEL_TABLES[protocol.task]
    return table(rows, protocol, options)


def model_measurement(
    rows: Rows, protocol: Protocol, options: MeasuringOptions, weights: Mapping[str, Path]
) -> Measurement:
    """The measurement of a `model_table`; `weights` are the user's files of feature networks. Raises as it does."""
    table = model_table(rows, protocol, options)
    metrics = list(options.metrics or table.metrics)
    notes = [f"{protocol.title}.", *protocol.notes]
    features = options.features or tuple(name for name in protocol.networks if available(name, weights))
    left_out = []
    if not options.metrics and protocol.optional:
        if any(name in KINDS and KINDS[name].roles[0] == "identity" for name in features):
            metrics += protocol.optional
        else:
            names = ", ".join(protocol.optional)
            left_out.append(f"left out for want of a face network's weights (--weights mobilefacenet=FILE): {names}")
    if protocol.variants:
        trained: dict[str, list[str]] = {}
        for name, pipeline in table.models:
            trained.setdefault(pipeline.model.method.config.perceptual_network, []).append(name)
        notes += [
            f"perceptual loss in training: {network}, of {', '.join(of)}" for network, of in trained.items() if network
        ]
    asked = columns(metrics, features, all_used=bool(options.features))
    subjects = table.subjects(asked)
    named = [subject.name for subject in subjects]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise PixgraftError(f"--row {twice}: the table has another row of that name: choose one")
    return Measurement(
        f"{', '.join(name for name, _ in rows)}: {protocol.name}", subjects, asked,
        _base(protocol, table.size, options) | table.description(), table.reals(asked),
        [asdict(entry) for entry in protocol.published], [*notes, *table.notes, *left_out], table.people,
        takes_rows=not protocol.fixed_rows,
    )  # fmt: skip


def _base(protocol: Protocol, size: int, options: MeasuringOptions) -> dict[str, Any]:
    """The entries of every result's protocol; `size` is the side that images are fitted to, 0 if they are not."""
    fitted = "centred square; Lanczos where it shrinks, bicubic where it grows"
    resized = fitted if size else "none: the images are taken as they are"
    return {"name": protocol.name, "resize_filter": resized, "seed": options.seed}
