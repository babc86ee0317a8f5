"""The base of tables that measure models: what a task says of its data, its rows and its protocol."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from pixgraft.data.outputs import labels
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.options import MeasuringOptions
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.rows import OutputFolder, Outputs
from pixgraft.evaluation.subjects import Reals, Subject
from pixgraft.layers.conditions import ConditionSpec
from pixgraft.pipelines.base import Pipeline

TASK_OPTIONS = ("real", "real_split", "project", "samples", "palette", "images", "conditions")
"""Options that not every task takes."""

AnyPipeline = TypeVar("AnyPipeline", bound=Pipeline)


class ModelTable(ABC, Generic[AnyPipeline]):
    """The rows of models of one task and of outputs made elsewhere, their data and the description of both. A subclass
    for each task."""

    real: Reals
    options_taken: ClassVar[tuple[str, ...]] = ()
    """The `TASK_OPTIONS` that the task takes."""

    def __init__(
        self, rows: Sequence[tuple[str, AnyPipeline | OutputFolder]], protocol: Protocol, options: MeasuringOptions
    ) -> None:
        """Open the data for rows by name, at least one of them a model.

        Raises PixgraftError for models that the protocol cannot measure, models of different sizes, and data that
        cannot be opened.
        """
        self.rows, self.protocol, self.options = list(rows), protocol, options
        self.models: list[tuple[str, AnyPipeline]] = [
            (name, row) for name, row in self.rows if not isinstance(row, OutputFolder)
        ]
        self.notes: list[str] = []
        """Remarks of the result, a sentence each."""
        for name, pipeline in self.models:
            self.check_condition(name, pipeline.model.method.config.condition_spec, protocol)
            self.check_model(name, pipeline)
        first, self.size = self.models[0][0], self.image_side(self.models[0][1])
        for name, pipeline in self.models:
            if (side := self.image_side(pipeline)) != self.size:
                raise PixgraftError(f"{name}: measured at {side} pixels, {first} at {self.size}: train it anew")
        options.check_size(self.size)
        self.open_data()

    @classmethod
    def check_condition(cls, name: str, condition: ConditionSpec | None, protocol: Protocol) -> None:
        """Raise PixgraftError if the protocol cannot measure models of this condition, before they are trained."""

    def check_model(self, name: str, pipeline: AnyPipeline) -> None:
        """Raise PixgraftError if the model lacks what the protocol measures."""

    def identity(self, pipeline: AnyPipeline) -> dict[str, Any]:
        """Entries of a model's row that say what it is."""
        model = pipeline.model
        return {
            "model": PurePath(model.name).name,
            "method": model.method.name,
            "weights_sha256": model.weights_sha256,
        }

    @property
    def labels(self) -> list[str]:
        """The name of each input, which its outputs begin with, as those of `pixgraft translate` do."""
        by_name = labels(self.people.names)
        return [by_name[name] for name in self.people.names]

    def outputs(self, row: OutputFolder, *, under: str = "", aliases: Mapping[str, str] | None = None) -> Outputs:
        """A row's images, matched with the inputs. Raises PixgraftError if they do not fit these."""
        outputs = row.outputs(self.labels, self.size, under=under, aliases=aliases)
        self.notes += [f"{row.name}: {outputs.unused}."] * bool(outputs.unused)
        return outputs

    @abstractmethod
    def inputs(self) -> Iterator[tuple[str, Tensor]]:
        """The files of the inputs for other programs: each one's path, and its image, uint8 (C, H, W)."""

    def input_pairs(self) -> list[tuple[str, str, str]]:
        """Where an output is made of two inputs: its name, the target's path and the source's."""
        return []

    def image_side(self, pipeline: AnyPipeline) -> int:
        """The side in pixels at which a model is measured."""
        side: int = pipeline.model.method.config.training_size
        return side

    @abstractmethod
    def open_data(self) -> None:
        """Open the images of the options, fitted to `size`, and set `real`."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the protocol that the models have."""
        return self.protocol.metrics

    @abstractmethod
    def subjects(self, columns: Sequence[Column]) -> list[Subject]:
        """The rows, for these columns."""

    def reals(self, columns: Sequence[Column]) -> Reals | None:
        """The set of reals to compare with; None if these columns compare with none."""
        return self.real

    @property
    def people(self) -> Reals:
        """The images whose people count where groups are told apart."""
        return self.real

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Entries of the result's protocol: data, inputs and counts."""
