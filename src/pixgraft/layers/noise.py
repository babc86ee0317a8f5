"""Noise inputs with learned weights (Karras et al. 2019, "A Style-Based Generator Architecture")."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Noise = Literal["stored", "random", "none"] | Sequence[Tensor]
"""A generator's noise: the maps stored with its weights, random maps, zeros, or maps from `draw_noise`."""


def draw_noise(sides: Sequence[int], count: int, random: torch.Generator | None = None) -> list[Tensor]:
    """Noise maps (count, 1, s, s) from N(0, 1), one for each s in `sides`.

    They are drawn on the CPU, image by image, so that a seed gives the same noise on every device and at every batch
    size. `random` is a CPU generator; None takes torch's global one.
    """
    areas = [side**2 for side in sides]
    rows = torch.empty(count, sum(areas), device="cpu")
    for row in rows:
        row.normal_(generator=random)
    maps = zip(rows.split(areas, dim=1), sides, strict=True)
    return [part.reshape(count, 1, side, side) for part, side in maps]


class NoiseInjection(nn.Module):
    """Adds one noise map to all channels, with a learned weight per channel.

    The weights are initialised from N(0, `start`^2). At zero, the initial value of Karras et al., the expected gradient
    is zero, because the noise is symmetric.
    """

    def __init__(self, channels: int, *, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(start * torch.randn(channels) if start else torch.zeros(channels))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Add noise (N, 1, H, W), of any device and dtype, to features (N, C, H, W). None adds nothing."""
        if noise is None:
            return x
        return torch.addcmul(x, self.weight.view(-1, 1, 1).to(x.dtype), noise.to(x))
