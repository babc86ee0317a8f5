"""Tables of task "encode": outputs for images, shrunk or as they are, or for the conditions paired with them, against
these images; and outputs step by step.

Shape letters: S side of the generator's images, s side of a condition, at which images are compared, M codes of an
image, D numbers of a code.
"""

import time
from collections.abc import Callable, Sequence
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
from pixgraft.evaluation.subjects import Group, Pictures, Reals, References, Subject
from pixgraft.layers.conditions import ConditionSpec, fitted
from pixgraft.layers.resample import bicubic
from pixgraft.methods.tasks import SCALES
from pixgraft.pipelines.encode import EncodingPipeline

PAIRED = {"labels": "label maps", "sketch": "sketches", "image": "other images"}
"""Kinds of condition that are files of their own, each paired with an image."""
KINDS = {"self": "the image itself", "lr": "small images", **PAIRED}
"""Every kind of condition."""
WARM_UP = 2
"""Images that a model encodes before its time is taken."""

Inputs = dict[str, Tensor]
Encode = Callable[[Tensor], tuple[Tensor, Inputs]]
"""A condition, uint8 (1, C, s, s), to an image uint8 (1, 3, s, s) and the inputs of its metrics."""


class EncodingTable(ModelTable[EncodingPipeline]):
    """Models that encode conditions, beside a floor; or one model, step by step."""

    options_taken: ClassVar[tuple[str, ...]] = ("palette", "images", "conditions")

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
        self.outputs = [(name, EncoderOutputs(pipeline)) for name, pipeline in self.models]
        self.enlarging, self.kind = spec.enlarging, _kind(spec)
        for name, pipeline in self.models:
            if (kind := _kind(pipeline.condition)) != self.kind and (kind in PAIRED or self.kind in PAIRED):
                both = f"takes {KINDS[kind]}, {self.models[0][0]} {KINDS[self.kind]}"
                raise PixgraftError(f"{name}: {both}: measure them one by one")
        self.pairs: Dataset | None = None
        self.data: Pictures | References
        factors = self.protocol.factors
        if self.kind in PAIRED:
            images, conditions = options.images, options.conditions
            pairs = open_pairs(options.data, images=images, conditions=conditions, under=options.split)
            self.pairs = Dataset(pairs, size=self.size, kind=condition_kind(spec, options.palette))
            self.data = References(self.pairs)
            if factors != (1,):
                self.notes.append(f"{PAIRED[self.kind]} are not shrunk: one row stands for all factors")
            factors = (1,)
        else:
            options.check_unset(self.options_taken, f"has no part where models take {KINDS[self.kind]}")
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
        first_name, first = self.outputs[0]
        if self.protocol.by_step:
            start = 1 if any(column.metric.needs in SCALES for column in columns) else 0
            return [
                self._subject(f"step {number}", partial(first.step, number), inputs=first.scales if number else (),
                              identity={"model": first_name, **first.identity})
                for number in range(start, first.method.steps + 1)
            ]  # fmt: skip
        subjects: list[Subject] = []
        for factor in self.factors:
            row = partial(self._subject, factor=factor)
            mark = f", x{factor}" if len(self.protocol.factors) > 1 and self.pairs is None else ""
            for name, outputs in self.outputs:
                identity = {"model": name, **outputs.identity}
                subjects.append(row(f"{name}{mark}", outputs.timed, inputs=("seconds",), identity=identity))
            name, encode = ("bicubic", unchanged_condition) if factor > 1 else ("starting codes", first.start)
            if factor == 1 and any(column.metric.of_sets for column in columns):
                self.notes.append(f"left out: floor: {name}{mark}: one image for all, and metrics of sets take several")
                continue
            subjects.append(row(f"floor: {name}{mark}", encode))
        if any(column.metric.needs == "seconds" for column in columns):
            self.notes.append(
                f"Seconds are those of one image at a time, after {WARM_UP} that do not count, on "
                f"{devices.description(first.device)}: they depend on the machine and on what else it does."
            )
        return subjects

    def _subject(
        self, name: str, encode: Encode, *,
        factor: int = 1, inputs: tuple[str, ...] = (), identity: dict[str, Any] | None = None,
    ) -> Subject:  # fmt: skip
        """Images encoded from each condition, made by a factor where it is no file of its own, against the images."""

        def group(unit: int) -> Group:
            condition, known = self._inputs(unit, factor)
            image, inputs = encode(condition)
            return Group(unit, image, known | inputs, (self.data.names[unit],))

        given = frozenset({"reference", "source", *(["small"] if self.kind == "lr" else []), *inputs})
        return Subject(name=name, units=len(self.data), group=group, inputs=given, identity=identity or {})

    def _inputs(self, unit: int, factor: int) -> tuple[Tensor, Inputs]:
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
            degradation = Degradation(factors=(factor,), enlarging=self.enlarging)
            condition = to_uint8(degradation(from_uint8(reference), factor))
        if self.kind == "lr":
            inputs["small"] = to_uint8(bicubic(from_uint8(reference), factor))
        return condition, inputs

    @property
    def _input(self) -> str:
        if self.kind in PAIRED:
            return f"{PAIRED[self.kind]}, files of their own"
        return "the image itself" if self.factors == [1] else f"the image {self._degraded}"

    @property
    def _degraded(self) -> str:
        if self.enlarging == "bicubic":
            return "shrunk and enlarged again, both bicubically"
        return f"shrunk bicubically and enlarged again, {self.enlarging}"

    def description(self) -> dict[str, Any]:
        return {
            "data": self.data.description(),
            "compared": f"outputs brought to {self.size} pixels, the input's side, against the image fitted to it",
            "input": self._input,
            "factors": self.factors,
            "by_step": self.protocol.by_step,
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
        self.identity = {
            "weights_sha256": pipeline.model.weights_sha256,
            "method": self.method.name,
            "condition": _kind(pipeline.condition),
            "steps": self.method.steps,
        }
        self._warm_ups = WARM_UP

    def timed(self, condition: Tensor) -> tuple[Tensor, Inputs]:
        """The image of the last step, and the time that encoding took."""
        for _ in range(self._warm_ups):
            self.method.encode(condition.to(self.device))
        self._warm_ups = 0
        devices.synchronize(self.device)
        start = time.perf_counter()
        image = self.method.encode(condition.to(self.device)).images[-1]
        devices.synchronize(self.device)
        seconds = time.perf_counter() - start
        return self._pixels(image), {"seconds": torch.tensor([seconds], dtype=torch.float64)}

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


def unchanged_condition(condition: Tensor) -> tuple[Tensor, Inputs]:
    """The floor that knows only the input: a small image's bicubic enlargement."""
    return condition, {}
