"""Frechet distances against closed forms and SciPy's root, and the moments' merging, memory and intervals."""

from unittest import mock

import pytest
import torch
from torch import Tensor

from memory import largest_tensor
from pixgraft.errors import PixgraftError
from pixgraft.metrics import frechet as module
from pixgraft.metrics.frechet import Moments, frechet, frechet_distance


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(features: Tensor, blocks: int = 16, batch: int = 7) -> Moments:
    """Of features (N, D), each image a unit."""
    gathered = Moments(features.shape[1], blocks)
    for rows, units in zip(features.split(batch), torch.arange(len(features)).split(batch), strict=True):
        gathered.update(rows, units)
    return gathered


def with_covariance(features: Tensor, mean: Tensor, covariance_root: Tensor) -> Tensor:
    """The features (N, D) moved so that their moments are exactly these; N > D."""
    centred = features - features.mean(0)
    whitener = torch.linalg.inv(torch.linalg.cholesky(centred.T.cov(correction=1)))
    made: Tensor = centred @ whitener.T @ covariance_root.T + mean
    return made


# --- moments ---


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_are_mean_and_unbiased_covariance(offset: float) -> None:
    """Also far from zero, where sums of squares would lose the variance."""
    features = noise(300, 6) + offset
    gathered = moments(features)
    assert gathered.count == 300
    torch.testing.assert_close(gathered.mean(), features.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gathered.covariance(), features.T.cov(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_features_of_any_precision_count_as_they_are(dtype: torch.dtype) -> None:
    features = noise(50, 4).to(dtype)
    torch.testing.assert_close(moments(features).covariance(), features.double().T.cov(), rtol=1e-12, atol=1e-12)


def test_merged_moments_are_those_of_all_images() -> None:
    """As two processes merge theirs, which started from different images; one of them may have had none."""
    features = noise(210, 5) + 3
    whole = moments(features)
    empty = Moments(5)
    parts = [moments(features[:130]), Moments(5)]
    parts[1].update(features[130:], torch.arange(130, 210))
    for merged in (parts[0] + parts[1], parts[1] + parts[0], empty + whole, whole + empty):
        assert merged.count == 210
        torch.testing.assert_close(merged.mean(), whole.mean(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(merged.covariance(), whole.covariance(), rtol=1e-12, atol=1e-12)
        other = moments(noise(90, 5, seed=9))
        ours, theirs = (frechet(each, other, replicates=20, seed=1) for each in (merged, whole))
        assert ours.high == pytest.approx(theirs.high, rel=1e-9)  # so the blocks agree too
    assert [part.count for part in parts] == [130, 80]
    with pytest.raises(ValueError, match="5 features in 16 blocks, not 4 in 16"):
        _ = whole + Moments(4)


def test_no_tensor_grows_with_the_number_of_images() -> None:
    def gather(count: int) -> Moments:
        gathered = Moments(8)
        for start in range(0, count, 50):
            gathered.update(noise(50, 8, seed=start), torch.arange(start, start + 50))
        return gathered

    with mock.patch.object(module, "WAITING", 100):
        few, many = (largest_tensor(lambda count=count: gather(count)) for count in (200, 2000))  # type: ignore[misc]
    assert many == few
    assert many <= 16 * 8 * 8 * 8  # the products' bytes


# --- the distance ---


def test_gaussians_with_diagonal_covariances_have_a_closed_form() -> None:
    means = noise(12, seed=1), noise(12, seed=2)
    deviations = noise(12, seed=3).abs(), noise(12, seed=4).abs()
    sets = [
        moments(with_covariance(noise(40, 12, seed=seed), mean, deviation.diag()))
        for seed, mean, deviation in zip((5, 6), means, deviations, strict=True)
    ]
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert frechet_distance(*sets) == pytest.approx(float(expected), rel=1e-9)


def test_general_covariances_agree_with_an_eigenvalue_sum() -> None:
    """tr (S1 S2)^(1/2) by the eigenvalues of the product itself, whose imaginary parts are rounding."""
    sets = noise(80, 9) @ noise(9, 9, seed=1), noise(60, 9, seed=2) @ noise(9, 9, seed=3) + 0.4
    first, second = (features.T.cov() for features in sets)
    root = torch.linalg.eigvals(first @ second).sqrt().sum().real
    expected = (sets[0].mean(0) - sets[1].mean(0)).square().sum() + (first + second).trace() - 2 * root
    assert frechet_distance(*map(moments, sets)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("count", [20, 200])
def test_agrees_with_scipys_matrix_root(count: int) -> None:
    """Of 20 images in 32 dimensions too, where the root of the singular product is less exact."""
    linalg = pytest.importorskip("scipy.linalg")
    sets = noise(count, 32), 1.3 * noise(count, 32, seed=1) + 0.2
    first, second = (features.T.cov() for features in sets)
    root = linalg.sqrtm((first @ second).numpy()).trace().real
    expected = (sets[0].mean(0) - sets[1].mean(0)).square().sum() + (first + second).trace() - 2 * float(root)
    assert frechet_distance(*map(moments, sets)) == pytest.approx(float(expected), rel=1e-9 if count > 32 else 1e-5)


def test_fewer_images_than_dimensions() -> None:
    """The distance in a plane of 40 dimensions is that in the plane; planes at right angles have no root in common."""
    flat = noise(15, 3), 2 * noise(11, 3, seed=1) + 1
    plane = torch.linalg.qr(noise(40, 6, seed=2)).Q
    expected = frechet_distance(*map(moments, flat))
    shared = [moments(features @ plane[:, :3].T) for features in flat]
    assert frechet_distance(*shared) == pytest.approx(expected, rel=1e-9)

    apart = [moments(f @ p.T) for f, p in zip(flat, (plane[:, :3], plane[:, 3:]), strict=True)]
    traces = sum(float(f.T.cov().trace()) for f in flat)
    means = sum(float(f.mean(0).square().sum()) for f in flat)
    assert frechet_distance(*apart) == pytest.approx(traces + means, rel=1e-7)


def test_identical_moments_are_exactly_0_apart() -> None:
    features = noise(10, 30)
    assert frechet_distance(moments(features), moments(features)) == 0.0
    found = frechet(moments(features), moments(features), replicates=20, seed=0)
    assert (found.value, found.low) == (0.0, 0.0)
    # Added up in another order: next to nothing, and not below 0.
    assert 0 <= frechet_distance(moments(features), moments(features.flip(0))) < 1e-5


def test_is_symmetric_and_scales_with_the_square() -> None:
    sets = moments(noise(40, 5)), moments(noise(50, 5, seed=1) + 1)
    assert frechet_distance(*sets) == pytest.approx(frechet_distance(*sets[::-1]), rel=1e-12)
    large = moments(1e4 * noise(40, 5)), moments(1e4 * (noise(50, 5, seed=1) + 1))
    assert frechet_distance(*large) == pytest.approx(1e8 * frechet_distance(*sets), rel=1e-9)


# --- what is refused ---


def test_a_faulty_set_is_named() -> None:
    good = moments(noise(5, 3))
    labels = ("the reals", "model-x")
    with pytest.raises(PixgraftError, match="model-x: 1 given, at least 2 are needed"):
        frechet_distance(good, moments(noise(1, 3)), labels=labels)
    with pytest.raises(PixgraftError, match="the reals: 0 given, at least 2 are needed"):
        frechet(Moments(3), good, replicates=0, seed=0, labels=labels)
    with pytest.raises(PixgraftError, match="model-x: all 9 have the same features"):
        frechet_distance(good, moments(torch.full((9, 3), 0.1)), labels=labels)
    with pytest.raises(PixgraftError, match="fakes: 4 features an image, not 3"):
        Moments(3, label="fakes").update(noise(2, 4), torch.arange(2))
    with pytest.raises(PixgraftError, match=r"fakes: a feature is beyond .* or no number"):
        Moments(3, label="fakes").update(torch.tensor([[0.0, torch.nan, 1.0]]), torch.arange(1))


# --- the interval ---


def test_gradients_are_those_of_the_distance() -> None:
    """Along any change of a covariance, by a difference quotient of the distance itself."""
    covariances = [noise(30, 6, seed=seed).T.cov() for seed in (0, 1)]
    gradients = module._gradients(*covariances)

    def trace(first: Tensor, second: Tensor) -> float:
        return float((first + second).trace() - 2 * torch.linalg.eigvals(first @ second).sqrt().sum().real)

    for index in (0, 1):
        change = noise(6, 6, seed=5)
        change = 1e-6 * (change + change.T)
        ahead, behind = ([*covariances] for _ in range(2))
        ahead[index] = ahead[index] + change
        behind[index] = behind[index] - change
        expected = (trace(*ahead) - trace(*behind)) / 2
        assert float((gradients[index] * change).sum()) == pytest.approx(float(expected), rel=1e-6)


def test_what_is_resampled_is_what_the_blocks_images_give() -> None:
    """Along some direction, against moments gathered anew from the drawn images."""
    features = noise(90, 4) + 2
    gathered = moments(features, blocks=8)
    weights = torch.tensor([[2.0, 0, 1, 1, 0, 3, 1, 0], [1.0] * 8], dtype=torch.float64)
    along_mean, along_covariance = noise(4, seed=1), noise(4, 4, seed=2)
    drawn = torch.cat([features[block::8].repeat(int(weights[0, block]), 1) for block in range(8)])
    expected = along_mean @ (drawn.mean(0) - features.mean(0))
    expected += (along_covariance * (drawn.T.cov() - features.T.cov())).sum()
    found = gathered.resampled(along_mean, along_covariance, weights)
    assert float(found[0]) == pytest.approx(float(expected), rel=1e-9)
    assert float(found[1]) == 0.0


@pytest.mark.parametrize(("count", "shift"), [(24, 1.0), (200, 0.0), (200, 0.3)])
def test_standard_errors_are_near_the_spread_of_sets_drawn_anew(count: int, shift: float) -> None:
    values, errors = [], []
    for seed in range(40):
        sets = moments(noise(count, 16, seed=2 * seed)), moments(1.2 * noise(count, 16, seed=2 * seed + 1) + shift)
        found = frechet(*sets, replicates=100, seed=seed)
        values.append(found.value)
        errors.append((found.high - found.value) / 1.96)
    spread = float(torch.tensor(values).std())
    assert spread / 1.5 < sum(errors) / len(errors) < spread * 1.8


def test_the_interval_holds_its_value_and_follows_the_seed() -> None:
    sets = moments(noise(30, 8)), moments(noise(30, 8, seed=1))
    found = frechet(*sets, replicates=50, seed=0)
    assert 0 <= found.low < found.value < found.high
    assert found.units == 16
    assert found == frechet(*sets, replicates=50, seed=0)
    assert found != frechet(*sets, replicates=50, seed=1)
    assert frechet(*sets, replicates=0, seed=0).high == found.value


def test_images_of_one_unit_are_in_one_block() -> None:
    """Three units fill three blocks; one alone leaves nothing to resample."""
    features = noise(30, 4)
    gathered = Moments(4)
    gathered.update(features, torch.arange(30) // 10 * 16 + torch.arange(30) // 10)
    assert frechet(gathered, moments(noise(30, 4, seed=1)), replicates=9, seed=0).units == 3
    alone = [Moments(4), Moments(4)]
    for seed, each in enumerate(alone):
        each.update(noise(30, 4, seed=seed), torch.full((30,), 5))
    found = frechet(*alone, replicates=9, seed=0)
    assert found.low == found.value == found.high
    assert found.units == 1
