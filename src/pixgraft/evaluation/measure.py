"""From groups of images to numbers: the networks' passes, what is kept of them, and the estimates with intervals.

Sums and lists only: they are gathered from all processes and put into the order of the units before anything is
computed of them, so that several processes give one process's numbers.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pixgraft.data.images import from_uint8
from pixgraft.engine.distributed import World, gather_to_first
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.subjects import Group, Reals, Subject, shared_out
from pixgraft.features import Feature
from pixgraft.metrics.consistency import consistency
from pixgraft.metrics.estimate import Estimate, mean_of
from pixgraft.metrics.frechet import Moments, frechet
from pixgraft.metrics.kernel import kernel_distance
from pixgraft.metrics.paired import l1, l2, psnr, ssim
from pixgraft.metrics.piqe import piqe
from pixgraft.metrics.prdc import PRDC, prdc
from pixgraft.metrics.spectrum import azimuthal_spectrum

PASS = 16
"""Images in each pass of a network, the last one filled up: other sizes would round otherwise."""
KEPT = ("kd", "precision", "recall", "density", "coverage")
"""Metrics that need every image's features; a Fréchet distance needs their moments alone."""
REMEMBERED = 4096
"""Images whose features are remembered: a floor repeats its few images for every target."""
NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""
PAIRED = {"l1": l1, "l2": l2, "psnr": psnr, "ssim": ssim}


@dataclass
class SetFeatures:
    """What is kept of one set of images under one network."""

    moments: Moments | None = None
    features: list[Tensor] = field(default_factory=list)
    units: list[Tensor] = field(default_factory=list)

    def add(self, features: Tensor, units: Tensor, *, counted: bool, kept: bool) -> None:
        """Count features (N, D) of units (N,) into the moments, which take 16 D^2 numbers, or keep them, or both."""
        if counted:
            self.moments = self.moments or Moments(features.shape[1])
            self.moments.update(features, units)
        if kept:
            self.features.append(features.float())
            self.units.append(units)

    def table(self) -> tuple[Tensor, Tensor]:
        """All kept features (N, D) in the order of their units, and these."""
        units = torch.cat(self.units)
        order = units.argsort(stable=True)
        return torch.cat(self.features)[order], units[order]


@dataclass
class Measured:
    """What one pass over a subject leaves: values of each image by column, and sets by network."""

    values: dict[Column, list[tuple[int, Tensor]]] = field(default_factory=dict)
    """Of each unit: float64 (values,), or (values, bins) for a spectrum."""
    sets: dict[str, SetFeatures] = field(default_factory=dict)

    def add(self, column: Column, unit: int, values: Tensor) -> None:
        """Keep a unit's values of one column."""
        self.values.setdefault(column, []).append((unit, values.detach().double().cpu()))


