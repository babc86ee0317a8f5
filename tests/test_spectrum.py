"""The azimuthal spectrum: the power adds up, waves lie on their rings, noise is flat, and blur takes the high end."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.metrics.pixels import luma
from pixgraft.metrics.spectrum import azimuthal_spectrum
from scenes import blurred, coarse, scene


def radius(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The distance from zero of each frequency, zero in the middle."""
    steps = np.arange(size) - size // 2
    return np.hypot(steps[:, None], steps[None])


def wave(size: int, across: int, down: int) -> Tensor:
    steps = torch.arange(size, dtype=torch.float64)
    phase = 2 * math.pi / size * (across * steps[None] + down * steps[:, None])
    return (128 + 100 * phase.cos()).expand(1, 3, size, size)


@pytest.mark.parametrize("size", [1, 2, 15, 32, 64])
def test_ring_by_ring(size: int) -> None:
    images = scene(size, size, count=2) if size > 2 else torch.full((2, 3, size, size), 9)
    spectra = azimuthal_spectrum(images)
    assert spectra.shape == (2, size // 2 + 1)
    assert spectra.dtype == torch.float64
    assert spectra.equal(azimuthal_spectrum(images.float()))
    grey = luma(images.double())[:, 0].numpy() / 255
    for plane, spectrum in zip(grey, spectra.tolist(), strict=True):
        power = np.abs(np.fft.fftshift(np.fft.fft2(plane))) ** 2
        means = [power[(radius(size) >= k) & (radius(size) < k + 1)].mean() for k in range(size // 2 + 1)]
        assert spectrum == pytest.approx(means, rel=1e-9, abs=1e-18)
        assert spectrum[0] == pytest.approx(plane.sum() ** 2)


@pytest.mark.parametrize("size", [31, 48])
def test_power_adds_up(size: int) -> None:
    """Parseval: of an image with nothing in the spectrum's corners, the rings hold what the pixels do."""
    within = np.fft.ifftshift(radius(size) < size // 2)
    noise = np.random.default_rng(0).normal(size=(size, size))
    plane = np.fft.ifft2(np.fft.fft2(noise) * within).real
    plane = (plane - plane.min()) / np.ptp(plane)
    spectrum = azimuthal_spectrum(torch.from_numpy(plane * 255).expand(1, 3, size, size))[0].numpy()
    counts = [((radius(size) >= k) & (radius(size) < k + 1)).sum() for k in range(size // 2 + 1)]
    assert (spectrum * counts).sum() == pytest.approx(size**2 * (plane**2).sum())


@pytest.mark.parametrize(
    ("across", "down", "ring"), [(1, 0, 1), (0, 5, 5), (3, 4, 5), (12, -5, 13), (7, 7, 9), (0, 31, 31), (32, 0, 32)]
)
def test_a_wave_lies_on_its_ring(across: int, down: int, ring: int) -> None:
    spectrum = azimuthal_spectrum(wave(64, across, down))[0]
    assert int(spectrum[1:].argmax()) + 1 == ring
    others = spectrum.clone()
    others[[0, ring]] = 0
    assert others.max() < 1e-12 * spectrum[ring]


def test_white_noise_is_flat() -> None:
    size, variance = 64, (20 / 255) ** 2
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 1, size, size, generator=generator, dtype=torch.float64).clamp(-5, 5)
    spectrum = azimuthal_spectrum((128 + 20 * noise).expand(-1, 3, -1, -1)).mean(0)
    assert torch.allclose(spectrum[1:] / (variance * size**2), torch.ones(32, dtype=torch.float64), atol=0.15)


def test_blur_takes_the_high_end() -> None:
    images = scene(96, 96, count=3)
    spectra = torch.stack([azimuthal_spectrum(blurred(images, sigma)) for sigma in (0, 0.7, 1.0, 1.5)])
    high = spectra[..., 36:].mean(-1)
    assert (high[1:] < high[:-1]).all()
    assert (high[1] < 0.5 * high[0]).all()
    assert torch.allclose(spectra[1:, :, :4].log10(), spectra[0, :, :4].log10(), atol=0.1)


def test_enlarging_takes_the_high_end() -> None:
    images = scene(96, 96, count=3)
    high = torch.stack([azimuthal_spectrum(coarse(images, factor))[:, 36:].mean(1) for factor in (1, 2, 4)])
    assert (high[1:] < high[:-1]).all()
    assert (high[1] < 0.5 * high[0]).all()


def test_directions_count_alike_and_each_image_by_itself() -> None:
    images = scene(40, 40, count=3)
    spectra = azimuthal_spectrum(images)
    assert torch.allclose(spectra, azimuthal_spectrum(images.rot90(1, (2, 3))), rtol=1e-9)
    assert torch.allclose(spectra, torch.cat([azimuthal_spectrum(image) for image in images.split(1)]), rtol=1e-9)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(1, 3, 32, 48), "spectrum: images of 48 x 32 pixels are not square: crop"),
        (torch.zeros(3, 32, 32), "images: .*: give "),
        (torch.full((1, 3, 32, 32), -0.5), "images: values"),
    ],
)
def test_bad_input(images: Tensor, says: str) -> None:
    with pytest.raises(PixgraftError, match=says):
        azimuthal_spectrum(images)
