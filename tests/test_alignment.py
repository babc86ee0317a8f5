"""Where a face belongs in a crop, and crops that show things where they should be, free of aliasing."""

import numpy as np
import pytest
from PIL import Image

from pixgraft.data import alignment
from pixgraft.data.alignment import ARCFACE, TEMPLATES, Floats, Template, crop_matrix, head_square, similarity, warp
from pixgraft.errors import PixgraftError
from using import PHOTOGRAPHS

FRONTAL = np.array([[40.0, 50.0], [70.0, 50.0], [55.0, 65.0], [43.0, 80.0], [67.0, 80.0]])
"""The points of an upright face that is the same on the left and on the right."""


def turned(points: Floats, degrees: float, *, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> Floats:
    """The points turned clockwise about the origin, as seen with y downwards."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    result: Floats = scale * points @ np.array([[c, s], [-s, c]]) + shift
    return result


def applied(matrix: Floats, points: Floats) -> Floats:
    result: Floats = points @ matrix[:, :2].T + matrix[:, 2]
    return result


# --- where a face belongs ---


@pytest.mark.parametrize("degrees", [0.0, 30.0, -100.0, 180.0])
def test_a_similarity_is_recovered(degrees: float) -> None:
    matrix = similarity(FRONTAL, turned(FRONTAL, degrees, scale=2.5, shift=(-7, 300)))
    np.testing.assert_allclose(applied(matrix, FRONTAL), turned(FRONTAL, degrees, scale=2.5, shift=(-7, 300)))
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(2.5**2)


def test_no_other_similarity_is_nearer() -> None:
    onto = FRONTAL + np.random.default_rng(0).normal(0, 5, FRONTAL.shape)
    best = similarity(FRONTAL, onto)
    least = np.square(applied(best, FRONTAL) - onto).sum()
    for degrees, scale, shift in (
        (0.5, 1.0, (0, 0)),
        (-0.5, 1.0, (0, 0)),
        (0, 1.01, (0, 0)),
        (0, 0.99, (0, 0)),
        (0, 1, (0.1, 0)),
    ):
        near = turned(applied(best, FRONTAL) - onto.mean(0), degrees, scale=scale, shift=shift) + onto.mean(0)
        assert np.square(near - onto).sum() > least


def test_a_mirror_image_is_never_met_by_mirroring() -> None:
    assert np.linalg.det(similarity(FRONTAL, FRONTAL * (-1, 1))[:, :2]) > 0


def test_points_that_coincide_are_refused() -> None:
    with pytest.raises(PixgraftError, match="coincide"):
        similarity(np.ones((5, 2)), ARCFACE)


def test_the_arcface_template_keeps_its_own_points() -> None:
    published = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    # published with centres of pixels at whole numbers, and ours with their corners there
    np.testing.assert_allclose(crop_matrix(published + 0.5, 112, "arcface"), np.eye(2, 3), atol=1e-12)
    np.testing.assert_allclose(crop_matrix(published + 0.5, 224, "arcface"), 2 * np.eye(2, 3), atol=1e-12)


def test_the_heads_square() -> None:
    """By hand: the eyes are 30 apart and 30 above the mouth, so half a side is 60, about a point 3 below the eyes."""
    np.testing.assert_allclose(head_square(FRONTAL), [[-5, -7], [-5, 113], [115, 113], [115, -7]])
    long = FRONTAL * (1, 2)  # 60 above the mouth
    assert np.ptp(head_square(long), axis=0) == pytest.approx([216, 216])


@pytest.mark.parametrize("template", TEMPLATES)
def test_crops_turn_and_grow_with_the_face(template: Template) -> None:
    places = np.array([[0.0, 0.0], [55.0, 50.0], [100.0, 30.0]])
    before = applied(crop_matrix(FRONTAL, 64, template), places)
    after = applied(
        crop_matrix(turned(FRONTAL, 40, scale=3, shift=(9, 9)), 64, template), turned(places, 40, scale=3, shift=(9, 9))
    )
    np.testing.assert_allclose(after, before)


# --- the warp ---


def stripes(side: int, period: int) -> Image.Image:
    row = (np.arange(side) % period < period // 2) * np.uint8(255)
    return Image.fromarray(np.broadcast_to(row[None, :, None], (side, side, 3)).astype(np.uint8))


def test_stripes_too_fine_for_the_crop_become_grey() -> None:
    """Pillow's transform alone takes single pixels of them."""
    matrix = turned(np.array([[1.0, 0], [0, 1]]), 10, scale=0.17).T
    matrix = np.column_stack([matrix, [5.0, 5.0]])
    crop = np.asarray(warp(stripes(512, 4), matrix, 64))[12:-12, 12:-12].astype(float)
    assert crop.std() < 2
    assert crop.mean() == pytest.approx(127.5, abs=2)
    plain = stripes(512, 4).transform(
        (64, 64), Image.Transform.AFFINE, tuple(alignment.inverse(matrix).ravel()), Image.Resampling.BICUBIC
    )
    assert np.asarray(plain)[12:-12, 12:-12].astype(float).std() > 40


@pytest.mark.parametrize(("scale", "degrees"), [(1.0, 0.0), (0.23, 20.0), (0.6, -70.0), (1.0, 33.0), (2.7, 5.0)])
def test_things_land_where_the_matrix_says(scale: float, degrees: float) -> None:
    side, place = 900, np.array([451.3, 417.8])
    middles = np.arange(side) + 0.5
    blob = np.exp(-((middles[None] - place[0]) ** 2 + (middles[:, None] - place[1]) ** 2) / (2 * (5 / scale**0.5) ** 2))
    image = Image.fromarray(np.rint(255 * blob).astype(np.uint8)).convert("RGB")
    linear = turned(np.eye(2), degrees, scale=scale).T
    wanted = np.array([70.4, 58.9])
    crop = np.asarray(warp(image, np.column_stack([linear, wanted - linear @ place]), 128))[..., 0].astype(float)
    pixels = np.arange(128) + 0.5
    found = [(crop.sum(0) * pixels).sum() / crop.sum(), (crop.sum(1) * pixels).sum() / crop.sum()]
    assert found == pytest.approx(wanted, abs=0.03)


def test_a_crop_that_moves_nothing_changes_little() -> None:
    image = Image.open(PHOTOGRAPHS[0]).resize((64, 64)).resize((96, 96), Image.Resampling.BICUBIC)
    crop = warp(image, np.eye(2, 3), 96)
    difference = np.asarray(crop).astype(int) - np.asarray(image)
    assert np.abs(difference).mean() < 0.5
    assert abs(difference.mean()) < 0.05  # neither darker nor brighter


def test_beyond_the_picture_a_crop_fades() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    image.paste((200, 100, 50), (0, 0, 64, 64))
    image.paste((0, 0, 255), (60, 0, 64, 64))
    image.paste((0, 255, 0), (0, 0, 24, 24))
    matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert alignment.share_beyond(image, matrix, 64) == 0
    assert alignment.share_beyond(image, np.array([[1.0, 0, -32], [0, 1, 0]]), 64) == 0.5
    assert alignment.share_beyond(image, np.array([[1.0, 0, 500], [0, 1, 0]]), 64) == 1
    wide = np.array([[0.5, 0, 0], [0, 0.5, 0]])  # the picture in the upper left quarter
    crop, sharp = np.asarray(warp(image, wide, 64)), np.asarray(alignment.resampled(image, wide, 64))
    assert (crop[:32, :32] == sharp[:32, :32]).all()
    assert sharp[5, 33, 2] > 200  # the blue edge, mirrored
    assert (sharp[55:, 55:] == (0, 255, 0)).all()  # the green corner, mirrored
    assert (crop[55:, 55:] == (200, 100, 50)).all()  # the median
    assert 50 < crop[5, 33, 2] < sharp[5, 33, 2]
