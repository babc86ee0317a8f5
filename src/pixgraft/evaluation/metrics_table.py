"""Every metric of a table, one entry each: its name, labels, inputs, feature network and function.

To add a metric: a pure function in `pixgraft/metrics/`, and an entry in `METRICS`. Metrics of whole sets are methods of
`SetComparison`. Shape letters: N images, D features of an image.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.data.images import from_uint8
from pixgraft.data.sketch import xdog
from pixgraft.features import Role
from pixgraft.methods.tasks import SCALES
from pixgraft.metrics.consistency import EPSILON, consistency, downscaling
from pixgraft.metrics.embedded import mean_pairwise_distance, squared_distance
from pixgraft.metrics.estimate import Estimate, mean_of
from pixgraft.metrics.frechet import Moments, frechet
from pixgraft.metrics.kernel import kernel_distance
from pixgraft.metrics.paired import l1, l2, psnr, ssim
from pixgraft.metrics.piqe import piqe
from pixgraft.metrics.prdc import PRDC, prdc
from pixgraft.metrics.spectrum import azimuthal_spectrum

NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""


@dataclass
class SetFeatures:
    """Statistics of one set of images under one network: moments, features or both."""

    moments: Moments | None = None
    features: list[Tensor] = field(default_factory=list)
    units: list[Tensor] = field(default_factory=list)

    def add(self, features: Tensor, units: Tensor, *, into_moments: bool, into_table: bool) -> None:
        """Add features (N, D) of units (N,) to the moments, which take 16 D^2 numbers, or to the table, or to both."""
        if into_moments:
            self.moments = self.moments or Moments(features.shape[1])
            self.moments.update(features, units)
        if into_table:
            self.features.append(features.float())
            self.units.append(units)

    def merge(self, other: "SetFeatures") -> None:
        """Add the statistics of another part of the set."""
        if other.moments is not None:
            self.moments = other.moments if self.moments is None else self.moments + other.moments
        self.features += other.features
        self.units += other.units

    @cached_property
    def table(self) -> tuple[Tensor, Tensor]:
        """All features (N, D) in the order of their units, and the units (N,)."""
        units = torch.cat(self.units)
        order = units.argsort(stable=True)
        return torch.cat(self.features)[order], units[order]


@dataclass
class SetComparison:
    """The reals and one row's images under one network; each method is a metric of `METRICS`."""

    real: SetFeatures
    fake: SetFeatures
    labels: tuple[str, str]
    """Names of the two sets in errors."""
    replicates: int
    seed: int

    def frechet(self) -> Estimate:
        """Fréchet distance of the moments."""
        assert self.real.moments is not None and self.fake.moments is not None
        moments = self.real.moments, self.fake.moments
        return frechet(*moments, replicates=self.replicates, seed=self.seed, labels=self.labels)

    def kernel(self) -> Estimate:
        """Kernel distance; 0 of a set to itself, where the unbiased estimate is negative."""
        (real, real_units), (fake, fake_units) = self.real.table, self.fake.table
        if torch.equal(real, fake):
            return Estimate(0.0, 0.0, 0.0, len(real))
        return kernel_distance(
            real, fake, real_units=real_units, fake_units=fake_units,
            replicates=self.replicates, seed=self.seed, labels=self.labels,
        )  # fmt: skip

    def neighbours(self, name: str) -> Estimate:
        """The "precision" or "density" over the fakes, or the "recall" or "coverage" over the reals."""
        values, images = self.each(name)
        return mean_of(values, images.table[1], replicates=self.replicates, seed=self.seed)

    def each(self, name: str) -> tuple[Tensor, SetFeatures]:
        """That metric of each image of one set, and the set."""
        values = getattr(self._neighbours, name)
        if name == "recall":
            distinct = self.fake.table[0].unique(dim=0)
            if NEIGHBOURS < len(distinct) < len(self.fake.table[0]):  # repeated images have neighbourhoods of no size
                values = prdc(self.real.table[0], distinct, k=NEIGHBOURS, labels=self.labels).recall
        return values, self.fake if METRICS[name].mean_over == "fake" else self.real

    @cached_property
    def _neighbours(self) -> PRDC:
        return prdc(self.real.table[0], self.fake.table[0], k=NEIGHBOURS, labels=self.labels)


