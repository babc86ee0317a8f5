"""Azimuthally averaged power spectrum of images (Durall et al. 2020), which shows upsampling artefacts.

GRIT's Figure 9 shows it, after Schwarz et al. 2021.
"""

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.metrics.pixels import grey_levels, luma


def azimuthal_spectrum(images: Tensor) -> Tensor:
    """Mean power at each whole radius of the spectrum: float64 (N, S // 2 + 1), on a linear scale.

    `images` are grey levels (N, 3, S, S), uint8 or floats in 0..255. Power is the squared magnitude of the unnormalised
    discrete Fourier transform of the luma in [0, 1] (weights: `pixels.LUMA_WEIGHTS`). Element k is the mean power at
    frequencies of at least k and less than k + 1 cycles per image. Element 0 is the squared sum of the pixels; element
    S // 2 is at the Nyquist frequency. Higher frequencies, in the corners, are omitted. White noise of variance v has
    about v S^2 at each k > 0. As in the papers no window is applied: a mismatch of opposite borders adds power at all
    frequencies, which dominates the high frequencies of a strongly blurred image.

    Plot the mean over the images, on a logarithmic axis or as log10, against k / (S // 2), the frequency relative to
    Nyquist's. The mean of the logarithms is different. Schwarz et al. instead average the spectra of R, G and B.

    Raises PixgraftError if the images are not square.
    """
    levels = grey_levels(images)
    count, _, height, width = levels.shape
    if height != width:
        raise PixgraftError(f"spectrum: images of {width} x {height} pixels are not square: crop them")
    power = torch.fft.fft2(luma(levels).squeeze(1) / 255).abs() ** 2
    step = torch.arange(width, device=power.device)
    frequency = torch.minimum(step, width - step)  # without its sign
    ring = (frequency[:, None] ** 2 + frequency**2).double().sqrt().long().flatten()
    cells = torch.bincount(ring)
    sums = power.new_zeros(count, len(cells)).index_add(1, ring, power.flatten(1))
    means: Tensor = sums / cells
    return means[:, : width // 2 + 1]
