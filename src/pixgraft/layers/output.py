"""The last activation of generators."""

import torch
from torch import Tensor


def tanh_image(rgb: Tensor) -> Tensor:
    """tanh in float32 at least: bfloat16 is coarser than grey levels."""
    return torch.tanh(rgb if rgb.dtype == torch.float64 else rgb.float())
