"""One pass over a model's images, split by labels of the people in them: a row for each group, and the largest gaps.

The person in an image is the unit that a bootstrap draws: several outputs of one source are no several people. Shape
letters: N images, n of them of a group, D features of an image.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pixgraft.data.charts import figure
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError, unknown
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.measure import Values
from pixgraft.evaluation.metrics_table import SetComparison, SetFeatures
from pixgraft.evaluation.result import Row
from pixgraft.metrics.estimate import Estimate, mean_of

LEAST = 10
"""People of the smallest group that is measured: a bootstrap of fewer gives too narrow an interval."""
MOST_GROUPS = 20
EVERYONE = "everyone"
"""The name of the row of all people with a label."""
NO_ATTRIBUTES = ("split", "file", "path", "original")
"""Columns of labels that are not attributes of people unless they are named."""


def attributes(
    asked: Sequence[str], columns: Sequence[str], rows: Mapping[str, Mapping[str, str]], where: str
) -> list[str]:
    """The attributes to group by: those asked, or every column that has from 2 to `MOST_GROUPS` values.

    `rows` are the labels of the images by name. Raises PixgraftError, which begins with `where`, for a column that is
    not there or has another number of values, and if there is none.
    """
    values = {column: {row[column] for row in rows.values() if column in row} for column in columns}
    for name in asked:
        if name not in values:
            raise unknown(f"column of {where} (--by)", name, values)
        if not 2 <= (count := len(values[name])) <= MOST_GROUPS:
            problem = f"these images have {count or 'no'} value{'s' * (count != 1)} of {name}"
            raise PixgraftError(f"{where}: {problem}: group by a column with 2 to {MOST_GROUPS}")
    usable = [
        column for column in columns
        if column not in NO_ATTRIBUTES and 2 <= len(values[column]) <= min(MOST_GROUPS, len(rows) - 1)
    ]  # fmt: skip
    if not asked and not usable:
        raise PixgraftError(f"{where}: no column has 2 to {MOST_GROUPS} values over these images: add one")
    return list(dict.fromkeys(asked)) or usable


class _People:
    """The people in a set's images (N,), by number and label."""

    def __init__(self, names: Sequence[str], labels: Mapping[str, str]) -> None:
        numbers = {name: number for number, name in enumerate(sorted(set(names)))}
        self.numbers = torch.tensor([numbers[name] for name in names])
        self.groups = sorted({labels[name] for name in numbers if name in labels})
        self._labels = [labels.get(name) for name in names]

    def images(self, group: str | None) -> Tensor:
        """The places (n,) of the images of a group, or of all that have a label."""
        chosen = [label == group if group is not None else label is not None for label in self._labels]
        return torch.tensor(chosen, dtype=torch.bool).nonzero().squeeze(1)

    def count(self, images: Tensor) -> int:
        """The number of people in images."""
        return len(self.numbers[images].unique())


