"""Differentiable augmentation (DiffAugment, Zhao et al. 2020) of real and generated images, for small data sets.

Each function maps images (N, 3, H, W) in [-1, 1] to images of the same shape and is twice differentiable. The
parameters are drawn per image from torch's global generator.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def color(x: Tensor) -> Tensor:
    """Shift the brightness by up to 0.5, scale the saturation by 0 to 2 and the contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, 2 * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, contrast + 0.5)


def translation(x: Tensor, ratio: float = 0.125) -> Tensor:
    """Translate by up to `ratio` of the side along each axis, with zero padding."""
    n, _, height, width = x.shape
    reach_y, reach_x = int(height * ratio + 0.5), int(width * ratio + 0.5)
    padded = F.pad(x, (reach_x, reach_x, reach_y, reach_y))
    top = torch.randint(0, 2 * reach_y + 1, (n, 1, 1), device=x.device)
    left = torch.randint(0, 2 * reach_x + 1, (n, 1, 1), device=x.device)
    rows = top + torch.arange(height, device=x.device)[None, :, None]
    columns = left + torch.arange(width, device=x.device)[None, None, :]
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)


def cutout(x: Tensor, ratio: float = 0.5) -> Tensor:
    """Set a rectangle of `ratio` of each side to zero; its centre may be any pixel."""
    n, _, height, width = x.shape
    rows = torch.arange(height, device=x.device)[None, :, None]
    columns = torch.arange(width, device=x.device)[None, None, :]
    centre_y = torch.randint(0, height, (n, 1, 1), device=x.device)
    centre_x = torch.randint(0, width, (n, 1, 1), device=x.device)
    inside = ((rows - centre_y).abs() * 2 < height * ratio) & ((columns - centre_x).abs() * 2 < width * ratio)
    return x * (~inside).unsqueeze(1)


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {"color": color, "translation": translation, "cutout": cutout}


def augment(x: Tensor, names: Iterable[str]) -> Tensor:
    """Apply the named augmentations in order."""
    for name in names:
        x = AUGMENTATIONS[name](x)
    return x
