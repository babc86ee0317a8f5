"""What `pixgraft evaluate` is asked for, as subjects, columns and a protocol; measured and written."""

import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pixgraft.data.dataset import Dataset
from pixgraft.engine.bars import Bars
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.evaluation import pages
from pixgraft.evaluation.columns import Column, columns
from pixgraft.evaluation.encodings import SCALES, UNMEASURED, Encoder, Encodings, as_it_is
from pixgraft.evaluation.findings import findings
from pixgraft.evaluation.measure import KEPT, NEIGHBOURS, Gauge, listed
from pixgraft.evaluation.plots import plots
from pixgraft.evaluation.priors import Samples
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.result import Result, Row, described
from pixgraft.evaluation.subjects import (
    Conditioned,
    Grafts,
    Paired,
    Pictures,
    Reals,
    References,
    Single,
    Subject,
    by_bicubic,
    by_model,
    by_source,
)
from pixgraft.features import KINDS, Feature, available, open_feature
from pixgraft.files import write_bytes
from pixgraft.metrics.consistency import OPERATOR
from pixgraft.pipelines.sampler import Sampler
from pixgraft.pipelines.synthesis import Synthesizer
from pixgraft.pipelines.translator import Translator

FOLDER_METRICS = ("fd", "kd", "precision", "recall", "density", "coverage")
PAIR_METRICS = ("l1", "psnr", "ssim", "perceptual")
NEEDS = {
    "reference": "a reference",
    "samples": "several samples of each condition",
    "source": "a source",
    "lr": "an LR target",
    "seconds": "a model whose time is taken",
    "coarse": "a step that changes coarse codes",
    "middle": "a step that changes middle codes",
    "fine": "a step that changes fine codes",
}
FITTED = "centred square; Lanczos where it shrinks, bicubic where it grows"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every evaluation takes."""

    metrics: tuple[str, ...] = ()
    """Empty: those of the protocol, or of what is compared."""
    features: tuple[str, ...] = ()
    weights: dict[str, Path] = field(default_factory=dict)
    """Files of the user's own, by the names of `features.WEIGHTS`."""
    seed: int = 0
    bootstrap: int = 200
    """Replicates of each interval; 0: no intervals."""

    def __post_init__(self) -> None:
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise PixgraftError(f"--bootstrap {self.bootstrap}: choose 0 for no intervals, or a number from 2")


@dataclass(frozen=True)
class Measurement:
    """A table to be measured: its rows, its columns and what they depend on."""

    title: str
    subjects: Sequence[Subject]
    columns: list[Column]
    protocol: dict[str, Any]
    reals: Reals | None = None
    published: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def of_folders(real: Pictures, fake: Pictures, settings: Settings) -> Measurement:
    """One set of images against another."""
    asked = columns(settings.metrics or FOLDER_METRICS, settings.features)
    protocol = _protocol("folders", real.size, settings) | {"real": real.description(), "images": len(fake)}
    name = f"{fake.source.path.name}{f'/{fake.split}' if fake.split else ''}"
    return Measurement(f"{name} against {real.source.path.name}", [Single(name, fake)], asked, protocol, real)


def of_pairs(real: Pictures, fake: Pictures, pairing: str, settings: Settings) -> Measurement:
    """Images against the references that belong to them."""
    asked = columns(settings.metrics or PAIR_METRICS, settings.features)
    protocol = _protocol("pairs", real.size, settings) | {"reference": real.description(), "pairs": pairing}
    protocol["images"] = len(fake)
    name = fake.source.path.name
    subject = Paired(name, fake, real, pairing)
    needs_reals = any(column.about.needs == "real" for column in asked)
    return Measurement(
        f"{name} against {real.source.path.name}, in pairs", [subject], asked, protocol, real if needs_reals else None
    )


