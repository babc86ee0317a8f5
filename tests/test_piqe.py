"""PIQE: block by block as the definition says, its invariances, worsening pictures, and pypiqe's figures."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.metrics.piqe import piqe
from pixgraft.metrics.pixels import LUMA_WEIGHTS, luma
from scenes import blurred, compressed, levels, noisy, scene

Array = npt.NDArray[np.float64]


def grey(image: Tensor) -> Array:
    """Whole luma (H, W) of one image (3, H, W)."""
    return (luma(image[None].double()) + 0.5).floor()[0, 0].numpy()


def filled(plane: Array, mode: Any) -> Array:
    """To whole blocks of 16 x 16, by a mode of numpy's."""
    return np.pad(plane, [(0, -plane.shape[0] % 16), (0, -plane.shape[1] % 16)], mode=mode)


def coloured(plane: Array) -> Tensor:
    """A grey plane (H, W) as an image (1, 3, H, W)."""
    return torch.from_numpy(plane)[None, None].expand(1, 3, -1, -1)


def normalised(plane: Array) -> Array:
    offsets = np.arange(7) - 3
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    padded = np.pad(plane, 3, mode="edge")
    result = np.zeros_like(plane)
    for row in range(plane.shape[0]):
        for column in range(plane.shape[1]):
            around = padded[row : row + 7, column : column + 7]
            mean = (window * around).sum()
            deviation = np.sqrt((window * (around - mean) ** 2).sum())
            result[row, column] = (plane[row, column] - mean) / (deviation + 1)
    return result


def kind_of(block: Array) -> str:
    """What one normalised block of 16 x 16 shows."""
    if block.var(ddof=1) <= 0.1:
        return "inactive"
    edges = [block[0], block[15], block[:, 0], block[:, 15]]
    flat = any(edge[start : start + 6].std(ddof=1) < 0.1 for edge in edges for start in range(11))
    deviation = block.std(ddof=1)
    surround = np.concatenate([block[:, :7], block[:, 8:9], block[:, 10:]], axis=1)
    ratio = block[:, 7:9].std(ddof=1) / surround.std(ddof=1)
    noise = deviation > 2 * abs(deviation - ratio) / max(deviation, ratio)
    return {(0, 0): "sound", (1, 0): "artefact", (0, 1): "noise", (1, 1): "both"}[int(flat), int(noise)]


def piqe_by_definition(image: Tensor) -> tuple[float, Counter[str]]:
    plane = normalised(filled(grey(image), "edge"))
    total, kinds = 1.0, Counter[str]()
    for row in range(0, plane.shape[0], 16):
        for column in range(0, plane.shape[1], 16):
            block = plane[row : row + 16, column : column + 16]
            kind, variance = kind_of(block), block.var(ddof=1)
            kinds[kind] += 1
            total += {"artefact": 1 - variance, "noise": variance, "both": 1.0}.get(kind, 0.0)
    active = sum(kinds.values()) - kinds["inactive"]
    return 100 * total / (active + 1), kinds


def spoilt(height: int, width: int, seed: int = 0, top: int = 255) -> Tensor:
    """A picture as it is, blurred, noisy and with JPEG's blocks: (4, 3, height, width)."""
    image = scene(height, width, seed=seed, top=top)
    return torch.cat([image, blurred(image, 1.5), noisy(image, 15), compressed(image, 6)])


def test_block_by_block() -> None:
    seen = Counter[str]()
    for images in (spoilt(64, 64), spoilt(49, 40, seed=1, top=140)):
        scores = piqe(images)
        for image, score in zip(images, scores.tolist(), strict=True):
            expected, kinds = piqe_by_definition(image)
            seen += kinds
            assert score == pytest.approx(expected, abs=1e-9)
    assert seen.keys() == {"inactive", "sound", "artefact", "noise", "both"}  # else the pictures would test nothing


@pytest.mark.parametrize("level", [0, 77, 255])
def test_without_an_active_block(level: int) -> None:
    uniform = torch.full((2, 3, 33, 48), level, dtype=torch.uint8)
    assert piqe(uniform).tolist() == [100, 100]
    assert piqe(uniform[..., :1, :1]).tolist() == [100, 100]  # one pixel


