"""Searches in a prior in use: images to codes, as task "encode" has them, without an encoder.

Images of a batch are searched for together; batches are filled up with copies, so that an image's bytes do not depend
on its company. Shape letters are those of `inversion/inversion.py`.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.charts import steps_svg
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.outputs import GENERATOR
from pixgraft.devices import Spent, Watch
from pixgraft.engine.log import Interrupt
from pixgraft.errors import PixgraftError
from pixgraft.features import BUNDLED, available, open_feature, parse_weights
from pixgraft.inversion.inversion import Inversion
from pixgraft.inversion.pulse import TOLERANCE
from pixgraft.inversion.search import Drive, Found, Snapshot
from pixgraft.inversion.settings import SearchSettings
from pixgraft.layers.resample import bicubic
from pixgraft.methods.base import Method
from pixgraft.methods.sampling import Sampling
from pixgraft.methods.tasks import Encoding
from pixgraft.metrics.consistency import OPERATOR, consistency
from pixgraft.metrics.paired import psnr
from pixgraft.models import Model, load_model, model_files
from pixgraft.pipelines.base import Plan, passes, provenance
from pixgraft.pipelines.codes import CODES
from pixgraft.pipelines.condition_files import Condition
from pixgraft.pipelines.encode import EncodingPipeline, Maker
from pixgraft.pipelines.encoding_result import EncodingResult
from pixgraft.pipelines.inputs import Picture
from pixgraft.pipelines.move import Move
from pixgraft.pipelines.options import IN_FLOAT32, CodesOptions, Computing, EncodingOptions, InversionOptions
from pixgraft.pipelines.photographs import report_alignments

PRIORS = ("wplus", "pti", "single")
"""Searches that can begin at an encoder's codes."""
POINTS = 200
"""Most numbers of a loss curve in a report."""
LEAST_SIDE = 2
"""Pixels of the smallest image that is searched for; bicubic shrinking to a single one has no edge to reflect at."""
EQUAL = 100.0
"""The ratio in decibels that a report gives for equal images, for which it is infinite."""


LOSS = "_loss.svg"
"""End of the name of the picture of a search's loss."""


@dataclass(kw_only=True)
class InversionResult(EncodingResult):
    """The image of the codes found, the codes, and the strip of the search."""

    maps: list[Tensor] = field(default_factory=list)
    """Noise maps (1, s, s) that were searched too, of the first layers."""
    tuned: Sampling | None = None
    """The prior with the generator tuned to the image, for PTI."""
    model_info: dict[str, Any] = field(default_factory=dict)
    """What the tuned generator's model folder says of its origin."""

    def files(self, label: str, head: Mapping[str, Any]) -> dict[str, bytes]:
        """As of `EncodingResult`, and LABEL_loss.svg; the codes' file has the maps as noise_0 and so on, and a tuned
        generator is a model folder, LABEL_generator."""
        files = super().files(label, head)
        if loss := self.measures.get("loss"):
            values = [*takewhile(math.isfinite, loss["values"])] or [0.0]
            steps = range(0, len(values) * loss["every"], loss["every"])
            title = "pixgraft invert: the loss of a search by step"
            files[f"{label}{LOSS}"] = steps_svg({"loss": values}, steps, title=title, up="loss").encode()
        metadata = {"pixgraft": json.dumps(provenance(head), sort_keys=True)}
        if self.maps:
            tensors = {"codes": self.codes[0], **{f"noise_{place}": each for place, each in enumerate(self.maps)}}
            tensors = {name: each.contiguous() for name, each in tensors.items()}
            files[f"{label}{CODES}"] = safetensors.torch.save(tensors, metadata)
        if self.tuned is not None:
            source = {"source": f"pixgraft invert, tuned to {label}"}
            parts = model_files(self.tuned, info=self.model_info | source, metadata=metadata)
            files |= {f"{label}{GENERATOR}/{name}": data for name, data in parts.items()}
        return files


def _prior_of(method: Method) -> Sampling:
    """The prior that a method is or, if it encodes, that it holds. Raises PixgraftError if there is none."""
    if isinstance(method, Encoding):
        return method.embedded_prior()
    if not isinstance(method, Sampling):
        raise PixgraftError(f"its task is {method.task}: codes are searched in priors, of task sample")
    return method


