"""Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of two sets of features.

Around every image lies a ball whose radius is the distance to the k-th nearest other image of its own set.

    precision   of a fake: whether it lies in the ball of any real image
    density     of a fake: how many real balls it lies in, divided by k
    recall      of a real: whether it lies in the ball of any fake image
    coverage    of a real: whether any fake lies in its own ball

A point on a ball's edge is outside. All comparisons are exact: those of squared distances, each the float64 sum of
squared differences. Few need one: |x - y|^2 = |x|^2 + |y|^2 - 2 x . y takes one product of matrices for a whole block
of pairs, in bfloat16 where this machine is quick at it, and bounds on its rounding decide all pairs but near-ties.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pixgraft.metrics.sets import LABELS, checked_pair

UNDECIDED = 1 / 8
"""Share of a block's pairs from which a float64 product costs less than deciding them one by one."""
WAITING = 2**21
"""Pairs that may be neighbours, kept until it is known which need an exact distance: 64 MiB."""
SCRATCH = 2**19
"""Features worked on at a time in float64: 4 MiB, written over and over. Memory that is new each time costs more."""


@dataclass(frozen=True)
class PRDC:
    """Values of each image, float64; their means are what is usually reported."""

    precision: Tensor
    """(M,) of the fakes, 0 or 1."""
    recall: Tensor
    """(N,) of the reals, 0 or 1."""
    density: Tensor
    """(M,) of the fakes, 0 or more."""
    coverage: Tensor
    """(N,) of the reals, 0 or 1."""


def prdc(real: Tensor, fake: Tensor, *, k: int = 5, block_size: int = 1024, labels: tuple[str, str] = LABELS) -> PRDC:
    """The four measures of features (N, D) and (M, D), computed on the CPU.

    `block_size` bounds the memory, and changes nothing else. An interval of the means (`mean_of`) holds the radii
    fixed: resampled sets hold images twice, which would shrink them. Raises PixgraftError naming the set that has fewer
    than k + 1 images or features that are not finite.
    """
    real, fake = checked_pair(real.cpu(), fake.cpu(), labels, at_least=k + 1)
    reals = _Set(real, real.mean(0))  # about the mean vectors are short, and so is their rounding
    real_radii = _squared_radii(reals, k, block_size)
    fake_radii = _squared_radii(_Set(fake, fake.mean(0)), k, block_size)
    fakes = _Set(fake, reals.origin)

    balls = torch.zeros(len(fake), dtype=torch.float64)
    covered = torch.zeros(len(real), dtype=torch.float64)
    recalled = torch.zeros(len(real), dtype=torch.float64)
    for rows in _blocks(len(real), block_size):
        for columns in _blocks(len(fake), block_size):
            i, j, squares = _near_pairs(reals, rows, real_radii, fakes, columns, fake_radii)
            in_real = squares < real_radii[i]
            balls += torch.bincount(j[in_real], minlength=len(fake))
            covered[i[in_real]] = 1
            recalled[i[squares < fake_radii[j]]] = 1
    return PRDC(precision=(balls > 0).double(), recall=recalled, density=balls / k, coverage=covered)


# --- distances ---


@dataclass(frozen=True)
class _Rounded:
    """A set's features less its origin, in a type whose products are cheap, and how far off they are."""

    features: Tensor
    """(N, D)"""
    norms: Tensor
    """(N,) squared lengths before rounding."""
    error: float
    """Of a rounded vector: the length of its rounding is at most this share of its own."""


