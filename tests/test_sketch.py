"""Line drawings: ink where there is an edge or a line, paper elsewhere, whatever the tone, the size and the batch."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.images import decode, to_tensor
from pixgraft.data.sketch import make_sketches, xdog
from pixgraft.data.sources import open_source
from pixgraft.errors import PixgraftError
from training import make_images
from using import refusal

SIDE = 64


def _grey(values: Tensor) -> Tensor:
    return values.expand(1, 3, SIDE, SIDE)


def _disc(inside: float, outside: float, *, side: int = SIDE) -> Tensor:
    """A disc of a quarter of the side as its radius, its edge about a pixel wide."""
    places = torch.arange(side) - (side - 1) / 2
    distance = (places[:, None].square() + places[None].square()).sqrt()
    share = (side / 4 - distance + 0.5).clamp(0, 1)
    return (share * inside + (1 - share) * outside).expand(1, 3, side, side)


def _ink(sketch: Tensor) -> Tensor:
    return sketch[:, 0] < 0


def test_plain_surfaces_are_paper() -> None:
    for level in (-1.0, -0.3, 1.0):
        assert torch.equal(xdog(torch.full((1, 3, SIDE, SIDE), level)), torch.ones(1, 1, SIDE, SIDE))
    ramp = torch.linspace(-0.5, 0.5, SIDE).expand(1, 3, SIDE, SIDE)
    assert xdog(ramp).min() > 0.9  # shading is no line


@pytest.mark.parametrize("width", [1, 2])
def test_a_dark_line_is_drawn_and_a_bright_one_is_outlined(width: int) -> None:
    line = torch.zeros(SIDE, SIDE)
    line[:, 31 : 31 + width] = -0.8
    ink = _ink(xdog(_grey(line), sigma=1 / 64))
    assert ink[0, :, 31 : 31 + width].all()
    assert not ink[0, :, :26].any()
    assert not ink[0, :, 37:].any()
    ink = _ink(xdog(_grey(-line), sigma=1 / 64))
    assert not ink[0, :, 31 : 31 + width].any()
    assert ink.any()


@pytest.mark.parametrize(("inside", "outside"), [(-0.9, 0.0), (0.9, 0.0), (-0.4, -0.8), (0.9, 0.4)])
def test_a_disc_becomes_a_ring_whatever_its_tone(inside: float, outside: float) -> None:
    ink = _ink(xdog(_disc(inside, outside)))[0]
    places = torch.arange(SIDE) - (SIDE - 1) / 2
    distance = (places[:, None].square() + places[None].square()).sqrt()
    assert (distance[ink] - SIDE / 4).abs().max() < 3
    angles = torch.atan2(places[:, None].expand_as(ink)[ink], places[None].expand_as(ink)[ink])
    assert len(torch.unique((angles * 8 / torch.pi).floor())) == 16  # closed all around


def test_a_drawing_turns_and_mirrors_with_its_image() -> None:
    ring = _disc(-0.8, 0.2) + _disc(0.8, -0.2).roll((1, 1), (-1, -2))  # a crescent of two sides
    ring[..., 12:19, 30:34] = 0  # and a gap in it, wherever it comes to lie
    sketch = xdog(ring, sigma=1 / 64)
    assert _ink(sketch).sum() > 20
    for turns in (1, 2, 3):
        turned = xdog(ring.rot90(turns, (2, 3)), sigma=1 / 64)
        torch.testing.assert_close(turned, sketch.rot90(turns, (2, 3)), rtol=0, atol=0.02)
    torch.testing.assert_close(xdog(ring.flip(3), sigma=1 / 64), sketch.flip(3), rtol=0, atol=0.02)


def test_steps_that_look_alike_are_drawn_alike() -> None:
    """A step in the square root of the luminance, from 0.1 to 0.2 or from 0.8 to 0.9."""
    dark, bright = (_disc(2 * low**2 - 1, 2 * high**2 - 1) for low, high in ((0.1, 0.2), (0.8, 0.9)))
    dark, bright = (torch.where(disc > disc.mean(), disc.amax(), disc.amin()) for disc in (dark, bright))  # hard edges
    sketch = xdog(dark)
    assert _ink(sketch).any()
    torch.testing.assert_close(sketch, xdog(bright), rtol=0, atol=1e-3)


def test_an_image_need_not_be_square() -> None:
    wide = torch.cat([_disc(-0.9, 0.2), torch.full((1, 3, SIDE, 40), 0.2)], dim=3)
    torch.testing.assert_close(xdog(wide)[..., :SIDE], xdog(_disc(-0.9, 0.2)), rtol=0, atol=1e-3)
    assert not _ink(xdog(wide))[..., SIDE:].any()


def test_only_a_lower_tau_fills_dark_areas() -> None:
    disc = _disc(-0.95, 0.5)
    middle = (0, SIDE // 2, SIDE // 2)
    assert not _ink(xdog(disc))[middle]
    assert _ink(xdog(disc, tau=0.9, epsilon=0.05))[middle]


def test_noise_gives_few_strokes_and_long_averages_fewer() -> None:
    noise = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 0.15
    short, long = (_ink(xdog(noise, length=length, sigma=1 / 64)).float().mean() for length in (0.1, 3.0))
    assert long < short / 2
    assert _ink(xdog(noise, epsilon=-0.03)).sum() < _ink(xdog(noise, epsilon=-0.01)).sum()


def test_the_drawing_scales_with_the_image() -> None:
    small, large = (_ink(xdog(_disc(-0.9, 0.2, side=side), sigma=1 / 64)).float().mean() for side in (64, 128))
    assert 0.8 < large / small < 1.25


def test_each_image_is_drawn_by_itself_and_mirrored_with_it(tmp_path: Path) -> None:
    images = [decode(path.read_bytes(), path.name) for path in sorted(make_images(tmp_path / "d", 3).iterdir())]
    batch = torch.stack([to_tensor(image) for image in images])  # 44 high, 40 wide
    sketches = xdog(batch)
    assert sketches.shape == (3, 1, 44, 40)
    assert sketches.abs().max() <= 1
    torch.testing.assert_close(xdog(batch[1:2]), sketches[1:2], rtol=0, atol=1e-3)
    agree = (_ink(xdog(batch.flip(-1)).flip(-1)) == _ink(sketches)).float().mean()
    assert agree > 0.97


def test_files_are_named_as_the_images(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 3)
    (folder / "deep").mkdir()
    (folder / "02.png").rename(folder / "deep" / "c.png")
    Image.open(folder / "00.png").save(folder / "00.webp")
    (folder / "bad.jpg").write_bytes(b"text")
    calls: list[tuple[int, int]] = []
    source = open_source(folder)
    made = make_sketches(source, tmp_path / "out", progress=lambda done, total: calls.append((done, total)))
    assert made.count == 3
    assert [(finding.name, finding.usable) for finding in made.findings] == [("00.webp", False), ("bad.jpg", False)]
    assert made.findings[0].problem == "the same stem as 00.png"
    assert made.findings[1].problem.startswith("not an image")
    assert calls == [(done, 5) for done in range(1, 6)]
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["00.png", "01.png", "deep/c.png"]
    with Image.open(tmp_path / "out" / "deep" / "c.png") as sketch:
        assert (sketch.mode, sketch.size) == ("L", (40, 44))


def test_a_zip_at_a_given_size(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 2)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    source = open_source(tmp_path / "data.zip")
    make_sketches(source, tmp_path / "a", size=32)
    make_sketches(source, tmp_path / "b", size=32)
    for name in ("00.png", "01.png"):
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        assert Image.open(io.BytesIO(data)).size == (32, 32)


@pytest.mark.parametrize("name", ["{}/victim.png", "../victim.png"])
def test_a_zip_writes_nothing_outside(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture = next(make_images(tmp_path / "data", 2).iterdir()).read_bytes()
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("a.png", picture)
        archive.writestr(name.format(tmp_path), picture)
    assert "evil.zip: holds " in refusal(capsys, "data", "sketch", tmp_path / "evil.zip", tmp_path / "out")
    assert not (tmp_path / "victim.png").exists() and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 2)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(PixgraftError, match="out: cannot be made"):
        make_sketches(open_source(folder), tmp_path / "out")
