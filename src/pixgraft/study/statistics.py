"""Statistics of ratings: means with intervals, tests of pairs, agreement, and raters who answer at random.

Shape letters: N raters, R rows, I images, B replicates. Scores are (N, R, I) float64, NaN where there is none.
"""

import importlib
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixgraft.engine.seeds import derive
from pixgraft.errors import PixgraftError
from pixgraft.metrics.estimate import Estimate, difference, percentiles

Array = NDArray[np.float64]
LEVEL = 0.05
"""Of the tests of pairs, after Holm's correction."""
UNLIKE, CHANCE = 0.01, 0.05
"""Levels above which a rater agrees with the others, and with the own repeats, no better than chance."""
SHUFFLES = 999
LEAST = 6
"""Least repeats, and least pictures rated, that say something of a rater."""


def scipy_stats() -> Any:
    """The module scipy.stats. Raises PixgraftError, which says how to install it, without it."""
    try:
        return importlib.import_module("scipy.stats")
    except ImportError:
        raise PixgraftError("pixgraft study: needs scipy: pip install 'pixgraft[study]'") from None


def draws(raters: int, images: int, replicates: int, seed: int) -> tuple[Array, Array]:
    """How often resamples with replacement hold each rater, (B, N), and each image, (B, I)."""
    random = np.random.default_rng(derive(seed, "ratings"))
    counts = (random.multinomial(count, np.full(count, 1 / count), size=replicates) for count in (raters, images))
    of_raters, of_images = (each.astype(np.float64) for each in counts)
    return of_raters, of_images


