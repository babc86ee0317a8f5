"""Where the samples of a trained GRIT vary: their deviation in each pixel, by the class of its label (Figure 7)."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated

import torch
import tyro
from tyro.conf import Positional, arg

from pixgraft import devices
from pixgraft.data.images import from_uint8
from pixgraft.data.pairs import PairedDataset, open_pairs
from pixgraft.models import load_model
from pixgraft.synthesis import Synthesizer


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
    device: str = "cpu",
) -> None:
    """Print the root mean square of the deviation over all pixels of each class, in grey levels.

    Args:
        model: A run or model folder that takes label maps.
        data: A folder or zip of pairs.
        split: The folder within the data to take.
        images: The images' folder; each gives its own style.
        conditions: The label maps' folder.
        every: Take every n-th pair.
        samples: Of each pair.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    picked = devices.pick(device)
    synthesizer = Synthesizer(load_model(model, device=picked), picked)
    source = open_pairs(data, images=images, conditions=conditions, under=split)
    pairs = PairedDataset(source, size=synthesizer.image_size, kind=synthesizer.kind)
    squares: defaultdict[int, float] = defaultdict(float)
    pixels: Counter[int] = Counter()
    for unit in range(0, len(pairs), every):
        image, condition = pairs[unit]
        style = synthesizer.code(from_uint8(image))
        deviation = synthesizer.sample(condition, [style], samples=samples, seed=unit).deviation
        for label in condition.unique().tolist():
            own = deviation[condition[0] == label]
            squares[label] += float(own.square().sum())
            pixels[label] += own.numel()
    for label in sorted(pixels):
        print(f"class {label}: {(squares[label] / pixels[label]) ** 0.5:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    tyro.cli(main)
