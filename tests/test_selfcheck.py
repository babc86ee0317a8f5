"""The self-check of imported generators: silent on pictures, and loud, with the right words, on what faults leave."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.data.images import from_uint8
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import average_pool
from pixgraft.layouts.selfcheck import FLAT, LARGEST, NOISE, SATURATED, STRIPES, check_generator, marks
from pixgraft.layouts.selfcheck import check_images as checked_images
from scenes import blurred, coarse, compressed, noisy, scene

SIZES = (16, 32, 64, 128)


def check_images(images: Tensor) -> list[str]:
    """The signs alone."""
    return checked_images(images)[0]


def pictures(size: int, *, seed: int = 0, count: int = 6) -> Tensor:
    return from_uint8(scene(size, size, seed=seed, count=count))


def waves(size: int, grey_levels: float) -> Tensor:
    """One row (size,) that alternates by so many grey levels around 0."""
    return grey_levels / 127.5 * (-1.0) ** torch.arange(size)


def upsampled(images: Tensor, across: tuple[float, ...], down: tuple[float, ...]) -> Tensor:
    """Zeros between the pixels, then a filter along each axis: StyleGAN2's upsampling if both are (1, 3, 3, 1) / 4."""
    n, _, height, width = images.shape
    wide = images.new_zeros(n, 3, 2 * height, 2 * width)
    wide[..., ::2, ::2] = images
    rows = torch.tensor(across).view(1, 1, 1, -1).expand(3, 1, 1, -1)
    columns = torch.tensor(down).view(1, 1, -1, 1).expand(3, 1, -1, 1)
    filtered = F.conv2d(F.pad(wide, (2, len(across) - 3, 0, 0), mode="replicate"), rows, groups=3)
    return F.conv2d(F.pad(filtered, (0, 0, 2, len(down) - 3), mode="replicate"), columns, groups=3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_pictures_pass_by_a_wide_margin(size: int, seed: int) -> None:
    images = pictures(size, seed=seed)
    assert check_images(images) == []
    found = marks(images)
    assert max(ratio for ratio, _ in found.stripes.values()) < STRIPES / 2
    assert found.correlation > 1.5 * NOISE
    assert min(found.within, found.between) > 5 * FLAT
    assert found.saturated < SATURATED / 5
    assert found.largest < LARGEST / 2


@pytest.mark.parametrize("seed", range(3))
def test_spoilt_pictures_are_still_pictures(seed: int) -> None:
    whole = scene(128, 128, seed=seed, count=6)
    spoilt = [blurred(whole, 2.0), noisy(whole, 15), compressed(whole, 10), compressed(whole, 75), coarse(whole, 4)]
    for images in spoilt:
        assert check_images(from_uint8(images)) == []
    left = from_uint8(whole)
    left[:, :, :, :40] = 1  # a white ground beside the thing
    assert check_images(left) == []
    assert check_images(1.5 * from_uint8(whole)) == []  # not clamped
    grey = from_uint8(whole).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert check_images(grey) == []


@pytest.mark.parametrize(("size", "grey_levels"), [(32, 12.0), (64, 6.0), (128, 3.0)])
def test_stripes_are_told_with_their_direction(size: int, grey_levels: float) -> None:
    images, wave = pictures(size), waves(size, grey_levels)
    (vertical,) = check_images(images + wave)
    assert vertical.startswith("vertical stripes of every other pixel")
    (horizontal,) = check_images(images + wave[:, None])
    assert horizontal.startswith("horizontal stripes of every other pixel")
    found = marks(images + wave[:, None]).stripes
    assert found["horizontal"][0] > STRIPES > 3 > found["vertical"][0]
    assert math.isclose(found["horizontal"][1], grey_levels, rel_tol=0.15)
    board = images + wave * (-1.0) ** torch.arange(size)[:, None]
    assert [text.split()[0] for text in check_images(board)] == ["vertical", "horizontal"]


@pytest.mark.parametrize("seed", range(3))
def test_upsampling_with_a_wrong_filter_is_told(seed: int) -> None:
    small = average_pool(pictures(128, seed=seed), 64)
    right, none, shorter = (0.25, 0.75, 0.75, 0.25), (0.0, 0.0, 2.0, 0.0), (0.25, 0.75, 0.75)
    assert check_images(upsampled(small, right, right)) == []
    assert any("vertical stripes" in text for text in check_images(upsampled(small, none, right)))
    assert any("horizontal stripes" in text for text in check_images(upsampled(small, right, none)))
    assert any("horizontal stripes" in text for text in check_images(upsampled(small, right, shorter)))


def test_stripes_on_flat_images_need_to_be_seen() -> None:
    ground = torch.linspace(-1, 1, 32).expand(4, 3, 32, 32) * torch.linspace(0.5, 1, 4).view(4, 1, 1, 1)
    assert check_images(ground) == []
    assert check_images(ground + waves(32, 0.3)) == []
    assert "stripes" in check_images(ground + waves(32, 1.0))[0]


def test_values_far_outside_are_told() -> None:
    images = pictures(64)
    texts = check_images(30 * images)
    assert "values up to 30 in size" in texts[0]
    assert "of the values are black or white to the full" in texts[1]
    (clamped,) = check_images((30 * images).clamp(-1, 1))
    assert "black or white" in clamped
    alone = images.clone()
    alone[0, 0, 5, 5] = 7
    assert any("values up to 7 in size" in text for text in check_images(alone))


def test_flat_and_equal_images_are_told() -> None:
    constant = check_images(torch.zeros(4, 3, 32, 32))
    assert [text.split(":")[0] for text in constant] == ["flat images", "equal images"]
    colours = torch.rand(6, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(6, 3, 32, 32)
    assert [text.split(":")[0] for text in check_images(colours)] == ["flat images"]
    some = pictures(64, count=6)
    some[:2] = 0.3
    assert check_images(some) == []
    some[:4] = torch.tensor([0.9, 0.3, -0.3, -0.9]).view(4, 1, 1, 1)
    assert [text.split(":")[0] for text in check_images(some)] == ["flat images"]
    equal = pictures(64, count=1).expand(6, 3, 64, 64)
    assert [text.split(":")[0] for text in check_images(equal)] == ["equal images"]
    grain = equal + 0.5 / 127.5 * torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert [text.split(":")[0] for text in check_images(grain)] == ["equal images"]


def test_noise_is_told() -> None:
    noise = 0.3 * torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (text,) = check_images(noise)
    assert text.startswith("noise: neighbouring pixels correlate by")
    assert max(ratio for ratio, _ in marks(noise).stripes.values()) < 2  # as it has no direction


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_all_that_is_told(value: float) -> None:
    images = pictures(32, count=2)
    images[0, :, :16] = value
    assert check_images(images) == ["25.0% of the values are not finite"]


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 3, 32, 32), (4, 1, 32, 32), (4, 3, 32, 16), (4, 3, 8, 8), (0, 3, 32, 32)]
)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PixgraftError, match="self-check: images of shape"):
        check_images(torch.zeros(shape))


def test_a_generator_is_asked_once_and_without_gradients() -> None:
    asked: list[Tensor] = []
    images = pictures(64, count=8)

    def draw(latents: Tensor) -> Tensor:
        asked.append(latents)
        assert torch.is_inference_mode_enabled()
        return images * (1 + 0 * latents.mean())

    checked = check_generator(draw, latent=12)
    assert (checked.findings, checked.marks, checked.count) == ([], marks(images), 8)
    assert check_generator(draw, latent=12, count=8, seed=0) == checked
    assert check_generator(draw, latent=12, seed=1).findings == []
    assert [latents.shape for latents in asked] == [(8, 12)] * 3
    assert torch.equal(asked[0], asked[1])
    assert not torch.equal(asked[0], asked[2])
    equal = check_generator(lambda z: images[:1].expand(len(z), -1, -1, -1), latent=3, count=5)
    assert "equal images" in equal.findings[0]
    broken = check_generator(lambda z: images * math.nan, latent=3)
    assert broken.findings == ["100.0% of the values are not finite"]
    assert broken.marks is None
