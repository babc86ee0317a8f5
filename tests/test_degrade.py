"""Low-resolution conditions: what the factor does, and that it depends on the seed and the images seen alone."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.dataset import Dataset, Loader, SampleOrder
from pixgraft.data.degrade import Degradation, enlarged
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.pairs import open_images
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import bicubic, enlarge
from training import make_images, some_images

FACTORS = (1, 2, 4)


def _degraded(folder: Path, *, seed: int = 0) -> Dataset:
    return Dataset(open_images(folder), size=32, degradation=Degradation(factors=FACTORS), seed=seed)


def _detail(images: Tensor) -> float:
    return float((images[..., 1:] - images[..., :-1]).abs().mean())


def test_what_a_factor_takes_away() -> None:
    images, degradation = some_images(), Degradation()
    details = [_detail(degradation(images, factor)) for factor in (1, 2, 4, 8)]
    assert details == sorted(details, reverse=True)
    assert torch.equal(degradation(images, 1), images)
    for factor in (2, 16):
        made = degradation(images, factor)
        assert made.shape == images.shape
        assert made.abs().max() <= 1
        assert torch.equal(made[:1], degradation(images[:1], factor))
    flat = torch.full((1, 3, 32, 32), 0.25)
    assert (degradation(flat, 8) - 0.25).abs().max() < 1 / 255


def test_the_small_image_is_shrunk_bicubically_and_rounded_to_grey_levels() -> None:
    images = some_images()
    small = from_uint8(to_uint8(bicubic(images, 4)))
    made = Degradation(enlarging="nearest")(images, 4)
    assert torch.equal(made, enlarge(small, 4))
    assert torch.equal(Degradation()(images, 4), enlarged(small, 32, "bicubic"))


@pytest.mark.parametrize("how", ["bicubic", "bilinear"])
def test_enlarging_is_pillows(how: Literal["bicubic", "bilinear"]) -> None:
    """Pillow's bicubic kernel has a = -0.5; with PyTorch's usual -0.75 levels would be off by ten."""
    pixels = np.random.default_rng(0).integers(64, 192, (8, 8, 3), dtype=np.uint8)  # nothing overshoots
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling[how.upper()])).astype(int)
    image = from_uint8(torch.from_numpy(pixels).permute(2, 0, 1)).unsqueeze(0)
    made = to_uint8(enlarged(image, 32, how))[0].permute(1, 2, 0).numpy()
    assert np.abs(made - expected).max() <= 1


def test_an_enlarged_image_stays_in_range() -> None:
    steps = torch.tensor([-1.0, 1.0]).repeat(4).expand(1, 3, 8, 8)
    assert enlarged(steps, 64, "bicubic").abs().max() <= 1


def test_the_factor_is_a_function_of_seed_and_number() -> None:
    degradation = Degradation()
    drawn = [degradation.factor(0, number) for number in range(6000)]
    assert set(drawn) == set(degradation.factors)
    assert min(Counter(drawn).values()) > 850  # five standard deviations below 1,000
    assert drawn[100:200] == [Degradation().factor(0, number) for number in range(100, 200)]
    assert drawn[:100] != [degradation.factor(1, number) for number in range(100)]


@pytest.mark.parametrize(
    ("factors", "size", "words"),
    [((), 32, "choose whole"), ((0, 2), 32, "choose whole"), ((3,), 32, "factor 3"), ((1, 32), 32, "factor 32")],
)
def test_factors_that_do_not_fit(factors: tuple[int, ...], size: int, words: str) -> None:
    with pytest.raises(PixgraftError, match=words):
        Degradation(factors=factors).check(size)


def test_the_largest_factor_that_is_let_through_works() -> None:
    Degradation(factors=(1, 2, 4, 8, 16)).check(32)
    assert Degradation()(some_images(1), 16).shape == (1, 3, 32, 32)


def test_pairs_are_an_image_and_what_is_left_of_it(tmp_path: Path) -> None:
    data = _degraded(make_images(tmp_path / "data"))
    assert len(data) == 6
    degradation = Degradation(factors=FACTORS)
    seen = set()
    for number in range(12):
        image, condition = data.sample(number % 6, number=number, mirrored=False)
        assert condition is not None
        assert image.dtype == condition.dtype == torch.uint8
        factor = degradation.factor(0, number)
        assert torch.equal(condition, to_uint8(degradation(from_uint8(image).unsqueeze(0), factor))[0])
        seen.add(factor)
        mirrored, other = data.sample(number % 6, number=number, mirrored=True)
        assert torch.equal(mirrored, image.flip(-1))
        assert other is not None
        assert (other.flip(-1).int() - condition.int()).abs().max() <= 1
    assert seen == set(FACTORS)
    chosen = degradation.factor(0, 3)
    third = data[3]
    assert third.condition is not None
    assert torch.equal(third.condition, degradation.condition(third.image, chosen))
    with pytest.raises(PixgraftError, match="factor 3"):
        Dataset(data.source, size=32, degradation=Degradation(factors=(3,)))


def test_any_start_continues_the_same_sequence(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 5)

    def batches(start: int, count: int) -> tuple[Tensor, Tensor]:
        loader = Loader(_degraded(folder, seed=3), SampleOrder(5, seed=1, flip=True))
        images, conditions = zip(*itertools.islice(loader.batches(start, 4), count), strict=True)
        loader.close()
        return torch.cat(images), torch.cat(conditions)

    whole, late = batches(0, 4), batches(8, 2)
    for a, b in zip(whole, late, strict=True):
        assert torch.equal(a[8:], b)


def test_what_is_asked_of_the_images_is_asked_of_them(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 4)
    data = _degraded(folder)
    assert data.fingerprint() == Dataset(open_images(folder), size=32).fingerprint()
    (folder / "01.png").write_bytes(b"text")
    with pytest.raises(PixgraftError, match=r"^01\.png: not an image"):
        data.check()
