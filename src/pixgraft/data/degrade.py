"""Low-resolution conditions made from images, as for the super-resolution of pSp (Richardson et al. 2021).

An image is shrunk by a factor, drawn from a set, and enlarged back to its size. The factor is a function of (seed,
sample number), so that a resumed run needs no loader state.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.engine.seeds import derive
from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import Enlarging
from pixgraft.layers.resample import bicubic


def enlarged(images: Tensor, size: int, how: Enlarging) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] enlarged to (N, C, size, size) in [-1, 1]; bicubic has a = -0.5."""
    if how == "nearest":
        return F.interpolate(images, size=(size, size), mode="nearest-exact")
    # For enlargement, antialias changes only PyTorch's bicubic kernel: a = -0.5, and -0.75 without it.
    large = F.interpolate(images, size=(size, size), mode=how, align_corners=False, antialias=True)
    return large.clamp(-1, 1)  # the bicubic kernel overshoots at edges


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How images are degraded; a factor of 1 leaves an image unchanged."""

    factors: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """The defaults are those of pSp's published code; the paper's largest is 16."""
    enlarging: Enlarging = "bicubic"
    """The filter that enlarges the small image. pSp's published code uses the bilinear one."""

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 1:
            raise PixgraftError(f"degradation factors {self.factors}: choose whole numbers from 1")

    def check(self, size: int) -> None:
        """Raise PixgraftError, naming the factor, if images of `size` x `size` cannot be shrunk by one of them."""
        for factor in self.factors:
            # The kernel extends 1.5 factors beyond the edge, and reflection padding must be smaller than the image.
            if size % factor or 3 * factor // 2 >= size:
                raise PixgraftError(
                    f"degradation factor {factor}: images of {size} pixels cannot be shrunk by it: "
                    f"choose divisors of {size} up to {size // 2}"
                )

    def factor(self, seed: int, number: int) -> int:
        """The factor of sample `number`, from 0; all factors are equally likely."""
        return self.factors[derive(seed, "degradation", number) % len(self.factors)]

    def __call__(self, images: Tensor, factor: int) -> Tensor:
        """Images (N, 3, S, S) in [-1, 1] shrunk by `factor` and enlarged to their size, in [-1, 1].

        The small image is rounded to 8-bit levels, as an image from a file is.
        """
        if factor == 1:
            return images
        small = from_uint8(to_uint8(bicubic(images, factor)))
        return enlarged(small, images.shape[-1], self.enlarging)

    def condition(self, image: Tensor, factor: int) -> Tensor:
        """An image as uint8 (3, S, S) shrunk by `factor` and enlarged to its size, uint8 (3, S, S)."""
        return to_uint8(self(from_uint8(image).unsqueeze(0), factor)).squeeze(0)
