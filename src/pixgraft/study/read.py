"""Files of ratings, as the page saved them, held against the study's key."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixgraft.data.check import Finding
from pixgraft.errors import PixgraftError, shown
from pixgraft.files import read_json
from pixgraft.records import from_dict
from pixgraft.study.key import FORMAT, Key

LIMIT = 2**20
"""Bytes of the largest file of ratings; those of the most pictures that a study has take some 60 KiB."""
SCORES = (1, 2, 3, 4, 5)
MOST_RATERS = 9999
NAME_LENGTH = 60
"""Of a rater's name: the page takes no longer one."""


@dataclass(frozen=True)
class Ratings:
    """What one rater saved."""

    format: int
    study: str
    rater: int
    name: str
    """The rater's own words: nothing is to be taken from them but text."""
    ratings: tuple[tuple[int, int, int], ...]
    """The number of the picture, the score and the milliseconds that it took, in the order in which they were shown."""
    checksum: str

    def expected(self) -> str:
        """The checksum, CRC-32, of the other fields."""
        lines = [self.study, str(self.rater), self.name, *(",".join(map(str, each)) for each in self.ratings)]
        return f"{zlib.crc32(chr(10).join(lines).encode(errors='replace')):08x}"

    def shown(self) -> dict[int, list[int]]:
        """The scores of each picture: the first, and that of the repeat if there is one."""
        scores: dict[int, list[int]] = {}
        for item, score, _ in self.ratings:
            scores.setdefault(item, []).append(score)
        return scores


def read_ratings(path: Path, key: Key) -> Ratings:
    """The ratings in a file. Raises PixgraftError, which names the file, unless they are of this study and as they were
    saved."""
    try:
        content = read_json(path, LIMIT)
    except FileNotFoundError:
        raise PixgraftError(f"{path}: no such file: give the files that raters saved") from None
    found = from_dict(Ratings, content, str(path))
    if found.format != FORMAT:
        raise PixgraftError(f"{path}: ratings in format {found.format}: update pixgraft")
    if found.study != key.study:
        raise PixgraftError(f"{path}: of another study, {shown(found.study)}, and this is {key.study}: leave it out")
    if not 1 <= found.rater <= MOST_RATERS:
        raise PixgraftError(f"{path}: rater {found.rater}: numbers are 1 to {MOST_RATERS}: leave it out")
    if len(found.name) > 2 * NAME_LENGTH:  # the page counts characters beyond 16 bits twice
        raise PixgraftError(
            f"{path}: a name of {len(found.name):,} characters, and the page takes {NAME_LENGTH}: edited"
        )
    for item, score, _ in found.ratings:
        if score not in SCORES:
            raise PixgraftError(f"{path}: picture {item} has a {score}, and scores are 1 to 5: leave it out")
        if not 0 <= item < len(key.items):
            raise PixgraftError(f"{path}: rates picture {item} of {len(key.items)}: leave it out")
    times = [len(scores) for scores in found.shown().values()]
    if max(times, default=1) > 2 or sum(times) - len(times) > key.repeats:
        raise PixgraftError(f"{path}: rates more pictures twice than were shown twice: leave it out")
    if found.checksum != found.expected():
        raise PixgraftError(f"{path}: its checksum differs: it was edited after it was saved: ask for it as it was")
    if not found.ratings:
        raise PixgraftError(f"{path}: holds no rating: leave it out")
    return found


def read_all(paths: Sequence[Path], key: Key) -> tuple[list[Ratings], list[Finding]]:
    """The ratings in files by the raters' numbers, and a remark on each file that is left out.

    Raises PixgraftError for a single file that is left out, and if there is none.
    """
    found: dict[int, tuple[Path, Ratings]] = {}
    findings: list[Finding] = []
    for path in paths:
        try:
            ratings = read_ratings(path, key)
            if ratings.rater in found:
                other = found[ratings.rater][0]
                raise PixgraftError(f"{path}: of rater {ratings.rater}, as {other} is: keep the right one")
            found[ratings.rater] = path, ratings
        except PixgraftError as error:
            if len(paths) == 1:
                raise
            findings.append(Finding(str(path), str(error).removeprefix(f"{path}: "), usable=False))
    if not paths:
        raise PixgraftError("say which ratings: the files that raters saved")
    return [ratings for _, (_, ratings) in sorted(found.items())], findings


def scores_of(raters: Sequence[Ratings], key: Key) -> NDArray[np.float64]:
    """The first scores (raters, rows, images), NaN where there is none."""
    scores = np.full((len(raters), len(key.rows), len(key.images)), np.nan)
    for place, rater in enumerate(raters):
        for item, given in rater.shown().items():
            scores[(place, *key.items[item])] = given[0]
    return scores
