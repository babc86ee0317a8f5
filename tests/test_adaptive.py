"""Adaptive augmentation: its maps and matrices against what they should do to single pixels, and its draws."""

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layers import adaptive
from pixgraft.layers.adaptive import (
    GROUPS,
    Group,
    adapted,
    adaptive_augment,
    blit,
    blit_map,
    color_matrix,
    geometric_map,
    recolor,
    resample,
)

SIZE = 16


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def number(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def blitted(image: Tensor, *, flipped: bool = False, quarters: int = 0, right: float = 0, down: float = 0) -> Tensor:
    inverse = blit_map(torch.tensor([flipped]), torch.tensor([quarters]), number(right), number(down))
    return blit(image, inverse)


def moved(
    image: Tensor,
    *,
    scale: float = 1,
    before: float = 0,
    stretch: float = 1,
    after: float = 0,
    right: float = 0,
    down: float = 0,
) -> Tensor:
    inverse = geometric_map(*(number(value) for value in (scale, before, stretch, after, right, down)))
    return resample(image, inverse)


def colored(
    *, brightness: float = 0, contrast: float = 1, flipped: bool = False, hue: float = 0, saturation: float = 1
) -> Tensor:
    return color_matrix(number(brightness), number(contrast), torch.tensor([flipped]), number(hue), number(saturation))


def centre_of(image: Tensor) -> tuple[float, float]:
    """Column and row of an image's centre of mass."""
    weight = image.sum((0, 1))
    axis = torch.arange(image.shape[-1], dtype=image.dtype)
    total = weight.sum()
    return float((weight.sum(0) * axis).sum() / total), float((weight.sum(1) * axis).sum() / total)


def spot(row: int, column: int, size: int = 32) -> Tensor:
    """A smooth dot on black."""
    axis = torch.arange(size, dtype=torch.float64)
    return torch.exp(-((axis[:, None] - row) ** 2 + (axis[None] - column) ** 2) / 4).expand(1, 3, size, size)


# --- Blitting ---


@pytest.mark.parametrize("size", [16, 15])
@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("flipped", [False, True])
def test_blitting_is_flip_and_rot90_exactly(flipped: bool, quarters: int, size: int) -> None:
    image = noise(1, 3, size, size, dtype=torch.float32)
    expected = torch.rot90(image.flip(3) if flipped else image, quarters, (2, 3))
    assert torch.equal(blitted(image, flipped=flipped, quarters=quarters), expected)


@pytest.mark.parametrize(("right", "down"), [(2, 0), (-1, 2), (0, -2)])
def test_blitting_moves_by_whole_pixels_and_reflects(right: int, down: int) -> None:
    image = noise(1, 3, SIZE, SIZE, dtype=torch.float32)
    padded = F.pad(image, (2, 2, 2, 2), mode="reflect")
    expected = padded[..., 2 - down : 2 - down + SIZE, 2 - right : 2 - right + SIZE]
    assert torch.equal(blitted(image, right=right, down=down), expected)


def test_blitting_flips_then_turns_then_moves() -> None:
    image = noise(1, 3, SIZE, SIZE)
    in_turn = blitted(blitted(blitted(image, flipped=True), quarters=1), right=2, down=1)
    at_once = blitted(image, flipped=True, quarters=1, right=2, down=1)
    inside = (..., slice(2, None), slice(2, None))
    assert torch.equal(in_turn[inside], at_once[inside])


# --- Geometry ---


@pytest.mark.parametrize("size", [2, 3, 8, 15])
def test_the_filters_give_back_an_image(size: int) -> None:
    image = noise(1, 3, size, size)
    torch.testing.assert_close(moved(image), image, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("right", "down"), [(3.0, -2.0), (0.5, 1.25), (-4.3, 0.0)])
def test_a_dot_moves_by_its_pixels(right: float, down: float) -> None:
    column, row = centre_of(moved(spot(14, 17), right=right, down=down))
    assert column == pytest.approx(17 + right, abs=1e-3)
    assert row == pytest.approx(14 + down, abs=1e-3)


def test_whole_moves_and_quarter_turns_are_blitting() -> None:
    image = noise(1, 3, SIZE, SIZE)
    torch.testing.assert_close(moved(image, right=3, down=-5), blitted(image, right=3, down=-5), rtol=0, atol=1e-9)
    torch.testing.assert_close(moved(image, before=math.pi / 2), torch.rot90(image, 1, (2, 3)), rtol=0, atol=1e-9)
    torch.testing.assert_close(moved(image, after=-math.pi / 2), torch.rot90(image, 3, (2, 3)), rtol=0, atol=1e-9)


def test_geometry_scales_turns_stretches_turns_and_moves() -> None:
    """A dot 5 right of and 2 above the centre, sent on in steps by hand."""
    size, scale, before, stretch, after, right, down = 65, 1.3, 0.4, 0.8, -1.1, 4.5, -3.25
    x, y = 5 * scale, -2 * scale
    x, y = x * math.cos(before) + y * math.sin(before), -x * math.sin(before) + y * math.cos(before)
    x, y = x * stretch, y / stretch
    x, y = x * math.cos(after) + y * math.sin(after), -x * math.sin(after) + y * math.cos(after)
    image = spot(32 - 2, 32 + 5, size)
    result = moved(image, scale=scale, before=before, stretch=stretch, after=after, right=right, down=down)
    column, row = centre_of(result)
    assert column == pytest.approx(32 + x + right, abs=1e-2)
    assert row == pytest.approx(32 + y + down, abs=1e-2)
    assert float(result.sum() / image.sum()) == pytest.approx(scale**2, rel=1e-2)


def test_images_are_blitted_and_then_moved() -> None:
    """At once as in turn, but where what blitting moved out of the image is read."""
    count, size, radius = 8, 65, 32
    torch.manual_seed(12)
    uniform, normal = adaptive._draw(count)
    blits, moves = adaptive._drawn_blits(uniform[0], 1.0, size), adaptive._drawn_moves(uniform[1], normal[1], 1.0, size)
    images = noise(count, 3, size, size)
    in_turn = resample(blit(images, blits), moves)
    torch.manual_seed(12)
    at_once = adaptive_augment(images, 1.0, groups=["blit", "geometric"])

    axis = torch.arange(size, dtype=torch.float64) - radius
    pixels = torch.cartesian_prod(axis, axis).flip(1)  # x and y, row by row
    read = moves[:, :2, :2] @ pixels.T + moves[:, :2, 2:]
    inside = (read.abs() < radius - size / 8 - 6).all(1).view(count, 1, size, size)
    assert inside.double().mean() > 0.1
    torch.testing.assert_close(at_once * inside, in_turn * inside, rtol=0, atol=1e-9)


def test_nothing_dark_comes_in_from_the_borders() -> None:
    torch.manual_seed(0)
    white = torch.ones(64, 3, SIZE, SIZE)
    result = adaptive_augment(white, 1.0, groups=["blit", "geometric"])
    torch.testing.assert_close(result, white, rtol=0, atol=1e-5)


def test_resampling_keeps_detail_that_bilinear_reading_loses() -> None:
    """Stripes of four pixels, moved by half a pixel: bilinear reading of the image itself keeps cos(pi / 4) of them."""
    axis = torch.arange(64, dtype=torch.float64) * math.pi / 2
    stripes = torch.cos(axis).expand(1, 3, 64, 64)
    expected = torch.cos(axis - math.pi / 4).expand(1, 3, 64, 64)
    inside = (..., slice(8, -8), slice(8, -8))
    result = moved(stripes, right=0.5)[inside]
    kept = float((result * expected[inside]).sum() / expected[inside].square().sum())
    assert 0.9 < kept < 1.1


# --- Colour ---


def test_hue_turns_about_the_luma_axis() -> None:
    image = noise(1, 3, 4, 4)
    turned = recolor(image, colored(hue=1.2))
    torch.testing.assert_close(turned.mean(1), image.mean(1))
    torch.testing.assert_close(turned.square().sum(1), image.square().sum(1))
    third = recolor(image, colored(hue=2 * math.pi / 3))
    torch.testing.assert_close(third, image.roll(1, 1))


def test_saturation_of_zero_is_grey() -> None:
    image = noise(1, 3, 4, 4)
    grey = image.mean(1, keepdim=True)
    torch.testing.assert_close(recolor(image, colored(saturation=0)), grey.expand_as(image))
    torch.testing.assert_close(recolor(image, colored(saturation=3)), grey + 3 * (image - grey))


def test_the_luma_flip_mirrors_luma_alone() -> None:
    image = noise(1, 3, 4, 4)
    torch.testing.assert_close(recolor(image, colored(flipped=True)), image - 2 * image.mean(1, keepdim=True))


def test_color_brightens_scales_mirrors_turns_and_saturates() -> None:
    image = noise(1, 3, 4, 4)
    in_turn = image
    steps = (colored(brightness=0.3), colored(contrast=1.7), colored(flipped=True), colored(hue=0.5))
    for matrix in (*steps, colored(saturation=2)):
        in_turn = recolor(in_turn, matrix)
    at_once = recolor(image, colored(brightness=0.3, contrast=1.7, flipped=True, hue=0.5, saturation=2))
    torch.testing.assert_close(at_once, in_turn)
    torch.testing.assert_close(recolor(image, colored(brightness=0.3, contrast=2)), 2 * (image + 0.3))


def test_the_mean_color_matrix_keeps_the_luma_axis() -> None:
    """Over many draws only luma flips take from luma, and only the images of no hue keep what is beside it."""
    torch.manual_seed(0)
    uniform, normal = adaptive._draw(4000)
    mean = adaptive._drawn_colors(uniform[2], normal[2], 0.5).mean(0)
    contrast = (1 + math.exp((0.5 * math.log(2)) ** 2 / 2)) / 2
    saturation = (1 + math.exp(math.log(2) ** 2 / 2)) / 2
    along = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    beside = torch.eye(3, dtype=torch.float64) - along
    expected = contrast * 0.5 * (along + saturation * beside)
    torch.testing.assert_close(mean[:3, :3], expected, rtol=0, atol=0.06)
    torch.testing.assert_close(mean[:3, 3], torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.02)
    assert mean[3].tolist() == [0, 0, 0, 1]


# --- Draws ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_probability_zero_changes_no_bit(dtype: torch.dtype) -> None:
    images = noise(4, 3, SIZE, SIZE).to(dtype)
    result = adaptive_augment(images, torch.tensor(0.0))
    assert result.dtype == dtype and torch.equal(result, images)


def test_an_image_for_which_nothing_was_drawn_changes_no_bit() -> None:
    torch.manual_seed(3)
    images = noise(400, 3, 8, 8, dtype=torch.float32)
    same = (adaptive_augment(images, 0.1) == images).flatten(1).all(1)
    # Of the twelve transforms (two turns are one), flips draw "as it was" in 1 of 2, quarters and pixels in 1 of 4.
    expected = 0.95**2 * 0.925**2 * 0.9**8
    assert within(int(same.sum()), len(images), expected)


def within(hits: int, count: int, probability: float) -> bool:
    """Whether the hits lie within four deviations of a binomial distribution."""
    return abs(hits - count * probability) <= 4 * math.sqrt(count * probability * (1 - probability))


@pytest.mark.parametrize("probability", [1.0, 0.3])
def test_blits_are_drawn_as_often_as_they_should(probability: float) -> None:
    torch.manual_seed(1)
    count, size = 3000, 16
    uniform, _ = adaptive._draw(count)
    maps = adaptive._drawn_blits(uniform[0], probability, size)
    flipped = torch.linalg.det(maps[:, :2, :2]) < 0
    assert within(int(flipped.sum()), count, probability / 2)
    # Undo the flip: its map is the first factor.
    turns = torch.where(flipped[:, None, None], torch.diag(torch.tensor([-1.0, 1, 1])).double(), torch.eye(3)) @ maps
    for quarters in range(1, 4):
        cosine, sine = round(math.cos(quarters * math.pi / 2)), round(math.sin(quarters * math.pi / 2))
        hits = int(((turns[:, 0, 0] == cosine) & (turns[:, 1, 0] == sine)).sum())
        assert within(hits, count, probability / 4)
    shifts = maps[:, :2, 2].abs()
    assert float(shifts.max()) == 2  # an eighth of 16
    stayed = int((shifts == 0).all(1).sum())
    assert within(stayed, count, 1 - probability + probability / 16)


@pytest.mark.parametrize("probability", [1.0, 0.4])
def test_moves_are_drawn_as_often_as_they_should(probability: float) -> None:
    torch.manual_seed(2)
    count, size = 3000, 32
    uniform, normal = adaptive._draw(count)
    maps = adaptive._drawn_moves(uniform[1], normal[1], probability, size)
    shifted = (maps[:, :2, 2] != 0).any(1)
    scaled = (torch.linalg.det(maps[:, :2, :2]) - 1).abs() > 1e-12
    untouched = (maps == torch.eye(3)).flatten(1).all(1)
    assert within(int(shifted.sum()), count, probability)
    assert within(int(scaled.sum()), count, probability)
    assert within(int(untouched.sum()), count, (1 - probability) ** 4)
    if probability == 1:
        exponent = -torch.linalg.det(maps[:, :2, :2]).log2() / 2
        assert float(exponent.std()) == pytest.approx(0.2, rel=0.1)
        # Stretches are what the singular values differ by; the turns, by any angle, are the vectors beside them.
        left, values, right = torch.linalg.svd(maps[:, :2, :2])
        for vectors in (left, right.mT):
            angles = 4 * torch.atan2(vectors[:, 1, 0], vectors[:, 0, 0])
            assert max(abs(float(angles.cos().mean())), abs(float(angles.sin().mean()))) < 4 / math.sqrt(2 * count)
        assert float((values[:, 0] / values[:, 1]).log2().square().mean().sqrt()) == pytest.approx(0.4, rel=0.1)
        assert float(maps[:, :2, 2].square().mean().sqrt()) == pytest.approx(4, rel=0.15)


def test_colors_are_drawn_as_they_should() -> None:
    torch.manual_seed(4)
    count = 3000
    uniform, normal = adaptive._draw(count)
    matrices = adaptive._drawn_colors(uniform[2], normal[2], 1.0)
    luma = matrices[:, :3, :3].sum((1, 2)) / 3  # the contrast, negative where luma is flipped
    assert within(int((luma < 0).sum()), count, 0.5)
    assert float(luma.abs().log2().std()) == pytest.approx(0.5, rel=0.1)
    brightness = matrices[:, :3, 3].mean(1) / luma
    assert float(brightness.std()) == pytest.approx(0.2, rel=0.1)
    values = torch.linalg.svdvals(matrices[:, :3, :3]).log2().sum(1)  # three contrasts and two saturations
    assert float((values / 2 - 1.5 * luma.abs().log2()).std()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_alone_is_that_group(group: Group) -> None:
    torch.manual_seed(0)
    images = noise(16, 3, SIZE, SIZE, dtype=torch.float32)
    result = adaptive_augment(images, 1.0, groups=[group])
    assert not torch.equal(result, images)
    assert bool(torch.isin(result, images).all()) == (group == "blit")
    flat = torch.full_like(images, 0.25)
    still_flat = torch.allclose(adaptive_augment(flat, 1.0, groups=[group]), flat, rtol=0, atol=1e-5)
    assert still_flat == (group != "color")


@pytest.mark.parametrize("parts", [[1, 5], [2, 2, 2]])
@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_a_batch_in_parts_is_augmented_as_the_whole(parts: Sequence[int], probability: float) -> None:
    images = noise(6, 3, SIZE, SIZE)
    torch.manual_seed(5)
    whole = adaptive_augment(images, probability)
    torch.manual_seed(5)
    pieces = [adaptive_augment(part, probability) for part in images.split(list(parts))]
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-12)


def test_as_many_numbers_are_drawn_whatever_is_applied() -> None:
    after = []
    for probability, groups in ((0.0, GROUPS), (0.7, GROUPS), (0.7, ())):
        torch.manual_seed(6)
        adaptive_augment(noise(3, 3, SIZE, SIZE), probability, groups=groups)
        after.append(torch.rand(4))
    assert torch.equal(after[0], after[1]) and torch.equal(after[0], after[2])


def test_autocast_changes_nothing() -> None:
    images = noise(8, 3, SIZE, SIZE, dtype=torch.float32)
    torch.manual_seed(9)
    plain = adaptive_augment(images, 0.8)
    torch.manual_seed(9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(adaptive_augment(images, 0.8), plain)


# --- Gradients, and bad input ---


def test_gradients_are_those_of_differences() -> None:
    images = noise(3, 3, 4, 4).requires_grad_()

    def augmented(x: Tensor) -> Tensor:
        torch.manual_seed(7)
        return adaptive_augment(x, 0.8)

    assert torch.autograd.gradcheck(augmented, (images,))


def test_gradients_are_finite_and_reach_every_image() -> None:
    torch.manual_seed(8)
    images = noise(32, 3, SIZE, SIZE, dtype=torch.float32).requires_grad_()
    adaptive_augment(images, 0.6).square().sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(PixgraftError, match=r"probability 1\.5"):
        adaptive_augment(noise(1, 3, 8, 8), 1.5)
    with pytest.raises(PixgraftError, match=r"\(1, 3, 8, 4\)"):
        adaptive_augment(noise(1, 3, 8, 4), 0.5)
    with pytest.raises(PixgraftError, match=r"\(1, 1, 8, 8\)"):
        adaptive_augment(noise(1, 1, 8, 8), 0.5)


# --- The probability ---


def test_the_probability_follows_overfitting() -> None:
    def step(probability: float, sign: float, images: int = 50_000) -> float:
        return adapted(torch.tensor(probability), torch.tensor(sign), target=0.6, images=images, speed=500_000)

    assert step(0.25, 0.8) == pytest.approx(0.35)
    assert step(0.25, 0.5) == pytest.approx(0.15)
    assert adapted(0.25, 0.6, target=0.6, images=64, speed=500_000) == 0.25
    assert step(0.05, -1.0) == 0
    assert step(0.97, 1.0) == 1
    assert step(0.0, 1.0, images=500_000) == 1
