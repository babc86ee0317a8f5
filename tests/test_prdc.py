"""Precision, recall, density and coverage against their definitions written out, pair by pair, on hard sets."""

from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memory import largest_tensor
from pixgraft.errors import PixgraftError
from pixgraft.metrics import prdc as module
from pixgraft.metrics.prdc import PRDC, prdc

NAMES = ("precision", "recall", "density", "coverage")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["bfloat16", "float32"])
def quick_type(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each type that a machine may be quickest with."""
    with mock.patch.object(module, "_quick_type", return_value=getattr(torch, request.param)):
        yield


def plain(real: Tensor, fake: Tensor, k: int) -> PRDC:
    """The definitions, image by image: distances sorted, an image's own left out by its index."""
    reals, fakes = real.double().numpy(), fake.double().numpy()

    def square(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.sum((x - y) ** 2))

    def radius(images: np.ndarray, index: int) -> float:
        return sorted(square(images[index], other) for i, other in enumerate(images) if i != index)[k - 1]

    real_radii = [radius(reals, i) for i in range(len(reals))]
    fake_radii = [radius(fakes, j) for j in range(len(fakes))]
    balls = [sum(square(x, y) < r for x, r in zip(reals, real_radii, strict=True)) for y in fakes]
    return PRDC(
        precision=torch.tensor([float(count > 0) for count in balls], dtype=torch.float64),
        density=torch.tensor([count / k for count in balls], dtype=torch.float64),
        recall=torch.tensor(
            [float(any(square(x, y) < r for y, r in zip(fakes, fake_radii, strict=True))) for x in reals],
            dtype=torch.float64,
        ),
        coverage=torch.tensor(
            [float(min(square(x, y) for y in fakes) < r) for x, r in zip(reals, real_radii, strict=True)],
            dtype=torch.float64,
        ),
    )


def assert_same(found: PRDC, expected: PRDC) -> None:
    for name in NAMES:
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def hard_sets(kind: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sets in which comparisons are close: distances of whole numbers are exact in every order of summing."""
    generator = torch.Generator().manual_seed(seed)

    def whole(count: int, dimension: int, top: int) -> Tensor:
        return torch.randint(0, top, (count, dimension), generator=generator).float()

    tight = whole(3, 20, 1000) * 1000
    return {
        "noise": (noise(60, 9, seed=seed), noise(50, 9, seed=seed + 1)),
        "ties": (whole(70, 3, 4), whole(60, 3, 4)),
        "bits": (whole(40, 30, 2), whole(45, 30, 2)),
        "duplicates": (whole(12, 5, 9).repeat_interleave(7, 0), whole(12, 5, 9).repeat_interleave(3, 0)),
        "one point": (torch.full((9, 4), 0.3), torch.full((8, 4), 0.3)),
        "one dimension": (whole(40, 1, 60), whole(40, 1, 60)),
        # Far clusters that are narrower than a product's rounding.
        "clusters": (tight.repeat(12, 1) + whole(36, 20, 5), tight.repeat(11, 1) + whole(33, 20, 5)),
        "far away": (whole(40, 6, 9) + 2**20, whole(40, 6, 9) + 2**20),
        "one outlier": (torch.cat((whole(39, 6, 9), torch.full((1, 6), 1e6))), whole(40, 6, 9)),
        "fewest": (whole(6, 4, 9), whole(6, 4, 9)),
    }[kind]


KINDS = (
    "noise",
    "ties",
    "bits",
    "duplicates",
    "one point",
    "one dimension",
    "clusters",
    "far away",
    "one outlier",
    "fewest",
)


@pytest.mark.usefixtures("quick_type")
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_is_the_definition_on_hard_sets(kind: str, k: int) -> None:
    real, fake = hard_sets(kind)
    assert_same(prdc(real, fake, k=k, block_size=16), plain(real, fake, k))
    assert_same(prdc(fake, real, k=k), plain(fake, real, k))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**20),
    k=st.integers(1, 5),
    block_size=st.sampled_from([5, 16, 37]),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    scale=st.sampled_from([2.0**-66, 1.0, 2.0**20]),
    waiting=st.sampled_from([50, module.WAITING]),
)
def test_neither_blocks_nor_scale_nor_precision_change_it(
    kind: str, seed: int, k: int, block_size: int, dtype: torch.dtype, scale: float, waiting: int
) -> None:
    real, fake = hard_sets(kind, seed)
    if dtype == torch.float16:
        real, fake = real.clamp(-1000, 1000), fake.clamp(-1000, 1000)
    real, fake = real.to(dtype), fake.to(dtype)
    expected = prdc(real, fake, k=k)
    assert_same(expected, prdc(real.double(), fake.float(), k=k))
    if dtype != torch.float16:
        real, fake = real * scale, fake * scale
    before = real.clone()
    with mock.patch.object(module, "WAITING", waiting):
        assert_same(prdc(real, fake, k=k, block_size=block_size), expected)
    assert torch.equal(real, before)


@pytest.mark.usefixtures("quick_type")
def test_a_set_compared_with_itself_is_all_precise_and_covered() -> None:
    """A neighbour at the very radius is outside the ball, and every image is in its own: k balls each, on average."""
    images = noise(300, 40)
    found = prdc(images, images.clone(), k=5, block_size=64)
    for name in ("precision", "recall", "coverage"):
        assert (getattr(found, name) == 1).all()
    # In its own ball, and in those of the others that count it among their four nearest.
    assert float(found.density.mean()) == pytest.approx(1.0)


def test_sets_that_share_nothing() -> None:
    found = prdc(noise(50, 8), noise(40, 8, seed=1) + 1000)
    for name in NAMES:
        assert not getattr(found, name).any()
    assert [len(getattr(found, name)) for name in NAMES] == [40, 50, 40, 50]


@pytest.mark.usefixtures("quick_type")
def test_bounds_hold_every_distance() -> None:
    """Also of vectors that rounding is hardest on: all parts of one sign, so that its errors add up."""
    for features in (noise(64, 3000), 1 + noise(64, 3000).abs() / 100, torch.exp(3 * noise(64, 300)), noise(64, 2)):
        images = module._Set(features, torch.zeros(features.shape[1]))
        squares = (features.double()[:, None] - features.double()).square().sum(-1)
        for dtype in module._precisions():
            lower, upper_of = module._bounds(images, slice(0, 64), images, slice(0, 64), dtype)
            upper = upper_of(torch.arange(64)[:, None], torch.arange(64))
            assert (lower <= squares).all()
            assert (squares <= upper).all()
            norms = features.double().square().sum(1)
            widest = ((upper - lower) / (norms[:, None] + norms)).max()
            assert widest < {torch.bfloat16: 0.03, torch.float32: 2e-3, torch.float64: 6e-12}[dtype]


def test_an_exact_distance_has_the_same_bits_wherever_it_is_computed() -> None:
    """Else a neighbour at the very radius would be inside in one place and outside in another."""
    features = noise(500, 777)
    i, j = (torch.randint(0, 500, (900,), generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    together = module._exact(features, i, features, j)
    assert torch.equal(together, module._exact(features, j, features.clone(), i))
    alone = torch.cat([module._exact(features, a, features, b) for a, b in zip(i.split(1), j.split(1), strict=True)])
    assert torch.equal(together, alone)
    torch.testing.assert_close(together, (features.double()[i] - features.double()[j]).square().sum(1))


@pytest.fixture
def computed() -> Iterator[list[int]]:
    """How many distances each call computed one by one."""
    counts: list[int] = []
    exact = module._exact

    def counted(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Tensor:
        counts.append(len(i))
        return exact(a, i, b, j)

    with mock.patch.object(module, "_exact", counted):
        yield counts


def test_few_distances_are_computed_one_by_one(computed: list[int]) -> None:
    """What makes it quick: of 1000 x 1000 pairs in each of three tables, some near ties an image remain."""
    prdc(noise(1000, 256), noise(1000, 256, seed=1), block_size=128)
    assert sum(computed) < 30 * 2000


def test_copies_of_one_image_are_not_all_compared(computed: list[int]) -> None:
    """As a network gives them that is broken: every pair would be a near tie."""
    fake = noise(4, 8, seed=1).repeat(60, 1)
    with mock.patch.object(module, "WAITING", 500):
        found = prdc(noise(80, 8), fake, block_size=32)
    assert sum(computed) < 240 * 240 / 2 / 4
    assert not found.recall.any()  # their radii are 0
    assert_same(found, plain(noise(80, 8), fake, 5))


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    """The largest tensor but the features is one of a block of pairs, or of the waiting ones."""
    count, dimension, block = 1000, 16, 64
    with mock.patch.multiple(module, WAITING=3000, SCRATCH=4096):
        largest = largest_tensor(lambda: prdc(noise(count, dimension), noise(count, dimension), block_size=block))
    assert largest <= max(8 * count * dimension, 8 * 4096, 2 * 8 * 2 * (3000 + block * block))
    assert largest < 8 * count * count / 4


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_the_quick_type_is_one_that_the_bounds_hold_for(precision: str) -> None:
    types = {"highest": (torch.bfloat16, torch.float32), "medium": (torch.bfloat16, torch.float64)}
    assert module._quick_type.__wrapped__(precision) in types[precision]


def test_too_few_images_are_named_with_the_counts() -> None:
    with pytest.raises(PixgraftError, match="fake images: 5 given, at least 6 are needed"):
        prdc(noise(20, 3), noise(5, 3))
    with pytest.raises(PixgraftError, match="the reals: 3 given, at least 4 are needed"):
        prdc(noise(3, 3), noise(20, 3), k=3, labels=("the reals", "model-x"))
    with pytest.raises(PixgraftError, match="fake images: a feature is beyond"):
        prdc(noise(20, 3), torch.full((20, 3), torch.inf))
    with pytest.raises(PixgraftError, match="fake images: 4 features an image, but 3 in real images"):
        prdc(noise(20, 3), noise(20, 4))
