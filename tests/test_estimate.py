"""Means with bootstrap intervals: what is resampled together, what an interval holds, and infinite values."""

import math
import warnings

import pytest
import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.metrics.estimate import Estimate, around, mean_of, resampled_weights


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def estimate(values: Tensor, units: Tensor | None = None, *, replicates: int = 400, seed: int = 0) -> Estimate:
    return mean_of(values, torch.arange(len(values)) if units is None else units, replicates=replicates, seed=seed)


def test_the_value_is_the_mean_of_all_values_however_many_a_unit_has() -> None:
    units = torch.tensor([7, 7, 7, -2])
    found = estimate(torch.tensor([1.0, 2.0, 3.0, 10.0]), units)
    assert found.value == 4.0
    assert found.units == 2
    assert found.low == 2.0  # unit 7 alone, drawn twice
    assert found.high == 10.0  # unit -2 alone


def test_without_replicates_the_interval_is_the_value() -> None:
    found = estimate(noise(9), replicates=0)
    assert found.low == found.value == found.high
    assert found.units == 9


def test_the_interval_of_independent_values_is_that_of_their_standard_error() -> None:
    values = noise(400)
    found = estimate(values, replicates=2000)
    error = float(values.std()) / 20
    assert found.value - found.low == pytest.approx(1.96 * error, rel=0.1)
    assert found.high - found.value == pytest.approx(1.96 * error, rel=0.1)


def test_values_of_one_unit_are_resampled_together() -> None:
    """Ten copies of each value say no more than one: the interval is as wide, not narrower."""
    values = noise(100)
    alone = estimate(values, replicates=1000)
    copied = estimate(values.repeat_interleave(10), torch.arange(100).repeat_interleave(10), replicates=1000)
    assert copied.units == 100
    for name in ("value", "low", "high"):
        assert getattr(copied, name) == pytest.approx(getattr(alone, name), abs=1e-12)
    as_if_independent = estimate(values.repeat_interleave(10), replicates=1000)
    assert as_if_independent.high - as_if_independent.low < (alone.high - alone.low) / 2


def test_most_intervals_hold_the_true_mean() -> None:
    held = 0
    for seed in range(100):
        found = estimate(noise(60, seed=seed), replicates=200, seed=seed)
        held += found.low <= 0 <= found.high
    assert 85 <= held <= 99


def test_the_seed_decides_the_draws() -> None:
    values = noise(50)
    assert estimate(values, seed=3) == estimate(values, seed=3)
    assert estimate(values, seed=3) != estimate(values, seed=4)


def test_order_and_dtype_of_the_values_do_not_matter() -> None:
    values = noise(30).float()
    units = torch.arange(30) // 3
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    found = estimate(values, units)
    again = estimate(values[order].double(), units[order])
    for name in ("value", "low", "high"):
        assert getattr(again, name) == pytest.approx(getattr(found, name), rel=1e-12)


@pytest.mark.parametrize("infinite", [1, 2, 19, 20])
def test_infinite_values_give_infinity_and_no_warning(infinite: int) -> None:
    """The signal-to-noise ratio of equal images is infinite."""
    values = noise(20)
    values[:infinite] = math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate(values)
    assert found.value == math.inf
    assert found.high == math.inf
    assert not math.isnan(found.low)
    assert (found.low == math.inf) == (infinite > 2)  # with two of twenty, an eighth of the draws has none


def test_no_values_are_refused() -> None:
    with pytest.raises(PixgraftError, match="there are no values"):
        estimate(torch.zeros(0))


def test_resampled_weights_are_draws_of_the_filled_blocks() -> None:
    filled = torch.tensor([True, False, True, True])
    weights = resampled_weights(filled, torch.Generator().manual_seed(0), replicates=3000)
    assert weights.shape == (3000, 4)
    assert (weights.sum(1) == 3).all()
    assert (weights[:, 1] == 0).all()
    torch.testing.assert_close(weights.mean(0)[filled], torch.ones(3, dtype=torch.float64), rtol=0, atol=0.06)
    assert weights[:, 0].var().item() == pytest.approx(3 * (1 / 3) * (2 / 3), rel=0.1)  # binomial


def test_around_is_a_standard_error_on_either_side() -> None:
    resampled = 5 + 2 * noise(4000)
    found = around(1.0, resampled, units=16, least=0.0)
    assert found.value == 1.0
    assert found.high == pytest.approx(1 + 2 * 1.96, rel=0.05)
    assert found.low == 0.0
    assert around(1.0, resampled, units=16).low == pytest.approx(1 - 2 * 1.96, rel=0.05)
    assert around(1.0, resampled[:0], units=16) == Estimate(1.0, 1.0, 1.0, 16)
