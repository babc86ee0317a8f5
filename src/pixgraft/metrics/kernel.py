"""Kernel distance between two sets of features (Binkowski et al. 2018): the unbiased squared MMD with a cubic kernel.

With Inception's features it is known as KID. The usual KID is a mean over random subsets (for example a hundred of 1000
images), which has the same expectation with added sampling noise. Here every pair of images counts once.
"""

import torch
from torch import Tensor

from pixgraft.metrics.estimate import BLOCKS, Estimate, around, resampled_weights
from pixgraft.metrics.sets import LABELS, checked_pair

PIECE = 2048
"""Largest side of a matrix of kernel values, in images: 16 MiB in float32."""


def kernel_distance(
    real: Tensor, fake: Tensor, *, real_units: Tensor, fake_units: Tensor, replicates: int, seed: int,
    labels: tuple[str, str] = LABELS,
) -> Estimate:  # fmt: skip
    """MMD^2 of features (N, D) and (M, D) with the kernel (x . y / D + 1)^3, ± 1.96 bootstrap standard errors.

    Pairs of an image with itself are excluded. The estimate is therefore unbiased: for equal distributions its mean is
    0, and it may be slightly negative. `real_units` (N,) and `fake_units` (M,) int64 are grouped into 16 blocks. Each
    set's blocks are resampled independently, and copies of an image form no pair. Products are in the features' dtype,
    sums in float64, on the features' device. Raises PixgraftError for fewer than two images or different dimensions.
    """
    real, fake = checked_pair(real, fake, labels, at_least=2)
    real_pieces, fake_pieces = _pieces(real, real_units), _pieces(fake, fake_units)
    within_real, within_fake = _within(real_pieces), _within(fake_pieces)
    between = _between(real_pieces, fake_pieces)
    counts = [torch.bincount(each.cpu() % BLOCKS, minlength=BLOCKS).double() for each in (real_units, fake_units)]

    generator = torch.Generator().manual_seed(seed)
    once = torch.ones(1, BLOCKS, dtype=torch.float64)
    weights = [torch.cat((once, resampled_weights(each > 0, generator, replicates=replicates))) for each in counts]
    pairs = (weights[0] @ counts[0]) * (weights[1] @ counts[1])
    apart = 2 * _weighted(between, *weights) / pairs
    values = _mean_within(within_real, counts[0], weights[0]) + _mean_within(within_fake, counts[1], weights[1]) - apart
    # A resample of very few images may have no pairs, and is not finite.
    return around(float(values[0]), values[1:], units=min(int((each > 0).sum()) for each in counts))


def _pieces(features: Tensor, units: Tensor) -> list[tuple[int, Tensor]]:
    """Pairs (block index, features of at most `PIECE` images of the block)."""
    blocks = units.to(features.device) % BLOCKS
    by_block = ((block, features[blocks == block]) for block in range(BLOCKS))
    return [(block, piece) for block, members in by_block for piece in members.split(PIECE) if len(piece)]


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """Kernel values (x . y / D + 1)^3 of all pairs, (N, M)."""
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)


def _within(pieces: list[tuple[int, Tensor]]) -> Tensor:
    """Sums (blocks, blocks) of kernel values over the pairs of different images of one set, per pair of blocks."""
    sums = torch.zeros(BLOCKS, BLOCKS, dtype=torch.float64)
    for index, (row, x) in enumerate(pieces):
        for column, y in pieces[index + 1 :]:
            total = float(_kernel(x, y).sum(dtype=torch.float64))
            sums[row, column] += total
            sums[column, row] += total
        sums[row, row] += float(_kernel(x, x).fill_diagonal_(0).sum(dtype=torch.float64))
    return sums


def _between(real: list[tuple[int, Tensor]], fake: list[tuple[int, Tensor]]) -> Tensor:
    """Sums (blocks, blocks) of kernel values over all pairs of a real and a fake image, per pair of blocks."""
    sums = torch.zeros(BLOCKS, BLOCKS, dtype=torch.float64)
    for row, x in real:
        for column, y in fake:
            sums[row, column] += float(_kernel(x, y).sum(dtype=torch.float64))
    return sums


def _weighted(sums: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Totals (R,) of sums (blocks, blocks), each pair of blocks weighted by both weights (R, blocks)."""
    return (rows @ sums * columns).sum(1)


def _mean_within(sums: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """Mean kernel value (R,) over the pairs of different images, with block counts `weights` (R, blocks)."""
    pairs = (weights @ counts).square() - weights.square() @ counts
    return _weighted(sums, weights, weights) / pairs
