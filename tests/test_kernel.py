"""The kernel distance against its formula written out, its unbiasedness, its intervals and its memory."""

from unittest import mock

import pytest
import torch
from torch import Tensor

from memory import largest_tensor
from pixgraft.errors import PixgraftError
from pixgraft.metrics import kernel as module
from pixgraft.metrics.estimate import BLOCKS, Estimate
from pixgraft.metrics.kernel import kernel_distance


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(real: Tensor, fake: Tensor, *, replicates: int = 0, seed: int = 0) -> Estimate:
    """Each image a unit."""
    return kernel_distance(
        real,
        fake,
        real_units=torch.arange(len(real)),
        fake_units=torch.arange(len(fake)),
        replicates=replicates,
        seed=seed,
    )


def plain(real: Tensor, fake: Tensor) -> float:
    """The unbiased estimate as its double sums stand."""

    def kernel(x: Tensor, y: Tensor) -> float:
        product: float = sum(a * b for a, b in zip(x.tolist(), y.tolist(), strict=True))
        return (product / len(x) + 1) ** 3

    def within(features: Tensor) -> float:
        values = [kernel(x, y) for i, x in enumerate(features) for j, y in enumerate(features) if i != j]
        return sum(values) / len(values)

    between = [kernel(x, y) for x in real for y in fake]
    return within(real) + within(fake) - 2 * sum(between) / len(between)


@pytest.mark.parametrize(("real", "fake"), [(23, 17), (2, 2), (40, 3)])
def test_is_the_formula(real: int, fake: int) -> None:
    sets = noise(real, 5), 1.5 * noise(fake, 5, seed=1) + 0.5
    assert distance(*sets).value == pytest.approx(plain(*sets), rel=1e-10)


def test_pieces_do_not_change_it() -> None:
    sets = noise(130, 6), noise(90, 6, seed=1)
    whole = distance(*sets, replicates=10)
    with mock.patch.object(module, "PIECE", 3):
        pieces = distance(*sets, replicates=10)
    for name in ("value", "low", "high"):
        assert getattr(pieces, name) == pytest.approx(getattr(whole, name), rel=1e-10)


def test_float32_is_near_float64_and_halves_are_taken() -> None:
    sets = noise(200, 64).abs(), (noise(150, 64, seed=1) + 0.1).abs()
    exact = distance(*sets).value
    assert distance(*(each.float() for each in sets)).value == pytest.approx(exact, abs=1e-6)
    assert distance(*(each.half() for each in sets)).value == pytest.approx(exact, abs=2e-3)


def test_is_unbiased_so_that_some_values_are_negative() -> None:
    values = torch.tensor([distance(noise(30, 4, seed=2 * s), noise(30, 4, seed=2 * s + 1)).value for s in range(80)])
    assert abs(float(values.mean())) < 3 * float(values.std()) / len(values) ** 0.5
    assert (values < 0).float().mean() > 0.3


def test_grows_as_the_sets_part() -> None:
    real = noise(60, 8)
    values = [distance(real, noise(60, 8, seed=1) + shift).value for shift in (0.0, 0.3, 0.6, 1.2)]
    assert values == sorted(values)
    assert values[-1] > 100 * abs(values[0])


@pytest.mark.parametrize("shift", [0.2, 0.8])
def test_standard_errors_are_near_the_spread_of_sets_drawn_anew(shift: float) -> None:
    found = [
        distance(noise(64, 6, seed=2 * s), noise(64, 6, seed=2 * s + 1) + shift, replicates=100, seed=s)
        for s in range(40)
    ]
    spread = float(torch.tensor([each.value for each in found]).std())
    errors = [(each.high - each.value) / 1.96 for each in found]
    assert spread / 1.5 < sum(errors) / len(errors) < 1.8 * spread


def test_replicates_are_distances_of_the_drawn_images() -> None:
    """Copies of one image are no pair, so what counts is the weighted mean over pairs of different ones."""
    real, fake = noise(48, 3), noise(32, 3, seed=1) + 0.3
    counts = torch.full((BLOCKS,), 3.0, dtype=torch.float64)
    weights = torch.zeros(1, BLOCKS, dtype=torch.float64)
    weights[0, :4] = torch.tensor([5.0, 1, 7, 3])
    found = module._mean_within(module._within(module._pieces(real, torch.arange(48))), counts, weights)
    times = weights[0][torch.arange(48) % BLOCKS]
    values = (real @ real.T / 3 + 1).pow(3) * torch.outer(times, times)
    pairs = torch.outer(times, times) - times.square().diag()
    expected = (values - values.diagonal().diag()).sum() / pairs.sum()
    assert float(found) == pytest.approx(float(expected), rel=1e-10)
    estimate = distance(real, fake, replicates=50, seed=3)
    assert estimate == distance(real, fake, replicates=50, seed=3)
    assert estimate != distance(real, fake, replicates=50, seed=4)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.units == 16


def test_two_images_have_an_interval_without_nan() -> None:
    """Where one of two images is drawn twice, there is no pair to measure."""
    found = distance(noise(2, 3), noise(2, 3, seed=1), replicates=40)
    assert found.low <= found.value <= found.high
    assert found.units == 2


def test_no_tensor_grows_with_the_number_of_pairs() -> None:
    with mock.patch.object(module, "PIECE", 32):
        few, many = (largest_tensor(lambda n=n: distance(noise(n, 8), noise(n, 8))) for n in (200, 600))  # type: ignore[misc]
    assert few <= 200 * 8 * 8  # the features themselves, and no matrix of all pairs
    assert many <= 600 * 8 * 8


def test_faulty_sets_are_named() -> None:
    with pytest.raises(PixgraftError, match="fake images: 1 given, at least 2 are needed"):
        distance(noise(5, 3), noise(1, 3))
    with pytest.raises(PixgraftError, match="fake images: 4 features an image, but 3 in real images"):
        distance(noise(5, 3), noise(5, 4))
    with pytest.raises(PixgraftError, match="real images: a feature is beyond"):
        distance(noise(5, 3) / 0, noise(5, 3))
