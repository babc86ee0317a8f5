"""Tables of task "sample": a generative prior's samples beside a set of real images."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.model_table import ModelTable
from pixgraft.evaluation.rows import OutputFolder
from pixgraft.evaluation.subjects import Group, Pictures, Subject
from pixgraft.pipelines.sample import SamplingPipeline


class SamplingTable(ModelTable[SamplingPipeline]):
    """Models that make images of codes alone."""

    options_taken: ClassVar[tuple[str, ...]] = ("samples",)

    def image_side(self, pipeline: SamplingPipeline) -> int:
        return pipeline.method.image_size

    def open_data(self) -> None:
        assert self.options.data is not None
        for name, row in self.rows:
            if isinstance(row, OutputFolder):
                measured = "samples have no inputs to be matched with: measure them with --real A --fake B"
                raise PixgraftError(f"--row {name}: a folder of images: {measured}")
        self.real = Pictures(self.options.data, split=self.options.split, size=self.size)
        self.samples = self.options.samples or self.protocol.samples

    def subjects(self, columns: Sequence[Column]) -> list[Subject]:
        """The samples 0 to `samples` - 1 of the seed, without truncation, as `pixgraft sample` draws them."""
        if self.samples < 2:
            raise PixgraftError(f"--samples {self.samples}: a set of samples needs at least 2")
        return [
            Subject(
                name=name, units=self.samples, group=partial(self._group, pipeline),
                identity=pipeline.model.about | {"truncation": 1.0},
            )
            for name, pipeline in self.models
        ]  # fmt: skip

    def inputs(self) -> Iterator[tuple[str, Tensor]]:
        raise PixgraftError(f"--inputs-only: {self.protocol.name} has no inputs: its images are made of random codes")

    def _group(self, pipeline: SamplingPipeline, unit: int) -> Group:
        codes = pipeline.codes(pipeline.latents(self.options.seed, [unit]))
        return Group(unit, pipeline.images(codes, seed=self.options.seed, numbers=[unit]))

    def description(self) -> dict[str, Any]:
        return {"real": self.real.description(), "samples": self.samples}
