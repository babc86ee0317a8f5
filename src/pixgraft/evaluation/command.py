"""`pixgraft evaluate` from the request to the written result."""

import json
from pathlib import Path
from typing import Any

import torch

from pixgraft import devices
from pixgraft.data.dataset import Dataset
from pixgraft.data.outputs import output_folder
from pixgraft.data.pairs import open_pairs
from pixgraft.engine import distributed
from pixgraft.engine.bars import Bars
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import columns
from pixgraft.evaluation.encodings import Encoder
from pixgraft.evaluation.protocols import PROTOCOLS, Protocol, protocol
from pixgraft.evaluation.request import Request
from pixgraft.evaluation.run import (
    Measurement,
    Settings,
    measure,
    of_conditions,
    of_encodings,
    of_folders,
    of_grafts,
    of_pairs,
    of_samples,
    write,
)
from pixgraft.evaluation.subjects import Pictures
from pixgraft.evaluation.sweep import trained
from pixgraft.features import parse_weights
from pixgraft.models import Model, load_model
from pixgraft.pipelines.sampler import Sampler
from pixgraft.pipelines.synthesis import Synthesizer
from pixgraft.pipelines.translator import Translator
from pixgraft.presets import PRESETS

OF_PAIRS = ("palette", "images", "conditions")
OF_TABLES = ("set", "train_split")
"""Options for data in pairs, and for tables whose rows are trained."""


def evaluate(model: str, request: Request) -> tuple[dict[str, Any], list[Path]] | None:
    """Measure what is asked for; the result as plain values and the files written; None on all processes but the first.

    Raises PixgraftError for a request that does not fit together, and for whatever cannot be measured.
    """
    chosen = _form(model, request)
    world = distributed.start(devices.pick(request.device).type)  # one group for training and measuring
    try:
        return _evaluate(model, request, chosen, world)
    finally:
        distributed.stop()


def _evaluate(
    model: str, request: Request, chosen: Protocol | None, world: World
) -> tuple[dict[str, Any], list[Path]] | None:
    settings = Settings(
        metrics=request.metrics,
        features=request.features,
        weights=parse_weights(request.weights),
        seed=request.seed,
        bootstrap=request.bootstrap,
    )
    runs: list[tuple[str, Path | str]] = [(Path(model).name, model)]
    if chosen is not None and chosen.variants:
        assert request.data is not None
        columns(settings.metrics or chosen.metrics, settings.features, chosen=False)  # hours before they are measured
        layout = {"images": request.images, "conditions": request.conditions, "palette": request.palette or ""}
        own = [f"data.{name}={json.dumps(str(value))}" for name, value in layout.items()]
        runs = [*trained(model, chosen, request, settings=(*own, *request.set))]
    picked = devices.pick(request.device, world.local_rank)
    with Bars(quiet=request.quiet or world.rank > 0) as bars:
        if chosen is None:
            asked = _of_files(request, settings)
        else:
            models = [(name, load_model(run, device=picked)) for name, run in runs]
            measured = {"grit": _of_conditions, "ome": _of_encodings, "stylegan2": _of_samples}.get(
                chosen.kinds[0], _of_grafts
            )
            asked = measured(models, request, chosen, settings, picked)
        if request.out and world.rank == 0:
            output_folder(request.out, *(each for each in (request.data, request.real, request.fake) if each))
        result = measure(asked, settings, picked, world=world, bars=bars)
    if result is None:
        return None
    content = result.to_json()
    return content, write(content, asked.subjects, request.out) if request.out else []