def of_grafts(
    models: Sequence[tuple[str, Translator]], data: Pictures, real: Pictures, protocol: Protocol, settings: Settings,
    *, samples: int = 0, projected: bool = False,
) -> Measurement:  # fmt: skip
    """Models that graft sources onto LR targets, beside the two floors that need no network.

    All models have one image size, to which `data` and `real` are fitted. `samples` 0 takes the protocol's.
    """
    notes = []
    if real is data:
        notes.append("the reals are the very images that targets and sources are drawn from: see --real-split")
    metrics = list(settings.metrics or protocol.metrics)
    features = _at_hand(protocol, settings)
    if not settings.metrics and protocol.optional:
        faces = [name for name in features if name in KINDS and KINDS[name].roles[0] == "identity"]
        if faces:
            metrics += protocol.optional
        else:
            left_out = ", ".join(protocol.optional)
            notes.append(f"left out for want of a face network's weights (--weights mobilefacenet=FILE): {left_out}")
    asked = columns(metrics, features, chosen=bool(settings.features))
    count = samples or protocol.samples
    subjects: list[Subject] = []
    sizes: list[int] = []
    for name, translator in models:
        size, channels = translator.lr_size, translator.method.config.lr_channels
        mark = f", LR {size}" if len(models) > 1 else ""
        graft = partial(
            Grafts, pictures=data, samples=count, seed=settings.seed, lr_size=size, lr_channels=channels
        )
        about = {"model": name, "weights_sha256": translator.model.weights_sha256}
        subjects.append(graft(name, make=by_model(translator, projected=projected), about=about))
        subjects.append(graft(f"floor: bicubic target{mark}", make=by_bicubic))
        if not sizes:
            source = graft(f"floor: source as it is{mark}", make=by_source)
        sizes.append(size)
    subjects.append(source)
    described_as = _protocol(protocol.name, data.size, settings) | {
        "data": data.description(),
        "real": real.description(),
        "targets": {"lr_sizes": sizes, "channels": channels, "operator": OPERATOR},
        "sources_for_each_target": count,
        "projected": projected,
    }
    published = [asdict(entry) for entry in protocol.published]
    title = f"{', '.join(name for name, _ in models)}: {protocol.name}"
    return Measurement(title, subjects, asked, described_as, real, published, [f"{protocol.about}.", *notes])


def of_conditions(
    models: Sequence[tuple[str, Synthesizer]], pairs: Dataset, protocol: Protocol, settings: Settings
) -> Measurement:
    """Models that make an image of a condition, each in the style of the pair's own image, against that image."""
    features = _at_hand(protocol, settings)
    asked = columns(settings.metrics or protocol.metrics, features, chosen=bool(settings.features))
    real = References(pairs)
    subjects: list[Subject] = []
    for name, synthesizer in models:
        about = {"model": synthesizer.model.name, "weights_sha256": synthesizer.model.weights_sha256}
        made = partial(Conditioned, pairs=pairs, synthesizer=synthesizer, seed=settings.seed, about=about)
        if protocol.parts:
            subjects += [made(part, part=part) for part in ("reconstruction", "residual")] + [made("sum")]
        else:
            subjects.append(made(name))
    described_as = _protocol(protocol.name, pairs.size, settings) | {
        "data": real.description(),
        "condition": models[0][1].kind.kind,
        "style": "the pair's own image",
        "samples_for_each_condition": 1,
    }
    published = [asdict(entry) for entry in protocol.published]
    title = f"{', '.join(name for name, _ in models)}: {protocol.name}"
    return Measurement(title, subjects, asked, described_as, real, published, [f"{protocol.about}."])


