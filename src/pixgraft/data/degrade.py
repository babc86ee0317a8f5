"""Low-resolution conditions made from images, as for the super-resolution of pSp (Richardson et al. 2021).

An image is shrunk by a factor drawn from a few and enlarged back to its size. The factor is a function of (seed, images
seen), so a resumed run needs no loader state.
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from pixgraft.data.dataset import Dataset
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.sources import ImageSource
from pixgraft.engine.seeds import derive
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import bicubic

Enlarging = Literal["bicubic", "bilinear", "nearest"]


def enlarged(images: Tensor, size: int, how: Enlarging) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] enlarged to (N, C, size, size) in [-1, 1]; bicubic has a = -0.5."""
    if how == "nearest":
        return F.interpolate(images, size=(size, size), mode="nearest-exact")
    # Where it enlarges, antialias changes nothing but PyTorch's kernel: a = -0.5, where it has -0.75 without.
    large = F.interpolate(images, size=(size, size), mode=how, align_corners=False, antialias=True)
    return large.clamp(-1, 1)  # the bicubic kernel overshoots at edges


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How images lose their detail; a factor of 1 leaves an image as it is."""

    factors: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Those of pSp's published code; the paper's end at 16."""
    enlarging: Enlarging = "bicubic"
    """How the small image is brought back to size. pSp's published code does it bilinearly."""

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 1:
            raise PixgraftError(f"degradation factors {self.factors}: choose whole numbers from 1")

    def check(self, size: int) -> None:
        """Raise PixgraftError, naming the factor, if images of `size` x `size` cannot be shrunk by one of them."""
        for factor in self.factors:
            # The kernel reaches 1.5 factors beyond the edge, and a reflection has no more than the image.
            if size % factor or 3 * factor // 2 >= size:
                raise PixgraftError(
                    f"degradation factor {factor}: images of {size} pixels cannot be shrunk by it: "
                    f"choose divisors of {size} up to {size // 2}"
                )

    def factor(self, seed: int, number: int) -> int:
        """The factor of the image seen `number`-th, from 0; each is as likely as the others."""
        return self.factors[derive(seed, "degradation", number) % len(self.factors)]

    def __call__(self, images: Tensor, factor: int) -> Tensor:
        """Images (N, 3, S, S) in [-1, 1] shrunk by `factor` and enlarged to their size, in [-1, 1].

        The small image is rounded to whole grey levels, as one that comes from a file is.
        """
        if factor == 1:
            return images
        small = from_uint8(to_uint8(bicubic(images, factor)))
        return enlarged(small, images.shape[-1], self.enlarging)


class DegradedDataset:
    """Images with low-resolution conditions made from them: the pairs of a data set that has no conditions."""

    def __init__(self, dataset: Dataset, degradation: Degradation, *, seed: int) -> None:
        degradation.check(dataset.size)
        self._dataset, self._degradation, self._seed = dataset, degradation, seed

    @property
    def source(self) -> ImageSource:
        """Where the images come from."""
        return self._dataset.source

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image `index` and its condition, uint8 (3, S, S) both, with the factor of image seen `index`."""
        return self.seen(index, number=index, mirrored=False)

    def seen(self, index: int, *, number: int, mirrored: bool) -> tuple[Tensor, Tensor]:
        """Image `index` as the one seen `number`-th, mirrored or not, and its condition; uint8 (3, S, S) both."""
        image = self._dataset[index].flip(-1) if mirrored else self._dataset[index]
        factor = self._degradation.factor(self._seed, number)
        condition = self._degradation(from_uint8(image).unsqueeze(0), factor)
        return image, to_uint8(condition).squeeze(0)

    def check(self) -> None:
        """As `Dataset.check`."""
        self._dataset.check()

    def fingerprint(self) -> str:
        """As `Dataset.fingerprint`."""
        return self._dataset.fingerprint()
