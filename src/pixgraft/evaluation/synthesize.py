"""Tables of task "synthesize": an image of each condition in the style of the pair's own image, against that image."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from pixgraft.data.conditions import condition_kind
from pixgraft.data.dataset import Dataset
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.pairs import open_pairs
from pixgraft.engine.seeds import derive
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.model_table import ModelTable
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.subjects import Group, References, Subject
from pixgraft.layers.conditions import ConditionSpec
from pixgraft.pipelines.synthesize import SynthesisPipeline


class SynthesisTable(ModelTable[SynthesisPipeline]):
    """Models that make an image of a condition; or the components of their images, a row each."""

    options_taken: ClassVar[tuple[str, ...]] = ("samples", "palette", "images", "conditions")

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
        if self.protocol.samples == 1:
            options.check_unset(("samples",), f"has no part in {self.protocol.name}")
        self.samples = options.samples or self.protocol.samples
        self.kind = condition_kind(self.models[0][1].condition, options.palette)
        pairs = open_pairs(options.data, images=options.images, conditions=options.conditions, under=options.split)
        self.pairs = Dataset(pairs, size=self.size, kind=self.kind)
        self.real = References(self.pairs)

    def subjects(self, columns: Sequence[Column]) -> list[Subject]:
        if self.samples < 2 <= self.protocol.samples:
            raise PixgraftError(f"--samples {self.samples}: {self.protocol.name} compares at least 2 of each condition")
        if not self.protocol.components:
            return [self._subject(name, pipeline) for name, pipeline in self.models]
        models = [pipeline for _, pipeline in self.models]
        rows = [(model, component) for model in models for component in (*model.method.components, "")]
        return [self._subject(component or "sum", model, component) for model, component in rows]

    def _subject(self, name: str, pipeline: SynthesisPipeline, component: str = "") -> Subject:
        """The images of a model, or a component of them."""
        inputs = {"reference"} | ({"samples"} if self.samples > 1 else set())
        return Subject(
            name=name, units=len(self.pairs), samples=self.samples, inputs=frozenset(inputs),
            group=partial(self._group, pipeline, component),
            identity={"model": pipeline.model.name, "weights_sha256": pipeline.model.weights_sha256},
        )  # fmt: skip

    def _group(self, pipeline: SynthesisPipeline, component: str, unit: int) -> Group:
        """A component is signed, and drawn around a middle grey."""
        image, condition = self.pairs[unit]
        assert condition is not None
        seed = derive(self.options.seed, "unit", unit)
        result = pipeline.sample(condition, [pipeline.style_code(from_uint8(image))], samples=self.samples, seed=seed)
        pixels = to_uint8(result.components[component]) if component else result.pixels
        inputs = {"reference": image.expand(self.samples, -1, -1, -1)}
        pictures = {}
        if self.samples > 1:
            inputs["condition"] = to_uint8(result.condition).expand(self.samples, -1, -1, -1)
            pictures = {"mean": result.mean[0], "deviation": result.scaled_deviation[0].expand(3, -1, -1)}
        return Group(unit, pixels, inputs, (self.real.names[unit],) * self.samples, pictures)

    def description(self) -> dict[str, Any]:
        return {
            "data": self.real.description(),
            "condition": self.kind.kind,
            "style": "the pair's own image" if self.models[0][1].method.style_dim else "none",
            "samples_for_each_condition": self.samples,
        }
