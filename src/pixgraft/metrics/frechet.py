"""Frechet distance between two sets of features (Heusel et al. 2017), from moments accumulated in constant memory.

|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) is the squared 2-Wasserstein distance between two Gaussians with the sets'
means and covariances. It is the FID only with the features of FID's Inception network.
"""

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.metrics.estimate import BLOCKS, Estimate, around, resampled_weights
from pixgraft.metrics.sets import LABELS, check_count, checked

RELEVANT = 1e-10
"""Singular values below this fraction of the largest contribute only rounding error to a derivative."""
WAITING = 1024
"""Images whose features are buffered: adding the products of few images costs as much as those of many."""


class Moments:
    """Sums of features (N, D) and of their outer products per block of units, float64 on the CPU.

    Takes 8 * blocks * D^2 bytes (0.5 GiB for 2048 features and 16 blocks) for any number of images. `label` names the
    set in the errors of `update`.
    """

    def __init__(self, dimension: int, blocks: int = BLOCKS, *, label: str = "images") -> None:
        self.dimension, self.blocks, self.label = dimension, blocks, label
        self._counts = torch.zeros(blocks, dtype=torch.float64)
        self._sums = torch.zeros(blocks, dimension, dtype=torch.float64)
        self._products = torch.zeros(blocks, dimension, dimension, dtype=torch.float64)
        # The first image's features are subtracted from all: sums of large numbers would lose a small variance.
        self._origin: Tensor | None = None
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def update(self, features: Tensor, units: Tensor) -> None:
        """Add images: features (N, D) of any float dtype and device, and units (N,) int64.

        Unit u belongs to block u % blocks. Raises PixgraftError for another dimension or features that are not finite.
        """
        features = checked(features, self.label, at_least=0).to("cpu", torch.float64)
        if features.shape[1] != self.dimension:
            count = f"{features.shape[1]} features an image, not {self.dimension}"
            raise PixgraftError(f"{self.label}: {count}: take all from one network")
        if not len(features):
            return
        if self._origin is None:
            self._origin = features[0].clone()
        self._waiting.append((features - self._origin, units.cpu() % self.blocks))
        if sum(len(waiting) for waiting, _ in self._waiting) >= WAITING:
            self._add_up()

    def _add_up(self) -> None:
        if not self._waiting:
            return
        features, blocks = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        for block in blocks.unique().tolist():
            members = features[blocks == block]
            self._counts[block] += len(members)
            self._sums[block] += members.sum(0)
            self._products[block].addmm_(members.T, members)

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of the union of two sets, for example of two processes."""
        if (self.dimension, self.blocks) != (other.dimension, other.blocks):
            theirs = f"{other.dimension} in {other.blocks}"
            raise ValueError(f"{self.dimension} features in {self.blocks} blocks, not {theirs}")
        self._add_up()
        other._add_up()
        merged = Moments(self.dimension, self.blocks, label=self.label)
        merged._origin = other._origin if self._origin is None else self._origin
        for part in (self, other):
            if part._origin is None or merged._origin is None:
                continue
            shift = part._origin - merged._origin
            merged._counts += part._counts
            merged._sums += part._sums + part._counts[:, None] * shift
            merged._products += part._products
            if shift.any():
                # sum (x + v)(x + v)' = sum x x' + s v' + v s' + n v v'; with h = s + n v / 2, s v' + n v v' / 2 = h v'.
                half = part._sums + part._counts[:, None] * (shift / 2)
                cross = half[:, :, None] * shift
                merged._products += cross
                merged._products += cross.mT
        return merged

    @property
    def count(self) -> int:
        """Number of images so far."""
        return int(self._by_block()[0].sum())

    def mean(self) -> Tensor:
        """Mean (D,) float64; needs an image."""
        counts, sums, _ = self._by_block()
        assert self._origin is not None, "no images: see count"
        return self._origin + sums.sum(0) / counts.sum()

    def covariance(self) -> Tensor:
        """Unbiased covariance (D, D) float64; needs two images."""
        counts, sums, products = self._by_block()
        count, total = counts.sum(), sums.sum(0)
        covariance = (products.sum(0) - torch.outer(total, total) / count) / (count - 1)
        return (covariance + covariance.T) / 2

    def filled(self) -> Tensor:
        """Mask (blocks,) bool of the blocks that hold images."""
        return self._by_block()[0] > 0

    def resampled(self, along_mean: Tensor, along_covariance: Tensor, weights: Tensor) -> Tensor:
        """Change (R,) of <along_mean, mean> + <along_covariance, covariance> for R resamples of the blocks.

        `along_mean` is (D,), `along_covariance` (D, D); `weights` (R, blocks) is the count of each block.
        """
        counts, sums, products = self._by_block()
        weights = torch.cat((weights, torch.ones_like(weights[:1])))
        images = weights @ counts
        means = weights @ (sums @ along_mean) / images
        second = weights @ torch.tensordot(products, along_covariance, 2)
        first = (weights @ (sums @ along_covariance @ sums.T) * weights).sum(1) / images
        values = means + (second - first) / (images - 1)
        changes: Tensor = values[:-1] - values[-1]
        return changes

    def _by_block(self) -> tuple[Tensor, Tensor, Tensor]:
        """Counts, sums and sums of outer products per block; the sums are of features minus the origin."""
        self._add_up()
        return self._counts, self._sums, self._products


def frechet_distance(real: Moments, fake: Moments, *, labels: tuple[str, str] = LABELS) -> float:
    """The distance, 0 or more; exactly 0 for identical moments.

    Raises PixgraftError, naming the set, if a set has fewer than two images or all its images have the same features.
    """
    for moments, label in zip((real, fake), labels, strict=True):
        check_count(moments.count, label, at_least=2)
        if not moments.covariance().diagonal().any():
            raise PixgraftError(f"{label}: all {moments.count} have the same features: give images that differ")
    means, covariances = (real.mean(), fake.mean()), (real.covariance(), fake.covariance())
    if torch.equal(*means) and torch.equal(*covariances):
        return 0.0
    # With S1 = A A' and S2 = B B', the eigenvalues of S1 S2 are the squares of the singular values of A' B. Their sum
    # is the trace of the root; this avoids the root of a matrix that is singular or not exactly symmetric.
    first, second = map(_factor, covariances)
    root = torch.linalg.svdvals(first.T @ second).sum()
    squared = (means[0] - means[1]).square().sum()
    return max(float(squared + covariances[0].trace() + covariances[1].trace() - 2 * root), 0.0)


def frechet(real: Moments, fake: Moments, *, replicates: int, seed: int, labels: tuple[str, str] = LABELS) -> Estimate:
    """`frechet_distance` ± 1.96 standard errors over `replicates` resamples of each set's blocks. Raises as it does.

    The interval is not of percentiles: a resampled set has fewer distinct images, which increases a Frechet distance,
    so the percentiles may all exceed the value. For the same reason, and for speed, the first-order approximation of
    the distance in the moments is resampled. Its standard errors are close to those of independent sets, while those of
    the resampled distance are up to four times as large.
    """
    value = frechet_distance(real, fake, labels=labels)
    filled = (real.filled(), fake.filled())
    resampled = torch.zeros(0)
    if replicates:
        generator = torch.Generator().manual_seed(seed)
        weights = [resampled_weights(blocks, generator, replicates=replicates) for blocks in filled]
        gradient = 2 * (real.mean() - fake.mean())
        along_real, along_fake = _gradients(real.covariance(), fake.covariance())
        resampled = real.resampled(gradient, along_real, weights[0]) + fake.resampled(-gradient, along_fake, weights[1])
    return around(value, resampled, units=min(int(blocks.sum()) for blocks in filled), least=0.0)


def _factor(covariance: Tensor) -> Tensor:
    """A factor A (D, rank) of the covariance, A A'."""
    values, vectors = torch.linalg.eigh(covariance)
    # With fewer images than dimensions most eigenvalues are 0 up to rounding; their square roots would add up.
    positive = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    factor: Tensor = vectors[:, positive] * values[positive].sqrt()
    return factor


def _gradients(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives (D, D) of tr(S1 + S2 - 2 (S1 S2)^(1/2)) with respect to the covariances S1 and S2.

    They are I - T, where T is the optimal transport map between the Gaussians (T S1 T = S2). With A' B = U s V' as in
    `frechet_distance`, T = B V (1/s) V' B'.
    """
    a, b = _factor(first), _factor(second)
    u, s, vh = torch.linalg.svd(a.T @ b, full_matrices=False)
    relevant = s > RELEVANT * s[0]
    to_second = b @ vh[relevant].T / s[relevant].sqrt()
    to_first = a @ u[:, relevant] / s[relevant].sqrt()
    unit = torch.eye(len(first), dtype=first.dtype)
    return unit - to_second @ to_second.T, unit - to_first @ to_first.T
