"""Options of `pixgraft study`, as dataclasses: the command line is made from them. Nothing heavy is imported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from pixgraft.errors import PixgraftError

MOST_ITEMS = 2000
"""Most pictures that one rater is shown."""


@dataclass(frozen=True, kw_only=True)
class MakeOptions:
    """What is rated, and how."""

    row: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=PATH")]
    """A method's name, and the folder or zip of its images; give it once for each method."""
    reference: Path
    """The folder or zip of real images of the same names. They are rated as the row HR, and the examples of a 1 and a 5
    are made of them."""
    out: Path
    """The folder to make."""
    images: int = 48
    """Images of each row, drawn by the seed; 0: all."""
    repeats: int = 12
    """Pictures that each rater is shown twice."""
    examples: int = 20
    """Examples that a rater sees first: half of them of a 1, shrunk images enlarged by nearest neighbours, and half of
    a 5, real images."""
    factor: int = 8
    """By which the examples of a 1 are shrunk."""
    title: str = "Rate pictures"
    """The page's heading, which raters see."""
    question: str = "How good is this picture?"
    """What raters are asked."""
    seed: int = 0
    """Seed of the drawn images and of the raters' orders."""

    def check(self) -> None:
        """Raise PixgraftError for numbers that make no study."""
        for name, least in (("images", 0), ("repeats", 0), ("examples", 0), ("factor", 2)):
            if (value := getattr(self, name)) < least:
                raise PixgraftError(f"--{name} {value}: choose a number from {least}")
        if self.examples % 2:
            raise PixgraftError(f"--examples {self.examples}: half of them are of a 1: choose an even number")
        if not self.row:
            raise PixgraftError("say what is rated: --row NAME=PATH for each method")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How ratings are read."""

    out: Path | None = None
    """The folder for report.html and result.json; without it the tables are only printed."""
    bootstrap: int = 2000
    """Replicates of each 95 % interval; 0: none."""
    seed: int = 0
    """Seed of the bootstrap, and of the chance that repeats are compared with."""

    def check(self) -> None:
        """Raise PixgraftError for a number of replicates that gives no interval."""
        if not 2 <= self.bootstrap <= 100_000 and self.bootstrap:
            raise PixgraftError(f"--bootstrap {self.bootstrap}: choose 0 for no intervals, or 2 to 100,000")


@dataclass(frozen=True, kw_only=True)
class PowerOptions:
    """What a study is to find, and how ratings vary; the deviations are of the opinion before it is rounded to 1..5."""

    difference: float = 0.2
    """Difference of two rows' mean opinion scores that is to be found."""
    mean: float = 3.7
    """The better row's score; the default is pSp's in the paper."""
    raters: tuple[int, ...] = (10, 20, 40, 80)
    """Numbers of raters; the paper had 40."""
    images: tuple[int, ...] = (12, 24, 48, 96)
    """Numbers of images of each row; the paper's 240 pictures are 48 of each of 5 rows."""
    rows: int = 5
    """Rows of the study, whose pairs Holm's correction counts."""
    rater_sd: float = 0.5
    """Deviation of how strict raters are."""
    image_sd: float = 0.4
    """Deviation of how good the images are, in all rows alike."""
    own_sd: float = 0.3
    """Deviation of how good an image is in one row alone."""
    noise_sd: float = 0.8
    """Deviation of a rating from the rater's and the image's mean."""
    studies: int = 200
    """Studies simulated for each entry of the table."""
    seed: int = 0
    """Seed of the simulation."""

    def check(self) -> None:
        """Raise PixgraftError for numbers that make no study, or too long a simulation."""
        if not (self.difference >= 0 and self.mean < 5 and self.mean - self.difference > 1):
            scores = f"{self.mean - self.difference:g} and {self.mean:g}"
            raise PixgraftError(f"--difference {self.difference:g}: scores of {scores}: choose two between 1 and 5")
        deviations = {"rater": self.rater_sd, "image": self.image_sd, "own": self.own_sd, "noise": self.noise_sd}
        for name, value in deviations.items():
            if not 0 <= value <= 4 or (name == "noise" and not value):
                raise PixgraftError(f"--{name}-sd {value:g}: choose a deviation above 0 and up to 4")
        for option, numbers, least, most in (
            ("raters", self.raters, 2, 1000), ("images", self.images, 2, 1000), ("rows", (self.rows,), 2, 100),
            ("studies", (self.studies,), 10, 10_000),
        ):  # fmt: skip
            if not numbers or not all(least <= number <= most for number in numbers):
                raise PixgraftError(f"--{option} {' '.join(map(str, numbers))}: choose {least} to {most:,}")
