"""L1, PSNR and SSIM: values worked out by hand and by definition, worsening pictures, and scikit-image's figures."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.metrics.paired import l1, psnr, ssim
from scenes import blurred, coarse, compressed, noisy, scene

MEASURES = [l1, psnr, ssim]


def flat(*levels: int, size: int = 12) -> Tensor:
    """One uniform image a level."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, size, size)


def test_l1_and_psnr_of_uniform_images() -> None:
    a, b = flat(10, 250, 0, 7), flat(15, 240, 255, 7)
    assert l1(a, b).tolist() == [5, 10, 255, 0]
    expected = [20 * math.log10(255 / 5), 20 * math.log10(255 / 10), 0, math.inf]
    assert psnr(a, b).tolist() == pytest.approx(expected)


def test_all_pixels_and_channels_count() -> None:
    a = torch.zeros(1, 3, 12, 20, dtype=torch.uint8)
    b = a.clone()
    b[0, 2, 11, 19] = 24  # one value of 720
    assert l1(a, b).item() == pytest.approx(24 / 720)
    assert psnr(a, b).item() == pytest.approx(10 * math.log10(255**2 / (24**2 / 720)))


def test_ssim_of_uniform_images() -> None:
    a, b = flat(10, 200, 0), flat(30, 100, 255)
    c1 = (0.01 * 255) ** 2
    expected = [(2 * x * y + c1) / (x * x + y * y + c1) for x, y in [(10, 30), (200, 100), (0, 255)]]
    assert ssim(a, b).tolist() == pytest.approx(expected)


def ssim_by_definition(a: Tensor, b: Tensor) -> float:
    """Each whole window by itself, its moments about its own mean."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for x, y in zip(a.double().numpy().reshape(3, *a.shape[1:]), b.double().numpy(), strict=True):
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                p, q = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
                m, n = (window * p).sum(), (window * q).sum()
                v, w = (window * (p - m) ** 2).sum(), (window * (q - n) ** 2).sum()
                both = (window * (p - m) * (q - n)).sum()
                c1, c2 = 6.5025, 58.5225
                values.append((2 * m * n + c1) * (2 * both + c2) / ((m**2 + n**2 + c1) * (v + w + c2)))
    return float(np.mean(values))


def test_ssim_by_definition() -> None:
    a = scene(14, 19, count=3)
    b = torch.cat([noisy(a[:1], 20), blurred(a[1:2], 1), 255 - a[2:]])
    expected = [ssim_by_definition(x, y) for x, y in zip(a, b, strict=True)]
    assert expected[2] < 0
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-9)


def test_ssim_of_one_window() -> None:
    a, b = scene(11, 11, count=2, seed=1)[:, None]
    assert ssim(a, b).item() == pytest.approx(ssim_by_definition(a[0], b[0]), abs=1e-9)


def test_equal_images() -> None:
    a = scene(40, 30, count=2)
    assert l1(a, a).tolist() == [0, 0]
    assert psnr(a, a).tolist() == [math.inf, math.inf]
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("measure", MEASURES)
def test_symmetric_and_each_image_by_itself(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = scene(30, 40, count=3), scene(30, 40, count=3, seed=5)
    together = measure(a, b)
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    assert torch.equal(together, measure(b, a))
    assert torch.equal(together, measure(a.float(), b))
    alone = torch.cat([measure(x, y) for x, y in zip(a.split(1), b.split(1), strict=True)])
    assert torch.allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize(
    ("spoil", "strengths"),
    [(blurred, (0.5, 1, 2, 3)), (noisy, (2, 5, 10, 20, 40)), (coarse, (2, 4, 8, 16)), (compressed, (90, 50, 20, 5))],
)
def test_worse_images_measure_worse(spoil: Callable[[Tensor, float], Tensor], strengths: tuple[float, ...]) -> None:
    images = scene(96, 96, count=3)
    worse = [spoil(images, strength) for strength in strengths]
    for measure, sign in [(l1, 1), (psnr, -1), (ssim, -1)]:
        figures = torch.stack([measure(images, each) for each in [images, *worse]]) * sign
        assert (figures[1:] > figures[:-1]).all(), measure.__name__


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (flat(1, 2), flat(1), r"\(2, 3, 12, 12\) and \(1, 3, 12, 12\) differ"),
        (flat(1, size=24), flat(1, size=12), "differ"),
        (flat(1)[:, :1], flat(1)[:, :1], r"first images: \(1, 1, 12, 12\) is no batch of RGB images"),
        (flat(1), flat(1)[0], r"second images: \(3, 12, 12\) is no batch"),
        (flat(1)[:0], flat(1)[:0], "no batch"),
        (flat(1), flat(1) / 127.5 - 1, "second images: values that are no grey levels"),
        (flat(1) * math.nan, flat(1), "first images: values"),
        (flat(1), flat(255) + 1.0, "second images: values"),
    ],
)
def test_bad_input(measure: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, says: str) -> None:
    with pytest.raises(PixgraftError, match=says) as error:
        measure(a, b)
    assert "\n" not in str(error.value)
    assert ": give " in str(error.value)


def test_smaller_than_the_window() -> None:
    a = torch.zeros(1, 3, 10, 40)
    with pytest.raises(PixgraftError, match=r"SSIM: images of 40 x 10 pixels are smaller.*11 x 11"):
        ssim(a, a)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(11, 11), (64, 64), (37, 90)])
def test_scikit_image_agrees(size: tuple[int, int]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a = scene(*size, count=5)
    b = torch.cat([blurred(a[:1], 1), noisy(a[1:2], 10), compressed(a[2:3], 10), 255 - a[3:4], scene(*size, seed=9)])
    pairs = [(x.permute(1, 2, 0).numpy(), y.permute(1, 2, 0).numpy()) for x, y in zip(a, b, strict=True)]
    ratios = [metrics.peak_signal_noise_ratio(x, y, data_range=255) for x, y in pairs]
    assert psnr(a, b).tolist() == pytest.approx(ratios, abs=1e-9)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    similarities = [metrics.structural_similarity(x, y, channel_axis=2, **settings) for x, y in pairs]
    assert ssim(a, b).tolist() == pytest.approx(similarities, abs=1e-9)
