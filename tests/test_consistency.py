"""Consistency figures and the projection: within one grey level of any target, and no further from the image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixgraft.data.images import to_uint8
from pixgraft.layers.resample import GREY_WEIGHTS
from pixgraft.metrics.consistency import TOLERANCE, consistency, project, shrink

SIZES = [(32, 4), (32, 8), (32, 16), (64, 4), (64, 32)]
KINDS = ["noise", "black", "white", "flat", "extremes", "smooth"]


def picture(kind: str, channels: int, size: int, seed: int) -> Tensor:
    """(1, channels, size, size) in 0..255; whole levels but for "smooth"."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, channels, size, size)
    noise = torch.randint(0, 256, shape, generator=generator).float()
    return {
        "noise": noise,
        "black": torch.zeros(shape),
        "white": torch.full(shape, 255.0),
        "flat": noise[..., :1, :1].expand(shape).clone(),
        "extremes": (noise > 127) * 255.0,
        "smooth": torch.rand(shape, generator=generator) * 255,
    }[kind]


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.sampled_from(SIZES),
    channels=st.sampled_from([1, 3]),
    of_image=st.sampled_from(KINDS),
    of_target=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32),
)
def test_any_image_is_projected_onto_any_target(
    sizes: tuple[int, int], channels: int, of_image: str, of_target: str, seed: int
) -> None:
    size, low = sizes
    image = picture(of_image, 3, size, seed).round()
    target = picture(of_target, channels, low, seed + 1)
    projected = project(image, target)
    assert projected.shape == image.shape
    assert torch.equal(projected, projected.round())
    assert projected.min() >= 0
    assert projected.max() <= 255
    (figure,) = consistency(projected, target)
    assert figure.largest <= 0.51  # rounding alone, and well within the tolerance that is promised
    assert figure.beyond == 0


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.sampled_from(SIZES),
    channels=st.sampled_from([1, 3]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32),
)
def test_an_image_that_shrinks_to_its_target_hardly_moves(
    sizes: tuple[int, int], channels: int, kind: str, seed: int
) -> None:
    image = picture(kind, 3, sizes[0], seed).round()
    target = shrink(image, torch.empty(1, channels, sizes[1], sizes[1])).round()
    moved = (project(image, target) - image).abs()
    assert moved.max() <= 2
    assert moved.mean() <= 0.51
    assert torch.equal(project(image, shrink(image, target)), image)  # of the very target, nothing


def test_images_are_projected_each_by_itself() -> None:
    images = torch.cat([picture(kind, 3, 32, seed).round() for seed, kind in enumerate(KINDS)])
    targets = torch.cat([picture(kind, 3, 8, seed + 9) for seed, kind in enumerate(reversed(KINDS))])
    alone = torch.cat([project(i, t) for i, t in zip(images.split(1), targets.split(1), strict=True)])
    assert torch.equal(project(images, targets), alone)


def test_projection_keeps_detail() -> None:
    """What is added is smooth: an image of pure detail under a smooth target keeps its differences of neighbours."""
    image = picture("noise", 3, 64, 3) / 8 + 112
    ramp = torch.linspace(80, 170, 8).expand(1, 3, 8, 8).contiguous()
    projected = project(image.round(), ramp)
    detail, kept = (x.diff(dim=-1) for x in (image.round(), projected))
    across = torch.linspace(80, 170, 64).diff()[0]  # what the ramp itself adds to a difference
    assert (kept - detail - across).abs().mean() < 1.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "low"), SIZES[:3])
def test_figures_are_those_of_a_plain_loop(size: int, low: int, channels: int) -> None:
    images = torch.cat([picture(kind, 3, size, 5) for kind in ("noise", "extremes", "black")])
    # Near the images' own means, so that some cells are beyond the tolerance and others are not.
    near = torch.rand(3, channels, low, low, generator=torch.Generator().manual_seed(0)) * 4 - 2
    target = shrink(images, near) + near
    weights = np.array(GREY_WEIGHTS)
    side = size // low
    for image, wanted, figure in zip(images.numpy(), target.numpy(), consistency(images, target), strict=True):
        differences = np.zeros((channels, low, low))
        for row in range(low):
            for column in range(low):
                cell = image[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
                mean = cell.astype(np.float64).mean((1, 2))
                shrunk = np.array([mean @ weights]) if channels == 1 else mean
                differences[:, row, column] = np.abs(shrunk - wanted[:, row, column])
        assert figure.cells == low * low
        assert figure.mean == pytest.approx(differences.mean(), abs=1e-4)
        assert figure.largest == pytest.approx(differences.max(), abs=1e-4)
        assert figure.beyond == int((differences.max(0) > TOLERANCE).sum())
        assert 0 < figure.beyond < low * low


def test_bytes_are_measured_as_floats() -> None:
    images = picture("noise", 3, 32, 1)
    target = picture("noise", 3, 8, 2)
    assert consistency(to_uint8(images / 127.5 - 1), target) == consistency(images, target)