@dataclass(frozen=True)
class _Way:
    """The settings of a call, checked."""

    drive: Drive
    start: EncodingPipeline | None
    settings: dict[str, Any]
    notes: list[str]
    move: Move | None = None


class InversionPipeline(EncodingPipeline):
    """A prior in which codes of images are searched for."""

    Options: ClassVar[type] = InversionOptions
    takes: ClassVar[str] = (
        "it takes images to search for: load({model!r}, by='wplus')(image), or "
        "pixgraft invert {model} --condition A --out OUT --by wplus"
    )
    columns: ClassVar[dict[str, str]] = {"PSNR": "psnr", "mean difference": "outputs.0.difference.mean",
                                         "steps": "steps_made"}  # fmt: skip
    method: Inversion

    def __init__(
        self, model: Model, device: torch.device, settings: SearchSettings, computing: Computing = IN_FLOAT32
    ) -> None:
        """Raises PixgraftError for a model that is no prior, or one that cannot be searched in that way."""
        if computing != IN_FLOAT32:
            raise PixgraftError("precision, engine: searches need gradients in float32 of torch: leave them out")
        try:
            method = Inversion(_prior_of(model.method), settings)
        except PixgraftError as error:
            raise PixgraftError(f"{model.name}: {error}") from None
        self.search, self.prior_info = settings, model.info
        self.perceptual = self._perceptual(method, device)
        super().__init__(dataclasses.replace(model, method=method), device)
        self.pass_size = settings.batch
        self.show: Callable[[int, int], None] = lambda done, total: None

    def _perceptual(self, method: Inversion, device: torch.device) -> str | None:
        """Attach the network of the perceptual distance, if one counts; its name."""
        files, name = parse_weights(self.search.weights), self.search.perceptual
        if self.search.by == "pulse":
            if name not in (None, "none"):
                raise PixgraftError(f"perceptual {name}: PULSE's loss has none: leave it out")
            return None
        name = name or ("lpips-alex" if available("lpips-alex", files) else BUNDLED)  # type: ignore[assignment]
        if name in (None, "none") or not self.search.perceptual_weight:
            return None
        method.attach_network("perceptual", open_feature(name, files, device, role="perceptual").network)
        return name

    def __call__(  # type: ignore[override]
        self, image: Picture, *, steps: int | None = None, tuning: int | None = None, start: str | None = None,
        factor: int = 1, align: bool = False, direction: str | Path | None = None, name: str = "",
        amount: float | None = None, seed: int = 0,
    ) -> EncodingResult:  # fmt: skip
        """Search for the codes of an image: a path, a Pillow image, or a tensor as `EncodingPipeline` takes it.

        The arguments are the options of the same names. Raises PixgraftError for what is no usable image, and for
        settings that do not fit.
        """
        options = self._options(
            steps=steps, tuning=tuning, start=start, factor=factor, align=align, direction=direction, name=name,
            amount=amount, seed=seed,
        )  # fmt: skip
        return self._called(image, options, *self._maker(options))

    def _options(self, *, direction: str | Path | None = None, **given: Any) -> InversionOptions:
        search = {each.name: getattr(self.search, each.name) for each in dataclasses.fields(SearchSettings)}
        return InversionOptions(
            condition=(), direction=None if direction is None else Path(direction), **search, **given
        )

    def _maker(self, options: InversionOptions) -> tuple[Maker, dict[str, Any]]:  # type: ignore[override]
        way = self._way(options)
        return lambda conditions: self._results(conditions, way), way.settings

    def _way(self, options: InversionOptions) -> _Way:
        """Raises PixgraftError for settings that do not fit."""
        steps, tuning, start = options.steps, options.tuning, options.start
        whole = super()._settings(_asked(options))
        method, search = self.method, self.search
        for name, number in (("steps", steps), ("tuning", tuning)):
            if number is not None and number < 0:
                raise PixgraftError(f"{name} {number}: choose a number from 0")
        if tuning is not None and not method.tuning:
            raise PixgraftError(f"tuning {tuning}: {search.by} tunes no generator: leave it out")
        move, encoder = self._move(options), None if start is None else self._encoder(start)
        drive = Drive(
            steps=method.steps if steps is None else steps, seed=options.seed,
            tuning=method.tuning if tuning is None else tuning,
        )  # fmt: skip
        composed = {"many": search.many, "side": method.side, "optimizer": search.optimizer} if method.composing else {}
        settings: dict[str, Any] = {
            "by": search.by, "space": method.space, "steps": drive.steps,
            **({"tuning": drive.tuning} if method.tuning else {}), "noise": search.noise, "starts": search.starts,
            **composed, "pixels": search.pixels, "perceptual": self.perceptual,
            "perceptual_weight": search.perceptual_weight if self.perceptual else 0.0,
            "start_sha256": encoder and encoder.model.weights_sha256,
            **{name: whole[name] for name in ("factor", "aligned", "faces", "pasted") if name in whole},
            **(move.settings if move else {}),
        }  # fmt: skip
        notes = []
        if encoder is not None and not encoder.method.embedded_prior().is_same(self.method.generator):
            notes.append(f"start: {encoder.model.name} encodes for another generator than the prior's")
        return _Way(drive, encoder, settings, notes, move)

    def read_conditions(self, data: bytes, name: str, *given: Any, **options: Any) -> list[Condition]:
        found = super().read_conditions(data, name, *given, **options)
        if any(each.small is not None and each.small.shape[-1] < LEAST_SIDE for each in found):
            raise PixgraftError(f"{name}: smaller than {LEAST_SIDE} x {LEAST_SIDE} pixels: give a larger image")
        return found

    def _encoder(self, start: str) -> EncodingPipeline:
        """The model whose codes the search begins at. Raises PixgraftError if its codes are none of this prior's."""
        if self.search.by not in PRIORS or self.method.space == "z":
            taken = f"a search by {self.search.by} in {self.method.space}"
            raise PixgraftError(f"start {start}: {taken} begins at random codes: leave it out")
        model = load_model(start, device=self.device)
        if model.method.task != self.method.task:
            raise PixgraftError(f"start {start}: its task is {model.method.task}: name a model that encodes images")
        encoder = EncodingPipeline(model, self.device)
        found, expected = (tuple(each.method.start_codes.shape) for each in (encoder, self))
        if found != expected:
            raise PixgraftError(f"start {start}: its codes are {found}, and the prior's {expected}: name another model")
        if encoder.condition.kind not in ("image", "lr"):
            raise PixgraftError(f"start {start}: it encodes {encoder.condition.kind}: name a model that encodes images")
        encoder.encode(torch.zeros(3, encoder.size, encoder.size, dtype=torch.uint8))  # the first one takes longer
        return encoder

    # --- the search ---

    def _results(self, conditions: Sequence[Condition], way: _Way) -> list[InversionResult]:
        """A result for each condition. Those whose targets have one side are searched for in batches."""
        targets = [each.pixels if each.small is None else each.small for each in conditions]
        sides = sorted({each.shape[-1] for each in targets})
        groups = [[number for number, each in enumerate(targets) if each.shape[-1] == side] for side in sides]
        batches = [[group[place] for place in part] for group in groups for part in passes(len(group), self.pass_size)]
        results: dict[int, InversionResult] = {}
        done, total = 0, sum(way.drive.steps + way.drive.tuning * len(batch) for batch in batches)

        def advance() -> None:
            nonlocal done
            done += 1
            self.show(done, total)

        with Interrupt() as interrupt:
            drive = dataclasses.replace(way.drive, on_step=advance, stopped=lambda: interrupt.requested is not None)
            for batch in batches:
                watch = Watch(self.device)
                start = self._started([targets[number] for number in batch], way.start)
                before = watch.spent() / len(batch) if way.start else Spent()
                found = self.method.search(from_uint8(torch.stack([targets[number] for number in batch])), drive, start)
                for number, each in zip(batch, found, strict=True):
                    results[number] = self._result(conditions[number], targets[number], each, before, way.move)
                    results[number].notes += way.notes
                    if each.steps < drive.total:
                        results[number].interrupted = interrupt.requested or "SIGINT"
                        results[number].begun = each.steps > 0
        return [results[number] for number in range(len(conditions))]

    def _started(self, targets: Sequence[Tensor], encoder: EncodingPipeline | None) -> Tensor | None:
        """The encoder's codes (N, L, D) of targets, uint8 (3, s, s)."""
        if encoder is None:
            return None
        pictures = [Image.fromarray(each.permute(1, 2, 0).contiguous().numpy()) for each in targets]
        fitting = [encoder.kind.fit(each, encoder.size) for each in pictures]
        return torch.stack([encoder.encode(each).codes[-1] for each in fitting])

    def _result(
        self, condition: Condition, target: Tensor, found: Found, before: Spent, move: Move | None
    ) -> InversionResult:  # fmt: skip
        """Images, codes and figures of what was found, which took what its start took `before`, too."""
        codes, image = found.codes, found.snapshots[-1].image
        if move is not None:
            codes = move(codes.cpu())
        if move is not None or found.tuned is None:
            maps = [each.unsqueeze(0).to(self.device) for each in found.maps]
            image = self.method.decode(codes.unsqueeze(0).to(self.device), maps, by=found.tuned)[0]
        pixels = to_uint8(image.cpu()).unsqueeze(0)
        rows = [self._row(each, target, before + each.spent) for each in found.snapshots]
        every = -(-len(found.curve) // POINTS)
        measures: dict[str, Any] = {
            **({} if move else {"psnr": rows[-1]["psnr"]}), "steps_made": found.steps, "search": rows,
            "loss": {"every": every, "values": [_rounded(value) for value in found.curve[::every]]},
            "batch": self.pass_size,
        }  # fmt: skip
        if self.search.by == "pulse" and move is None:
            measures |= {"tolerance": TOLERANCE, "within": 10 ** (-rows[-1]["psnr"] / 10) <= TOLERANCE}
        if condition.small is not None and self.image_size > target.shape[-1]:
            measures["operator"] = f"{OPERATOR} to {target.shape[-1]} pixels"
            difference = consistency(pixels, target.unsqueeze(0).float())[0]
            measures["outputs"] = [{"difference": asdict(difference)}]
        picture = from_uint8(target)
        info = {name: value for name, value in self.prior_info.items() if name not in ("format", "method", "weights")}
        result = InversionResult(
            pixels=pixels, codes=codes.unsqueeze(0), maps=found.maps, tuned=found.tuned, model_info=info,
            strip=[picture, *(each.image for each in found.snapshots), *([image] if move is not None else [])],
            strip_side=self.strip_side, measures=measures,
        )  # fmt: skip
        if found.maps:
            result.notes.append("noise maps were searched too: the codes alone make another image")
        report_alignments(result, [condition])
        return result

    def _row(self, snapshot: Snapshot, target: Tensor, spent: Spent) -> dict[str, Any]:
        """Figures of one picture of the strip: its ratio to the target at the target's side, and the loss's parts."""
        shrunk = to_uint8(bicubic(snapshot.image.unsqueeze(0), self.image_size // target.shape[-1]))
        ratio = float(psnr(shrunk, target.unsqueeze(0)))
        losses = {name: _rounded(value) for name, value in snapshot.losses.items()}
        taken = {"seconds": spent.seconds, **({"processor": spent.processor} if self.device.type == "cpu" else {})}
        taken = {name: round(value, 4) for name, value in taken.items()}
        return {"step": snapshot.step, **taken, "psnr": round(min(ratio, EQUAL), 4), **losses}

    # --- files ---

    def plan(self, options: InversionOptions) -> Plan:  # type: ignore[override]
        plan = self._planned(_asked(options), *self._maker(options))
        more = [LOSS, *(f"{GENERATOR}/{name}" for name in ("weights.safetensors", "model.json") if self.method.tuning)]
        jobs = [
            dataclasses.replace(job, outputs=(*job.outputs, *(f"{job.label}{name}" for name in more)))
            for job in plan.jobs
        ]
        if options.faces == "all" or options.paste_back:
            jobs = plan.jobs
        return dataclasses.replace(
            plan, jobs=jobs,
            read=[*plan.read, *([Path(options.start)] if options.start and Path(options.start).is_dir() else [])],
            pass_size=self.pass_size, watch=self._watched,
        )  # fmt: skip

    def _watched(self, show: Callable[[int, int], None]) -> None:
        self.show = show


def _asked(options: InversionOptions) -> EncodingOptions:
    """What a search shares with a model that encodes."""
    shared = (each.name for each in dataclasses.fields(CodesOptions) if each.name != "steps")
    return EncodingOptions(**{name: getattr(options, name) for name in shared})


def _rounded(value: float) -> float:
    """To six digits, as a report has it."""
    return float(f"{value:.6g}")
