"""Feature networks of others: their weights by SHA-256, and the networks opened for a role."""

from pixgraft.features.networks import BUNDLED, KINDS, Feature, Role, available, open_feature
from pixgraft.features.weights import asset, parse_weights

__all__ = ["BUNDLED", "KINDS", "Feature", "Role", "asset", "available", "open_feature", "parse_weights"]
