"""PIQE, an image's quality without a reference (Venkatanath et al. 2015), as MATLAB's `piqe` computes it for uint8 RGB.

An active block of 16 x 16 pixels counts as distorted by what its contrast-normalised pixels show: flat stretches along
its edges (compression) or noise. The score is about the mean distortion of the active blocks, from 0 (good) to 100.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.metrics.pixels import gaussian_filter, grey_levels, luma

BLOCK = 16
WINDOW, SIGMA = 7, 7 / 6
"""The Gaussian window of the local mean and deviation, in pixels; it reaches to three deviations."""
ACTIVE = 0.1
"""A block whose variance exceeds this takes part."""
SEGMENT, FLAT = 6, 0.1
"""A run of this many pixels on a block's edge whose deviation is below this is an artefact."""
CENTRE = [7, 8]
SURROUND = [column for column in range(BLOCK) if column not in (7, 9)]
"""The block's columns whose deviations the noise criterion compares. The surround is meant to lack the two central
columns. MATLAB removes one after the other; the second has moved by then, so that column 9 goes and 8 stays. Kept."""


def piqe(images: Tensor) -> Tensor:
    """PIQE of grey levels (N, 3, H, W), uint8 or floats in 0..255: float64 (N,), in 0..100, lower is better.

    - Luma by `rgb2gray`'s weights (`pixels.LUMA_WEIGHTS`), rounded to whole grey levels; not stretched.
    - Sizes that are no multiple of 16 are filled up right and below by repeating the last column and row. The filling
      is measured along with the rest.
    - Each pixel is normalised: minus the local mean, divided by the local deviation + 1, borders repeated.
    - Of each block with a sample variance v > 0.1: an edge segment with deviation < 0.1 adds 1 - v; noise (`_noisy`)
      adds v; both may be. The score is 100 (sum + 1) / (blocks + 1).

    An image without such a block has 100, not only a uniform one: also one that is smooth all over. MATLAB's words are
    excellent up to 20, good up to 35, fair up to 50, poor up to 80, and bad.

    pypiqe 1.2 differs from MATLAB, and ours from it, in three ways (in brackets the mean and the largest change of the
    score that they made over some hundred made images): it divides the luma by its largest value, so that each image
    reaches 255 (7, 77); it mirrors the filling instead of repeating the edge (12, 53, on small images); and its luma,
    OpenCV's, rounds to the next level in one pixel of 600 (0.05, 2). On the same levels both give the same to 1e-9.
    """
    grey = (luma(grey_levels(images)) + 0.5).floor()  # halves away from zero, as MATLAB rounds
    height, width = grey.shape[2:]
    grey = F.pad(grey, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    blocks = _normalised(grey).squeeze(1).unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).flatten(1, 2)

    variance = blocks.var((-2, -1))
    active = variance > ACTIVE
    distortion = _artefact(blocks) * (1 - variance) + _noisy(blocks, variance.sqrt()) * variance
    return 100 * ((distortion * active).sum(1) + 1) / (active.sum(1) + 1)


def _normalised(grey: Tensor) -> Tensor:
    """Mean-subtracted, contrast-normalised pixels, (N, 1, H, W)."""
    padded = F.pad(grey, (WINDOW // 2,) * 4, mode="replicate")
    mean = gaussian_filter(padded, WINDOW, SIGMA)
    deviation = (gaussian_filter(padded**2, WINDOW, SIGMA) - mean**2).abs().sqrt()
    return (grey - mean) / (deviation + 1)


def _artefact(blocks: Tensor) -> Tensor:
    """Which of (N, B, 16, 16) have a flat segment on one of their four edges: (N, B)."""
    edges = torch.stack([blocks[..., 0, :], blocks[..., -1, :], blocks[..., :, 0], blocks[..., :, -1]], dim=2)
    return (edges.unfold(-1, SEGMENT, 1).std(-1) < FLAT).flatten(2).any(2)


def _noisy(blocks: Tensor, deviation: Tensor) -> Tensor:
    """Which of (N, B, 16, 16) look like noise, (N, B): the block's deviation, (N, B), is more than 2 beta.

    beta compares that deviation with the ratio of the centre's to the surround's: their difference by the larger one.
    """
    ratio = blocks[..., CENTRE].std((-2, -1)) / blocks[..., SURROUND].std((-2, -1))
    return deviation > 2 * (deviation - ratio).abs() / torch.maximum(deviation, ratio)  # false of a NaN: flat surround