INPUTS = {
    "reference": "a reference",
    "samples": "several samples of each condition",
    "source": "a source",
    "other": "another face",
    "lr": "an LR target",
    "small": "a small image that they are made from",
    "seconds": "a model whose time is taken",
    "processor": "a model whose processor time is taken",
    **{scale: f"a step that changes {scale} codes" for scale in SCALES},
}
"""Inputs that a metric may need beside the images, and their descriptions in errors: "samples", the images of a group,
and the entries of `Group.inputs`."""

Better = Literal["up", "down", ""]


@dataclass(frozen=True)
class Metric:
    """One metric. Either `of_images` or `of_sets` is given."""

    label: str
    """Heading of its column; "{network}" stands for the network's label, "{variant}" for the standard's variant."""
    better: Better
    """The direction of better figures; empty if there is none."""
    description: str
    needs: str = ""
    """The input that it needs, a key of `INPUTS`; "real" for a set of reals."""
    of_images: Callable[..., Tensor] | None = None
    """Values (N,) of N images and their input, both as features if there is a network."""
    of_sets: Callable[[SetComparison], Estimate] | None = None
    """An estimate from the features of all images and all reals."""
    role: Role | None = None
    """Role of the feature network that it needs; None: it takes the images themselves."""
    standard: tuple[str, str] = ("", "")
    """The label that the standard's networks have: the beginning of their names, and the label."""
    by_group: bool = False
    """`of_images` is called for the images of each group alone, and gives one value (1,)."""
    is_curve: bool = False
    """`of_images` gives curves (N, points), which are drawn and stand in no column."""
    may_lack: bool = False
    """Rows without the input have no value, provided that some row has the input."""
    mean_over: Literal["", "real", "fake"] = ""
    """The set over whose images `of_sets` is the mean of `SetComparison.each`; empty if it is none."""
    moments_only: bool = False
    """`of_sets` needs moments of the features, not the features of each image."""
    least: int = 2
    """Least number of images in either set."""

    @property
    def biased(self) -> bool:
        """Whether its resamples are not around its value, as those of a distance between sets."""
        return self.of_sets is not None and not self.mean_over


def _distance(
    name: str, standard: str, description: str, of_sets: Callable[[SetComparison], Estimate], moments_only: bool = False
) -> Metric:
    """A distance between two sets."""
    return Metric(
        f"{name}-{{network}}", "down", description, "real", None, of_sets, "set",
        standard=("inception", f"{standard}{{variant}}"), moments_only=moments_only,
    )  # fmt: skip


def _neighbours(name: str, mean_over: Literal["real", "fake"], description: str) -> Metric:
    """A metric of nearest neighbours among features."""
    return Metric(
        f"{name} ({{network}})", "up", f"{description} k = {NEIGHBOURS}", "real", None,
        partial(SetComparison.neighbours, name=name), "set", mean_over=mean_over, least=NEIGHBOURS + 1,
    )  # fmt: skip


def _perceptual(suffix: str, better: Better, description: str, needs: str, of_images: Callable[..., Tensor]) -> Metric:
    """A metric of perceptual distances; LPIPS has its own heads."""
    standard = ("lpips-", f"LPIPS ({{network}}){suffix}")
    return Metric(
        f"PD-{{network}}{suffix}", better, description, needs, of_images, role="perceptual", standard=standard,
        by_group=needs == "samples", may_lack=needs == "samples",
    )  # fmt: skip


def _given(images: Tensor, values: Tensor) -> Tensor:
    """The input itself."""
    return values


def _deviation(images: Tensor) -> Tensor:
    """Mean over pixels and channels of the samples' deviation, (1,)."""
    return images.double().std(0, correction=0).mean().unsqueeze(0)


