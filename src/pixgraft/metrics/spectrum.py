"""The power of an image over its spatial frequencies, averaged over directions.

The azimuthal spectrum of Durall et al. 2020, which shows what upsampling leaves in generated images. GRIT's Figure 9
has it, after Schwarz et al. 2021.
"""

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.metrics.pixels import grey_levels, luma


def azimuthal_spectrum(images: Tensor) -> Tensor:
    """Mean power at each whole radius of the spectrum of square images: float64 (N, S // 2 + 1), linear.

    `images` are grey levels (N, 3, S, S), uint8 or floats in 0..255. Power is the squared magnitude of the discrete
    Fourier transform, unnormalised, of the luma in [0, 1] (weights: `pixels.LUMA_WEIGHTS`). Element k is its mean over
    the frequencies at a distance of k up to, not including, k + 1 cycles per image from zero; so element 0 is the
    squared sum of the pixels, and element S // 2 lies at the Nyquist frequency. The corners beyond it are left out.
    White noise of variance v has about v S^2 at each k > 0. No window is applied, as in the papers: borders that do not
    match the opposite ones add power at all frequencies, which is what is left of a strongly blurred image's high end.

    To plot: k / (S // 2), the frequency relative to Nyquist's, against the mean over the images, on a logarithmic axis
    or as log10. The mean of the logarithms is another figure. Schwarz et al. average the spectra of R, G and B instead.

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
