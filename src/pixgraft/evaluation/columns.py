"""The columns of a table: which metric, with which feature network, under which label.

A metric is named as `name` or `name:network`; without a network it takes each of `--features` that fits it. The
standard's label stands only where the standard's weights do: FID and KID are Inception's, LPIPS has its own heads. What
other papers print as FID has the label of its variant: FID (torchvision), FID (clean).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pixgraft.errors import PixgraftError, unknown
from pixgraft.evaluation.metrics_table import METRICS, Metric
from pixgraft.features import BUNDLED, KINDS, Role

OTHER_NAMES = {"fid": ("fd", "inception"), "kid": ("kd", "inception"), "lpips": ("perceptual", "lpips-alex")}
"""Metrics that have the standard's name with the standard's network alone: their names here, and that network."""
MEASURING = [name for name, kind in KINDS.items() if kind.roles != ("backbone",)]
"""The networks that some metric takes."""


@dataclass(frozen=True)
class Column:
    """One metric with its network."""

    name: str
    """The metric's name, a key of `METRICS`."""
    network: str = ""

    @property
    def metric(self) -> Metric:
        """The metric's entry."""
        return METRICS[self.name]

    @property
    def label(self) -> str:
        """Its name in tables and in the JSON."""
        prefix, standard = self.metric.standard
        template = standard if prefix and self.network.startswith(prefix) else self.metric.label
        if not self.network:
            return template
        return template.format(network=KINDS[self.network].label, variant=KINDS[self.network].variant)

    @property
    def heading(self) -> str:
        """The label with an arrow to the better side."""
        return self.label + {"up": " ↑", "down": " ↓", "": ""}[self.metric.better]


def columns(metrics: Iterable[str], features: Sequence[str], *, all_used: bool = True) -> list[Column]:
    """The columns of metrics (`name` or `name:network`) and networks, in the metrics' order, each once.

    Where `features` has no network of the role that a metric needs, the bundled one is taken; identity has none.

    Raises PixgraftError for an unknown metric or network, one that does not fit the other, and, with `all_used`, a
    network that no metric takes.
    """
    for network in features:
        if network not in MEASURING:
            raise unknown("feature network (--features)", network, MEASURING)
    asked: list[Column] = []
    for text in metrics:
        name, colon, network = text.partition(":")
        if (lower := name.lower()) in OTHER_NAMES:
            known, standard = OTHER_NAMES[lower]
            bundled, other = Column(known, BUNDLED).label, Column(known, standard).label
            file = KINDS[standard].weights
            raise PixgraftError(
                f"--metrics {text}: write {known}, which is {bundled} with the bundled network, or {known}:{standard}, "
                f"which is {other}: its weights are fetched once, or read from --weights {file}=FILE"
            )
        if name not in METRICS:
            listing = f"choose one of {', '.join(METRICS)}, each with :NETWORK if you like"
            raise unknown("metric", name, METRICS, listing)
        role = METRICS[name].role
        if colon and (network not in KINDS or role not in KINDS[network].roles):
            fitting = ", ".join(each for each, kind in KINDS.items() if role in kind.roles) or "none"
            listing = f"the networks that fit {name} are: {fitting}"
            if network and network not in MEASURING:
                raise unknown("feature network (--metrics)", network, MEASURING, listing)
            raise PixgraftError(f"--metrics {text}: {listing}")
        asked += [Column(name, each) for each in ([network] if network else _networks(role, features, text))]
    used = {column.network for column in asked}
    for network in features:
        if network not in used and all_used:
            raise PixgraftError(f"--features {network}: no metric here takes it: see --metrics, or METRIC:{network}")
    return list(dict.fromkeys(asked))


def _networks(role: Role | None, features: Sequence[str], metric: str) -> list[str]:
    if role is None:
        return [""]
    fitting = [name for name in features if KINDS[name].roles[0] == role or (name == BUNDLED and role != "identity")]
    if not fitting and role == "identity":
        raise PixgraftError(f"--metrics {metric}: needs a face network: add --features mobilefacenet or irse50")
    return fitting or [BUNDLED]
