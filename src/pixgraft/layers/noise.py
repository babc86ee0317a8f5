"""Noise that a network learns to make use of (Karras et al. 2019, "A Style-Based Generator Architecture")."""

import torch
from torch import Tensor, nn


class NoiseInjection(nn.Module):
    """Adds one noise map to all channels, each by a learned weight that starts from zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """(N, C, H, W) and noise (N, 1, H, W), on any device and of any type, give (N, C, H, W); None adds nothing."""
        if noise is None:
            return x
        return torch.addcmul(x, self.weight.view(-1, 1, 1).to(x.dtype), noise.to(x))
