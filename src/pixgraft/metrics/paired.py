"""Full-reference metrics of single images: L1, L2, PSNR and SSIM (Wang et al. 2004).

All take two batches of grey levels (N, 3, H, W), uint8 or floats in 0..255, and return one float64 value per image,
(N,). Published definitions of the same name differ; each docstring states the one used here. Rounding also matters for
comparisons: measure the whole grey levels of saved images, not a network's floats.
"""

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.metrics.pixels import gaussian_filter, grey_levels

PEAK = 255.0
WINDOW, SIGMA = 11, 1.5
"""SSIM's Gaussian window, in pixels."""
K1, K2 = 0.01, 0.03


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference over pixels and channels, in grey levels 0..255; lower is better.

    Papers often report it for images in [0, 1] (this value / 255) or in [-1, 1] (this value / 127.5).
    """
    a, b = _pair(a, b)
    return (a - b).abs().mean((1, 2, 3))


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference over pixels and channels, of levels scaled to [-1, 1]; lower is better."""
    a, b = _pair(a, b)
    return ((a - b) / (PEAK / 2)).square().mean((1, 2, 3))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, 10 log10(255^2 / MSE), infinite for equal images; higher is better.

    The MSE is over the pixels and three channels of one image; a set's value is the mean of its images' ratios.
    Super-resolution papers often use the luma only, which gives higher values, crop a border, or compute one ratio from
    the mean error of the whole set.
    """
    a, b = _pair(a, b)
    return 10 * torch.log10(PEAK**2 / ((a - b) ** 2).mean((1, 2, 3)))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, equation 13), at most 1, the value of equal images; higher is better.

    As in the paper: a Gaussian window of 11 x 11 pixels with standard deviation 1.5; K1 = 0.01, K2 = 0.03, L = 255;
    variances and covariance are weighted means over the window, without N / (N - 1). The map covers whole windows only,
    without a border of 5 pixels. It is computed for R, G and B separately; the result is the mean over all three.

    Other implementations differ:
    - channels: the authors' code and most super-resolution papers use the luma only;
    - window: scikit-image's default is a uniform 7 x 7 window; `gaussian_weights=True, sigma=1.5` gives this one;
    - covariance: scikit-image's default is the sample covariance; `use_sample_covariance=False` gives this one;
    - borders: MATLAB's `ssim` pads them by replicating the edge, and filters RGB as a volume;
    - scale: the authors' later code first shrinks images whose shorter side has 384 pixels or more;
    - range: L must be the range of the values; L = 1 for grey levels, or 2 for [0, 1], gives wrong results.

    Raises PixgraftError if the images are smaller than the window.
    """
    a, b = _pair(a, b)
    if min(a.shape[2:]) < WINDOW:
        size, least = f"{a.shape[3]} x {a.shape[2]}", f"{WINDOW} x {WINDOW}"
        raise PixgraftError(f"SSIM: images of {size} pixels are smaller than its window: give {least} or more")
    mean_a, mean_b = _window(a), _window(b)
    variance_a = _window(a * a) - mean_a**2
    variance_b = _window(b * b) - mean_b**2
    covariance = _window(a * b) - mean_a * mean_b
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean((1, 2, 3))


def _window(planes: Tensor) -> Tensor:
    return gaussian_filter(planes, WINDOW, SIGMA)


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = grey_levels(a, "first images"), grey_levels(b, "second images")
    if a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise PixgraftError(f"paired images: their shapes {shapes} differ: give as many of the same size")
    return a, b
