"""Distances between sets and the bicubic operator against what published implementations computed.

The reference folder is the one of test_oracles.py; without it those tests skip. What has no other test is held against
closed forms here too.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixgraft.layers.resample import bicubic
from pixgraft.metrics.frechet import Moments, frechet_distance
from pixgraft.metrics.prdc import prdc
from test_oracles import oracle


class Reference:
    """What metrics.npz holds, and the inputs that it was computed from. It has no manifest, so it is no `Oracle`."""

    def __init__(self) -> None:
        rule = oracle("pix2pixhd_128").rule  # any: the rule is the folder's
        self.input_for = rule.input_for
        with np.load(Path(str(rule.__file__)).with_name("metrics.npz")) as file:
            self.expected = {key: file[key] for key in file.files}

    def input(self, name: str, *shape: int) -> Tensor:
        return torch.from_numpy(self.input_for(name, list(shape)))


@pytest.fixture
def reference() -> Reference:
    return Reference()


def test_precision_recall_density_coverage(reference: Reference) -> None:
    real, fake = reference.input("prdc/real", 500, 64), reference.input("prdc/fake", 400, 64) * 0.9 + 0.1
    found = prdc(real, fake, k=5)
    for name in ("precision", "recall", "density", "coverage"):
        assert float(getattr(found, name).mean()) == pytest.approx(float(reference.expected[f"prdc_{name}"]), abs=1e-12)


def test_frechet_distance(reference: Reference) -> None:
    sets = reference.input("fid/a", 2000, 32).double(), reference.input("fid/b", 1500, 32).double() * 1.2 + 0.3
    moments = [Moments(32), Moments(32)]
    for each, features in zip(moments, sets, strict=True):
        each.update(features, torch.arange(len(features)))
    assert frechet_distance(*moments) == pytest.approx(float(reference.expected["frechet"]), rel=1e-9)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bicubic(reference: Reference, factor: int) -> None:
    ours = bicubic(reference.input("bicubic/x", 1, 3, 64, 64), factor)
    torch.testing.assert_close(ours, torch.from_numpy(reference.expected[f"bicubic_down{factor}"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bicubic_is_pillows_away_from_the_edges(factor: int) -> None:
    """Pillow's kernel is the same; at the edges it leaves out what is outside, where ours reflects."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 24 * factor, 16 * factor, generator=generator) * 2 - 1
    small = Image.fromarray(image[0, 0].numpy()).resize((16, 24), Image.Resampling.BICUBIC)
    ours = bicubic(image, factor)
    assert ours.shape == (1, 1, 24, 16)
    torch.testing.assert_close(ours[0, 0, 2:-2, 2:-2], torch.from_numpy(np.array(small))[2:-2, 2:-2], rtol=0, atol=1e-5)


def test_bicubic_keeps_flat_images_mirrors_and_channels() -> None:
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    small = bicubic(images, 4)
    assert small.dtype == torch.float64
    for flip in ([-1], [-2]):
        torch.testing.assert_close(bicubic(images.flip(flip), 4), small.flip(flip))
    torch.testing.assert_close(bicubic(images[1:, 2:], 4), small[1:, 2:])
    torch.testing.assert_close(bicubic(torch.full_like(images, 0.3), 8), torch.full_like(images[..., ::8, ::8], 0.3))
    assert torch.equal(bicubic(images, 1), images)
