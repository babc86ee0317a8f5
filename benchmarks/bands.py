"""What a residual does to the mean absolute error of a trained GRIT, by spatial frequency (GRIT, Tables 1 and 3)."""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import common
import torch
import tyro
from torch import Tensor
from tyro.conf import Positional, arg

from pixgraft.data.dataset import Dataset
from pixgraft.data.images import from_uint8
from pixgraft.data.pairs import open_pairs
from pixgraft.engine.seeds import derive
from pixgraft.errors import PixgraftError
from pixgraft.pipelines.loading import load
from pixgraft.pipelines.synthesize import SynthesisPipeline

EDGES = (0, 1, 4, 8, 16, 1000)
"""Bands in cycles an image; the first is the mean colour."""
PARTS = ("reconstruction", "residual")


def main(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    *,
    data: Path,
    split: str = "test",
    images: str = "images",
    conditions: str = "masks",
) -> None:
    """Print, for each band, the L1 (0..255) of the reconstruction plus that band of the residual, the mean absolute
    residual and reconstruction's error in it, and the correlation of the two.

    Args:
        model: A run or model folder that adds a residual to a reconstruction.
        data: A folder or zip of pairs.
        split: The folder within the data.
        images: The images' folder; each image is its own style image.
        conditions: The conditions' folder.
    """
    pipeline = load(model, device="cpu")
    if not isinstance(pipeline, SynthesisPipeline) or pipeline.method.components != PARTS:
        raise PixgraftError(f"{model}: its images are no sums of a reconstruction and a residual")
    source = open_pairs(data, images=images, conditions=conditions, under=split)
    pairs = Dataset(source, size=pipeline.image_size, kind=pipeline.kind)
    frequency = torch.fft.fftfreq(pipeline.image_size) * pipeline.image_size
    radius = (frequency[:, None].square() + frequency.square()).sqrt()

    def band(image: Tensor, place: int) -> Tensor:
        inside = (radius >= EDGES[place]) & (radius < EDGES[place + 1])
        filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(image) * inside).real
        return filtered

    sums: defaultdict[tuple[str, int], float] = defaultdict(float)
    for unit in range(len(pairs)):
        image, condition = pairs[unit]
        assert condition is not None
        real = from_uint8(image)
        style = pipeline.style_code(real)
        made = pipeline.sample(condition, [style], samples=1, seed=derive(0, "unit", unit)).components
        reconstruction, residual = (made[name][0] for name in PARTS)
        sums["L1", -1] += levels(reconstruction.clamp(-1, 1) - real)
        sums["L1", -2] += levels((reconstruction + residual).clamp(-1, 1) - real)
        for place in range(len(EDGES) - 1):
            added, missing = band(residual, place), band(real - reconstruction, place)
            sums["L1", place] += levels((reconstruction + added).clamp(-1, 1) - real)
            sums["residual", place] += levels(added)
            sums["error", place] += levels(missing)
            sums["correlation", place] += float((added * missing).sum() / (added.norm() * missing.norm()))
    mean = {key: value / len(pairs) for key, value in sums.items()}
    print(f"L1 of the reconstruction {mean['L1', -1]:.2f}, of the sum {mean['L1', -2]:.2f}\n")
    print("| cycles an image | L1 with this band | residual | reconstruction's error | correlation |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for place, low in enumerate(EDGES[:-1]):
        figures = (f"{mean[name, place]:.2f}" for name in ("L1", "residual", "error", "correlation"))
        above = f"{low} and more" if place == len(EDGES) - 2 else f"{low} to {EDGES[place + 1]}"
        print(f"| {above} | {' | '.join(figures)} |")


def levels(difference: Tensor) -> float:
    """The mean absolute difference of images in [-1, 1], in grey levels."""
    return float(difference.abs().mean() * 127.5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    common.run_main(lambda: tyro.cli(main))