class _Set:
    """Features (N, D) seen from an origin (D,), at the precisions that were asked for so far."""

    def __init__(self, features: Tensor, origin: Tensor) -> None:
        self.features = features
        self.origin = origin
        self._rounded: dict[torch.dtype, _Rounded] = {}

    def __len__(self) -> int:
        return len(self.features)

    def rounded(self, dtype: torch.dtype) -> _Rounded:
        """The features in `dtype`."""
        if dtype not in self._rounded:
            self._rounded[dtype] = self._round(dtype)
        return self._rounded[dtype]

    def _round(self, dtype: torch.dtype) -> _Rounded:
        rounded = torch.empty(self.features.shape, dtype=dtype)
        norms = torch.empty(len(self), dtype=torch.float64)
        error = 0.0
        size = max(SCRATCH // self.features.shape[1], 1)
        scratch = torch.empty(size, self.features.shape[1], dtype=torch.float64)
        for rows in _blocks(len(self), size):
            moved = scratch[: rows.stop - rows.start].copy_(self.features[rows]).sub_(self.origin)
            rounded[rows] = moved
            norms[rows] = moved.square().sum(1)
            lost = moved.sub_(rounded[rows]).square_().sum(1) / norms[rows].clamp(min=torch.finfo(torch.float64).tiny)
            error = max(error, float(lost.max().sqrt()))
        return _Rounded(rounded, norms, error)


def _bounds(
    a: _Set, rows: slice, b: _Set, columns: slice, dtype: torch.dtype
) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Numbers (R, C) that the squared distances of these rows and columns are not below, and what they are not above.

    The latter, which few pairs need, as a function of indices i and j into the block. With x' the rounded x,
    |x - x'| <= e |x|, and g the relative error of a sum of products in any order,
    |x . y - (x' . y')| <= (e + f + e f + g (1 + e)(1 + f)) |x| |y|, in which 2 |x| |y| <= |x|^2 + |y|^2.
    """
    first, second = a.rounded(dtype), b.rounded(dtype)
    sums = torch.float64 if dtype == torch.float64 else torch.float32  # what products are summed in, and these bounds
    # Twice the bound of a sum of so many products, and 16 more for these lines: eps is two roundings.
    summing = torch.finfo(sums).eps * (first.features.shape[1] + 16)
    e, f = first.error, second.error
    share = e + f + e * f + summing * (1 + e) * (1 + f)
    # The norms and the exact distances, with which these bounds must agree, are float64 sums.
    share += 2 * torch.finfo(torch.float64).eps * first.features.shape[1]
    of_result = 0.51 * torch.finfo(dtype).eps if dtype == torch.bfloat16 else 0.0  # its sums are rounded once more
    least = 1e-30 if sums == torch.float32 else 1e-280  # below that, numbers of this type lose their precision

    products = first.features[rows] @ second.features[columns].T
    row_norms, column_norms = first.norms[rows], second.norms[columns]
    lower = ((1 - share) * row_norms - least).to(sums)[:, None] + ((1 - share) * column_norms).to(sums)
    lower.sub_(products.to(sums), alpha=2)
    if of_result:
        lower.sub_(products.to(sums).abs_(), alpha=2 * of_result)

    def upper(i: Tensor, j: Tensor) -> Tensor:
        product = products[i, j].double()
        return (1 + share) * (row_norms[i] + column_norms[j]) + least - 2 * product + 2 * of_result * product.abs()

    return lower.clamp_(min=0), upper


def _exact(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Tensor:
    """Squared distances (P,) float64 of rows i of `a` and j of `b`; the same two rows give the same bits everywhere."""
    squares = torch.empty(len(i), dtype=torch.float64)
    size = max(min(SCRATCH // a.shape[1], len(i)), 1)
    rows = torch.empty(size, a.shape[1], dtype=a.dtype)
    differences = torch.empty(size, a.shape[1], dtype=torch.float64)
    for pairs in _blocks(len(i), size):
        count = pairs.stop - pairs.start
        torch.index_select(a, 0, i[pairs], out=rows[:count])
        difference = differences[:count].copy_(rows[:count])
        torch.index_select(b, 0, j[pairs], out=rows[:count])
        squares[pairs] = difference.sub_(rows[:count]).square_().sum(1)
    return squares


def _blocks(count: int, size: int) -> list[slice]:
    """0..count in even parts of at most `size`."""
    parts = -(-count // size)
    edges = [count * part // parts for part in range(parts + 1)] if parts else [0]
    return [slice(*ends) for ends in itertools.pairwise(edges)]


def _precisions() -> Iterator[torch.dtype]:
    """The quick type, and what to fall back on where too many pairs are too close for it."""
    yield _quick_type(torch.get_float32_matmul_precision())
    yield torch.float64


@cache
def _quick_type(float32_precision: str) -> torch.dtype:
    """The type in which products are quickest on this machine. The choice changes times, never results."""
    # Where PyTorch may round float32 products further, the bounds would not hold for them.
    types = [torch.bfloat16, torch.float32 if float32_precision == "highest" else torch.float64]
    seconds = []
    for dtype in types:
        features = torch.ones(256, 1024, dtype=dtype)
        runs = []
        for _ in range(3):
            began = time.perf_counter()
            features @ features.T
            runs.append(time.perf_counter() - began)
        seconds.append(min(runs))
    return types[0] if seconds[0] < seconds[1] else types[1]


# --- neighbours ---


class _Nearest:
    """The k smallest squared distances of each image to others of its set, from pairs that come in any order."""

    def __init__(self, features: Tensor, k: int) -> None:
        self.features = features
        self.k = k
        self.smallest = torch.full((len(features), k), torch.inf, dtype=torch.float64)
        self.limit = torch.full((len(features),), torch.inf, dtype=torch.float64)
        """(N,) A pair whose distance is above can not change the k-th smallest."""
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, pairs: Tensor, lower: Tensor, upper: Tensor) -> None:
        """Pairs (2, P) of images, and bounds (P,) of their squared distances. No pair comes twice."""
        self._waiting.append((pairs, lower.double(), upper))
        if sum(waiting.shape[1] for waiting, _, _ in self._waiting) > WAITING:
            self.settle()

    def settle(self) -> None:
        """Compute what is needed of the waiting pairs' distances."""
        if not self._waiting:
            return
        pairs, lower, upper = (torch.cat(parts, -1) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        self.limit = torch.minimum(self.limit, self._with(pairs, upper)[:, -1])
        # The nearest ones first: their distances leave fewer of the others in question.
        nearest = (upper <= self.limit[pairs]).any(0)
        for chosen in (nearest, ~nearest):
            chosen &= (lower <= self.limit[pairs]).any(0)
            i, j = pairs[:, chosen]
            self.smallest = self._with(pairs[:, chosen], _exact(self.features, i, self.features, j))
            # Pairs that only equal a known k-th smallest do not change it: of a set of copies, that is all of them.
            below = self.smallest[:, -1].nextafter(torch.tensor(-torch.inf, dtype=torch.float64))
            self.limit = torch.minimum(self.limit, below)

    def _with(self, pairs: Tensor, squares: Tensor) -> Tensor:
        """`smallest`, of itself and of the pairs' numbers (P,), each of which is both images'."""
        images, numbers = pairs.flatten(), squares.repeat(2)
        kept = numbers <= self.limit[images]
        images = torch.cat((torch.arange(len(self.limit)).repeat_interleave(self.k), images[kept]))
        numbers = torch.cat((self.smallest.flatten(), numbers[kept]))
        order = numbers.argsort()
        order = order[images[order].argsort(stable=True)]
        counts = torch.bincount(images)
        return numbers[order][(counts.cumsum(0) - counts)[:, None] + torch.arange(self.k)]


def _squared_radii(images: _Set, k: int, block_size: int) -> Tensor:
    """Squared distance (N,) float64 of each image to its k-th nearest other one."""
    nearest = _Nearest(images.features, k)
    blocks = _blocks(len(images), block_size)
    # Blocks on the diagonal come first: neighbours within a block bound those from elsewhere.
    pairs_of_blocks = [(rows, rows) for rows in blocks]
    pairs_of_blocks += [(rows, columns) for index, rows in enumerate(blocks) for columns in blocks[index + 1 :]]
    for rows, columns in pairs_of_blocks:
        for dtype in _precisions():
            lower, upper = _bounds(images, rows, images, columns, dtype)
            if rows == columns:
                lower.fill_diagonal_(torch.inf)
                if len(lower) > k:
                    i = torch.arange(len(lower))[:, None]
                    j = lower.topk(k, largest=False).indices  # any k others do: the nearest few bound best
                    nearest.limit[rows] = torch.minimum(nearest.limit[rows], upper(i, j).amax(1))
            limit = _rounded_up(nearest.limit, lower.dtype)
            wanted = (lower <= limit[rows, None]) | (lower <= limit[columns])
            if rows == columns:
                wanted.triu_(1)
            if wanted.sum() <= UNDECIDED * wanted.numel():
                break
        i, j = wanted.nonzero(as_tuple=True)
        nearest.add(torch.stack((i + rows.start, j + columns.start)), lower[i, j], upper(i, j))
    nearest.settle()
    return nearest.smallest[:, -1]


def _near_pairs(
    real: _Set, rows: slice, real_radii: Tensor, fake: _Set, columns: slice, fake_radii: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of these reals and fakes of which one may lie in the other's ball: i, j, and their squared distances.

    Radii are squared. A distance that cannot be mistaken in either comparison may be another one that compares alike.
    """
    of_real, of_fake = real_radii[rows, None], fake_radii[columns]
    for dtype in _precisions():
        lower, upper = _bounds(real, rows, fake, columns, dtype)
        near = lower < _rounded_up(of_real, lower.dtype)
        near |= lower < _rounded_up(of_fake, lower.dtype)
        i, j = near.nonzero(as_tuple=True)
        low, high = lower[i, j].double(), upper(i, j)
        i, j = i + rows.start, j + columns.start
        undecided = (low < real_radii[i]) & (high >= real_radii[i])
        undecided |= (low < fake_radii[j]) & (high >= fake_radii[j])
        if undecided.sum() <= UNDECIDED * near.numel():
            break
    high[undecided] = _exact(real.features, i[undecided], fake.features, j[undecided])
    return i, j, high


def _rounded_up(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers, 0 or more, in `dtype`: no smaller than they were."""
    return (numbers * (1 + 1e-6)).to(dtype)
