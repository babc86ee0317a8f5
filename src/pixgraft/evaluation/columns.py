"""The columns of a table: which metric, with which feature network, under which name.

A metric is asked for as `name` or `name:network`; without a network it takes each of `--features` that fits it. The
standard's name stands only where the standard's weights do: FID and KID are Inception's, LPIPS has its own heads.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pixgraft.errors import PixgraftError
from pixgraft.features import BUNDLED, KINDS, Role


@dataclass(frozen=True)
class Metric:
    """What one name of `--metrics` means."""

    role: Role | None
    """Of the feature network that it needs; None: it needs none."""
    better: str
    """ "up", "down", or "" where neither is better."""
    about: str
    needs: str = ""
    """What each image must come with: "real" images as a set, a "reference" to compare with, several "samples" of one
    condition, a "source" whose detail it carries, an "lr" target, the "seconds" it took, a change of the codes of a
    scale ("coarse", "middle" or "fine"), or nothing."""


METRICS = {
    "fd": Metric("set", "down", "Fréchet distance between the two sets of features", "real"),
    "kd": Metric("set", "down", "kernel distance (unbiased squared MMD) between the two sets", "real"),
    "precision": Metric("set", "up", "share of images within the reals' manifold, k = 5", "real"),
    "recall": Metric("set", "up", "share of reals within the images' manifold, k = 5", "real"),
    "density": Metric("set", "up", "reals' neighbourhoods that hold an image, over k = 5", "real"),
    "coverage": Metric("set", "up", "share of reals with an image in their neighbourhood, k = 5", "real"),
    "perceptual": Metric("perceptual", "down", "perceptual distance to the reference", "reference"),
    "diversity": Metric("perceptual", "up", "mean perceptual distance among the samples of one condition", "samples"),
    "l1": Metric(None, "down", "mean absolute difference to the reference, 0..255", "reference"),
    "l2": Metric(None, "down", "mean squared difference to the reference, of levels in -1..1", "reference"),
    "psnr": Metric(None, "up", "peak signal-to-noise ratio in dB, peak 255", "reference"),
    "ssim": Metric(None, "up", "structural similarity, 11 x 11 Gaussian window, RGB channels", "reference"),
    "piqe": Metric(None, "down", "PIQE, a no-reference quality score, 0 (best) to 100"),
    "identity": Metric("identity", "up", "cosine of the face embeddings of image and source", "source"),
    "identity-other": Metric("identity", "", "the same with a random other face: the floor", "source"),
    "consistency": Metric(None, "down", "mean difference of the shrunk image to its target, 0..255", "lr"),
    "consistency-largest": Metric(None, "down", "largest difference of a cell, mean over images", "lr"),
    "seconds": Metric(None, "down", "seconds to make one image alone, on the machine that the notes name", "seconds"),
    "change-coarse": Metric(None, "", "mean absolute change of the coarse codes in a step", "coarse"),
    "change-middle": Metric(None, "", "mean absolute change of the middle codes in a step", "middle"),
    "change-fine": Metric(None, "", "mean absolute change of the fine codes in a step", "fine"),
    "spectrum": Metric(None, "", "azimuthally averaged power spectrum, drawn in the report"),
}
"""Every metric by the name that `--metrics` takes."""

PLAIN = {
    "l1": "L1", "l2": "L2", "psnr": "PSNR", "ssim": "SSIM", "piqe": "PIQE", "consistency": "LR difference",
    "consistency-largest": "largest LR difference", "seconds": "seconds", "change-coarse": "coarse codes",
    "change-middle": "middle codes", "change-fine": "fine codes", "spectrum": "spectrum",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One metric with its network."""

    metric: str
    network: str = ""

    @property
    def about(self) -> Metric:
        """The metric's own description."""
        return METRICS[self.metric]

    @property
    def label(self) -> str:
        """Its name in tables and in the JSON."""
        if not self.network:
            return PLAIN[self.metric]
        label = KINDS[self.network].label
        if self.metric in ("fd", "kd"):
            standard = {"fd": "FID", "kd": "KID"}[self.metric]
            return standard if self.network == "inception" else f"{self.metric.upper()}-{label}"
        if self.metric in ("perceptual", "diversity"):
            name = f"LPIPS ({label})" if self.network.startswith("lpips-") else f"PD-{label}"
            return f"{name} diversity" if self.metric == "diversity" else name
        return f"{self.metric.replace('identity-other', 'identity to another')} ({label})"

    @property
    def heading(self) -> str:
        """The label with an arrow to the better side."""
        return self.label + {"up": " ↑", "down": " ↓", "": ""}[self.about.better]


def columns(metrics: Iterable[str], features: Iterable[str], *, chosen: bool = True) -> list[Column]:
    """The columns that metrics (`name` or `name:network`) and networks ask for, in the metrics' order, each once.

    `chosen` says that the user named the networks, so that one which nothing takes is an error.
    Where `features` has none of the role that a metric needs, the bundled network stands in; identity has none.

    Raises PixgraftError for an unknown metric or network, or one that does not fit the other.
    """
    features = tuple(features)
    for network in features:
        if network not in KINDS:
            raise PixgraftError(f"--features {network}: choose from {', '.join(KINDS)}")
    found: list[Column] = []
    for asked in metrics:
        metric, colon, network = asked.partition(":")
        if metric not in METRICS:
            raise PixgraftError(f"--metrics {asked}: choose from {', '.join(METRICS)}, each with :NETWORK if you like")
        role = METRICS[metric].role
        if colon and (network not in KINDS or role not in KINDS[network].roles):
            fitting = ", ".join(name for name, kind in KINDS.items() if role in kind.roles) or "none"
            raise PixgraftError(f"--metrics {asked}: the networks that fit {metric} are: {fitting}")
        found += [Column(metric, name) for name in ([network] if network else _networks(role, features, asked))]
    used = {column.network for column in found}
    for network in features:
        if network not in used and chosen:
            raise PixgraftError(f"--features {network}: no metric here takes it: see --metrics, or METRIC:{network}")
    return list(dict.fromkeys(found))


def _networks(role: Role | None, features: tuple[str, ...], asked: str) -> list[str]:
    if role is None:
        return [""]
    fitting = [name for name in features if KINDS[name].roles[0] == role or (name == BUNDLED and role != "identity")]
    if fitting:
        return fitting
    if role == "identity":
        raise PixgraftError(f"--metrics {asked}: needs a face network: add --features mobilefacenet or irse50")
    return [BUNDLED]
