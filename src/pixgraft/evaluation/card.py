"""`pixgraft card`: a model measured by the groups of the people in its data, as a part of its model card."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pixgraft import devices
from pixgraft.data.labels import LABELS_FILE, Labels, find_labels, read_labels
from pixgraft.data.outputs import write_together
from pixgraft.engine import distributed
from pixgraft.engine.bars import Bars
from pixgraft.engine.distributed import World
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.command import check_out
from pixgraft.evaluation.groups import EVERYONE, LEAST, Groups, attributes, gap
from pixgraft.evaluation.measure import Evaluator, check, open_networks, protocol_entries, share
from pixgraft.evaluation.model_table import TASK_OPTIONS
from pixgraft.evaluation.options import CardOptions
from pixgraft.evaluation.pages import cell, literal
from pixgraft.evaluation.protocols import FACES, Protocol
from pixgraft.evaluation.result import PENDING, Row, result_json
from pixgraft.evaluation.subjects import Group, Reals, Subject
from pixgraft.evaluation.tables import MODEL_TABLES, Measurement, model_measurement
from pixgraft.features import parse_weights
from pixgraft.pipelines.loading import load

OUTPUTS = ("card.md", "card.json")
FACTOR = 8
"""By which images are shrunk for an encoder of small ones."""
_TRUTH = "the truth that an output is compared with, which also stands for the source in the columns' descriptions"

CARDS = {
    card.task: card
    for card in (
        Protocol(
            "card", "graft", "The person who counts is that of the source, who must stay recognisable; the LR targets "
            "are everyone's, so a group's outputs have coarse colours of all groups, which its distances hold too",
            ("fd", "consistency"), FACES, samples=4,
        ),
        Protocol("card", "synthesize", f"The person who counts is that of {_TRUTH}", ("fd", "perceptual"), FACES),
        Protocol("card", "encode", f"The person who counts is that of {_TRUTH}", ("fd", "perceptual"), FACES),
        Protocol(
            "card", "sample", "The person who counts is that of the real image: samples have no label; neighbourhoods "
            "are those among the reals of all groups", ("coverage", "recall"), samples=1000,
        ),
    )
}  # fmt: skip
"""What a card measures by task."""


def card(model: str, options: CardOptions) -> tuple[dict[str, Any], list[Path]] | None:
    """The result as plain values, and the files written; None on all processes but the first.

    Raises PixgraftError for options that do not fit together, and for everything that cannot be measured.
    """
    options.check_bootstrap()
    if options.data is None:
        raise PixgraftError(f"{model}: say what images to measure it on: --data D")
    weights = parse_weights(options.weights)
    if options.out:
        files = (options.labels, options.palette, model, *weights.values())
        check_out(options.out, OUTPUTS, (options.data, options.real), files)
    devices.set_threads(options.threads)
    device = devices.pick(options.device)
    world = distributed.start(device.type)
    try:
        pipeline = load(model, device=options.device, local_rank=world.local_rank)
        task, condition = pipeline.model.method.task, pipeline.model.method.config.condition_spec
        taken = MODEL_TABLES[task].options_taken
        options.check_unset((name for name in TASK_OPTIONS if name not in taken), f"has no part in the task {task}")
        small = condition is not None and condition.kind == "lr" and not condition.inversion
        protocol = replace(CARDS[task], factors=(FACTOR,) if small else (1,))
        table = model_measurement([(Path(model).name, pipeline)], protocol, options, weights)
        with Bars(quiet=options.quiet or world.rank > 0) as bars:
            result = _measured(table, options, weights, devices.pick(options.device, world.local_rank), world, bars)
        if result is None:
            return None
        return result, _write(result, options.out) if options.out else []
    finally:
        distributed.stop()


def _measured(
    table: Measurement, options: CardOptions, weights: Mapping[str, Path], device: torch.device, world: World,
    bars: Bars,
) -> dict[str, Any] | None:  # fmt: skip
    start = time.monotonic()
    people, subject = table.people, table.subjects[0]
    assert people is not None
    if "reference" in subject.inputs:
        subject = _with_faces(subject, people, options.seed)
    table = replace(table, title=f"{subject.name} by group", subjects=[subject])
    _check_columns(table.columns, outputs_labelled="source" in subject.inputs)
    check(table)
    reals = table.reals if any(column.metric.of_sets for column in table.columns) else None
    labels, rows_of = _labelled(options.labels, people, reals)
    of_people = {name: rows_of[name] for name in people.names if name in rows_of}
    if not of_people:
        example = f"the first image is {people.names[0]}, the first row {next(iter(labels.rows), 'missing')}"
        raise PixgraftError(f"{labels.where}: no row for any of {len(people):,} images ({example}): mend the names")
    chosen = attributes(options.by, labels.columns, of_people, labels.where)
    networks = open_networks(table.columns, weights, device, bars)
    evaluator = Evaluator(table.columns, networks, device, moments=False)
    sets = evaluator.reals(reals, world, bars.part("reals", share(len(reals), world))) if reals else {}
    values = evaluator.measure(subject, world, bars.part(subject.name, share(subject.images, world)))
    if world.rank > 0:
        return None
    names = reals.names if reals else []
    groups = Groups(table.columns, values, sets, names, replicates=options.bootstrap, seed=options.seed)
    notes = [*table.notes, f"The labels are those of {Path(labels.where).name}, as its makers ascribed them."]
    rows: list[Row] = []
    gaps = []
    for attribute in chosen:
        by_image = {name: row[attribute] for name, row in rows_of.items() if attribute in row}
        if lacking := sum(name not in by_image for name in people.names):
            notes.append(f"{attribute}: {lacking:,} of {len(people):,} images have no label and are left out.")
        of_attribute = groups.rows(attribute, by_image)
        gaps += [each for column in table.columns if (each := gap(attribute, of_attribute, column))]
        rows += of_attribute
    notes += [
        *groups.notes(),
        f"A group of fewer than {LEAST} people has no figures.",
        "Intervals are 95 % bootstrap intervals that draw people. Among many groups some do not overlap by chance.",
    ]
    protocol = protocol_entries(table, networks, options.bootstrap)
    protocol |= {"by": chosen, "labels_sha256": labels.sha256, "least_people": LEAST}
    entries = [row.entry() for row in rows]
    result = result_json(table, entries, protocol, notes, time.monotonic() - start, device)
    return result | {"model": {"name": subject.name, **subject.identity}, "gaps": gaps}


def _with_faces(subject: Subject, truths: Reals, seed: int) -> Subject:
    """The subject whose truths are its sources, too, and another image of `truths`, drawn by (seed, unit), the other
    face."""

    def group(unit: int) -> Group:
        made = subject.group(unit)
        step = int(torch.randint(1, len(truths), (), generator=generator(seed, "others", unit)))
        other = truths[(unit + step) % len(truths)].unsqueeze(0)
        return replace(made, inputs=made.inputs | {"source": made.inputs["reference"], "other": other})

    return replace(subject, group=group, inputs=subject.inputs | {"source", "other"})


def _check_columns(columns: Sequence[Column], *, outputs_labelled: bool) -> None:
    """Raise PixgraftError for a metric that belongs to no single person."""
    for column in columns:
        metric = column.metric
        if metric.is_curve or metric.by_group or not (outputs_labelled or metric.mean_over == "real"):
            raise PixgraftError(f"--metrics {column.name}: is not that of one person's images: leave it out")


def _labelled(file: Path | None, people: Reals, reals: Reals | None) -> tuple[Labels, dict[str, dict[str, str]]]:
    """The labels of the people, and the rows of their images and of the reals by image."""
    labels = _labels(file, people)
    if reals is None or reals is people:
        return labels, labels.of(people.names)
    if file is not None or reals.path == people.path:
        return labels, labels.of([*people.names, *reals.names])
    return labels, labels.of(people.names) | _labels(None, reals).of(reals.names)


def _labels(file: Path | None, images: Reals) -> Labels:
    """The labels in a file, or else beside images."""
    labels = read_labels(file) if file is not None else find_labels(images.path, images.names)
    if labels is None:
        raise PixgraftError(f"{images.path}: no {LABELS_FILE} beside the images: name a CSV file with --labels")
    return labels


def _write(result: dict[str, Any], out: Path) -> list[Path]:
    """Write card.md and card.json; returns the paths."""
    texts = (markdown(result), json.dumps(result, indent=1, allow_nan=False) + "\n")
    contents = {name: text.encode() for name, text in zip(OUTPUTS, texts, strict=True)}
    return write_together(out, contents, pending=(json.dumps(PENDING, indent=1) + "\n").encode())


def markdown(result: dict[str, Any]) -> str:
    """A section for a model card: a table for each attribute, the largest gaps under it, and how all was measured."""
    protocol, model, columns = result["protocol"], result["model"], result["columns"]
    lines = ["## Measured by group", "", f"{literal(model['name'])}, on {_described(protocol)}. {_summary(result)}", ""]
    for attribute in protocol["by"]:
        rows = [row for row in result["rows"] if row["attribute"] == attribute]
        counts = ["people"] + ["images"] * any(row["images"] != row["people"] for row in rows)
        heads = [literal(attribute), *counts, *(column["heading"] for column in columns)]
        lines += [f"### By {literal(attribute)}", "", _line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
        for row in rows:
            name = f"*{EVERYONE}*" if row["group"] is None else literal(row["group"])
            figures = (cell(row["values"], column["label"]) for column in columns)
            cells = (f"{value} ({interval})" if interval else value or "-" for value, interval in figures)
            lines.append(_line([name, *(f"{row[count]:,}" for count in counts), *cells]))
        gaps = [each for each in result["gaps"] if each["attribute"] == attribute]
        marks = ("**" if each["overlap"] is False else "" for each in gaps)
        lines += [
            "",
            *(f"- {mark}{literal(each['sentence'])}{mark}" for mark, each in zip(marks, gaps, strict=True)),
            "",
        ]
    lines += ["### How it was measured", "", *(f"- {literal(note)}" for note in result["notes"])]
    lines += [f"- {column['label']}: {column['about']}." for column in columns]
    lines += [f"- pixgraft {result['made_by']['pixgraft']}; {OUTPUTS[1]} has the data's and the networks' SHA-256.", ""]
    return "\n".join(lines)


def _summary(result: dict[str, Any]) -> str:
    """A sentence on the gaps that are wider than the intervals."""
    apart: dict[str, list[str]] = {}
    for each in result["gaps"]:
        if each["overlap"] is False:
            apart.setdefault(each["attribute"], []).append(each["label"])
    if not apart:
        return "No gap between two groups is wider than their intervals."
    listed = "; ".join(f"by {name}: {', '.join(labels)}" for name, labels in apart.items())
    return f"Gaps wider than the intervals of the two groups: {literal(listed)}."


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _described(protocol: dict[str, Any]) -> str:
    """The data in words."""
    described = []
    for key, what in (("data", "images"), ("real", "reals")):
        if data := protocol.get(key):
            split = f" ({literal(data['split'])})" if data.get("split") else ""
            described.append(f"{data['images']:,} {what} of {literal(data['name'])}{split}")
    return ", beside ".join(described)
