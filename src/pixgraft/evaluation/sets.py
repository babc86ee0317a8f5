"""Metrics of whole sets: the features of the reals and of a row's images under one network, and the estimates of both.

Shape letters: N images, D features of an image.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from pixgraft.metrics.estimate import Estimate, mean_of
from pixgraft.metrics.frechet import Moments, frechet
from pixgraft.metrics.kernel import kernel_distance
from pixgraft.metrics.prdc import PRDC, prdc

NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""


@dataclass
class SetFeatures:
    """Statistics of one set of images under one network: moments, features or both."""

    moments: Moments | None = None
    features: list[Tensor] = field(default_factory=list)
    units: list[Tensor] = field(default_factory=list)

    def add(self, features: Tensor, units: Tensor, *, into_moments: bool, into_table: bool) -> None:
        """Add features (N, D) of units (N,) to the moments, which take 16 D^2 numbers, or to the table, or to both."""
        if into_moments:
            self.moments = self.moments or Moments(features.shape[1])
            self.moments.update(features, units)
        if into_table:
            self.features.append(features.float())
            self.units.append(units)

    def merge(self, other: "SetFeatures") -> None:
        """Add the statistics of another part of the set."""
        if other.moments is not None:
            self.moments = other.moments if self.moments is None else self.moments + other.moments
        self.features += other.features
        self.units += other.units

    @cached_property
    def table(self) -> tuple[Tensor, Tensor]:
        """All features (N, D) in the order of their units, and the units (N,)."""
        units = torch.cat(self.units)
        order = units.argsort(stable=True)
        return torch.cat(self.features)[order], units[order]


@dataclass
class SetComparison:
    """The reals and one row's images under one network; each method is a metric of `METRICS`."""

    real: SetFeatures
    fake: SetFeatures
    labels: tuple[str, str]
    """Names of the two sets in errors."""
    replicates: int
    seed: int

    def frechet(self) -> Estimate:
        """Fréchet distance of the moments."""
        assert self.real.moments is not None and self.fake.moments is not None
        return frechet(
            self.real.moments, self.fake.moments, replicates=self.replicates, seed=self.seed, labels=self.labels
        )

    def kernel(self) -> Estimate:
        """Kernel distance; 0 of a set to itself, where the unbiased estimate is negative."""
        (real, real_units), (fake, fake_units) = self.real.table, self.fake.table
        if torch.equal(real, fake):
            return Estimate(0.0, 0.0, 0.0, len(real))
        return kernel_distance(
            real, fake, real_units=real_units, fake_units=fake_units,
            replicates=self.replicates, seed=self.seed, labels=self.labels,
        )  # fmt: skip

    def neighbours(self, name: str) -> Estimate:
        """The "precision" or "density" over the fakes, or the "recall" or "coverage" over the reals."""
        values = getattr(self._neighbours, name)
        if name == "recall":
            distinct = self.fake.table[0].unique(dim=0)
            if NEIGHBOURS < len(distinct) < len(self.fake.table[0]):  # repeated images have neighbourhoods of no size
                values = prdc(self.real.table[0], distinct, k=NEIGHBOURS, labels=self.labels).recall
        images = self.fake if name in ("precision", "density") else self.real
        return mean_of(values, images.table[1], replicates=self.replicates, seed=self.seed)

    @cached_property
    def _neighbours(self) -> PRDC:
        return prdc(self.real.table[0], self.fake.table[0], k=NEIGHBOURS, labels=self.labels)
