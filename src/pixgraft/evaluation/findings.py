"""Statements of a paper on its table, compared with the measured rows."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from pixgraft.data.charts import figure
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.protocols import PROTOCOLS
from pixgraft.evaluation.result import Row
from pixgraft.methods.tasks import SCALES
from pixgraft.metrics.estimate import Estimate, mean_of


def findings(
    protocol: str, rows: Sequence[Row], columns: Sequence[Column], values: Mapping[str, Mapping[Column, Tensor]], *,
    replicates: int, seed: int,
) -> list[str]:  # fmt: skip
    """A sentence for each statement of that protocol's paper that these columns can confirm or refute.

    `values` are the values of each image (N,) by row name and column, all in one order.
    """
    if protocol == "ome-table3":
        names = [variant.name for variant in PROTOCOLS[protocol].variants]
        orders = {"in the paper's order": names[:3], "with equal numbers of updates in the paper's order": names[1::2]}
        gain = partial(mean_of, replicates=replicates, seed=seed)
        compared = [column for column in columns if column.name in ("psnr", "perceptual")]
        return [_order(order, each, column, values, gain) for column in compared for order, each in orders.items()]
    if protocol == "ome-figure7":
        return _scales(rows, columns)
    if protocol == "ome-figure8":
        return [_fall(rows, column) for column in columns if column.name in ("perceptual", "l2")]
    return []


def _order(
    order: str, names: Sequence[str], column: Column, values: Mapping[str, Mapping[Column, Tensor]],
    mean: Callable[..., Estimate],
) -> str:  # fmt: skip
    """Says whether each row is better than the one before it, by the differences on the same images.

    `order` names that order in the sentence.
    """
    sign = 1 if column.metric.better == "up" else -1
    gains, parts = [], []
    for before, after in pairwise(names):
        apart = sign * (values[after][column] - values[before][column])
        gains.append(gain := mean(apart, torch.arange(len(apart))))
        parts.append(f"{after} is {'' if gain.value > 0 else 'not '}better than {before}, by {_shown(gain)}")
    order = order if all(gain.value > 0 for gain in gains) else f"not {order}"
    undecided = any(gain.low <= 0 <= gain.high for gain in gains)
    doubt = "; an interval that holds 0 leaves it open" if undecided else ""
    return f"{column.label}: {order} (differences on the same images): {'; '.join(parts)}{doubt}."


def _scales(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Says whether fine and middle codes change more than the coarse ones, over all steps."""
    labels = {column.name: column.label for column in columns}
    metrics = [f"change-{scale}" for scale in SCALES]
    if not labels.keys() >= set(metrics):
        return []
    coarse, middle, fine = (sum(row.values[labels[each]].value for row in rows) / len(rows) for each in metrics)
    values = f"coarse {figure(coarse)}, middle {figure(middle)}, fine {figure(fine)}, a mean over the steps"
    if min(middle, fine) > coarse:
        return [f"The fine and middle codes change more than the coarse ones, as in the paper: {values}."]
    return [f"Not as in the paper, the fine and middle codes do not both change more than the coarse ones: {values}."]


def _fall(rows: Sequence[Row], column: Column) -> str:
    """Says whether the distance falls with each step."""
    values = [row.values[column.label].value for row in rows]
    rises = [row.name for row, (before, after) in zip(rows[1:], pairwise(values), strict=True) if after >= before]
    ends = f"from {_shown(rows[0].values[column.label])} to {_shown(rows[-1].values[column.label])}"
    if not rises:
        return f"{column.label}: the distance falls at each step, {ends}."
    whole = "falls on the whole" if values[-1] < values[0] else "does not fall"
    return f"{column.label}: the distance {whole}, {ends}, and does not fall at {', '.join(rises)}."


def _shown(estimate: Estimate) -> str:
    if estimate.low == estimate.high:
        return figure(estimate.value)
    return f"{figure(estimate.value)}, {figure(estimate.low)} to {figure(estimate.high)}"
