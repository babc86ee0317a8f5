"""A generative prior as a row of a table: its samples, one for each seed and number, beside a set of real images."""

from typing import Any

from pixgraft.errors import PixgraftError
from pixgraft.evaluation.subjects import Group
from pixgraft.pipelines.sampler import Sampler


class Samples:
    """The samples 0 to `count` - 1 of a seed, without truncation, those that `pixgraft sample` draws."""

    given: frozenset[str] = frozenset()

    def __init__(self, name: str, sampler: Sampler, *, count: int, seed: int) -> None:
        """Raises PixgraftError for fewer than two samples."""
        if count < 2:
            raise PixgraftError(f"--samples {count}: a set of samples needs at least 2")
        self.name, self._sampler, self._seed, self.images = name, sampler, seed, count
        self.about: dict[str, Any] = {**sampler.model.about, "truncation": 1.0}

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, unit: int) -> Group:
        sampler = self._sampler
        codes = sampler.codes(sampler.latents(self._seed, unit, 1))
        return Group(unit, sampler.images(codes, seed=self._seed, first=unit))
