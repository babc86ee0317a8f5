"""Noise that a network learns to make use of (Karras et al. 2019, "A Style-Based Generator Architecture")."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Noise = Literal["stored", "random", "none"] | Sequence[Tensor]
"""A generator's noise: the maps kept with its weights, new ones, zeros, or what `draw_noise` gives."""


def draw_noise(sides: Sequence[int], count: int, random: torch.Generator | None = None) -> list[Tensor]:
    """Unit normal noise for `count` images: a map (count, 1, s, s) for each of `sides`.

    It is drawn on the CPU, image by image, so that a seed means the same on every device and in batches of any size.
    `random` is a CPU generator; None takes torch's own, which `torch.manual_seed` sets.
    """
    areas = [side**2 for side in sides]
    rows = torch.empty(count, sum(areas), device="cpu")
    for row in rows:
        row.normal_(generator=random)
    maps = zip(rows.split(areas, dim=1), sides, strict=True)
    return [part.reshape(count, 1, side, side) for part, side in maps]


class NoiseInjection(nn.Module):
    """Adds one noise map to all channels, each by a learned weight.

    The weights start as normal numbers of deviation `start`. At zero, where Karras et al. start them, no loss has a
    slope: noise and its negative are equally likely, so that to the first order a weight gains as much as it loses.
    """

    def __init__(self, channels: int, *, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(start * torch.randn(channels) if start else torch.zeros(channels))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """(N, C, H, W) and noise (N, 1, H, W), on any device and of any type, give (N, C, H, W); None adds nothing."""
        if noise is None:
            return x
        return torch.addcmul(x, self.weight.view(-1, 1, 1).to(x.dtype), noise.to(x))
