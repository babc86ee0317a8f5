"""PIQE, a no-reference image quality metric (Venkatanath et al. 2015), as in MATLAB's `piqe` for uint8 RGB.

Active blocks of 16 x 16 contrast-normalised pixels are distorted if they have flat segments along their edges
(compression) or noise. The score is approximately the mean distortion of the active blocks, from 0 (good) to 100.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.metrics.pixels import gaussian_filter, grey_levels, luma

BLOCK = 16
WINDOW, SIGMA = 7, 7 / 6
"""Size and standard deviation, in pixels, of the local Gaussian window: three deviations on each side."""
ACTIVE = 0.1
"""A block is active if its variance exceeds this."""
SEGMENT, FLAT = 6, 0.1
"""Length of an edge segment in pixels, and the standard deviation below which it is an artefact."""
CENTRE = [7, 8]
SURROUND = [column for column in range(BLOCK) if column not in (7, 9)]
"""Columns of a block whose standard deviations the noise criterion compares. The surround should lack columns 7 and 8.
MATLAB deletes them one after the other, and the first deletion shifts the second, so it lacks 7 and 9; so does this."""


def piqe(images: Tensor) -> Tensor:
    """PIQE of grey levels (N, 3, H, W), uint8 or floats in 0..255: float64 (N,), in 0..100, lower is better.

    - The luma uses `rgb2gray`'s weights (`pixels.LUMA_WEIGHTS`) and is rounded to whole grey levels, not stretched.
    - Sizes that are not multiples of 16 are padded right and below by replicating the edge; the padding counts too.
    - Each pixel is normalised: minus the local mean, over the local deviation + 1, with replicated borders.
    - In each block with a sample variance v > 0.1, an edge segment with a standard deviation < 0.1 adds 1 - v, and
      noise (`_noisy`) adds v; both may apply. The score is 100 (sum + 1) / (blocks + 1).

    An image without such a block, uniform or smooth everywhere, has the score 100. MATLAB's labels are excellent up to
    20, good up to 35, fair up to 50, poor up to 80, and bad.

    pypiqe 1.2 differs from MATLAB, and so from this, in three ways (in brackets the mean and the largest change of the
    score over some hundred synthetic images): it divides the luma by its maximum, so that each image reaches 255
    (7, 77); it pads by reflection (12, 53, on small images); its luma, OpenCV's, rounds to another level in one of 600
    pixels (0.05, 2). On equal levels the results agree to 1e-9.
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
    """Mean-subtracted, contrast-normalised coefficients (N, 1, H, W)."""
    padded = F.pad(grey, (WINDOW // 2,) * 4, mode="replicate")
    mean = gaussian_filter(padded, WINDOW, SIGMA)
    deviation = (gaussian_filter(padded**2, WINDOW, SIGMA) - mean**2).abs().sqrt()
    return (grey - mean) / (deviation + 1)


def _artefact(blocks: Tensor) -> Tensor:
    """Mask (N, B) of the blocks (N, B, 16, 16) with a flat segment on one of their four edges."""
    edges = torch.stack([blocks[..., 0, :], blocks[..., -1, :], blocks[..., :, 0], blocks[..., :, -1]], dim=2)
    return (edges.unfold(-1, SEGMENT, 1).std(-1) < FLAT).flatten(2).any(2)


def _noisy(blocks: Tensor, deviation: Tensor) -> Tensor:
    """Mask (N, B) of the blocks (N, B, 16, 16) with noise: their `deviation` d (N, B) exceeds 2 beta.

    beta = |d - r| / max(d, r), where r is the ratio of the centre's deviation to the surround's.
    """
    ratio = blocks[..., CENTRE].std((-2, -1)) / blocks[..., SURROUND].std((-2, -1))
    return deviation > 2 * (deviation - ratio).abs() / torch.maximum(deviation, ratio)  # false for NaN: flat surround
