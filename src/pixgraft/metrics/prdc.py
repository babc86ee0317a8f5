"""Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of two sets of features.

The ball of an image has the distance to the k-th nearest other image of its set as its radius.

    precision   of a fake image: 1 if it lies in the ball of any real image, else 0
    density     of a fake image: number of real balls that contain it, divided by k
    recall      of a real image: 1 if it lies in the ball of any fake image, else 0
    coverage    of a real image: 1 if its ball contains any fake image, else 0

A point on a ball's surface is outside. The results are those of exact comparisons of squared distances, which are
float64 sums of squared differences. |x - y|^2 = |x|^2 + |y|^2 - 2 x . y needs one product of matrices for a block of
pairs, in bfloat16 if that is fast on this machine. Bounds on its rounding error decide all pairs except near-ties; only
these need an exact distance.
"""

import itertools
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pixgraft.metrics.sets import LABELS, checked_pair

UNDECIDED = 1 / 8
"""Fraction of undecided pairs in a block above which a float64 product is cheaper than exact distances."""
WAITING = 2**21
"""Number of candidate pairs that are buffered before exact distances are computed: 64 MiB."""
SCRATCH = 2**19
"""Number of features in the reused float64 buffer, 4 MiB. New memory each time would be slower."""


@dataclass(frozen=True)
class PRDC:
    """Values per image, float64; papers report their means."""

    precision: Tensor
    """(M,), per fake image, 0 or 1."""
    recall: Tensor
    """(N,), per real image, 0 or 1."""
    density: Tensor
    """(M,), per fake image, 0 or more."""
    coverage: Tensor
    """(N,), per real image, 0 or 1."""


def prdc(real: Tensor, fake: Tensor, *, k: int = 5, block_size: int = 1024, labels: tuple[str, str] = LABELS) -> PRDC:
    """The four metrics of features (N, D) and (M, D), computed on the CPU.

    `block_size` limits the memory and does not change the results. Intervals of the means (`mean_of`) use fixed radii:
    the duplicates in resampled sets would shrink them. Raises PixgraftError, naming the set, if it has fewer than k + 1
    images or features that are not finite.
    """
    real, fake = checked_pair(real.cpu(), fake.cpu(), labels, at_least=k + 1)
    reals = _Set(real, real.mean(0))  # centred vectors are shorter, so their rounding errors are smaller
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
    """A set's features minus its origin, rounded to a dtype with fast products, and the rounding error."""

    features: Tensor
    """(N, D)"""
    norms: Tensor
    """(N,) squared norms before rounding."""
    error: float
    """Largest norm of a rounding error, relative to the norm of its vector."""