def _drawing(images: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference of the line drawings of two images, (N,)."""
    image, other = (xdog(from_uint8(each)) for each in (images, reference))
    return (image - other).abs().mean((1, 2, 3)) * 127.5


def _consistent(images: Tensor, small: Tensor) -> Tensor:
    """Whether each image shrinks to its input within `EPSILON`, (N,) of 0 or 1."""
    return (downscaling(images, small) <= EPSILON).double()


def _consistency(images: Tensor, target: Tensor, *, figure: Literal["mean", "largest"]) -> Tensor:
    return torch.tensor([getattr(each, figure) for each in consistency(images, target)], dtype=torch.float64)


METRICS = {
    "fd": _distance("FD", "FID", "Fréchet distance between the two sets of features", SetComparison.frechet, True),
    "kd": _distance("KD", "KID", "kernel distance (unbiased squared MMD) between the two sets", SetComparison.kernel),
    "precision": _neighbours("precision", "fake", "share of images within the reals' manifold,"),
    "recall": _neighbours("recall", "real", "share of reals within the images' manifold,"),
    "density": _neighbours("density", "fake", "reals' neighbourhoods that hold an image, over"),
    "coverage": _neighbours("coverage", "real", "share of reals with an image in their neighbourhood,"),
    "perceptual": _perceptual("", "down", "perceptual distance to the reference", "reference", squared_distance),
    "diversity": _perceptual(
        " diversity", "up", "mean perceptual distance among the samples of one condition", "samples",
        mean_pairwise_distance,
    ),
    "deviation": Metric(
        "deviation", "", "mean over pixels of the deviation among the samples of one condition, 0..255", "samples",
        _deviation, by_group=True, may_lack=True,
    ),
    "l1": Metric("L1", "down", "mean absolute difference to the reference, 0..255", "reference", l1),
    "l2": Metric("L2", "down", "mean squared difference to the reference, of levels in -1..1", "reference", l2),
    "psnr": Metric("PSNR", "up", "peak signal-to-noise ratio in dB, peak 255", "reference", psnr),
    "ssim": Metric("SSIM", "up", "structural similarity, 11 x 11 Gaussian window, RGB channels", "reference", ssim),
    "piqe": Metric("PIQE", "down", "PIQE, a no-reference quality score, 0 (best) to 100", "", piqe),
    "identity": Metric(
        "identity ({network})", "up", "cosine of the face embeddings of image and source", "source",
        F.cosine_similarity, role="identity",
    ),
    "identity-other": Metric(
        "identity to another ({network})", "", "the same with a random other face: the floor", "other",
        F.cosine_similarity, role="identity",
    ),
    "consistency": Metric(
        "LR difference", "down", "mean difference of the shrunk image to its target, 0..255", "lr",
        partial(_consistency, figure="mean"),
    ),
    "consistency-largest": Metric(
        "largest LR difference", "down", "largest difference of a cell, mean over images", "lr",
        partial(_consistency, figure="largest"),
    ),
    "downscaling": Metric(
        "downscaling loss", "down", "mean squared difference of the bicubically shrunk image to the small one "
        "that it is made from, of levels in 0..1", "small", downscaling,
    ),
    "consistent": Metric(
        "consistent", "up", f"share of images whose downscaling loss is at most {EPSILON:g}", "small", _consistent,
    ),
    "drawing": Metric(
        "drawing", "down", "mean absolute difference of the line drawings, as `pixgraft data sketch` makes them, "
        "of image and reference, 0..255", "reference", _drawing,
    ),
    "seconds": Metric(
        "seconds", "down", "seconds to make one image alone, on the machine that the notes name", "seconds", _given,
        may_lack=True,
    ),
    "processor": Metric(
        "processor seconds", "down", "seconds of the processor, of all threads, to make one image alone on a CPU, "
        "whatever else the machine does", "processor", _given, may_lack=True,
    ),
    **{
        f"change-{scale}":
        Metric(f"{scale} codes", "", f"mean absolute change of the {scale} codes in a step", scale, _given)
        for scale in SCALES
    },
    "spectrum": Metric(
        "spectrum", "", "azimuthally averaged power spectrum, drawn in the report", "", azimuthal_spectrum,
        is_curve=True,
    ),
}  # fmt: skip
"""Every metric by the name that `--metrics` takes."""
