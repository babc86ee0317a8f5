"""Tables of task "encode": outputs for images, shrunk or as they are, or for the conditions paired with them, against
these images; and outputs step by step.

Shape letters: S side of the generator's images, s side of a condition, at which images are compared, M codes of an
image, D numbers of a code.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from pixgraft import devices
from pixgraft.data.conditions import condition_kind
from pixgraft.data.dataset import Dataset
from pixgraft.data.degrade import Degradation
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.pairs import open_pairs
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.metrics_table import METRICS
from pixgraft.evaluation.model_table import ModelTable
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.rows import OutputFolder, Outputs
from pixgraft.evaluation.subjects import Group, Pictures, Reals, References, Subject
from pixgraft.layers.conditions import ConditionSpec, Enlarging, fitted
from pixgraft.layers.resample import bicubic
from pixgraft.methods.tasks import SCALES
from pixgraft.metrics.consistency import project
from pixgraft.pipelines.encode import EncodingPipeline

PAIRED = {"labels": "label maps", "sketch": "sketches", "image": "other images"}
"""Kinds of condition that are files of their own, each paired with an image."""
KINDS = {"self": "the image itself", "lr": "small images", **PAIRED}
"""Every kind of condition."""
WARM_UP = 2
"""Images that a model encodes before its time is taken."""

Inputs = dict[str, Tensor]
Encode = Callable[[int, Tensor], tuple[Tensor, Inputs]]
"""The number of an image and its condition, uint8 (1, C, s, s), to images uint8 (K, 3, s, s), K 1 where a model makes
them, and the inputs of their metrics."""


class EncodingTable(ModelTable[EncodingPipeline]):
    """Models that encode conditions, beside a floor; or one model, step by step."""

    options_taken: ClassVar[tuple[str, ...]] = ("palette", "images", "conditions", "project")

    @classmethod
    def check_condition(cls, name: str, condition: ConditionSpec | None, protocol: Protocol) -> None:
        assert condition is not None
        # To a model of small images, an image itself is one that was shrunk by 1.
        measured = protocol.kinds or [kind for kind in KINDS if kind != "self" or protocol.factors == (1,)]
        if _kind(condition) not in measured:
            kinds = " or ".join(f"{KINDS[kind]} ({kind})" for kind in measured)
            made = f"{name}: makes images from conditions of kind {_kind(condition)}"
            raise PixgraftError(f"{made}: {protocol.name} measures a model of {kinds}")

    def check_model(self, name: str, pipeline: EncodingPipeline) -> None:
        method, protocol = pipeline.method, self.protocol
        if protocol.by_step and method.max_steps == 1:
            measured = f"{protocol.name} measures models that take several"
            raise PixgraftError(f"{name}: {method.name} models take one step: {measured}")
        if not self.options.metrics and not self._metrics(method.scales):
            measured = f"{protocol.name} measures models with scales"
            raise PixgraftError(f"{name}: the codes of {method.name} models have no scales: {measured}")

    def open_data(self) -> None:
        options, spec = self.options, self.models[0][1].condition
        assert options.data is not None
        self.encoders = {name: EncoderOutputs(pipeline) for name, pipeline in self.models}
        self.kind = _kind(spec)
        for name, pipeline in self.models:
            kind = _kind(pipeline.condition)
            if kind != self.kind and (kind in PAIRED or self.kind in PAIRED):
                both = f"takes {KINDS[kind]}, {self.models[0][0]} {KINDS[self.kind]}"
                raise PixgraftError(f"{name}: {both}: measure them one by one")
            if (classes := pipeline.condition.classes) != spec.classes:
                both = f"takes {classes} classes, {self.models[0][0]} {spec.classes}"
                raise PixgraftError(f"{name}: {both}: measure them one by one")
        self.pairs: Dataset | None = None
        self.data: Pictures | References
        factors = self.protocol.factors
        if self.kind != "lr" or self.protocol.by_step:
            shrunk = f"in {self.protocol.name}" if self.kind == "lr" else f"where models take {KINDS[self.kind]}"
            options.check_unset(("project",), f"has no part {shrunk}")
        if self.kind in PAIRED:
            images, conditions = options.images, options.conditions
            pairs = open_pairs(options.data, images=images, conditions=conditions, under=options.split)
            self.pairs = Dataset(pairs, size=self.size, kind=condition_kind(spec, options.palette))
            self.data = References(self.pairs)
            if factors != (1,):
                self.notes.append(f"{PAIRED[self.kind]} are not shrunk: one row stands for all factors")
            factors = (1,)
        else:
            paired = ("palette", "images", "conditions")
            options.check_unset(paired, f"has no part where models take {KINDS[self.kind]}")
            self.data = Pictures(options.data, split=options.split, size=self.size)
        self.real = self.data
        self.factors = [factor for factor in factors if self.size % factor == 0 and factor < self.size]
        if factors == (1,):
            small = [name for name, pipeline in self.models if pipeline.condition.kind == "lr"]
            self.notes += [f"{name} takes small images: here they are the references, shrunk by 1" for name in small]
        lacking = [] if self.options.metrics else [name for name in self.protocol.metrics if name not in self.metrics]
        self.notes += [f"left out: {metric}: the model has no such codes" for metric in lacking]
        cannot = f"by which images of {self.size} pixels cannot be shrunk"
        self.notes += [f"left out: x{factor}, {cannot}" for factor in factors if factor not in self.factors]

    def reals(self, columns: Sequence[Column]) -> Reals | None:
        return self.data if any(column.metric.needs == "real" for column in columns) else None

    @property
    def metrics(self) -> tuple[str, ...]:
        return self._metrics(self.models[0][1].method.scales)

    def _metrics(self, scales: Sequence[str]) -> tuple[str, ...]:
        """The protocol's metrics without those of scales that codes do not come from."""
        lacking = set(SCALES) - set(scales)
        return tuple(name for name in self.protocol.metrics if METRICS[name].needs not in lacking)

    def subjects(self, columns: Sequence[Column]) -> list[Subject]:
        """One row for each factor and model, and a floor; or for each step, from 0 unless a step's change is asked."""
        first, pipeline = self.encoders[self.models[0][0]], self.models[0][1]
        if self.protocol.by_step:
            start = 1 if any(column.metric.needs in SCALES for column in columns) else 0
            return [
                self._subject(f"step {number}", of_condition(partial(first.step, number)),
                              inputs=first.scales if number else (), identity=self.identity(pipeline))
                for number in range(start, first.method.steps + 1)
            ]  # fmt: skip
        of_sets = any(column.metric.of_sets for column in columns)
        timed = any(column.metric.needs == "seconds" for column in columns)
        subjects: list[Subject] = []
        for factor in self.factors:
            folder = f"x{factor}" if len(self.protocol.factors) > 1 and self.pairs is None else ""
            mark = f", {folder}" if folder else ""
            for name, row in self.rows:
                if isinstance(row, OutputFolder):
                    subjects += self._of_folder(row, factor, folder, mark)
                else:
                    encode = of_condition(self.encoders[name].timed)
                    subjects.append(self._subject(
                        f"{name}{mark}", encode, inputs=("seconds",), factor=factor, identity=self.identity(row),
                        enlarging=row.condition.enlarging, paired=mark, projected=self.options.project,
                    ))  # fmt: skip
            if factor > 1:
                subjects.append(self._subject(f"reference: bicubic{mark}", unchanged_condition, factor=factor))
            elif of_sets:
                floor = f"floor: starting codes{mark}"
                self.notes.append(f"left out: {floor}: one image for all, and metrics of sets take several")
            else:
                name = f"floor: starting codes{mark}"
                subjects.append(self._subject(name, of_condition(first.start), identity=self.identity(pipeline)))
        if timed:
            self.notes.append(
                f"Seconds are those of one image at a time, after {WARM_UP} that do not count, on "
                f"{devices.description(first.device)}: they depend on the machine and on what else it does."
            )
            self.notes += [f"{name}: no seconds: its images were made elsewhere." for name, row in self.rows
                           if isinstance(row, OutputFolder)]  # fmt: skip
        return subjects

    def identity(self, pipeline: EncodingPipeline) -> dict[str, Any]:
        said = {"condition": _kind(pipeline.condition), "steps": pipeline.method.steps}
        return super().identity(pipeline) | said

    def _of_folder(self, row: OutputFolder, factor: int, folder: str, mark: str) -> list[Subject]:
        """The row of one factor, whose outputs are in a folder of its own if there are several; none without that."""
        if folder and not row.has(folder):
            if not any(row.has(f"x{each}") for each in self.factors):
                folders = ", ".join(f"x{each}/" for each in self.factors)
                raise PixgraftError(f"--row {row.name}: {row.path}: give the outputs of each factor in {folders}")
            self.notes.append(f"left out: {row.name}{mark}: {row.path.name} has no {folder}/")
            return []
        outputs = self.outputs(row, under=folder)
        return [
            self._subject(
                f"{row.name}{mark}", partial(_given, outputs), inputs=("samples",) if outputs.samples > 1 else (),
                factor=factor, identity=outputs.identity, samples=outputs.samples, paired=mark,
            )
        ]  # fmt: skip

    def _subject(
        self, name: str, encode: Encode, *, factor: int = 1, enlarging: Enlarging = "bicubic",
        inputs: tuple[str, ...] = (), identity: dict[str, Any] | None = None, samples: int = 1,
        paired: str | None = None, projected: bool = False,
    ) -> Subject:  # fmt: skip
        """Images encoded from each condition, made by a factor where it is no file of its own, against the images;
        `projected`: moved until they shrink to the small ones."""

        def group(unit: int) -> Group:
            condition, known = self._inputs(unit, factor, enlarging)
            images, inputs = encode(unit, condition)
            if projected and factor > 1:
                images = project(images, known["small"]).to(torch.uint8)
            known = {key: value.expand(len(images), -1, -1, -1) for key, value in known.items()}
            return Group(unit, images, known | inputs, (self.data.names[unit],) * len(images))

        given = frozenset({"reference", "source", *(["small"] if self.kind == "lr" else []), *inputs})
        return Subject(
            name=name, units=len(self.data), group=group, inputs=given, identity=identity or {}, samples=samples,
            paired=paired,
        )  # fmt: skip

    def _inputs(self, unit: int, factor: int, enlarging: Enlarging) -> tuple[Tensor, Inputs]:
        """The condition uint8 (1, C, s, s) of image `unit`, shrunk by a factor and enlarged again as in training if it
        is no file of its own, and inputs: the image is the reference, and the source where faces are compared."""
        if self.pairs is not None:
            image, condition = self.pairs[unit]
            assert condition is not None
            reference, condition = image.unsqueeze(0), condition.unsqueeze(0)
            picture = to_uint8(self.models[0][1].condition.pictured(condition))
            return condition, {"reference": reference, "source": reference, "condition": picture}
        reference = self.data[unit].unsqueeze(0)
        inputs = {"reference": reference, "source": reference}
        condition = reference
        if factor > 1:
            degradation = Degradation(factors=(factor,), enlarging=enlarging)
            condition = to_uint8(degradation(from_uint8(reference), factor))
        if self.kind == "lr":
            inputs["small"] = to_uint8(bicubic(from_uint8(reference), factor))
        return condition, inputs

    def inputs(self) -> Iterator[tuple[str, Tensor]]:
        for unit, label in enumerate(self.labels):
            if self.pairs is not None:
                image, condition = self.pairs[unit]
                assert condition is not None
                yield f"conditions/{label}.png", condition
            else:
                image = self.data[unit]
                for factor in self.factors if self.factors != [1] else []:
                    folder = f"x{factor}" if len(self.protocol.factors) > 1 else "conditions"
                    small = bicubic(from_uint8(image).unsqueeze(0), factor)[0]
                    yield f"{folder}/{label}.png", to_uint8(small)
            yield f"references/{label}.png", image

    @property
    def _input(self) -> str:
        if self.kind in PAIRED:
            return f"{PAIRED[self.kind]}, files of their own"
        return "the image itself" if self.factors == [1] else f"the image {self._degraded}"

    @property
    def _degraded(self) -> str:
        enlarging = dict.fromkeys(pipeline.condition.enlarging for _, pipeline in self.models)
        if [*enlarging] == ["bicubic"]:
            return "shrunk and enlarged again, both bicubically"
        return f"shrunk bicubically and enlarged again, {' or '.join(sorted(enlarging))}"

    def description(self) -> dict[str, Any]:
        return {
            "data": self.data.description(),
            "compared": f"outputs brought to {self.size} pixels, the input's side, against the image fitted to it",
            "input": self._input,
            "factors": self.factors,
            "by_step": self.protocol.by_step,
            **({"projected": True} if self.options.project else {}),
        }


