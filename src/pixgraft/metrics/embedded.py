"""Metrics of embedded images: distances of the points that a network gives. N images, E numbers each."""

import torch
from torch import Tensor


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (N,) of points (N, E)."""
    return (a - b).square().sum(1)


def mean_pairwise_distance(points: Tensor) -> Tensor:
    """Mean squared distance among points (N, E) of two or more images, (1,)."""
    pairs = torch.combinations(torch.arange(len(points)))
    return torch.stack([(points[a] - points[b]).square().sum() for a, b in pairs.tolist()]).mean().unsqueeze(0)
