"""Feature networks of others: their weights by SHA-256, and the networks opened for a role."""

from pixgraft.features.networks import BUNDLED, KINDS, PASS, Feature, Role, available, in_passes, open_feature
from pixgraft.features.weights import asset, parse_weights

__all__ = [
    "BUNDLED", "KINDS", "PASS", "Feature", "Role", "asset", "available", "in_passes", "open_feature", "parse_weights",
]  # fmt: skip