def _kind(condition: ConditionSpec) -> str:
    return "self" if condition.inversion else condition.kind


class EncoderOutputs:
    """Images of one model, at the side s, one at a time."""

    def __init__(self, pipeline: EncodingPipeline) -> None:
        self.method, self.device = pipeline.method, pipeline.device
        self.size = pipeline.condition.size
        self.scales = tuple(scale for scale in SCALES if scale in self.method.scales)
        """The scales that its codes come from, the coarsest first."""
        self._warm_ups = WARM_UP

    def timed(self, condition: Tensor, steps: int | None = None) -> tuple[Tensor, Inputs]:
        """The image of the last of `steps` steps, by default the method's, and what encoding took."""
        for _ in range(self._warm_ups):
            self.method.encode(condition.to(self.device))
        self._warm_ups = 0
        watch = devices.Watch(self.device)
        image = self.method.encode(condition.to(self.device), steps=steps).images[-1]
        taken = asdict(watch.spent())
        return self._pixels(image), {name: torch.tensor([value], dtype=torch.float64) for name, value in taken.items()}

    def step(self, number: int, condition: Tensor) -> tuple[Tensor, Inputs]:
        """The image after step `number`, 0 being the start, and by scale the mean absolute change of the codes in that
        step (OME, eq. 16, for one image)."""
        if not number:
            return self.start(condition)
        encoded = self.method.encode(condition.to(self.device), steps=number)
        before = encoded.codes[-2] if number > 1 else self.method.start_codes
        changes = (encoded.codes[-1] - before)[0].double().abs().mean(1).cpu()  # (M,)
        places = {scale: torch.tensor([each == scale for each in self.method.scales]) for scale in self.scales}
        by_scale = {scale: changes[in_scale].mean().unsqueeze(0) for scale, in_scale in places.items()}
        return self._pixels(encoded.images[-1]), by_scale

    def start(self, condition: Tensor) -> tuple[Tensor, Inputs]:
        """The floor that knows nothing of the input: the image of the starting codes."""
        return self._pixels(self.method.decode(self.method.start_codes.unsqueeze(0))), {}

    def _pixels(self, image: Tensor) -> Tensor:
        return to_uint8(fitted(image, self.size)).cpu()


def of_condition(encode: Callable[[Tensor], tuple[Tensor, Inputs]]) -> Encode:
    """Images of the condition alone, whatever its number."""
    return lambda unit, condition: encode(condition)


def unchanged_condition(unit: int, condition: Tensor) -> tuple[Tensor, Inputs]:
    """The reference that knows only the input: a small image's bicubic enlargement."""
    return condition, {}


def _given(outputs: Outputs, unit: int, condition: Tensor) -> tuple[Tensor, Inputs]:
    """The images that another program made of that condition."""
    return outputs[unit], {}