class Groups:
    """What a pass gave, to be split by the labels of any attribute."""

    def __init__(
        self, columns: Sequence[Column], values: Values, reals: Mapping[str, SetFeatures], names: Sequence[str], *,
        replicates: int, seed: int,
    ) -> None:  # fmt: skip
        """`values` and `reals`, of images with these `names`, hold the features of all images."""
        self._replicates, self._seed = replicates, seed
        fakes = [name for unit in sorted(values.people) for name in values.people[unit]]
        self._names: dict[str, Sequence[str]] = {"fake": fakes, "real": names}
        self._sets = {
            network: SetComparison(reals[network], features, ("the reals", "the outputs"), replicates, seed)
            for network, features in values.sets.items()
        }
        self._each: dict[Column, tuple[str, Tensor]] = {}
        """For each column that is a mean over images, the set and its values (N,)."""
        for column in columns:
            if column.metric.mean_over:
                each, _ = self._sets[column.network].each(column.name)
                self._each[column] = (column.metric.mean_over, each)
            elif column.metric.of_images:
                self._each[column] = ("fake", values.by_unit(column)[0])
        self._distances = [column for column in columns if column not in self._each]
        self._counts: dict[Column, list[str]] = {column: [] for column in self._distances}

    def rows(self, attribute: str, labels: Mapping[str, str]) -> list[Row]:
        """A row for everyone with a label and one for each group; `labels` are by image."""
        sides = {side: _People(names, labels) for side, names in self._names.items()}
        counted = sides["fake" if self._names["fake"] else "real"]
        groups = (None, *counted.groups)
        values: dict[str | None, dict[str, Estimate]] = {group: {} for group in groups}
        for column, (side, each) in self._each.items():
            people = sides[side]
            for group in groups:
                images = people.images(group)
                if people.count(images) >= LEAST:
                    resampled = {"replicates": self._replicates, "seed": self._seed}
                    values[group][column.label] = mean_of(each[images], people.numbers[images], **resampled)
        for column in self._distances:
            for group, estimate in self._distance(attribute, column, sides, groups).items():
                values[group][column.label] = estimate
        rows = []
        for group in groups:
            images = counted.images(group)
            identity = {"attribute": attribute, "group": group, "people": counted.count(images)}
            rows.append(Row(f"{attribute}: {group or EVERYONE}", values[group], len(images), identity))
        return rows

    def notes(self) -> list[str]:
        """For each distance from how many images it is measured, and of how many it was in the rows so far."""
        notes = []
        for column in self._distances:
            least, counts = self._least(column), "; ".join(self._counts[column])
            note = f"{column.label}: from {least:,} outputs and as many reals of a group"
            if column.metric.moments_only:
                note += f", as of fewer images {least - 1:,} features have no covariance of full rank"
                note += (
                    f". It falls with their number, so groups are compared at equal ones: {counts}" if counts else ""
                )
            notes.append(f"{note}.")
        return notes

    def _least(self, column: Column) -> int:
        """The fewest images on either side that a distance is measured of."""
        features = self._sets[column.network].real.table[0].shape[1]
        return features + 1 if column.metric.moments_only else LEAST

    def _distance(
        self, attribute: str, column: Column, sides: Mapping[str, _People], groups: Sequence[str | None]
    ) -> dict[str | None, Estimate]:
        """A distance between the outputs and the reals of each group that has enough of both."""
        comparison = self._sets[column.network]
        tables = {"fake": comparison.fake.table[0], "real": comparison.real.table[0]}
        by_moments = column.metric.moments_only
        least = self._least(column)
        images = {group: {side: people.images(group) for side, people in sides.items()} for group in groups}
        enough = [
            group for group, each in images.items()
            if min(map(len, each.values())) >= least and sides["fake"].count(each["fake"]) >= LEAST
        ]  # fmt: skip
        if by_moments and enough:
            counts = {side: min(len(images[group][side]) for group in enough) for side in tables}
            for group in enough:
                for side, count in counts.items():
                    places = images[group][side]
                    order = torch.randperm(len(places), generator=generator(self._seed, "groups", side))
                    images[group][side] = places[order[:count].sort().values]
            self._counts[column].append(f"{attribute} {counts['fake']:,} outputs and {counts['real']:,} reals")
        estimates: dict[str | None, Estimate] = {}
        for group in enough:
            parts = {}
            for side, features in tables.items():
                parts[side], chosen = SetFeatures(), images[group][side]
                people = sides[side].numbers[chosen]
                parts[side].add(features[chosen], people, into_moments=by_moments, into_table=not by_moments)
            named = (f"the reals of {group or EVERYONE}", f"the outputs of {group or EVERYONE}")
            assert column.metric.of_sets
            estimates[group] = column.metric.of_sets(
                SetComparison(parts["real"], parts["fake"], named, self._replicates, self._seed)
            )
        return estimates


def gap(attribute: str, rows: Sequence[Row], column: Column) -> dict[str, Any] | None:
    """The two groups of an attribute that a metric sets furthest apart, in plain values; None if fewer have a figure.

    "overlap" says whether their intervals do, None if they have none.
    """
    having = [(row.values[column.label], str(row.identity["group"])) for row in rows
              if row.identity["group"] is not None and column.label in row.values
              and math.isfinite(row.values[column.label].value)]  # fmt: skip
    if len(having) < 2:
        return None
    having.sort(key=lambda each: each[0].value)
    (low, lowest), (high, highest) = having[0], having[-1]
    apart = high.value - low.value
    intervals = low.low < low.high or high.low < high.high  # a share of 0 or 1 has one of no width
    overlap = low.high >= high.low if intervals else None
    ends = {"up": ("the worst", "the best"), "down": ("the best", "the worst")}
    marks = ends.get(column.metric.better, ("the lowest", "the highest"))
    texts = [f"{name}, {mark} ({figure(each.value)})"
             for each, name, mark in zip((low, high), (lowest, highest), marks, strict=True)]  # fmt: skip
    doubt = "" if overlap is None else f"; their intervals {'' if overlap else 'do not '}overlap"
    sentence = f"{column.label}: the largest gap is {figure(apart)}, between {', and '.join(texts)}{doubt}."
    if apart == 0:
        sentence = f"{column.label}: all groups have {figure(low.value)}."
    return {
        "attribute": attribute, "label": column.label, "lowest": lowest, "highest": highest, "difference": apart,
        "overlap": overlap, "sentence": sentence,
    }  # fmt: skip
