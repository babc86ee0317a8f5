"""A table measured and written: passes through the networks, values by column, estimates, the result and its report.

Processes gather sums and lists only, and sort them by unit before anything is computed, so that several processes give
the numbers of one. Shape letters: N images, K images of a group, D or E numbers that a network gives of an image.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixgraft.data.outputs import write_together
from pixgraft.engine.bars import Bars
from pixgraft.engine.distributed import World, gather_objects, gather_to_first
from pixgraft.errors import PixgraftError
from pixgraft.evaluation import pages
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.findings import findings
from pixgraft.evaluation.kept import RESAMPLES, Kept, read_kept, resamples_entry, resamples_file
from pixgraft.evaluation.metrics_table import INPUTS, METRICS, NEIGHBOURS, SetComparison, SetFeatures
from pixgraft.evaluation.plots import plot_names, plots
from pixgraft.evaluation.result import PENDING, RESULT, Row, figure_entry, made_by, result_json
from pixgraft.evaluation.rows import REALS
from pixgraft.evaluation.sheets import SHEET, Sheet, sheet
from pixgraft.evaluation.subjects import Group, Reals, Subject, single_images
from pixgraft.evaluation.tables import Measurement
from pixgraft.features import PASS, Feature, Role, in_passes, open_feature
from pixgraft.metrics.estimate import Estimate, difference, mean_of

CACHED_FEATURES = 4096
"""Images whose features are cached: a floor repeats its few images for every target."""


@dataclass
class Values:
    """Result of one pass over a subject: values by column, and the features of the whole set by network."""

    columns: dict[Column, list[tuple[int, Tensor]]] = field(default_factory=dict)
    """Units with their values, float64 (K,), or (K, points) for a curve."""
    sets: dict[str, SetFeatures] = field(default_factory=dict)
    people: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """`Group.people` by unit."""

    def add(self, column: Column, unit: int, values: Tensor) -> None:
        """Add a unit's values of one column."""
        self.columns.setdefault(column, []).append((unit, values.detach().double().cpu()))

    def by_unit(self, column: Column) -> tuple[Tensor, Tensor]:
        """All values (N, ...) of a column in the order of their units, and the units (N,)."""
        ordered = sorted(self.columns[column], key=lambda entry: entry[0])
        units = [torch.full((len(values),), unit) for unit, values in ordered]
        return torch.cat([values for _, values in ordered]), torch.cat(units)

    def gathered(self, world: World) -> "Values":
        """The values of all processes, on the first one; the others get their own."""
        shares: list[Values] = gather_to_first(self, world)
        if len(shares) == 1:
            return shares[0]
        whole = Values()
        for share in shares:
            for column, entries in share.columns.items():
                whole.columns.setdefault(column, []).extend(entries)
            whole.people |= share.people
            for network, features in share.sets.items():
                whole.sets.setdefault(network, SetFeatures()).merge(features)
        return whole


