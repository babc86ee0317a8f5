"""Tables of task "graft": outputs of a target with several sources each, beside two floors that need no network.

Shape letters: K sources of a target, S side of an image, L side and C channels of an LR target.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.model_table import ModelTable
from pixgraft.evaluation.subjects import Group, Pictures, Subject, within
from pixgraft.layers.resample import downscale
from pixgraft.metrics.consistency import OPERATOR
from pixgraft.pipelines.graft import GraftPipeline

Translate = Callable[[Tensor, Tensor, str], Tensor]
"""Sources (K, 3, S, S) and targets (K, C, L, L) in [-1, 1], of the file of that path, to images uint8 (K, 3, S, S)."""


class GraftTable(ModelTable[GraftPipeline]):
    """Models that graft sources onto LR targets; each image of the data is a target, and other images its sources."""

    options_taken: ClassVar[tuple[str, ...]] = ("real", "real_split", "project", "samples")

    def open_data(self) -> None:
        options = self.options
        assert options.data is not None
        self.samples = options.samples or self.protocol.samples
        other_reals = options.real is not None or bool(options.real_split)
        self.sets: dict[str, tuple[Pictures, Pictures]] = {}
        """The images that targets and sources are drawn from, and the reals: of each class, or of "", all."""
        for name in [name for name, _ in self.models] if self.protocol.by_class else [""]:
            data = real = Pictures(options.data, split=within(options.split, name), size=self.size)
            if other_reals:
                place = within(options.real_split, name)
                real = Pictures(options.real or options.data, split=place, size=self.size)
            self.sets[name] = data, real
        self.data, self.real = next(iter(self.sets.values()))
        if not other_reals:
            self.notes.append("the reals are the very images that targets and sources are drawn from: see --real-split")

    @property
    def people(self) -> Pictures:
        """The sources, whose people must stay recognisable."""
        return self.data

    def subjects(self, columns: Sequence[Column]) -> list[Subject]:
        """Each model, and the bicubic target of its size; the source as it is, of each class if there are classes."""
        if self.samples < 2:
            raise PixgraftError(f"--samples {self.samples}: diversity needs at least 2 for each target")
        for data, _ in self.sets.values():
            if len(data) < self.samples + 2:
                taken = f"{self.samples} sources for each target and another face take {self.samples + 2}"
                count = f"{data.path}{f', {data.split}' * self.protocol.by_class}: {len(data)} images"
                raise PixgraftError(f"{count}, but {taken}: give more images or a smaller --samples")
        subjects: list[Subject] = []
        floors: list[Subject] = []
        for name, pipeline in self.models:
            grey = " grey" if pipeline.lr_channels == 1 else ""
            mark = f", LR {pipeline.lr_size}{grey}" if len(self.models) > 1 else ""
            row = partial(self._subject, self.sets.get(name) or self.sets[""], pipeline)
            if self.protocol.by_class:
                mark = f", {name}"
            identity = {"model": name, "weights_sha256": pipeline.model.weights_sha256}
            subjects.append(row(name, partial(self._translate, pipeline), identity))
            subjects.append(row(f"floor: bicubic target{mark}", bicubic_target))
            floor = row(f"floor: source as it is{mark}", unchanged_source)
            (subjects if self.protocol.by_class else floors).append(floor)
        return [*subjects, *floors[:1]]

    def _subject(
        self, images: tuple[Pictures, Pictures], pipeline: GraftPipeline, name: str, translate: Translate,
        identity: dict[str, Any] | None = None,
    ) -> Subject:  # fmt: skip
        inputs = frozenset({"samples", "source", "other", "lr"})
        data, real = images
        return Subject(
            name=name, units=len(data), samples=self.samples, inputs=inputs, identity=identity or {}, reals=real,
            group=partial(self._group, data, translate, pipeline.lr_size, pipeline.lr_channels),
        )  # fmt: skip

    def _translate(self, pipeline: GraftPipeline, sources: Tensor, targets: Tensor, path: str) -> Tensor:
        domain = pipeline.domain_index("", path)
        domains = [] if domain is None else [domain] * len(targets)
        return pipeline.batch(sources, targets, domains, project=self.options.project).pixels

    def _group(self, data: Pictures, translate: Translate, lr_size: int, lr_channels: int, unit: int) -> Group:
        """The outputs of target `unit`. Its sources, and for each an image that is neither, are drawn without
        replacement by (seed, unit)."""
        order = torch.randperm(len(data), generator=generator(self.options.seed, "sources", unit)).tolist()
        order.remove(unit)
        sources, rest = order[: self.samples], order[self.samples :]
        others = [rest[place % len(rest)] for place in range(self.samples)]
        source, other = (torch.stack([data[index] for index in side]) for side in (sources, others))
        target = downscale(from_uint8(data[unit]).unsqueeze(0), lr_size, lr_channels)
        target = target.expand(self.samples, -1, -1, -1)
        inputs = {"source": source, "other": other, "lr": (target + 1) * 127.5}
        people = tuple(data.names[index] for index in sources)
        outputs = translate(from_uint8(source), target, f"{data.path}/{data.names[unit]}")
        return Group(unit, outputs, inputs, people)

    def description(self) -> dict[str, Any]:
        sizes = [pipeline.lr_size for _, pipeline in self.models]
        each = [pipeline.lr_channels for _, pipeline in self.models]
        channels = each[0] if len(set(each)) == 1 else each
        return {
            "data": self._described(0),
            "real": self._described(1),
            "targets": {"lr_sizes": sizes, "channels": channels, "operator": OPERATOR},
            "sources_for_each_target": self.samples,
            "projected": self.options.project,
        }

    def _described(self, place: int) -> dict[str, Any]:
        """The descriptions of the data (0) or of the reals (1), by class if there are classes."""
        described = {name: each[place].description() for name, each in self.sets.items()}
        return described if self.protocol.by_class else described[""]


def bicubic_target(sources: Tensor, targets: Tensor, path: str) -> Tensor:
    """The floor that knows only the target: its bicubic enlargement."""
    return to_uint8(F.interpolate(targets.expand(-1, 3, -1, -1), sources.shape[-2:], mode="bicubic"))


def unchanged_source(sources: Tensor, targets: Tensor, path: str) -> Tensor:
    """The floor that knows only the source: the source itself."""
    return to_uint8(sources)