def test_the_luma_is_rounded_and_the_filling_repeats_the_edge() -> None:
    image = spoilt(40, 53)[:1]
    plane = grey(image[0])
    assert piqe(image).equal(piqe(coloured(plane)))
    assert piqe(image).equal(piqe(coloured(filled(plane, "edge"))))
    assert not piqe(image).equal(piqe(coloured(filled(plane, "symmetric"))))


def test_the_weights_of_the_luma_are_those_of_ntsc() -> None:
    to_rgb = [[1, 0.956, 0.621], [1, -0.272, -0.647], [1, -1.106, 1.703]]  # of luma and the two colour differences
    assert np.allclose(LUMA_WEIGHTS, np.linalg.inv(to_rgb)[0], rtol=1e-12)


def test_levels_are_not_stretched() -> None:
    dark = scene(64, 64, top=60)
    plane = grey(dark[0])
    assert not piqe(dark).equal(piqe(levels(coloured(255 * plane / plane.max()))))


def test_each_image_by_itself() -> None:
    images = torch.cat([spoilt(48, 70), torch.full((1, 3, 48, 70), 9, dtype=torch.uint8)])
    together = piqe(images)
    assert together.shape == (5,)
    assert together.dtype == torch.float64
    assert together.equal(piqe(images.float()))
    assert torch.allclose(together, torch.cat([piqe(image) for image in images.split(1)]), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("spoil", "strengths"),
    [(noisy, (10, 20, 30, 40)), (compressed, (20, 10, 5))],
    ids=["noise", "blocking"],
)
def test_worse_images_score_higher(spoil: Callable[[Tensor, float], Tensor], strengths: tuple[float, ...]) -> None:
    images = blurred(scene(192, 192, count=8), 1)
    scores = torch.stack([piqe(spoil(images, strength)) for strength in strengths])
    assert (scores[1:] > scores[:-1]).all()
    assert scores[0].mean() < 50  # "fair" at least
    assert 50 < scores[-1].mean() < 90


def test_blur_scores_higher() -> None:
    images = scene(192, 192, count=8)
    scores = torch.stack([piqe(blurred(images, sigma)).mean() for sigma in (0.5, 1, 1.5, 2)])
    assert (scores[1:] > scores[:-1]).all()
    assert scores[0] < 35  # "good"
    assert scores[-1] > 80  # "bad"


@pytest.mark.parametrize("images", [torch.zeros(3, 32, 32), torch.zeros(1, 1, 32, 32), -torch.ones(1, 3, 32, 32)])
def test_bad_input(images: Tensor) -> None:
    with pytest.raises(PixgraftError, match=r"images: .*: give "):
        piqe(images)


@pytest.mark.slow
@pytest.mark.parametrize("top", [255, 200, 120])
@pytest.mark.parametrize("size", [(128, 128), (192, 160), (100, 137), (65, 33), (250, 17)])
def test_pypiqe_agrees(size: tuple[int, int], top: int) -> None:
    theirs = pytest.importorskip("pypiqe").piqe
    for image in spoilt(*size, seed=top, top=top):
        plane = grey(image)
        plane[0, 0] = 255  # so that its stretching changes nothing
        plane = filled(plane, "edge")  # so that it has nothing to fill
        assert piqe(coloured(plane)).item() == pytest.approx(theirs(plane)[0], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("top", [255, 120])
@pytest.mark.parametrize("size", [(128, 128), (100, 137)])
def test_pypiqe_differs_in_nothing_but_its_luma_filling_and_stretching(size: tuple[int, int], top: int) -> None:
    theirs = pytest.importorskip("pypiqe").piqe
    cv2 = pytest.importorskip("cv2")
    for image in spoilt(*size, seed=top, top=top):
        pixels = np.ascontiguousarray(image.flip(0).permute(1, 2, 0).numpy())  # blue, green, red
        plane = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        assert abs(plane - grey(image)).max() <= 1
        plane = filled(plane.astype(np.float64), "symmetric")
        plane = np.round(255 * (plane / plane.max()))
        assert piqe(coloured(plane)).item() == pytest.approx(theirs(pixels)[0], abs=1e-6)