def _form(model: str, request: Request) -> Protocol | None:
    """The protocol, if it is a model that is measured; PixgraftError if the request does not say what to measure."""
    if not model:
        _refuse(request, ("data", "split", "samples", "project", *OF_TABLES, *OF_PAIRS), "measures a model")
        if request.real is None or request.fake is None:
            raise PixgraftError("say what to measure: MODEL --data D --protocol P, or --real A --fake B")
        _refuse(request, ("protocol",), "measures a model: name it and give --data")
        return None
    _refuse(request, ("fake", "fake_split", "pairs"), f"a model ({model}) is measured by what it makes")
    if request.data is None:
        raise PixgraftError(f"{model}: say what images to measure it on: --data D")
    if not request.protocol:
        raise PixgraftError(f"{model}: say by which protocol: --protocol {', '.join(PROTOCOLS)}")
    chosen = protocol(request.protocol)
    if "i2ilr" not in chosen.kinds:
        _refuse(request, ("real", "real_split", "project"), f"has no part in {chosen.name}")
    if chosen.kinds[0] in ("grit", "ome"):
        _refuse(request, ("samples",), f"has no part in {chosen.name}")
    if "grit" not in chosen.kinds:
        _refuse(request, OF_PAIRS, f"has no part in {chosen.name}")
    trains = bool(chosen.variants) and (model in PRESETS or not Path(model).is_dir())
    if not trains:
        _refuse(request, OF_TABLES, f"{chosen.name} {'of trained runs ' if chosen.variants else ''}trains nothing")
    else:
        if request.out is None:
            raise PixgraftError(f"--protocol {chosen.name}: trains {len(chosen.variants)} models: give --out for them")
        if not request.split:
            raise PixgraftError(
                f"--protocol {chosen.name}: trains on --train-split {request.train_split}: say what to measure on with "
                "--split, such as test"
            )
    return chosen


def _refuse(request: Request, names: tuple[str, ...], why: str) -> None:
    """PixgraftError for the first of these options that was given: it would go unheard."""
    unset = Request()
    for name in names:
        value = getattr(request, name)
        if value != getattr(unset, name):
            raise PixgraftError(f"--{name.replace('_', '-')} {value}: {why}: leave it out")


def _of_files(request: Request, settings: Settings) -> Measurement:
    assert request.real is not None
    assert request.fake is not None
    real = Pictures(request.real, split=request.real_split, size=request.size)
    fake = Pictures(request.fake, split=request.fake_split, size=request.size)
    if request.pairs == "no":
        return of_folders(real, fake, settings)
    return of_pairs(real, fake, request.pairs, settings)


Models = list[tuple[str, Model]]


def _of_grafts(
    models: Models, request: Request, chosen: Protocol, settings: Settings, device: torch.device
) -> Measurement:
    assert request.data is not None
    translators = [(name, Translator(model, device)) for name, model in models]
    size = translators[0][1].image_size
    request.check_size(size)
    data = Pictures(request.data, split=request.split, size=size)
    real = data
    if request.real is not None or request.real_split:
        real = Pictures(request.real or request.data, split=request.real_split, size=size)
    return of_grafts(
        translators, data, real, chosen, settings, samples=request.samples, projected=request.project
    )


def _of_conditions(
    models: Models, request: Request, chosen: Protocol, settings: Settings, device: torch.device
) -> Measurement:
    assert request.data is not None
    synthesizers = [(name, Synthesizer(model, device, palette=request.palette)) for name, model in models]
    first = synthesizers[0][1]
    if first.kind.kind == "lr":
        raise PixgraftError(f"{models[0][0]}: its conditions are made from images: {chosen.name} needs pairs of files")
    request.check_size(first.image_size)
    pairs = open_pairs(request.data, images=request.images, conditions=request.conditions, under=request.split)
    return of_conditions(synthesizers, Dataset(pairs, size=first.image_size, kind=first.kind), chosen, settings)


def _of_encodings(
    models: Models, request: Request, chosen: Protocol, settings: Settings, device: torch.device
) -> Measurement:
    assert request.data is not None
    encoders = [(name, Encoder(model, device, chosen)) for name, model in models]
    size = encoders[0][1].size
    for name, encoder in encoders:
        if encoder.size != size:
            first = encoders[0][0]
            raise PixgraftError(f"{name}: compares images of {encoder.size} pixels, {first} of {size}: train it anew")
    request.check_size(size)
    return of_encodings(encoders, Pictures(request.data, split=request.split, size=size), chosen, settings)


def _of_samples(
    models: Models, request: Request, chosen: Protocol, settings: Settings, device: torch.device
) -> Measurement:
    assert request.data is not None
    samplers = [(name, Sampler(model, device)) for name, model in models]
    size = samplers[0][1].method.image_size
    request.check_size(size)
    real = Pictures(request.data, split=request.split, size=size)
    return of_samples(samplers, real, chosen, settings, samples=request.samples)
