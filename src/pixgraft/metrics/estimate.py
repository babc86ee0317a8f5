"""Estimates with 95 % bootstrap intervals (Efron 1979).

A unit is what was drawn independently: images made from one condition belong together, so they are resampled together.
Measures of whole sets resample blocks of units instead, for which sums suffice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError

BLOCKS = 16
"""Blocks that the units of a set are dealt into where blocks are resampled: unit u goes into block u % BLOCKS."""

OUTSIDE = 0.025
"""Share of the resampled values on either side of a 95 % interval."""

NORMAL = 1.96
"""Standard errors on either side of a value in a 95 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `low` and `high` equal `value` where nothing was resampled."""

    value: float
    low: float
    high: float
    units: int
    """How many units or blocks the interval rests on. One alone has no interval: all three numbers are equal."""


def mean_of(values: Tensor, units: Tensor, *, replicates: int, seed: int) -> Estimate:
    """The mean of all values (N,), and the percentile interval of the means of `replicates` resamplings of the units.

    `units` (N,) int64 says which values belong together. A unit counts with as many values as it has, so a resampled
    mean is the ratio of two resampled sums. An infinite value makes the mean infinite, and the ends of the interval too
    where it is drawn often enough. Raises PixgraftError if there are no values.
    """
    if not len(values):
        raise PixgraftError("mean: there are no values: give at least one image")
    values = values.detach().to("cpu", torch.float64)
    names, of_value = units.cpu().unique(return_inverse=True)
    sums = torch.zeros(len(names), dtype=torch.float64).index_add_(0, of_value, values)
    counts = torch.bincount(of_value).double()
    generator = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(replicates):
        drawn = torch.randint(len(names), (len(names),), generator=generator)
        means.append(float(sums[drawn].sum() / counts[drawn].sum()))
    value = float(sums.sum() / counts.sum())
    if not means:
        return Estimate(value, value, value, len(names))
    means.sort()
    outside = int(OUTSIDE * len(means))  # whole ranks: between two of them an infinite mean would give no number
    return Estimate(value, means[outside], means[-1 - outside], len(names))


def around(value: float, resampled: Tensor, *, units: int, least: float = -torch.inf) -> Estimate:
    """`value` ± 1.96 standard deviations of the `resampled` values (R,), the lower end not below `least`.

    For measures that resampling moves to one side, whose percentiles would not hold the value.
    """
    if not len(resampled):
        return Estimate(value, value, value, units)
    reach = NORMAL * float(resampled.std(correction=0))
    return Estimate(value, max(value - reach, least), value + reach, units)


def resampled_weights(filled: Tensor, generator: torch.Generator, *, replicates: int) -> Tensor:
    """How often each block is drawn (replicates, blocks) float64: as many draws as blocks are filled, with replacement.

    `filled` (blocks,) bool: the blocks that hold images; the others get 0. The generator is a CPU one.
    """
    places = filled.cpu().nonzero().squeeze(1)
    drawn = places[torch.randint(len(places), (replicates, len(places)), generator=generator)]
    weights = torch.zeros(replicates, len(filled), dtype=torch.float64)
    return weights.scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
