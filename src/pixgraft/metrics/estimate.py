"""Estimates with 95 % bootstrap intervals (Efron 1979).

A unit is the smallest independent sample: images of the same condition form one unit and are resampled together.
Metrics of whole sets resample blocks of units, which needs only the blocks' sums.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError

BLOCKS = 16
"""Number of blocks for metrics that resample blocks: unit u belongs to block u % BLOCKS."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `low` and `high` equal `value` without resampling."""

    value: float
    low: float
    high: float
    units: int
    """Number of units or blocks resampled. A single one has no interval: all three numbers are equal."""
    resampled: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64), compare=False, repr=False)
    """The values (R,) of the resamples, in the order of their draws: with one seed, those of two estimates over the
    same units belong together. NaN where a resample has no value."""


def mean_of(values: Tensor, units: Tensor, *, replicates: int, seed: int) -> Estimate:
    """The mean of values (N,) with a percentile interval from `replicates` bootstrap resamples of the units.

    `units` (N,) int64 holds each value's unit. Units are weighted by their number of values, so a resampled mean is a
    ratio of two resampled sums. An infinite value makes the mean infinite, and an end of the interval if enough
    resamples contain it. Raises PixgraftError if there are no values.
    """
    if not len(values):
        raise PixgraftError("mean: there are no values: give at least one image")
    values = values.detach().to("cpu", torch.float64)
    distinct, index = units.cpu().unique(return_inverse=True)
    sums = torch.zeros(len(distinct), dtype=torch.float64).index_add_(0, index, values)
    counts = torch.bincount(index).double()
    generator = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(replicates):
        drawn = torch.randint(len(distinct), (len(distinct),), generator=generator)
        means.append(float(sums[drawn].sum() / counts[drawn].sum()))
    resampled = torch.tensor(means, dtype=torch.float64)
    return percentiles(float(sums.sum() / counts.sum()), resampled, units=len(distinct))


def percentiles(value: float, resampled: Tensor, *, units: int) -> Estimate:
    """`value` with the interval that leaves out 2.5 % of the `resampled` values (R,) on either side."""
    if not len(resampled):
        return Estimate(value, value, value, units)
    ordered = resampled.sort().values
    outside = int(0.025 * len(ordered))  # whole ranks: interpolation with an infinite mean would give NaN
    return Estimate(value, float(ordered[outside]), float(ordered[-1 - outside]), units, resampled)


def around(value: float, resampled: Tensor, *, units: int, least: float = -torch.inf) -> Estimate:
    """`value` ± 1.96 standard deviations of the `resampled` values (R,); `low` is at least `least`.

    For metrics that are biased under resampling: their percentile intervals may exclude the value. Resamples that are
    not finite are left out.
    """
    finite = resampled[resampled.isfinite()]
    if not len(finite):
        return Estimate(value, value, value, units)
    reach = 1.96 * float(finite.std(correction=0))
    return Estimate(value, max(value - reach, least), value + reach, units, resampled)


def difference(first: Estimate, second: Estimate, *, biased: bool) -> Estimate | None:
    """`second` minus `first`, two estimates over the same units with one seed, by the differences of their resamples.

    `biased` takes the interval of `around`. None if there is no difference: both are infinite, in some resample too, or
    one of them was resampled otherwise.
    """
    value = second.value - first.value
    if math.isnan(value) or first.units != second.units or len(first.resampled) != len(second.resampled):
        return None
    apart = second.resampled - first.resampled
    if biased:
        return around(value, apart, units=first.units)
    return None if apart.isnan().any() else percentiles(value, apart, units=first.units)


def resampled_weights(filled: Tensor, generator: torch.Generator, *, replicates: int) -> Tensor:
    """Counts (replicates, blocks) float64 of each block in resamples with replacement of the non-empty blocks.

    `filled` (blocks,) bool marks the blocks that hold images; the others have the count 0. `generator` is on the CPU.
    """
    places = filled.cpu().nonzero().squeeze(1)
    drawn = places[torch.randint(len(places), (replicates, len(places)), generator=generator)]
    weights = torch.zeros(replicates, len(filled), dtype=torch.float64)
    return weights.scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
