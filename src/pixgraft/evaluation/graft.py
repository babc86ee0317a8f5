"""Tables of task "graft": outputs of a target with several sources each, beside two rows that need no network.

Shape letters: K sources of a target, S side of an image, L side and C channels of an LR target.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
from pixgraft.evaluation.rows import OutputFolder, Outputs
from pixgraft.evaluation.subjects import Group, Pictures, Subject, within
from pixgraft.layers.resample import downscale
from pixgraft.metrics.consistency import OPERATOR
from pixgraft.pipelines.graft import GraftPipeline

Make = Callable[[int, Tensor, Tensor], Tensor]
"""Images uint8 (K, 3, S, S), or fewer, of the number of a target, K sources (K, 3, S, S) and the target's whole image
(1, 3, S, S), both in [-1, 1]."""


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
        """Each row; then the bicubic target of the table's size and the source as it is. Where rows are trained, each
        has a bicubic target of its own size, and each class a source as it is."""
        several = [column.label for column in columns if column.metric.needs == "samples"]
        if several and self.samples < 2:
            raise PixgraftError(f"--samples {self.samples}: {several[0]} needs at least 2 for each target")
        for data, _ in self.sets.values():
            if len(data) < self.samples + 2:
                taken = f"{self.samples} sources for each target and another face take {self.samples + 2}"
                count = f"{data.path}{f', {data.split}' * self.protocol.by_class}: {len(data)} images"
                raise PixgraftError(f"{count}, but {taken}: give more images or a smaller --samples")
        subjects: list[Subject] = []
        last: list[Subject] = []
        for name, row in self.rows:
            lr = self._lr(row)
            grey = " grey" if lr[1] == 1 else ""
            mark = f", LR {lr[0]}{grey}" if self.protocol.variants and len(self.rows) > 1 else ""
            if self.protocol.by_class:
                mark = f", {name}"
            images = self.sets.get(name) or self.sets[""]
            subject = partial(self._subject, images, lr)
            if isinstance(row, OutputFolder):
                outputs = self._outputs(row)
                made = partial(subject, samples=outputs.samples)(name, partial(_given, outputs), outputs.identity)
            else:
                made = subject(name, partial(self._translate, row, images[0]), self.identity(row))
            bicubic = subject(f"reference: bicubic target{mark}", partial(bicubic_target, lr))
            source = subject(f"reference: source as it is{mark}", unchanged_source)
            if self.protocol.by_class:
                subjects += [made, bicubic, source]
            elif self.protocol.variants:
                subjects += [made, bicubic]
                last = last or [source]
            else:
                subjects.append(replace(made, paired=""))
                last = last or [bicubic, source]
        return [*subjects, *last]

    def _lr(self, row: GraftPipeline | OutputFolder) -> tuple[int, int]:
        """Side and channels of the LR targets by which a row is measured: of trained rows their own, else the smallest
        of all models', which may take larger ones."""
        of = (
            [row] if self.protocol.variants and not isinstance(row, OutputFolder) else [each for _, each in self.models]
        )
        return min(((each.lr_size, each.lr_channels) for each in of), key=lambda lr: lr[0])

    def _outputs(self, row: OutputFolder) -> Outputs:
        """A folder's images, named after the target, or after source and target as `pixgraft translate` names them."""
        outputs = self.outputs(row, aliases={f"{a}__{b}": f"{b}_{number}" for b, number, a in self._pairs()})
        if outputs.samples > self.samples:
            counts = f"{outputs.samples} outputs for each target, and {self.samples} sources"
            raise PixgraftError(f"--row {row.name}: {row.path}: {counts}: give at most one for each")
        return outputs

    def _pairs(self) -> Iterator[tuple[str, int, str]]:
        """Each target's label with the numbers and labels of its sources."""
        names = self.labels
        for unit, target in enumerate(names):
            for number, source in enumerate(self._drawn(self.data, unit)[0]):
                yield target, number, names[source]

    def _drawn(self, data: Pictures, unit: int) -> tuple[list[int], list[int]]:
        """The sources of target `unit`, and for each an image that is neither, drawn without replacement by (seed,
        unit)."""
        order = torch.randperm(len(data), generator=generator(self.options.seed, "sources", unit))
        chosen = [each for each in order[: 2 * self.samples + 1].tolist() if each != unit]
        sources, rest = chosen[: self.samples], chosen[self.samples :]
        return sources, [rest[place % len(rest)] for place in range(self.samples)]

    def _subject(
        self, images: tuple[Pictures, Pictures], lr: tuple[int, int], name: str, make: Make,
        identity: dict[str, Any] | None = None, *, samples: int = 0,
    ) -> Subject:  # fmt: skip
        data, real = images
        samples = samples or self.samples
        inputs = {"source", "other", "lr"} | ({"samples"} if samples > 1 else set())
        return Subject(
            name=name, units=len(data), samples=samples, inputs=frozenset(inputs), identity=identity or {}, reals=real,
            group=partial(self._group, data, make, lr),
        )  # fmt: skip

    def _translate(self, pipeline: GraftPipeline, data: Pictures, unit: int, sources: Tensor, target: Tensor) -> Tensor:
        targets = downscale(target, pipeline.lr_size, pipeline.lr_channels).expand(len(sources), -1, -1, -1)
        domain = pipeline.domain_index("", f"{data.path}/{data.names[unit]}")
        domains = [] if domain is None else [domain] * len(targets)
        return pipeline.batch(sources, targets, domains, project=self.options.project).pixels

    def _group(self, data: Pictures, make: Make, lr: tuple[int, int], unit: int) -> Group:
        """The outputs of target `unit`."""
        sources, others = self._drawn(data, unit)
        source, other = (torch.stack([data[index] for index in side]) for side in (sources, others))
        target = from_uint8(data[unit]).unsqueeze(0)
        images = make(unit, from_uint8(source), target)
        count = len(images)
        small = (downscale(target, *lr).expand(count, -1, -1, -1) + 1) * 127.5
        inputs = {"source": source[:count], "other": other[:count], "lr": small}
        return Group(unit, images, inputs, tuple(data.names[index] for index in sources[:count]))

    def inputs(self) -> Iterator[tuple[str, Tensor]]:
        size, channels = self._lr(self.models[0][1])
        for unit, label in enumerate(self.labels):
            image = self.data[unit]
            yield f"sources/{label}.png", image
            yield f"targets/{label}.png", to_uint8(downscale(from_uint8(image).unsqueeze(0), size, channels)[0])

    def input_pairs(self) -> list[tuple[str, str, str]]:
        return [
            (f"{target}_{number}.png", f"targets/{target}.png", f"sources/{source}.png")
            for target, number, source in self._pairs()
        ]

    def description(self) -> dict[str, Any]:
        # Of trained rows each has targets of its own.
        lr = [self._lr(row) for _, row in (self.rows if self.protocol.variants else self.rows[:1])]
        sizes, each = (list(side) for side in zip(*lr, strict=True))
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


def bicubic_target(lr: tuple[int, int], unit: int, sources: Tensor, target: Tensor) -> Tensor:
    """The reference that knows only the LR target of side and channels `lr`: its bicubic enlargement."""
    small = downscale(target, *lr).expand(len(sources), 3, -1, -1)
    return to_uint8(F.interpolate(small, sources.shape[-2:], mode="bicubic"))


def unchanged_source(unit: int, sources: Tensor, target: Tensor) -> Tensor:
    """The reference that knows only the source: the source itself."""
    return to_uint8(sources)


def _given(outputs: Outputs, unit: int, sources: Tensor, target: Tensor) -> Tensor:
    """The images that another program made of that target."""
    return outputs[unit]