class _Set:
    """Features (N, D) relative to an origin (D,), with a cache of rounded copies by dtype."""

    def __init__(self, features: Tensor, origin: Tensor) -> None:
        self.features, self.origin = features, origin
        self._rounded: dict[torch.dtype, _Rounded] = {}

    def __len__(self) -> int:
        return len(self.features)

    def rounded(self, dtype: torch.dtype) -> _Rounded:
        """The features minus the origin in `dtype`, cached."""
        if dtype in self._rounded:
            return self._rounded[dtype]
        rounded = torch.empty(self.features.shape, dtype=dtype)
        norms = torch.empty(len(self), dtype=torch.float64)
        error = 0.0
        size = max(SCRATCH // self.features.shape[1], 1)
        scratch = torch.empty(size, self.features.shape[1], dtype=torch.float64)
        for rows in _blocks(len(self), size):
            centred = scratch[: rows.stop - rows.start].copy_(self.features[rows]).sub_(self.origin)
            rounded[rows] = centred
            norms[rows] = centred.square().sum(1)
            lost = centred.sub_(rounded[rows]).square_().sum(1) / norms[rows].clamp(min=torch.finfo(torch.float64).tiny)
            error = max(error, float(lost.max().sqrt()))
        return self._rounded.setdefault(dtype, _Rounded(rounded, norms, error))


def _bounds(
    a: _Set, rows: slice, b: _Set, columns: slice, dtype: torch.dtype
) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Lower bounds (R, C) of the squared distances of these rows and columns, and a function for upper bounds.

    The function takes indices i and j into the block, because few pairs need it. For the rounded x', |x - x'| <= e |x|;
    for y, f is likewise. With g the relative error of a sum of products in any order,
    |x . y - (x' . y')| <= (e + f + e f + g (1 + e)(1 + f)) |x| |y|, and 2 |x| |y| <= |x|^2 + |y|^2.
    """
    first, second = a.rounded(dtype), b.rounded(dtype)
    sums = torch.float64 if dtype == torch.float64 else torch.float32  # the dtype of the products' sums and the bounds
    # Twice the error bound of a sum of D products, and 16 more for these lines; eps is twice the rounding error.
    summing = torch.finfo(sums).eps * (first.features.shape[1] + 16)
    e, f = first.error, second.error
    share = e + f + e * f + summing * (1 + e) * (1 + f)
    # The norms and the exact distances, which these bounds must contain, are float64 sums.
    share += 2 * torch.finfo(torch.float64).eps * first.features.shape[1]
    final = 0.51 * torch.finfo(dtype).eps if dtype == torch.bfloat16 else 0.0  # its sums are rounded once more
    least = 1e-30 if sums == torch.float32 else 1e-280  # smaller numbers of this dtype lose precision

    products = first.features[rows] @ second.features[columns].T
    row_norms, column_norms = first.norms[rows], second.norms[columns]
    lower = ((1 - share) * row_norms - least).to(sums)[:, None] + ((1 - share) * column_norms).to(sums)
    lower.sub_(products.to(sums), alpha=2)
    if final:
        lower.sub_(products.to(sums).abs_(), alpha=2 * final)

    def upper(i: Tensor, j: Tensor) -> Tensor:
        product = products[i, j].double()
        return (1 + share) * (row_norms[i] + column_norms[j]) + least - 2 * product + 2 * final * product.abs()

    return lower.clamp_(min=0), upper


def _exact(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Tensor:
    """Squared distances (P,) float64 of rows i of `a` and j of `b`; two rows give the same bits in every call."""
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
    """Slices of nearly equal length, at most `size`, that cover 0..count."""
    parts = -(-count // size)
    edges = [count * part // parts for part in range(parts + 1)] if parts else [0]
    return [slice(*ends) for ends in itertools.pairwise(edges)]


def _precisions() -> Iterator[torch.dtype]:
    """The fastest dtype, then float64 as the fallback if too many pairs remain undecided."""
    yield _quick_type(torch.get_float32_matmul_precision())
    yield torch.float64


@cache
def _quick_type(float32_precision: str) -> torch.dtype:
    """The dtype with the fastest products on this machine. The choice changes times, never results."""
    # If PyTorch may use a lower internal precision for float32 products, the bounds would not hold.
    types = [torch.bfloat16, torch.float32 if float32_precision == "highest" else torch.float64]
    features = [torch.ones(256, 1024, dtype=dtype) for dtype in types]
    seconds = [min(timeit.repeat("x @ x.T", globals={"x": each}, number=1, repeat=3)) for each in features]
    return types[0] if seconds[0] < seconds[1] else types[1]


# --- neighbours ---


class _Nearest:
    """The k smallest squared distances of each image to others of its set, from pairs in any order."""

    def __init__(self, features: Tensor, k: int) -> None:
        self.features, self.k = features, k
        self.smallest = torch.full((len(features), k), torch.inf, dtype=torch.float64)
        self.limit = torch.full((len(features),), torch.inf, dtype=torch.float64)
        """(N,) A pair with a larger distance cannot change the k-th smallest."""
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, pairs: Tensor, lower: Tensor, upper: Tensor) -> None:
        """Add pairs (2, P) of images with bounds (P,) of their squared distances. Each pair is added once."""
        self._waiting.append((pairs, lower.double(), upper))
        if sum(waiting.shape[1] for waiting, _, _ in self._waiting) > WAITING:
            self.settle()

    def settle(self) -> None:
        """Process the buffered pairs, computing exact distances only where needed."""
        if not self._waiting:
            return
        pairs, lower, upper = (torch.cat(parts, -1) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        self.limit = torch.minimum(self.limit, self._with(pairs, upper)[:, -1])
        # The nearest pairs come first: their exact distances exclude more of the others.
        nearest = (upper <= self.limit[pairs]).any(0)
        for mask in (nearest, ~nearest):
            mask &= (lower <= self.limit[pairs]).any(0)
            i, j = pairs[:, mask]
            self.smallest = self._with(pairs[:, mask], _exact(self.features, i, self.features, j))
            # Pairs that equal a known k-th smallest do not change it; in a set of copies these are all pairs.
            below = self.smallest[:, -1].nextafter(torch.tensor(-torch.inf, dtype=torch.float64))
            self.limit = torch.minimum(self.limit, below)

    def _with(self, pairs: Tensor, squares: Tensor) -> Tensor:
        """The k smallest per image (N, k) of `smallest` and the pairs' `squares` (P,), which count for both images."""
        images, numbers = pairs.flatten(), squares.repeat(2)
        candidates = numbers <= self.limit[images]
        images = torch.cat((torch.arange(len(self.limit)).repeat_interleave(self.k), images[candidates]))
        numbers = torch.cat((self.smallest.flatten(), numbers[candidates]))
        order = numbers.argsort()
        order = order[images[order].argsort(stable=True)]
        counts = torch.bincount(images)
        return numbers[order][(counts.cumsum(0) - counts)[:, None] + torch.arange(self.k)]


def _squared_radii(images: _Set, k: int, block_size: int) -> Tensor:
    """Squared distances (N,) float64 of the images to their k-th nearest neighbours."""
    nearest = _Nearest(images.features, k)
    blocks = _blocks(len(images), block_size)
    # Blocks on the diagonal come first: neighbours within a block give limits for the other blocks.
    pairs_of_blocks = [(rows, rows) for rows in blocks]
    pairs_of_blocks += [(rows, columns) for index, rows in enumerate(blocks) for columns in blocks[index + 1 :]]
    for rows, columns in pairs_of_blocks:
        for dtype in _precisions():
            lower, upper = _bounds(images, rows, images, columns, dtype)
            if rows == columns:
                lower.fill_diagonal_(torch.inf)
                if len(lower) > k:
                    i = torch.arange(len(lower))[:, None]
                    j = lower.topk(k, largest=False).indices  # any k others give a limit; the nearest give the lowest
                    nearest.limit[rows] = torch.minimum(nearest.limit[rows], upper(i, j).amax(1))
            limit = _rounded_up(nearest.limit, lower.dtype)
            candidates = (lower <= limit[rows, None]) | (lower <= limit[columns])
            if rows == columns:
                candidates.triu_(1)
            if candidates.sum() <= UNDECIDED * candidates.numel():
                break
        i, j = candidates.nonzero(as_tuple=True)
        nearest.add(torch.stack((i + rows.start, j + columns.start)), lower[i, j], upper(i, j))
    nearest.settle()
    return nearest.smallest[:, -1]


def _near_pairs(
    real: _Set, rows: slice, real_radii: Tensor, fake: _Set, columns: slice, fake_radii: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs i, j of these real and fake images of which one may lie in the other's ball, with squared distances.

    Radii are squared. If its bounds decide both comparisons, a pair's upper bound replaces its distance.
    """
    for dtype in _precisions():
        lower, upper = _bounds(real, rows, fake, columns, dtype)
        near = lower < _rounded_up(real_radii[rows, None], lower.dtype)
        near |= lower < _rounded_up(fake_radii[columns], lower.dtype)
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
    """The non-negative numbers in `dtype`, rounded up."""
    return (numbers * (1 + 1e-6)).to(dtype)