class Gauge:
    """The metrics of one table, with their networks."""

    def __init__(
        self, columns: list[Column], features: Mapping[tuple[str, str], Feature], device: torch.device
    ) -> None:
        """`features` are by (network, role)."""
        self.columns, self._features, self._device = columns, features, device
        self._seen: dict[tuple[int, bytes], Tensor] = {}
        self._sets = list(dict.fromkeys(c.network for c in columns if c.about.role == "set"))

    def measure(self, subject: Subject, world: World, on_image: Callable[[int], None]) -> Measured:
        """All groups, of which each process takes its share; the first gets the whole, the others their own part.

        `on_image` hears how many images each step took.
        """
        measured = Measured()
        waiting: list[Group] = []
        for unit in shared_out(len(subject), world.rank, world.size):
            waiting.append(subject[unit])
            if sum(len(group.images) for group in waiting) >= PASS:
                self._take(waiting, measured)
                on_image(sum(len(group.images) for group in waiting))
                waiting = []
        if waiting:
            self._take(waiting, measured)
            on_image(sum(len(group.images) for group in waiting))
        return gathered(measured, world)

    def reals(self, pictures: Reals, world: World, on_image: Callable[[int], None]) -> dict[str, SetFeatures]:
        """The reals' features, under each network that compares sets."""
        measured = Measured()
        own = list(shared_out(len(pictures), world.rank, world.size))
        for start in range(0, len(own), PASS):
            units = own[start : start + PASS]
            self._take_sets(torch.stack([pictures[unit] for unit in units]), torch.tensor(units), measured)
            on_image(len(units))
        return gathered(measured, world).sets

    def _take(self, groups: list[Group], measured: Measured) -> None:
        images = torch.cat([group.images for group in groups])
        units = torch.tensor([group.unit for group in groups for _ in range(len(group.images))])
        if self._sets:
            self._take_sets(images, units, measured)
        for column in self.columns:
            if column.about.role != "set" and not (column.metric == "seconds" and groups[0].seconds is None):
                for group, values in zip(groups, self._values(column, groups, images), strict=True):
                    measured.add(column, group.unit, values)

    def _take_sets(self, images: Tensor, units: Tensor, measured: Measured) -> None:
        for network in self._sets:
            metrics = {column.metric for column in self.columns if column.network == network}
            features = self._embedded(self._features[network, "set"].network, images)
            measured.sets.setdefault(network, SetFeatures()).add(
                features, units, counted="fd" in metrics, kept=not metrics.isdisjoint(KEPT)
            )

    def _embedded(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features (N, D) of uint8 images; those of an image seen not long ago are remembered."""
        keys = [(id(network), hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()) for image in images]
        known = {key: self._seen.pop(key) for key in set(keys) & self._seen.keys()}
        missing: dict[tuple[int, bytes], int] = {}
        for place, key in enumerate(keys):
            if key not in known:
                missing.setdefault(key, place)
        if missing:
            made = torch.cat(list(passes(network, images[list(missing.values())], self._device)))
            known |= zip(missing, made, strict=True)
        self._seen |= known  # the newest last
        for key in list(self._seen)[: max(len(self._seen) - REMEMBERED, 0)]:
            del self._seen[key]
        return torch.stack([known[key] for key in keys])

    def _points(self, distance: Any, images: Tensor) -> Tensor:
        """A perceptual distance's points (N, E) of uint8 images, of which equal ones go through the network once."""
        distinct, place = images.unique(dim=0, return_inverse=True)
        return torch.cat(list(passes(distance.embed, distinct, self._device)))[place]

    def _values(self, column: Column, groups: list[Group], images: Tensor) -> list[Tensor]:
        """One tensor of values for each group."""
        counts = [len(group.images) for group in groups]
        name = column.metric
        if name in PAIRED:
            return list(PAIRED[name](images, _joined(groups, "reference")).split(counts))
        if name == "piqe":
            return list(piqe(images).split(counts))
        if name == "spectrum":
            return list(azimuthal_spectrum(images).split(counts))
        if name == "seconds":
            return list(_joined(groups, "seconds").split(counts))
        if name.startswith("change-"):
            return [(group.changes or {})[column.about.needs] for group in groups]
        if name.startswith("consistency"):
            each = consistency(images, _joined(groups, "lr"))
            values = [one.mean if name == "consistency" else one.largest for one in each]
            return list(torch.tensor(values, dtype=torch.float64).split(counts))
        feature = self._features[column.network, str(column.about.role)].network
        if column.about.role == "perceptual":
            own = self._points(feature, images)
            if name == "perceptual":
                wanted = self._points(feature, _joined(groups, "reference"))
                return list((own - wanted).square().sum(1).split(counts))
            return [_among(each) for each in own.split(counts)]
        own = self._embedded(feature, images)
        theirs = self._embedded(feature, _joined(groups, "source" if name == "identity" else "other"))
        return list(torch.nn.functional.cosine_similarity(own, theirs).split(counts))

    def estimates(
        self, measured: Measured, reals: dict[str, SetFeatures], *, name: str, replicates: int, seed: int
    ) -> dict[Column, Estimate]:
        """The table's row; a spectrum is no number and is left out, as is the time of what no model made."""
        row: dict[Column, Estimate] = {}
        neighbours: dict[str, PRDC] = {}
        labels = ("the reals", name)
        for column in self.columns:
            if column.metric == "spectrum" or (column.metric == "seconds" and column not in measured.values):
                continue
            if column.about.role != "set":
                values, units = listed(measured.values[column])
                row[column] = mean_of(values, units, replicates=replicates, seed=seed)
                continue
            real, fake = reals[column.network], measured.sets[column.network]
            if column.metric == "fd":
                assert real.moments is not None
                assert fake.moments is not None
                row[column] = frechet(real.moments, fake.moments, replicates=replicates, seed=seed, labels=labels)
                continue
            (real_table, real_units), (fake_table, fake_units) = real.table(), fake.table()
            if column.metric == "kd" and torch.equal(real_table, fake_table):
                row[column] = Estimate(0.0, 0.0, 0.0, len(real_table))  # one and the same set; unbiased it is negative
                continue
            if column.metric == "kd":
                row[column] = kernel_distance(
                    real_table, fake_table, real_units=real_units, fake_units=fake_units,
                    replicates=replicates, seed=seed, labels=labels,
                )  # fmt: skip
                continue
            if column.network not in neighbours:
                neighbours[column.network] = prdc(real_table, fake_table, k=NEIGHBOURS, labels=labels)
            values = getattr(neighbours[column.network], column.metric)
            if column.metric == "recall":
                distinct = fake_table.unique(dim=0)
                if NEIGHBOURS < len(distinct) < len(fake_table):
                    # A floor repeats its images, whose neighbourhoods would then have no size at all.
                    values = prdc(real_table, distinct, k=NEIGHBOURS, labels=labels).recall
            of_fakes = column.metric in ("precision", "density")
            row[column] = mean_of(
                values, fake_units if of_fakes else real_units, replicates=replicates, seed=seed
            )
        return row

    def spectrum(self, measured: Measured) -> Tensor | None:
        """The mean spectrum (bins,) over all images, if it was asked for."""
        column = Column("spectrum")
        if column not in measured.values:
            return None
        return torch.cat([values for _, values in sorted(measured.values[column], key=_unit)]).mean(0)


def passes(network: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Iterable[Tensor]:
    """What a network gives for uint8 images (N, 3, H, W), in passes of `PASS`, on the CPU."""
    filled = torch.cat((images, images[-1:].expand(-len(images) % PASS, -1, -1, -1)))
    left = len(images)
    with torch.inference_mode():
        for part in filled.split(PASS):
            yield network(from_uint8(part.to(device)))[:left].cpu()
            left -= PASS


def _among(embedded: Tensor) -> Tensor:
    """The mean distance among a group's embeddings (K, E), as one value of the group."""
    pairs = torch.combinations(torch.arange(len(embedded)))
    return torch.stack([(embedded[a] - embedded[b]).square().sum() for a, b in pairs.tolist()]).mean().unsqueeze(0)


def _joined(groups: list[Group], name: str) -> Tensor:
    parts = [getattr(group, name) for group in groups]
    if any(part is None for part in parts):
        raise PixgraftError(f"the images come without a {name}, which a metric needs: leave that metric out")
    return torch.cat(parts)


def _unit(entry: tuple[int, Tensor]) -> int:
    return entry[0]


def listed(entries: list[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
    """All values (N,) in the order of their units, and these (N,)."""
    ordered = sorted(entries, key=_unit)
    units = [torch.full((len(values),), unit) for unit, values in ordered]
    return torch.cat([values for _, values in ordered]), torch.cat(units)


def gathered(measured: Measured, world: World) -> Measured:
    """The shares of all processes as one, on the first; the others keep their own."""
    shares: list[Measured] = gather_to_first(measured, world)
    if len(shares) == 1:
        return shares[0]
    whole = Measured()
    for share in shares:
        for column, entries in share.values.items():
            whole.values.setdefault(column, []).extend(entries)
        for network, found in share.sets.items():
            into = whole.sets.setdefault(network, SetFeatures())
            if found.moments is not None:
                into.moments = found.moments if into.moments is None else into.moments + found.moments
            into.features += found.features
            into.units += found.units
    return whole
