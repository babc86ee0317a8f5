"""Settings of searches in a prior, as the command line has them. Nothing heavy is imported."""

from dataclasses import dataclass
from typing import Literal

By = Literal["wplus", "pti", "single", "pulse", "mganprior"]
Space = Literal["z", "w", "w+"]
Perceptual = Literal["lpips-alex", "lpips-vgg", "squeezenet", "none"]

STEPS = {"wplus": 1000, "pti": 450, "single": 1000, "pulse": 100, "mganprior": 3000}
"""Steps of each search, as published."""
TUNING = 350
"""Steps of pivotal tuning, as published."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What kind of search it is."""

    by: By
    """wplus: a code for each layer of a StyleGAN2. pti: its generator is tuned to the image too. single: one code.
    pulse: codes on a sphere, for tiny images. mganprior: several codes, whose feature maps are composed."""
    space: Space | None = None
    """z, w or w+, where the search can take several: by default w, or z for a prior without w."""
    noise: Literal["stored", "searched"] = "stored"
    """searched: the noise maps are searched too, as published for wplus, single and pulse. The image is closer, but
    the codes alone no longer make it."""
    starts: int = 1
    """Begin at the best of so many starts: random ones, after the usual one."""
    many: int = 20
    """For mganprior: number of codes."""
    side: int | None = None
    """For mganprior: side of the feature maps that are composed; by default 32, or a quarter of a smaller image's."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """For mganprior, whose published code has both: SGD is its default, and Adam needs a tenth of the steps."""
    pixels: Literal["l2", "l1"] = "l2"
    """The difference of pixels in the loss, of images in [-1, 1]."""
    perceptual: Perceptual | None = None
    """The network of the perceptual distance in the loss, or none: by default lpips-alex where its weights are there,
    and else the bundled squeezenet. PULSE has no such distance."""
    perceptual_weight: float = 1.0
    """Weight of the perceptual distance."""
    weights: tuple[str, ...] = ()
    """A network's weights as NAME=FILE; without it the cache or a download is used."""
    batch: int = 1
    """Images that are searched for together. Another number can move pixels, as sums are taken in another order."""