def resampled_means(scores: Array, of_raters: Array, of_images: Array) -> Array:
    """Each row's mean (R, B) over resamples of raters and of images, NaN where one holds no score of the row."""
    rated = ~np.isnan(scores)
    summed, counted = (
        np.einsum("bn,nrb->rb", of_raters, np.einsum("nri,bi->nrb", each, of_images, optimize=True), optimize=True)
        for each in (np.where(rated, scores, 0.0), rated.astype(np.float64))
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(summed / counted)


def opinions(scores: Array, *, replicates: int, seed: int) -> list[Estimate | None]:
    """Each row's mean opinion score, with an interval that draws raters and images; None without a score."""
    resamples = resampled_means(scores, *draws(scores.shape[0], scores.shape[2], replicates, seed))
    estimates: list[Estimate | None] = []
    for row, resampled in enumerate(resamples):
        rated = scores[:, row][~np.isnan(scores[:, row])]
        if not len(rated):
            estimates.append(None)
            continue
        mean = float(rated.mean())
        # A resample without a score of the row, as there may be of few raters who stopped early, says nothing.
        values = torch.from_numpy(np.where(np.isnan(resampled), mean, resampled))
        estimates.append(percentiles(mean, values, units=len(scores)))
    return estimates


@dataclass(frozen=True)
class Pair:
    """Two rows, the second compared with the first."""

    first: int
    second: int
    difference: Estimate | None
    """Of the means, by the same resamples of raters and images."""
    u: float
    """Mann and Whitney's U of the second row."""
    p: float
    """Two-sided, of single scores, which it takes for independent."""
    corrected: float
    """p after Holm's correction over all pairs."""
    effect: float
    """Rank-biserial correlation: how much more often the second row's score is the higher one than the lower, -1..1."""


def pairs(scores: Array, estimates: Sequence[Estimate | None]) -> list[Pair]:
    """Every two rows that have scores."""
    stats = scipy_stats()
    tested = []
    for first, second in itertools.combinations(range(scores.shape[1]), 2):
        one, other = estimates[first], estimates[second]
        if one is None or other is None:
            continue
        a, b = (scores[:, row][~np.isnan(scores[:, row])] for row in (first, second))
        test = stats.mannwhitneyu(b, a, alternative="two-sided", method="asymptotic")
        p = 1.0 if np.isnan(test.pvalue) else float(test.pvalue)  # all scores are one
        effect = 2 * float(test.statistic) / (len(a) * len(b)) - 1
        tested.append((first, second, difference(one, other, biased=False), float(test.statistic), p, effect))
    corrected = holm([p for *_, p, _ in tested])
    return [Pair(*each[:5], whole, each[5]) for each, whole in zip(tested, corrected, strict=True)]


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction (1979) of p-values, in their order."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    corrected, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected


def alpha(scores: Array) -> float | None:
    """Krippendorff's alpha of ordinal scores 1..5: 1 if raters agree on every picture, 0 if as by chance.

    None if no picture has two scores, or all scores are one.
    """
    items = scores.reshape(len(scores), -1)
    counts = np.stack([(items == score).sum(0) for score in range(1, 6)], 1).astype(np.float64)  # (items, 5)
    counts = counts[counts.sum(1) > 1]
    per_item = counts.sum(1, keepdims=True)
    pairable = (counts.T @ (counts / (per_item - 1))) - np.diag((counts / (per_item - 1)).sum(0))
    totals = counts.sum(0)
    between = np.abs(np.subtract.outer(np.cumsum(totals) - totals / 2, np.cumsum(totals) - totals / 2)) ** 2
    by_chance = (np.outer(totals, totals) * between).sum() / max(totals.sum() - 1, 1)
    return None if by_chance == 0 else float(1 - (pairable * between).sum() / by_chance)


@dataclass(frozen=True)
class RaterCheck:
    """How a rater agrees with the own repeats, and with the others."""

    rated: int
    repeats: int
    apart: float | None
    """Mean absolute difference of the two scores of a repeated picture."""
    apart_p: float | None
    """Share of shuffles of the second scores that are as close."""
    correlation: float | None
    """Spearman's, with the mean of the others' scores, over pictures."""
    correlation_p: float | None
    """One-sided, that it is no more than chance."""
    remark: str
    """Why the rater is named; empty for most."""


def check_rater(
    own: Array, others: Array, repeats: Sequence[tuple[int, int]], *, seed: int
) -> RaterCheck:  # fmt: skip
    """A rater's scores (R, I) beside the `others` (N - 1, R, I), and the two scores of each repeat."""
    apart = apart_p = correlation = correlation_p = None
    if repeats:
        first, second = np.array(repeats, dtype=np.float64).T
        apart = float(np.abs(first - second).mean())
        if len(repeats) >= LEAST:
            random = np.random.default_rng(derive(seed, "repeats"))
            shuffled = random.permuted(np.tile(second, (SHUFFLES, 1)), axis=1)
            closer = (np.abs(shuffled - first).mean(1) <= apart).sum()
            apart_p = (1 + int(closer)) / (SHUFFLES + 1)
    scores = own[~np.isnan(own)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no scores is NaN
        mean = np.nanmean(others, 0) if len(others) else np.full_like(own, np.nan)
    both = ~np.isnan(own) & ~np.isnan(mean)
    same = len(set(scores.tolist())) < 2
    if both.sum() >= LEAST and not same and np.ptp(mean[both]) > 0:
        found = scipy_stats().spearmanr(own[both], mean[both], alternative="greater")
        correlation, correlation_p = float(found.statistic), float(found.pvalue)
    unlike = correlation_p is not None and correlation_p > UNLIKE
    careless = apart_p is not None and apart_p > CHANCE
    if same and len(scores) >= LEAST:
        remark = f"always gives {scores[0]:.0f}"
    elif unlike and (careless or apart_p is None):
        consistent = ", nor with the own repeats" if careless else ", and too few repeats"
        remark = f"as if at random: agrees with the others no better than chance{consistent}"
    elif unlike:
        remark = "agrees with the own repeats, but with the others no better than chance"
    else:
        remark = ""
    return RaterCheck(len(scores), len(repeats), apart, apart_p, correlation, correlation_p, remark)
