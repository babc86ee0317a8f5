"""Tables of task "synthesize": an image of each condition in the style of the pair's own image, against that image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
from pixgraft.evaluation.rows import OutputFolder, Outputs
from pixgraft.evaluation.subjects import Group, References, Subject
from pixgraft.layers.conditions import ConditionSpec
from pixgraft.pipelines.synthesize import SynthesisPipeline, SynthesisResult


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
        first, spec = self.models[0][0], self.models[0][1].condition
        for name, pipeline in self.models:
            if (other := pipeline.condition) != spec:
                both = f"takes {_described(other)}, {first} {_described(spec)}"
                raise PixgraftError(f"{name}: {both}: measure them in tables of their own")
        self.kind = condition_kind(spec, options.palette)
        pairs = open_pairs(options.data, images=options.images, conditions=options.conditions, under=options.split)
        self.pairs = Dataset(pairs, size=self.size, kind=self.kind)
        self.real = References(self.pairs)

    def subjects(self, columns: Sequence[Column]) -> list[Subject]:
        if self.samples < 2 <= self.protocol.samples:
            raise PixgraftError(f"--samples {self.samples}: {self.protocol.name} compares at least 2 of each condition")
        if not self.protocol.components:
            return [self._subject(name, row) for name, row in self.rows]
        models = [pipeline for _, pipeline in self.models]
        rows = [(model, component) for model in models for component in (*model.method.components, "")]
        return [self._subject(component or "sum", model, component) for model, component in rows]

    def _subject(self, name: str, row: SynthesisPipeline | OutputFolder, component: str = "") -> Subject:
        """The images of a row, or a component of a model's."""
        if isinstance(row, OutputFolder):
            outputs = self.outputs(row)
            make, samples, identity = partial(self._given, outputs), outputs.samples, outputs.identity
        else:
            make, samples, identity = partial(self._made, row, component), self.samples, self.identity(row)
        inputs = {"reference"} | ({"samples"} if samples > 1 else set())
        return Subject(
            name=name, units=len(self.pairs), samples=samples, inputs=frozenset(inputs), paired="",
            group=partial(self._group, make, samples), identity=identity,
        )  # fmt: skip

    def _made(self, pipeline: SynthesisPipeline, component: str, unit: int) -> SynthesisResult:
        """A model's samples; a component is signed, and drawn around a middle grey."""
        image, condition = self.pairs[unit]
        assert condition is not None
        seed = derive(self.options.seed, "unit", unit)
        result = pipeline.sample(condition, [pipeline.style_code(from_uint8(image))], samples=self.samples, seed=seed)
        return replace(result, pixels=to_uint8(result.components[component])) if component else result

    def _given(self, outputs: Outputs, unit: int) -> SynthesisResult:
        """The images that another program made."""
        condition = self.pairs[unit].condition
        assert condition is not None
        pictured = self.models[0][1].condition.pictured(condition.unsqueeze(0))
        return SynthesisResult(pixels=outputs[unit], samples=outputs.samples, condition=pictured)

    def _group(self, make: Callable[[int], SynthesisResult], samples: int, unit: int) -> Group:
        image, result = self.pairs[unit].image, make(unit)
        inputs = {"reference": image.expand(samples, -1, -1, -1)}
        pictures = {}
        if self.samples > 1:
            inputs["condition"] = to_uint8(result.condition).expand(samples, -1, -1, -1)
            pictures = {"mean": result.mean[0], "deviation": result.scaled_deviation[0].expand(3, -1, -1)}
        return Group(unit, result.pixels, inputs, (self.real.names[unit],) * samples, pictures)

    def inputs(self) -> Iterator[tuple[str, Tensor]]:
        for unit, label in enumerate(self.labels):
            image, condition = self.pairs[unit]
            assert condition is not None
            yield f"conditions/{label}.png", condition
            yield f"references/{label}.png", image

    def description(self) -> dict[str, Any]:
        styled = any(pipeline.method.style_dim for _, pipeline in self.models)
        return {
            "data": self.real.description(),
            "condition": self.kind.kind,
            "style": "the pair's own image" if styled else "none",
            "samples_for_each_condition": self.samples,
        }


def _described(spec: ConditionSpec) -> str:
    """A condition in words: "labels of 19 classes at 256"."""
    return f"{spec.kind}{f' of {spec.classes} classes' * bool(spec.classes)} at {spec.size}"
