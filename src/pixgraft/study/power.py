"""`pixgraft study power`: how often studies of so many raters and images find a difference, by simulation."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pixgraft.engine.seeds import derive
from pixgraft.study.options import PowerOptions
from pixgraft.study.statistics import LEVEL, Array, draws, resampled_means, scipy_stats

REPLICATES = 200
ENOUGH = 0.8
"""The share of studies that are to find the difference."""


@dataclass(frozen=True)
class Power:
    """Shares of simulated studies that find a difference."""

    raters: int
    images: int
    """Of each row."""
    by_test: float
    """By Mann and Whitney's U, at the level of the first of Holm's comparisons."""
    by_interval: float
    """By the 95 % interval over raters and images, which does not hold 0."""


def power(options: PowerOptions, progress: Callable[[int], None] = lambda _: None) -> list[Power]:
    """An entry for each number of raters and of images; `progress` is called for each.

    Raises PixgraftError for numbers that make no study, and without scipy.
    """
    options.check()
    entries = []
    for raters in options.raters:
        for images in options.images:
            entries.append(_power(options, raters, images))
            progress(1)
    return entries


def _power(options: PowerOptions, raters: int, images: int) -> Power:
    random = np.random.default_rng(derive(options.seed, "power", raters, images))
    of_raters, of_images = draws(raters, images, REPLICATES, options.seed)
    level = LEVEL / math.comb(options.rows, 2)
    test = scipy_stats().mannwhitneyu
    tested = apart = 0
    for _ in range(options.studies):
        scores = simulated(options, raters, images, random)
        first, second = scores[:, 0].ravel(), scores[:, 1].ravel()
        tested += bool(test(second, first, alternative="two-sided", method="asymptotic").pvalue < level)
        one, other = resampled_means(scores, of_raters, of_images)
        low, high = np.quantile(other - one, (LEVEL / 2, 1 - LEVEL / 2))
        apart += bool(low > 0 or high < 0)
    return Power(raters, images, tested / options.studies, apart / options.studies)


def simulated(options: PowerOptions, raters: int, images: int, random: np.random.Generator) -> Array:
    """Scores (raters, 2, images) of two rows, the second the better one.

    An opinion is the row's, plus the rater's strictness, the image's quality, the image's own in this row, and noise;
    a score is the opinion rounded to 1..5. The rows' opinions are such that the scores' means are those asked for.
    """
    own = (options.rater_sd, options.image_sd, options.own_sd, options.noise_sd)
    deviation = math.hypot(*own)
    means = (options.mean - options.difference, options.mean)
    opinion = np.array([opinion_of(mean, deviation) for mean in means]).reshape(1, 2, 1)
    shapes = ((raters, 1, 1), (1, 1, images), (1, 2, images), (raters, 2, images))
    parts = (sd * random.standard_normal(shape) for sd, shape in zip(own, shapes, strict=True))
    return np.clip(np.rint(opinion + sum(parts)), 1, 5)


def mean_score(opinion: float, deviation: float) -> float:
    """The mean of opinions that are normal, with this mean and deviation, and rounded to 1..5."""
    above = (0.5 * math.erfc((score - 0.5 - opinion) / (deviation * math.sqrt(2))) for score in (2, 3, 4, 5))
    return 1 + sum(above)


def opinion_of(mean: float, deviation: float) -> float:
    """The inverse of `mean_score`, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_score(middle, deviation) < mean else (low, middle)
    return (low + high) / 2


def fewest(entries: list[Power]) -> Power | None:
    """The entry of the fewest ratings by which enough studies find the difference both ways; None if there is none."""
    enough = [each for each in entries if min(each.by_test, each.by_interval) >= ENOUGH]
    return min(enough, key=lambda each: each.raters * each.images, default=None)
