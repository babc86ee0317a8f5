"""Walks between a generator's samples: their pace, their frames and their files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from generators import opened, pixels, run, samples
from pixgraft.data.images import gif_bytes
from pixgraft.pipelines.sample import walk


@pytest.mark.parametrize("straight", [True, False])
@pytest.mark.parametrize("loop", [True, False])
def test_a_walk_passes_its_points_at_one_pace(straight: bool, loop: bool) -> None:
    points = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    path = walk(points, frames=4, loop=loop, straight=straight)
    assert path.shape == (12 if loop else 9, 5)
    ends = points if loop else points[:2]
    torch.testing.assert_close(path[: 4 * len(ends) : 4], ends)
    if not loop:
        assert torch.equal(path[-1], points[2])
    closed = torch.cat([path, points[:1]]) if loop else path
    for leg in range(len(ends)):
        way = closed[4 * leg : 4 * leg + 5]
        if straight:
            torch.testing.assert_close(way.diff(dim=0), ((way[-1] - way[0]) / 4).expand(4, -1))
        else:
            unit = way / way.norm(dim=1, keepdim=True)
            angles = (unit[1:] * unit[:-1]).sum(1).acos()
            torch.testing.assert_close(angles, (unit[0] @ unit[-1]).acos().div(4).expand(4))
            torch.testing.assert_close(way.norm(dim=1).diff(), ((way[-1].norm() - way[0].norm()) / 4).expand(4))


def test_a_walk_between_one_direction_or_opposite_ones_is_straight() -> None:
    path = walk(torch.tensor([[1.0, 0.0], [3.0, 0.0], [-1.0, 0.0]]), frames=2, loop=False, straight=False)
    torch.testing.assert_close(path[:, 0], torch.tensor([1.0, 2.0, 3.0, 1.0, -1.0]))


@pytest.mark.parametrize("name", ["styled", "grown"])
def test_a_walk_shows_the_samples_and_what_is_between(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: Path = request.getfixturevalue(name)
    frames = run("walk", model, tmp_path / "walk", "--points", 3, "--frames", 3, "--no-loop", "--seed", 5)
    out = run("sample", model, tmp_path / "out", "--count", 3, "--seed", 5)
    assert len(list(frames.glob("*.png"))) == len(samples(frames)) == len(set(samples(frames))) == 7
    for index in range(3):
        assert np.array_equal(pixels(frames / f"00000{3 * index}.png"), pixels(out / f"00000{index}.png"))
    pipeline = opened(model)
    path = walk(pipeline.codes(pipeline.latents(5, range(3))), frames=3, loop=False, straight=name == "styled")
    between = pipeline.images(path[4:5])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(pixels(frames / "000004.png"), between)
    report, of_all = (json.loads((frames / name).read_text()) for name in ("000004.json", "walk.json"))
    assert report["settings"] == of_all["settings"] | {"frame": 4} and of_all["outputs"] == []


def test_a_walk_does_not_flicker(styled: Path, tmp_path: Path) -> None:
    out = run("walk", styled, tmp_path / "walk", "--points", 2, "--frames", 3, "--truncation", 0)
    assert len({pixels(path).tobytes() for path in out.glob("*.png")}) == 1


@pytest.mark.parametrize(("flags", "loop", "count"), [((), 0, 6), (("--no-loop",), None, 4)])
def test_a_walk_as_a_gif(styled: Path, tmp_path: Path, flags: tuple[str, ...], loop: int | None, count: int) -> None:
    gif = Image.open(run("walk", styled, tmp_path / "walk.gif", "--points", 2, "--frames", 3, *flags))
    report = json.loads((tmp_path / "walk.json").read_text())
    assert report["settings"] == {"points": 2, "frames": 3, "truncation": 1.0, "loop": not flags}
    assert {path.name for path in tmp_path.iterdir()} == {"walk.gif", "walk.json"}
    assert gif.n_frames == count and gif.size == (16, 16)  # type: ignore[attr-defined]
    assert gif.info["duration"] == 40 and gif.info.get("loop") == loop and b"Synthesised" in gif.info["comment"]
    frames = run("walk", styled, tmp_path / "walk", "--points", 2, "--frames", 3, *flags)
    for index in range(count):  # 256 pixels have their own colours within the palette
        gif.seek(index)
        difference = np.asarray(gif.convert("RGB")).astype(int) - pixels(frames / f"00000{index}.png")
        assert abs(difference).mean() < 2


def test_a_gif_of_one_frame() -> None:
    assert gif_bytes([torch.zeros(3, 4, 4, dtype=torch.uint8)], milliseconds=40, loop=True, comment="c")[:3] == b"GIF"
