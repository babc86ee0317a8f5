"""Tables of task "synthesize": an image of each condition in the style of the pair's own image, against that image."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from pixgraft.data.conditions import condition_kind
from pixgraft.data.dataset import Dataset
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.pairs import open_pairs
from pixgraft.engine.seeds import derive
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.model_table import ModelTable
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.subjects import Group, Subject, hashed
from pixgraft.layers.conditions import ConditionSpec
from pixgraft.pipelines.synthesize import SynthesisPipeline


class SynthesisTable(ModelTable[SynthesisPipeline]):
    """Models that make an image of a condition; or the components of their images, a row each."""

    options_taken: ClassVar[tuple[str, ...]] = ("palette", "images", "conditions")

    @classmethod
    def check_condition(cls, name: str, condition: ConditionSpec | None, protocol: Protocol) -> None:
        if condition is not None and condition.kind == "lr":
            raise PixgraftError(f"{name}: its conditions are made from images: {protocol.name} needs pairs of files")

    def check_model(self, name: str, pipeline: SynthesisPipeline) -> None:
        if self.protocol.components and len(pipeline.method.components) < 2:
            measured = f"{self.protocol.name} measures models that add some up"
            raise PixgraftError(f"{name}: its images are no sums of components: {measured}")

    def open_data(self) -> None:
        options = self.options
        assert options.data is not None
        self.kind = condition_kind(self.models[0][1].condition, options.palette)
        pairs = open_pairs(options.data, images=options.images, conditions=options.conditions, under=options.split)
        self.pairs = Dataset(pairs, size=self.size, kind=self.kind)
        self.real = References(self.pairs)

    def subjects(self, columns: Sequence[Column]) -> list[Subject]:
        if not self.protocol.components:
            return [self._subject(name, pipeline) for name, pipeline in self.models]
        models = [pipeline for _, pipeline in self.models]
        rows = [(model, component) for model in models for component in (*model.method.components, "")]
        return [self._subject(component or "sum", model, component) for model, component in rows]

    def _subject(self, name: str, pipeline: SynthesisPipeline, component: str = "") -> Subject:
        """The images of a model, or a component of them."""
        return Subject(
            name=name, units=len(self.pairs), inputs=frozenset({"reference"}),
            group=partial(self._group, pipeline, component),
            identity={"model": pipeline.model.name, "weights_sha256": pipeline.model.weights_sha256},
        )  # fmt: skip

    def _group(self, pipeline: SynthesisPipeline, component: str, unit: int) -> Group:
        """A component is signed, and drawn around a middle grey."""
        image, condition = self.pairs[unit]
        assert condition is not None
        seed = derive(self.options.seed, "unit", unit)
        result = pipeline.sample(condition, [pipeline.style_code(from_uint8(image))], samples=1, seed=seed)
        pixels = to_uint8(result.components[component]) if component else result.pixels
        return Group(unit, pixels, {"reference": image.unsqueeze(0)}, (self.real.names[unit],))

    def description(self) -> dict[str, Any]:
        return {
            "data": self.real.description(),
            "condition": self.kind.kind,
            "style": "the pair's own image" if self.models[0][1].method.style_dim else "none",
            "samples_for_each_condition": 1,
        }


class References:
    """The images of pairs, as a set of reals."""

    def __init__(self, pairs: Dataset) -> None:
        self._pairs, self.path, self.names = pairs, pairs.source.path, pairs.source.names

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Tensor:
        return self._pairs[index][0]

    def description(self) -> dict[str, Any]:
        """As `Pictures.description`, for images and conditions."""
        source = self._pairs.source
        files = (
            file
            for index, names in enumerate(zip(source.names, source.condition_names, strict=True))
            for file in zip(names, (source.read_image(index), source.read_condition(index)), strict=True)
        )
        return {"name": source.path.name, **hashed(files, len(self)), "fitted_to": self._pairs.size}