class Evaluator:
    """The metrics of one table, with their networks."""

    def __init__(
        self, columns: list[Column], features: Mapping[tuple[str, Role], Feature], device: torch.device, *,
        moments: bool = True,
    ) -> None:  # fmt: skip
        """`features` are the networks by (network, role). Without `moments` the features of all images are kept, for
        those who take moments of some of them."""
        self.columns, self._features, self._device, self._moments = columns, features, device, moments
        self._cache: dict[tuple[int, bytes], Tensor] = {}
        self._sets: dict[str, list[Column]] = {}
        for column in columns:
            if column.metric.of_sets:
                self._sets.setdefault(column.network, []).append(column)

    def measure(self, subject: Subject, world: World, on_image: Callable[[int], None]) -> Values:
        """Values of all groups on the first process, which share the work; the others get their own part.

        `on_image` is called with the number of images of each pass.
        """
        values = Values()
        waiting: list[Group] = []
        for unit in range(world.rank, subject.units, world.size):
            waiting.append(subject.group(unit))
            count = sum(len(group.images) for group in waiting)
            if count >= PASS or unit + world.size >= subject.units:
                self._add_groups(waiting, subject.inputs, values)
                on_image(count)
                waiting = []
        return values.gathered(world)

    def reals(self, images: Reals, world: World, on_image: Callable[[int], None]) -> dict[str, SetFeatures]:
        """The reals' features, by network that compares sets."""
        values = Values()
        share = range(world.rank, len(images), world.size)
        for start in range(0, len(share), PASS):
            units = share[start : start + PASS]
            self._add_to_sets(torch.stack([images[unit] for unit in units]), torch.tensor(units), values)
            on_image(len(units))
        return values.gathered(world).sets

    def _add_groups(self, groups: list[Group], inputs: frozenset[str], values: Values) -> None:
        """Add the values of groups with these `Subject.inputs`."""
        values.people |= {group.unit: group.people for group in groups}
        images = torch.cat([group.images for group in groups])
        units = torch.tensor([group.unit for group in groups for _ in range(len(group.images))])
        self._add_to_sets(images, units, values)
        for column in self.columns:
            lacking = column.metric.may_lack and column.metric.needs not in inputs
            if column.metric.of_images and not lacking:
                for group, part in zip(groups, self._values(column, groups, images), strict=True):
                    values.add(column, group.unit, part)

    def _add_to_sets(self, images: Tensor, units: Tensor, values: Values) -> None:
        for network, columns in self._sets.items():
            moments_only = [self._moments and column.metric.moments_only for column in columns]
            values.sets.setdefault(network, SetFeatures()).add(
                self._embedded(self._features[network, "set"].network, images), units,
                into_moments=any(moments_only), into_table=not all(moments_only),
            )  # fmt: skip

    def _values(self, column: Column, groups: list[Group], images: Tensor) -> list[Tensor]:
        """Values (K,) of each group."""
        metric, counts = column.metric, [len(group.images) for group in groups]
        assert metric.of_images
        parts = [images]
        if metric.needs and not metric.by_group:
            parts.append(torch.cat([group.inputs[metric.needs] for group in groups]))
        if metric.role:
            embed = self._points if metric.role == "perceptual" else self._embedded
            parts = [embed(self._features[column.network, metric.role].network, part) for part in parts]
        if metric.by_group:
            return [metric.of_images(part) for part in parts[0].split(counts)]
        return list(metric.of_images(*parts).split(counts))

    def _embedded(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features (N, D) of uint8 images; those of recent images come from a cache."""
        keys = [(id(network), hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()) for image in images]
        known = {key: self._cache.pop(key) for key in set(keys) & self._cache.keys()}
        missing: dict[tuple[int, bytes], int] = {}
        for place, key in enumerate(keys):
            if key not in known:
                missing.setdefault(key, place)
        if missing:
            features = torch.cat(list(in_passes(network, images[list(missing.values())], self._device)))
            known |= zip(missing, features, strict=True)
        self._cache |= known  # the newest last
        for key in list(self._cache)[: max(len(self._cache) - CACHED_FEATURES, 0)]:
            del self._cache[key]
        return torch.stack([known[key] for key in keys])

    def _points(self, distance: Any, images: Tensor) -> Tensor:
        """A perceptual distance's points (N, E) of uint8 images, of which equal ones go through the network once."""
        distinct, place = images.unique(dim=0, return_inverse=True)
        return torch.cat(list(in_passes(distance.embed, distinct, self._device)))[place]

    def estimates(
        self, values: Values, reals: dict[str, SetFeatures], *, name: str, replicates: int, seed: int
    ) -> dict[Column, Estimate]:
        """A table's row; without curves, and without columns whose input the subject lacks."""
        sets = {
            network: SetComparison(reals[network], values.sets[network], ("the reals", name), replicates, seed)
            for network in self._sets
        }
        row: dict[Column, Estimate] = {}
        for column in self.columns:
            if column.metric.of_sets:
                row[column] = column.metric.of_sets(sets[column.network])
            elif column in values.columns and not column.metric.is_curve:
                row[column] = mean_of(*values.by_unit(column), replicates=replicates, seed=seed)
        return row


@dataclass(frozen=True)
class Measured:
    """A measured table."""

    result: dict[str, Any]
    """The result as plain values."""
    values: dict[str, dict[str, Estimate]]
    """The figures of each row by name and column, with their resamples."""
    sheet: Sheet
    """The images of the rows that were not measured again."""


def measure(
    table: Measurement, weights: Mapping[str, Path], device: torch.device, *,
    seed: int, replicates: int, world: World, bars: Bars, earlier: Path | None = None,
) -> Measured | None:  # fmt: skip
    """The measured table; None on every process but the first. `replicates` 0: no intervals.

    The rows that the result in the folder `earlier` has are taken from it.

    Raises PixgraftError: a metric whose input the subjects lack, too few images, weights that are missing or wrong, an
    image that is unusable.
    """
    start = time.monotonic()
    check(table)
    networks = open_networks(table.columns, weights, device, bars)
    protocol = protocol_entries(table, networks, replicates)
    kept = _kept(earlier, protocol, table, device, world, bars) if earlier else Kept()
    evaluator = Evaluator(table.columns, networks, device)
    curves = [column for column in table.columns if column.metric.is_curve]
    of_sets = any(column.metric.of_sets for column in table.columns)
    reals: dict[str, SetFeatures] = {}
    rows: list[Row] = []
    entries: list[dict[str, Any]] = []
    reals_entries: list[dict[str, Any]] = []
    figures: dict[str, dict[str, Estimate]] = {}
    values_of: dict[str, dict[Column, Tensor]] = {}
    compared: Reals | None = None
    few: dict[str, None] = {}
    for subject in table.subjects:
        if subject.name in kept.values:
            entries.append(kept.rows[subject.name])
            figures[subject.name] = kept.values[subject.name]
            continue
        images = None if table.reals is None else subject.reals or table.reals
        if images is not None and images is not compared:
            compared, count = images, len(images)
            if of_sets:
                reals = evaluator.reals(images, world, bars.part("reals", share(count, world)))
            if curves and not kept.reals:
                single = single_images("reals", images)
                values = Evaluator(curves, {}, device).measure(single, world, lambda count: None)
                name = REALS if images is table.reals and not reals_entries else f"reals of {subject.name}"
                reals_entries.append(Row(name, {}, count, {}, _curve(values, curves)).entry())
        values = evaluator.measure(subject, world, bars.part(subject.name, share(subject.images, world)))
        if world.rank > 0:
            continue
        estimates = evaluator.estimates(values, reals, name=subject.name, replicates=replicates, seed=seed)
        values_of[subject.name] = {column: values.by_unit(column)[0] for column in values.columns}
        figures[subject.name] = {column.label: estimate for column, estimate in estimates.items()}
        row = Row(subject.name, figures[subject.name], subject.images, subject.identity, _curve(values, curves))
        rows.append(row)
        entries.append(row.entry())
        few |= {note: None for column in table.columns if (note := _too_few(column, values, reals))}
        del values  # before the next subject's
    if world.rank > 0:
        return None
    statements = findings(protocol["name"], rows, table.columns, values_of, replicates=replicates, seed=seed)
    seconds = time.monotonic() - start
    notes = [*table.notes, *few, *statements]
    pairs = paired(table.subjects, table.columns, figures) if table.takes_rows else []
    if pairs:
        notes.append(
            "Differences of two rows are those on the same images, the second minus the first; their intervals are of "
            "the same resamples of both."
        )
    result = result_json(table, [*entries, *(kept.reals or reals_entries)], protocol, notes, seconds, device)
    return Measured(result | ({"pairs": pairs} if pairs else {}), figures, kept.sheet)


def _too_few(column: Column, values: Values, reals: Mapping[str, SetFeatures]) -> str:
    """A note, if a distance of moments was measured of fewer images than its covariances need."""
    if not (column.metric.of_sets and column.metric.moments_only):
        return ""
    sides = [each.moments for each in (reals[column.network], values.sets[column.network])]
    known = [each for each in sides if each is not None]
    count, features = min(each.count for each in known), known[0].dimension
    if count > features:
        return ""
    return (
        f"{column.label} was measured of {count:,} images: as of fewer than {features + 1:,} its {features:,} "
        "features have no covariance of full rank. It is too high, more so the fewer there are, and so are its bounds."
    )


def _kept(
    earlier: Path, protocol: dict[str, Any], table: Measurement, device: torch.device, world: World, bars: Bars
) -> Kept:
    """What the first process finds of the table's rows in the result in `earlier`; the others need no images of it."""
    kept = Kept()
    if world.rank == 0:
        try:
            kept = read_kept(earlier, protocol, made_by(device), table.columns, table.subjects)
            bars.note(f"measured before: {', '.join(kept.values) or 'none of these rows'}")
        except PixgraftError as error:
            bars.note(f"all rows are measured anew: {error}")
    return kept if world.size == 1 else replace(gather_objects(replace(kept, sheet={}), world)[0], sheet=kept.sheet)


def paired(
    subjects: Sequence[Subject], columns: Sequence[Column], figures: Mapping[str, Mapping[str, Estimate]]
) -> list[dict[str, Any]]:
    """The differences of each two rows that are measured on the same images, as plain values."""
    pairs = []
    for first, second in combinations([subject for subject in subjects if subject.paired is not None], 2):
        if first.paired != second.paired:
            continue
        values = {}
        for column in columns:
            both = [figures[subject.name].get(column.label) for subject in (first, second)]
            if both[0] and both[1] and (apart := difference(both[0], both[1], biased=column.metric.biased)):
                values[column.label] = figure_entry(apart)
        pairs.append({"first": first.name, "second": second.name, "values": values})
    return pairs


def open_networks(
    columns: Sequence[Column], weights: Mapping[str, Path], device: torch.device, bars: Bars
) -> dict[tuple[str, Role], Feature]:
    """The feature networks of columns by (network, role). Raises PixgraftError if weights are missing or wrong."""
    needed = dict.fromkeys((each.network, each.metric.role) for each in columns if each.metric.role)
    return {(name, role): open_feature(name, weights, device, role=role, note=bars.note) for name, role in needed}


def protocol_entries(
    table: Measurement, networks: Mapping[tuple[str, Role], Feature], replicates: int
) -> dict[str, Any]:
    """Everything that two comparable results have in common."""
    return table.protocol | {
        "metrics": [column.label for column in table.columns],
        "networks": {f"{network} ({role})": feature.sha256 for (network, role), feature in networks.items()},
        "neighbours": NEIGHBOURS,
        "bootstrap": {"replicates": replicates, "interval": "95 %"},
    }


def share(count: int, world: World) -> int:
    """The most images of `count` that a process gets."""
    return -(-count // world.size)


def _curve(values: Values, curves: Sequence[Column]) -> list[float] | None:
    """The mean curve over all images; None if there is none."""
    for column in curves:
        return [float(f"{power:.6g}") for power in values.by_unit(column)[0].mean(0).tolist()]
    return None


def check(table: Measurement) -> None:
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
    for subject in table.subjects:
        needs = {column.metric.needs for column in table.columns}
        if subject.paired is not None and not needs & {"", "real", *subject.inputs}:
            needed = " or ".join(INPUTS[need] for need in sorted(needs))
            raise PixgraftError(f"--row {subject.name}: no metric here measures its images: they need {needed}")
    least = max((column.metric.least for column in table.columns if column.metric.of_sets), default=0)
    counts = [(subject.name, subject.images) for subject in table.subjects]
    if table.reals is not None:
        sets = dict.fromkeys(subject.reals or table.reals for subject in table.subjects)
        counts += [(str(images.path), len(images)) for images in sets]
    for name, count in counts:
        if count < least:
            raise PixgraftError(f"{name}: {count} images; the metrics on sets need at least {least}: add some")


def write(measured: Measured, table: Measurement, out: Path) -> list[Path]:
    """Write result.json, report.md, report.html, images.png and a NAME.svg for each plot, and the resamples of a table
    that takes other rows; returns the paths."""
    result = measured.result
    image, described = sheet([each for each in table.subjects if each.shown], measured.sheet)
    resamples = {}
    if table.takes_rows:
        replicates = result["protocol"]["bootstrap"]["replicates"]
        resamples[RESAMPLES] = resamples_file(table.columns, measured.values, replicates)
        result |= {"resamples": resamples_entry(resamples[RESAMPLES]), "sheet": described}
    drawn = plots(result)
    contents = {
        SHEET: image,
        "report.md": pages.markdown(result).encode(),
        "report.html": pages.page(result, image, drawn.values()).encode(),
        **{name: svg.encode() for name, (_, svg) in drawn.items()},
        **resamples,
        RESULT: (json.dumps(result, indent=1, allow_nan=False) + "\n").encode(),
    }
    return write_together(out, contents, pending=(json.dumps(PENDING, indent=1) + "\n").encode())


def output_names() -> list[str]:
    """The names of all files that `write` may write."""
    return [SHEET, "report.md", "report.html", *plot_names(METRICS), RESAMPLES, RESULT]
