"""Kernel distance between two sets of features (Binkowski et al. 2018): the unbiased squared MMD under a cubic kernel.

With Inception's features it is known as KID. The usual KID is the mean of this over random subsets (a hundred of 1000
images, say): that has the same expectation and adds the noise of the drawing. Here every pair of images counts once.
"""

import torch
from torch import Tensor

from pixgraft.metrics.estimate import BLOCKS, Estimate, around, resampled_weights
from pixgraft.metrics.sets import LABELS, checked_pair

PIECE = 2048
"""Images on either side of a matrix of kernel values: the largest holds 16 MiB in float32."""


def kernel_distance(
    real: Tensor,
    fake: Tensor,
    *,
    real_units: Tensor,
    fake_units: Tensor,
    replicates: int,
    seed: int,
    labels: tuple[str, str] = LABELS,
) -> Estimate:
    """MMD^2 of features (N, D) and (M, D) with the kernel (x . y / D + 1)^3, ± 1.96 bootstrap standard errors.

    Pairs of an image with itself are left out, which makes it unbiased: sets of one distribution give 0 on average, so
    it may be slightly negative. `real_units` (N,) and `fake_units` (M,) int64 are dealt into 16 blocks, and each set's
    blocks are resampled by themselves, copies of one image being no pair either. Products are in the features'
    precision, sums in float64, on the features' device. Raises PixgraftError for fewer than two images or unlike sets.
    """
    real, fake = checked_pair(real, fake, labels, at_least=2)
    real_pieces, fake_pieces = _pieces(real, real_units), _pieces(fake, fake_units)
    within_real, within_fake = _within(real_pieces), _within(fake_pieces)
    between = _between(real_pieces, fake_pieces)
    real_counts, fake_counts = (torch.bincount(u.cpu() % BLOCKS, minlength=BLOCKS) for u in (real_units, fake_units))

    generator = torch.Generator().manual_seed(seed)
    once = torch.ones(1, BLOCKS, dtype=torch.float64)
    of_real, of_fake = (
        torch.cat((once, resampled_weights(counts > 0, generator, replicates=replicates)))
        for counts in (real_counts, fake_counts)
    )
    pairs = (of_real @ real_counts.double()) * (of_fake @ fake_counts.double())
    values = (
        _mean_within(within_real, real_counts.double(), of_real)
        + _mean_within(within_fake, fake_counts.double(), of_fake)
        - 2 * _weighted(between, of_real, of_fake) / pairs
    )
    resampled = values[1:][values[1:].isfinite()]  # of very few images, one alone may be drawn: that has no pairs
    filled = min(int((counts > 0).sum()) for counts in (real_counts, fake_counts))
    return around(float(values[0]), resampled, units=filled)


def _pieces(features: Tensor, units: Tensor) -> list[tuple[int, Tensor]]:
    """The features of each block in pieces of at most `PIECE` images, with the block's number."""
    blocks = units.to(features.device) % BLOCKS
    return [
        (block, piece)
        for block in range(BLOCKS)
        for piece in features[blocks == block].split(PIECE)
        if len(piece)
    ]  # fmt: skip


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / D + 1)^3 of every pair (N, M)."""
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)


def _within(pieces: list[tuple[int, Tensor]]) -> Tensor:
    """Sums of kernel values over the pairs of different images of one set, by block and block."""
    sums = torch.zeros(BLOCKS, BLOCKS, dtype=torch.float64)
    for index, (row, x) in enumerate(pieces):
        for column, y in pieces[index + 1 :]:
            total = float(_kernel(x, y).sum(dtype=torch.float64))
            sums[row, column] += total
            sums[column, row] += total
        sums[row, row] += float(_kernel(x, x).fill_diagonal_(0).sum(dtype=torch.float64))
    return sums


def _between(real: list[tuple[int, Tensor]], fake: list[tuple[int, Tensor]]) -> Tensor:
    """Sums of kernel values over all pairs of a real and a fake image, by block and block."""
    sums = torch.zeros(BLOCKS, BLOCKS, dtype=torch.float64)
    for row, x in real:
        for column, y in fake:
            sums[row, column] += float(_kernel(x, y).sum(dtype=torch.float64))
    return sums


def _weighted(sums: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sums (blocks, blocks) with each pair of blocks counted as often as both weights (R, blocks) say: (R,)."""
    return (rows @ sums * columns).sum(1)


def _mean_within(sums: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """Mean kernel value (R,) over the pairs of different images, blocks being counted as `weights` (R, blocks) says."""
    pairs = (weights @ counts).square() - weights.square() @ counts
    return _weighted(sums, weights, weights) / pairs