def of_encodings(
    models: Sequence[tuple[str, Encoder]], data: Pictures, protocol: Protocol, settings: Settings
) -> Measurement:
    """Encoders' images against the references that their inputs were made from; or one encoder's, step by step.

    All compare images at one side, to which `data` is fitted.
    """
    name, first = models[0]
    metrics = settings.metrics or protocol.metrics
    notes = [f"{protocol.about}.", *protocol.notes]
    if protocol.factors == (1,):
        enlarging = [each for each, encoder in models if encoder.about["condition"] == "lr"]
        notes += [f"{each} takes small images: here they are the references, shrunk by 1" for each in enlarging]
    subjects: list[Subject] = []
    factors = [factor for factor in protocol.factors if data.size % factor == 0 and factor < data.size]
    if protocol.steps:
        if not settings.metrics:
            lacking = [f"change-{scale}" for scale in SCALES if scale not in first.scales]
            notes += [f"left out: {each}: the model has no such codes" for each in metrics if each in lacking]
            metrics = tuple(each for each in metrics if each not in lacking)
        moving = any(each.startswith("change-") for each in metrics)
        for number in range(1 if moving else 0, first.steps + 1):
            make = partial(first.step, number=number)
            given = first.scales if number else ()
            about = {"model": name, **first.about}
            subjects.append(Encodings(f"step {number}", data, make, given=given, about=about))
    else:
        for factor in factors:
            mark = f", x{factor}" if len(protocol.factors) > 1 else ""
            made = partial(Encodings, pictures=data, factor=factor)
            for name, encoder in models:
                about = {"model": name, **encoder.about}
                subjects.append(made(f"{name}{mark}", make=encoder.make, given=("seconds",), about=about))
            if factor > 1:
                subjects.append(made(f"floor: bicubic{mark}", make=as_it_is))
            else:
                subjects.append(made(f"floor: starting codes{mark}", make=first.start))
        notes += [
            f"left out: x{factor}, by which images of {data.size} pixels cannot be shrunk"
            for factor in protocol.factors
            if factor not in factors
        ]
    asked = columns(metrics, _at_hand(protocol, settings), chosen=bool(settings.features))
    if any(column.metric == "seconds" for column in asked):
        notes.append(
            f"Seconds are those of one image at a time, after {UNMEASURED} that do not count, on {first.machine}: "
            "they depend on the machine and on what else it does."
        )
    described_as = _protocol(protocol.name, data.size, settings) | {
        "data": data.description(),
        "compared": f"outputs brought to {data.size} pixels, the input's side, against the image fitted to it",
        "input": "the image itself" if factors == [1] else "the image shrunk and enlarged again, both bicubically",
        "factors": factors,
        "by_step": protocol.steps,
    }
    published = [asdict(entry) for entry in protocol.published]
    title = f"{', '.join(name for name, _ in models)}: {protocol.name}"
    needs_reals = any(column.about.needs == "real" for column in asked)
    return Measurement(title, subjects, asked, described_as, data if needs_reals else None, published, notes)


def of_samples(
    models: Sequence[tuple[str, Sampler]], real: Pictures, protocol: Protocol, settings: Settings, *, samples: int = 0
) -> Measurement:
    """Priors' samples against a set of real images fitted to their size; `samples` 0 takes the protocol's."""
    count = samples or protocol.samples
    asked = columns(settings.metrics or protocol.metrics, _at_hand(protocol, settings), chosen=bool(settings.features))
    subjects = [Samples(name, sampler, count=count, seed=settings.seed) for name, sampler in models]
    described_as = _protocol(protocol.name, real.size, settings) | {"real": real.description(), "samples": count}
    published = [asdict(entry) for entry in protocol.published]
    title = f"{', '.join(name for name, _ in models)}: {protocol.name}"
    return Measurement(title, subjects, asked, described_as, real, published, [f"{protocol.about}."])


def _at_hand(protocol: Protocol, settings: Settings) -> tuple[str, ...]:
    """The networks asked for; without any, those of the paper's, and of faces, whose weights are here."""
    return settings.features or tuple(name for name in _defaults(protocol) if available(name, settings.weights))


def _defaults(protocol: Protocol) -> tuple[str, ...]:
    """The paper's networks and a face network; which of them are there decides."""
    named = (protocol.network,) if protocol.network else ()
    return (*named, "lpips-alex", "mobilefacenet", "irse50")


def _protocol(name: str, size: int, settings: Settings) -> dict[str, Any]:
    """`size` is what images are fitted to, 0 if they are not."""
    resized = FITTED if size else "none: the images are taken as they are"
    return {"name": name, "resize_filter": resized, "seed": settings.seed}


