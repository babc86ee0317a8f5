"""A table measured and written: networks opened, rows measured, the result and its report."""

import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixgraft.engine.bars import Bars
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.evaluation import pages
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.findings import findings
from pixgraft.evaluation.measure import Evaluator, Values
from pixgraft.evaluation.metrics_table import INPUTS
from pixgraft.evaluation.plots import plots
from pixgraft.evaluation.result import Row, result_json
from pixgraft.evaluation.sets import NEIGHBOURS
from pixgraft.evaluation.subjects import Subject, single_images
from pixgraft.evaluation.tables import Measurement
from pixgraft.features import Feature, open_feature
from pixgraft.files import write_bytes


def measure(
    table: Measurement, weights: Mapping[str, Path], device: torch.device, *,
    seed: int, replicates: int, world: World, bars: Bars,
) -> dict[str, Any] | None:  # fmt: skip
    """The result as plain values; None on every process but the first. `replicates` 0: no intervals.

    Raises PixgraftError: a metric whose input the subjects lack, too few images, weights that are missing or wrong, an
    image that is unusable.
    """
    start = time.monotonic()
    _check(table)
    networks: dict[tuple[str, str], Feature] = {}
    for column in table.columns:
        role = column.metric.role
        if role is not None and (column.network, role) not in networks:
            networks[column.network, role] = open_feature(
                column.network, weights, device, role=role, note=bars.note
            )
    evaluator = Evaluator(table.columns, networks, device)
    curves = [column for column in table.columns if column.metric.is_curve]
    reals = {}
    reals_row = None
    if table.reals is not None:
        count = len(table.reals)
        if any(column.metric.of_sets for column in table.columns):
            reals = evaluator.reals(table.reals, world, bars.part("reals", _share(count, world)))
        if curves:
            single = single_images("reals", table.reals)
            values = Evaluator(curves, {}, device).measure(single, world, lambda count: None)
            reals_row = Row("reals", {}, count, {}, _curve(values, curves))
    rows: list[Row] = []
    values_of: dict[str, dict[Column, Tensor]] = {}
    for subject in table.subjects:
        values = evaluator.measure(subject, world, bars.part(subject.name, _share(subject.images, world)))
        if world.rank > 0:
            continue
        estimates = evaluator.estimates(values, reals, name=subject.name, replicates=replicates, seed=seed)
        values_of[subject.name] = {column: values.by_unit(column)[0] for column in values.columns}
        figures = {column.label: estimate for column, estimate in estimates.items()}
        rows.append(Row(subject.name, figures, subject.images, subject.identity, _curve(values, curves)))
        del values  # before the next subject's
    if world.rank > 0:
        return None
    protocol = table.protocol | {
        "metrics": [column.label for column in table.columns],
        "networks": {f"{network} ({role})": feature.sha256 for (network, role), feature in networks.items()},
        "neighbours": NEIGHBOURS,
        "bootstrap": {"replicates": replicates, "interval": "95 %"},
    }
    statements = findings(protocol["name"], rows, table.columns, values_of, replicates=replicates, seed=seed)
    rows += [reals_row] if reals_row else []
    return result_json(table, rows, protocol, [*table.notes, *statements], time.monotonic() - start)


def _share(count: int, world: World) -> int:
    return -(-count // world.size)


def _curve(values: Values, curves: Sequence[Column]) -> list[float] | None:
    """The mean curve over all images; None if there is none."""
    for column in curves:
        return [float(f"{power:.6g}") for power in values.by_unit(column)[0].mean(0).tolist()]
    return None


def _check(table: Measurement) -> None:
    """Raise PixgraftError for what is wrong with a table before any network runs."""
    for column in table.columns:
        metric = column.metric
        if metric.needs == "real":
            if table.reals is None:
                raise PixgraftError(f"--metrics {column.name}: compares with a set of reals: give --real")
            continue
        lacking = [subject for subject in table.subjects if metric.needs and metric.needs not in subject.inputs]
        if lacking and not (metric.may_lack and len(lacking) < len(table.subjects)):
            has = ", ".join(sorted(lacking[0].inputs)) or "nothing beside them"
            needed = f"--metrics {column.name}: needs {INPUTS[metric.needs]}"
            raise PixgraftError(f"{needed}; {lacking[0].name}'s images have {has}")
    least = max((column.metric.least for column in table.columns if column.metric.of_sets), default=0)
    counts = [(subject.name, subject.images) for subject in table.subjects]
    if table.reals is not None:
        counts.append((str(table.reals.path), len(table.reals)))
    for name, count in counts:
        if count < least:
            raise PixgraftError(f"{name}: {count} images; the metrics on sets need at least {least}: add some")


def write(result: dict[str, Any], subjects: Sequence[Subject], out: Path) -> list[Path]:
    """Write result.json, report.md, report.html, images.png and a NAME.svg for each plot; returns the paths."""
    file = io.BytesIO()
    pages.sheet(subjects).save(file, "PNG")
    drawn = plots(result)
    contents = {
        "images.png": file.getvalue(),
        "report.md": pages.markdown(result).encode(),
        "report.html": pages.page(result, file.getvalue(), drawn.values()).encode(),
        **{name: svg.encode() for name, (_, svg) in drawn.items()},
        "result.json": (json.dumps(result, indent=1, allow_nan=False) + "\n").encode(),
    }
    for name, data in contents.items():
        write_bytes(out / name, data)
    return [out / name for name in contents]
