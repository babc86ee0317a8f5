"""Standard deviation of a trained GRIT's samples per pixel, by the pixel's class (GRIT, Figure 7)."""

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
from pixgraft.errors import PixgraftError
from pixgraft.pipelines.loading import load
from pixgraft.pipelines.synthesize import SynthesisPipeline

REPLICATES = 1000


def main(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    *,
    data: Path,
    split: str = "test",
    images: str = "images",
    conditions: str = "masks",
    every: int = 5,
    samples: int = 10,
    against: int = 1,
    device: str = "cpu",
) -> None:
    """Print the root mean square of the deviation over all pixels of each class, in grey levels, and its ratio to that
    of one class, with a 95 % bootstrap interval over the maps.

    Args:
        model: A run or model folder that takes label maps.
        data: A folder or zip of pairs.
        split: The folder within the data.
        images: The images' folder; each image is its own style image.
        conditions: The label maps' folder.
        every: Take every n-th pair.
        samples: Number of samples per pair.
        against: The reference class of the ratios; of the faces' eight labels, 1 is the face.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    if every < 1:
        raise PixgraftError(f"--every {every}: choose a number from 1")
    pipeline = load(model, device=device)
    if not isinstance(pipeline, SynthesisPipeline) or not pipeline.kind.has_classes:
        raise PixgraftError(f"{model}: takes no label maps, by whose classes the deviations are told apart")
    source = open_pairs(data, images=images, conditions=conditions, under=split)
    pairs = Dataset(source, size=pipeline.image_size, kind=pipeline.kind)
    classes = pipeline.kind.classes
    squares, pixels = [], []
    for unit in range(0, len(pairs), every):
        image, condition = pairs[unit]
        assert condition is not None
        style = pipeline.style_code(from_uint8(image))
        deviation = pipeline.sample(condition, [style], samples=samples, seed=unit).deviation
        labels = condition[0].flatten().long()
        energy = deviation.square().flatten().double()
        squares.append(torch.zeros(classes, dtype=torch.float64).index_add_(0, labels, energy))
        pixels.append(torch.bincount(labels, minlength=classes).double())
    report(torch.stack(squares), torch.stack(pixels), against)


def report(squares: Tensor, pixels: Tensor, against: int) -> None:
    """Print the table from sums of squared deviations and counts of pixels, (maps, classes) each."""
    if not 0 <= against < squares.shape[1] or not pixels[:, against].any():
        raise PixgraftError(f"--against {against}: no map has a pixel of that class")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(squares), (REPLICATES, len(squares)), generator=generator)
    value = (squares.sum(0) / pixels.sum(0)).sqrt()
    resampled = (squares[drawn].sum(1) / pixels[drawn].sum(1)).sqrt()
    low, high = (resampled / resampled[:, against, None]).nanquantile(torch.tensor([0.025, 0.975]).double(), dim=0)
    print(f"| class | grey levels | times class {against}'s |\n| ---: | ---: | ---: |")
    for label in pixels.sum(0).nonzero().flatten().tolist():
        ratio = value[label] / value[against]
        print(f"| {label} | {value[label]:.2f} | {ratio:.2f} ({low[label]:.2f} to {high[label]:.2f}) |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    common.run_main(lambda: tyro.cli(main))