def measure(
    asked: Measurement, settings: Settings, device: torch.device, *, world: World, bars: Bars
) -> Result | None:
    """The table; None on every process but the first.

    Raises PixgraftError: a metric that the subjects cannot give, too few images, weights that are missing or wrong, an
    image that is unusable.
    """
    began = time.monotonic()
    _check(asked)
    opened = _opened(asked.columns, settings, device, bars)
    gauge = Gauge(asked.columns, opened, device)
    reals = {}
    spectra: dict[str, list[float]] = {}
    if asked.reals is not None:
        if any(column.about.role == "set" for column in asked.columns):
            reals = gauge.reals(asked.reals, world, bars.part("reals", _share(len(asked.reals), world)))
        drawn = [column for column in asked.columns if column.metric == "spectrum"]
        if drawn:
            measured = Gauge(drawn, {}, device).measure(Single("reals", asked.reals), world, lambda images: None)
            spectra["reals"] = _rounded(gauge.spectrum(measured))
    rows = []
    each: dict[str, dict[Column, torch.Tensor]] = {}
    for subject in asked.subjects:
        measured = gauge.measure(subject, world, bars.part(subject.name, _share(subject.images, world)))
        if world.rank > 0:
            continue
        values = gauge.estimates(measured, reals, name=subject.name, replicates=settings.bootstrap, seed=settings.seed)
        spectrum = gauge.spectrum(measured)
        each[subject.name] = {
            column: listed(found)[0] for column, found in measured.values.items() if column.metric != "spectrum"
        }
        del measured  # before the next one's
        rows.append(
            Row(
                subject.name,
                {column.label: estimate for column, estimate in values.items()},
                subject.images,
                subject.about,
                None if spectrum is None else _rounded(spectrum),
            )
        )
    if world.rank > 0:
        return None
    protocol = asked.protocol | {
        "metrics": [column.label for column in asked.columns],
        "networks": {f"{network} ({role})": feature.sha256 for (network, role), feature in opened.items()},
        "neighbours": NEIGHBOURS,
        "bootstrap": {"replicates": settings.bootstrap, "interval": "95 %"},
    }
    said = findings(
        protocol["name"], rows, asked.columns, each, replicates=settings.bootstrap, seed=settings.seed
    )
    if spectra:
        rows.append(Row("reals", {}, len(asked.reals or ()), {}, spectra["reals"]))
    notes = [*asked.notes, *said]
    return Result(
        asked.title, described(asked.columns), rows, protocol, asked.published, notes, time.monotonic() - began
    )


def _share(count: int, world: World) -> int:
    return -(-count // world.size)


def _rounded(spectrum: torch.Tensor | None) -> list[float]:
    assert spectrum is not None
    return [float(f"{power:.6g}") for power in spectrum.tolist()]


def _check(asked: Measurement) -> None:
    """What can be known before any network runs."""
    for column in asked.columns:
        needs = column.about.needs
        if needs == "real" and asked.reals is None:
            raise PixgraftError(f"--metrics {column.metric}: compares with a set of reals: give --real")
        timed = needs == "seconds" and any(needs in subject.given for subject in asked.subjects)  # not its floors
        for subject in asked.subjects:
            if needs and needs != "real" and needs not in subject.given and not timed:
                has = ", ".join(sorted(subject.given)) or "nothing beside them"
                wanted = f"--metrics {column.metric}: needs {NEEDS[needs]}"
                raise PixgraftError(f"{wanted}; {subject.name}'s images have {has}")
    least = NEIGHBOURS + 1 if any(column.metric in KEPT[1:] for column in asked.columns) else 2
    if any(column.about.role == "set" for column in asked.columns):
        counts = [(subject.name, subject.images) for subject in asked.subjects]
        if asked.reals is not None:
            counts.append((str(asked.reals.path), len(asked.reals)))
        for name, count in counts:
            if count < least:
                raise PixgraftError(f"{name}: {count} images; the metrics on sets need at least {least}: add some")


def _opened(
    asked: list[Column], settings: Settings, device: torch.device, bars: Bars
) -> dict[tuple[str, str], Feature]:
    opened: dict[tuple[str, str], Feature] = {}
    for column in asked:
        role = column.about.role
        if role is not None and (column.network, role) not in opened:
            feature = open_feature(column.network, settings.weights, device, role=role, note=bars.note)
            opened[column.network, role] = feature
    return opened


def write(result: dict[str, Any], subjects: Sequence[Subject], out: Path) -> list[Path]:
    """result.json, report.md, report.html, images.png and the plots there are, NAME.svg; returns the paths."""
    sheet = pages.sheet(subjects)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    drawn = plots(result)
    contents = {
        "images.png": file.getvalue(),
        "report.md": pages.markdown(result).encode(),
        "report.html": pages.page(result, sheet, [(plot.title, plot.svg) for plot in drawn]).encode(),
        **{f"{plot.name}.svg": plot.svg.encode() for plot in drawn},
        "result.json": (json.dumps(result, indent=1, allow_nan=False) + "\n").encode(),
    }
    for name, data in contents.items():
        write_bytes(out / name, data)
    return [out / name for name in contents]
