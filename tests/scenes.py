"""Pictures for the tests of image measures, as whole grey levels (N, 3, H, W) in uint8, and ways to spoil them."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pixgraft.layers.resample import average_pool, upsample
from pixgraft.metrics.pixels import gaussian_filter


def scene(height: int, width: int, *, seed: int = 0, count: int = 1, top: int = 255) -> Tensor:
    """Shaded ground, discs with sharp rims, waves of several lengths and a little grain; levels 0 to about `top`."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    pictures = random(count, 3, 1, 1) + (random(count, 3, 1, 1) - 0.5) * x / width + random(count, 3, 1, 1) * y / height
    for _ in range(6):
        across, down, radius = (random(count, 1, 1, 1) for _ in range(3))
        inside = (x - across * width) ** 2 + (y - down * height) ** 2 < (radius * 0.3 * min(height, width)) ** 2
        pictures = torch.where(inside, random(count, 3, 1, 1) * 1.5, pictures)
    for length in (23.0, 11.0, 6.0, 3.5):
        angle = random(count, 1, 1, 1) * torch.pi
        wave = torch.sin(2 * torch.pi / length * (x * angle.cos() + y * angle.sin()))
        pictures = pictures + 0.12 * wave * (0.5 + random(count, 3, 1, 1))
    pictures = pictures + 0.02 * torch.randn(pictures.shape, generator=generator, dtype=torch.float64)
    low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
    return ((pictures - low) / (high - low) * top).round().to(torch.uint8)


def levels(pictures: Tensor) -> Tensor:
    return pictures.round().clamp(0, 255).to(torch.uint8)


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """By a Gaussian, the borders repeated; 0 changes nothing."""
    if sigma == 0:
        return pictures
    reach = int(4 * sigma + 0.5)
    padded = F.pad(pictures.double(), (reach,) * 4, mode="replicate")
    return levels(gaussian_filter(padded, 2 * reach + 1, sigma))


def noisy(pictures: Tensor, sigma: float, seed: int = 1) -> Tensor:
    """With Gaussian noise of so many grey levels."""
    generator = torch.Generator().manual_seed(seed)
    return levels(pictures + sigma * torch.randn(pictures.shape, generator=generator, dtype=torch.float64))


def coarse(pictures: Tensor, factor: int) -> Tensor:
    """Square pictures shrunk by average pooling and enlarged again."""
    small = average_pool(pictures.double(), pictures.shape[-1] // factor)
    return levels(upsample(small, factor, align_corners=False))


def compressed(pictures: Tensor, quality: int) -> Tensor:
    """As JPEG of a quality of 1 to 95 gives them back: the lower, the more blocks of 8 x 8 show."""
    back = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        back.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(back)
