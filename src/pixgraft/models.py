"""Load, verify and save trained models.

A model folder holds `model.json` (method, configuration, source of the weights, their SHA-256), `weights.safetensors`
and a model card, `README.md`. A run folder is loaded as the weight averages of its newest intact checkpoint.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor

from pixgraft import config as configs
from pixgraft.data.frame import Frame
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine.tensors import Specs, TensorSpec, difference, parsed, read_specs, specs_of
from pixgraft.engine.terminal import Terminal
from pixgraft.errors import PixgraftError, printable, shown, unknown
from pixgraft.files import json_sha256, new_folder, read_bytes, read_json, write_bytes
from pixgraft.methods import METHODS
from pixgraft.methods.base import Method
from pixgraft.methods.outline import outline
from pixgraft.presets import PRESETS
from pixgraft.records import from_dict, known, to_dict
from pixgraft.training.experiment import Experiment, RunMeta
from pixgraft.version import __version__

DESCRIPTION = "model.json"
WEIGHTS = "weights.safetensors"
CARD = "README.md"
FORMAT = 1
DESCRIPTION_LIMIT = 2**20
"""Bytes of the largest description that is read; ours have about 1,000."""


T = TypeVar("T")


@dataclass(frozen=True)
class _Weights:
    bytes: int
    sha256: str
    dtype: str = ""


@dataclass(frozen=True)
class Rights:
    """Under what licence a model is passed on, and whom to credit; the fields of model.json of these names.

    Raises PixgraftError for what is no identifier of a licence, or no single line.
    """

    license: str = ""
    """The identifier that the Hugging Face hub has for the licence, such as apache-2.0 or cc-by-4.0."""
    credit: str = ""
    """Makers of the data to be named, such as "FairFace, Kärkkäinen and Joo 2021, CC BY 4.0"."""

    def __post_init__(self) -> None:
        if self.license and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,60}", self.license):
            raise PixgraftError(f"licence {shown(self.license)}: write its identifier, such as cc-by-4.0 or apache-2.0")
        if printable(self.credit) != self.credit or len(self.credit) > 1000:
            raise PixgraftError(f"credit {shown(self.credit)}: write one line of at most 1,000 characters")


@dataclass(frozen=True)
class _ModelDescription:
    """The fields of model.json that are used; it may have others, such as the source."""

    format: int
    method: str
    config: dict[str, Any]
    config_sha256: str
    weights: _Weights
    images_seen: int | None = None
    frame: Frame | None = None
    license: str = ""
    credit: str = ""


@dataclass(frozen=True)
class _Content:
    """All of model.json."""

    content: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A method with trained weights, in eval mode and without gradients."""

    name: str
    method: Method
    weights_sha256: str
    """SHA-256 of the weights' file; for a run, of its checkpoint's description, which lists those of all its files."""
    info: dict[str, Any]
    """Metadata of the weights: images seen, data, source."""
    frame: Frame | None = None
    """Where the landmarks of the faces in its training images lie; None if that is not known."""
    networks: tuple[str, ...] = ()
    """Names of the networks that the weights are of; the method's others are untrained."""
    rights: Rights = Rights()

    @property
    def about(self) -> dict[str, Any]:
        """Provenance of an output, for reports."""
        names = {"model": self.name, "method": self.method.name}
        return {**names, "weights_sha256": self.weights_sha256, "version": __version__}


SUCCESSORS = {"i2ilr-portraits-64": "i2ilr-faces-64", "stylegan2-portraits-32": "stylegan2-faces-64"}
"""Models that were once bundled, and those that answer to their names."""


def bundled() -> list[str]:
    """Names of the models bundled with the package."""
    return sorted(entry.name for entry in _assets().iterdir() if (entry / DESCRIPTION).is_file())


def _assets() -> Path:
    return Path(str(resources.files("pixgraft") / "assets"))


def load_model(model: str | Path, *, device: torch.device | str = "cpu", whole: bool = False) -> Model:
    """Open a bundled name, a model folder, a run folder or a Hugging Face repository id ("owner/name").

    With `whole` a run's networks that training alone needs, such as a discriminator, are read too; a model folder's
    always are, as far as it has them.

    Raises PixgraftError if `model` is none of these, or if its weights are truncated, edited or of another method.
    """
    folder = find_model(str(model))
    name = folder.name if folder.parent == _assets() else str(model)
    if name == SUCCESSORS.get(str(model)):
        warnings.warn(f"{model} is no longer bundled: {name} answers in its place", stacklevel=2)
    loaded = _load_folder(folder, name) if (folder / DESCRIPTION).is_file() else _load_run(folder, whole)
    loaded.method.requires_grad_(False).eval().to(device)
    return loaded


def task_of(model: str | Path) -> str:
    """Task of a model, read from its description alone. Takes and raises the same as `load_model`."""
    folder = find_model(str(model))
    if (folder / DESCRIPTION).is_file():
        return METHODS[_read_description(folder / DESCRIPTION)[0].method].task
    file = folder / "config.toml"
    if not file.is_file():
        return load_model(model).method.task  # a run's checkpoints hold its configuration too
    values = configs.values_of(read_bytes(file, configs.LIMIT).decode(errors="replace"), str(file))
    return METHODS[from_dict(Experiment, values, str(file)).kind].task


def find_model(model: str) -> Path:
    """The folder of a model, downloaded if `model` is a repository id. Raises PixgraftError if there is none."""
    path = Path(model)
    if "\0" in model or len(model) > 4096 or any(len(os.fsencode(each)) > 255 for each in path.parts):
        raise PixgraftError(f"{shown(model)}: no name of a model: give a bundled name, a folder or a repository id")
    if path.is_dir():
        if (path / DESCRIPTION).is_file() or (path / "checkpoints").is_dir():
            return path
        raise PixgraftError(f"{model}: neither a model folder ({DESCRIPTION}) nor a run folder (checkpoints/)")
    if path.exists():
        raise PixgraftError(f"{model}: a file, not a model folder: pixgraft convert {model} OUT makes one")
    model = SUCCESSORS.get(model, model)
    if model in bundled():
        return _assets() / model
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return _download(model)
    if model in PRESETS:
        raise PixgraftError(
            f"{model}: no such model, but a preset: train it with `pixgraft train {model} --data DATA --out {model}`"
        )
    raise PixgraftError(f"{model}: no such folder; {unknown('bundled model', model, bundled())}")


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, allow_patterns=[DESCRIPTION, WEIGHTS, CARD]))
    except (OSError, ValueError) as error:  # offline, unknown and forbidden raise OSError
        raise PixgraftError(
            f"{repository}: no such folder, and not to be had from huggingface.co ({type(error).__name__}): "
            "check the name and the network, or give a folder"
        ) from error
    if not (folder / DESCRIPTION).is_file():
        raise PixgraftError(f"{repository}: no pixgraft model: it has no {DESCRIPTION}; choose another repository")
    return folder


def _read_description(file: Path) -> tuple[_ModelDescription, dict[str, Any]]:
    """The checked description of a model, and all its content."""
    try:
        content = read_json(file, DESCRIPTION_LIMIT)
    except FileNotFoundError:
        raise PixgraftError(f"{file}: missing: fetch or convert the model anew") from None
    except PixgraftError as error:
        raise PixgraftError(f"{error}: not a model's description: fetch or convert it anew") from None
    if isinstance(content, dict) and content.get("format") != FORMAT:
        method, version = shown(content.get("method")), shown(content.get("format"))
        raise PixgraftError(f"{file}: a model of method {method} in format {version}: update pixgraft")
    try:
        description = from_dict(_ModelDescription, known(_ModelDescription, content), "not a model's description")
        info = from_dict(_Content, {"content": content}, "not a model's description").content
    except PixgraftError as error:
        raise PixgraftError(f"{file}: {error}: fetch or convert it anew") from None
    if description.method not in METHODS:
        raise PixgraftError(
            f"{file}: a model of method {shown(description.method)} in format {FORMAT}: update pixgraft"
        )
    return description, info


def _load_folder(folder: Path, name: str) -> Model:
    file, weights = folder / DESCRIPTION, folder / WEIGHTS
    description, info = _read_description(file)
    if description.config_sha256 != json_sha256(description.config):
        raise PixgraftError(f"{file}: its configuration was edited (SHA-256 differs): fetch or convert it anew")
    config = _method_config(description.method, description.config, str(file))
    try:
        rights = Rights(description.license, description.credit)
    except PixgraftError as error:
        raise PixgraftError(f"{file}: {error}") from None
    outlined = _outline(description.method, config, str(file))
    expected = description.weights
    try:
        size = weights.stat().st_size
        if size != expected.bytes:
            raise PixgraftError(f"{size:,} bytes, expected {expected.bytes:,}: fetch or convert the model anew")
        _check_weights(outlined, read_specs(weights))
        data = read_bytes(weights, size)
        if hashlib.sha256(data).hexdigest() != expected.sha256:
            raise PixgraftError(f"SHA-256 differs from {DESCRIPTION}'s: fetch or convert the model anew")
        tensors = parsed(data)
    except OSError as error:
        raise PixgraftError(f"{weights}: {error.strerror}: fetch or convert the model anew") from None
    except PixgraftError as error:
        raise PixgraftError(f"{weights}: {str(error).removeprefix(f'{weights}: ')}") from None
    method: Method = METHODS[description.method](config)
    networks = _load_weights(method, tensors)
    if description.images_seen is not None:
        method.set_progress(description.images_seen)
    rest = {key: value for key, value in info.items() if key not in ("config", "config_sha256")}
    return Model(name, method, expected.sha256, rest, description.frame, networks, rights)


def _load_run(folder: Path, whole: bool) -> Model:
    """The newest intact checkpoint; those that are passed over are named on the standard error."""
    checkpoint, refused = checkpoints.latest(folder / "checkpoints", partial(_check_run, whole))
    if checkpoint is None:
        raise PixgraftError(refused[0] if refused else f"{folder}: no checkpoint yet: train on, then try again")
    for reason in refused:
        Terminal(stderr=True).say(f"passed over: {reason}")
    if refused:
        Terminal(stderr=True).say(f"{folder}: used as of {checkpoint.images_seen:,} images")
    experiment = from_dict(RunMeta, checkpoint.meta, "meta").experiment
    method: Method = METHODS[experiment.kind](experiment.method)
    networks = _load_weights(method, _run_weights(method, checkpoint.groups, whole))
    method.set_progress(checkpoint.images_seen)
    info = {"method": experiment.kind, "images_seen": checkpoint.images_seen, "preset": experiment.name}
    parts = {"frame": experiment.frame, "start": experiment.start}
    info |= {name: to_dict(each) for name, each in parts.items() if each is not None}
    return Model(str(folder), method, checkpoint.sha256, info, experiment.frame, networks)


def _check_run(whole: bool, meta: dict[str, Any], tensors: dict[str, Specs]) -> Iterable[str]:
    """Hold a run's checkpoint against its own configuration; returns the groups of tensors that a model is made of."""
    experiment = from_dict(RunMeta, meta, "meta").experiment
    outlined = outline(experiment.kind, experiment.method)
    live = whole or bool(outlined.frozen)
    groups = ["averages", "networks"] if live else ["averages"]
    for group in groups:
        if group not in tensors:
            raise PixgraftError(f"{group} is missing")
    if live and (reason := difference(specs_of(outlined.state_dict()), tensors["networks"])):
        raise PixgraftError(f"the networks do not fit the configuration: {reason}")
    _check_weights(outlined, _run_weights(outlined, tensors, whole))
    return groups


def _run_weights(method: Method, groups: Mapping[str, Mapping[str, T]], whole: bool) -> dict[str, T]:
    """Of a checkpoint's groups the averages and the frozen networks, or all networks that have no average."""
    others = [name for name, _ in method.named_children() if name not in method.averaged] if whole else method.frozen
    prefixes = tuple(f"{name}." for name in others)
    live = groups["networks"].items() if prefixes else ()
    return {**groups["averages"], **{key: value for key, value in live if key.startswith(prefixes)}}


def _method_config(kind: str, settings: dict[str, Any], where: str) -> Any:
    try:
        return from_dict(METHODS[kind].Config, settings, "config")
    except PixgraftError as error:
        raise PixgraftError(f"{where}: {error}") from None


def _outline(kind: str, config: Any, where: str) -> Method:
    try:
        return outline(kind, config)
    except PixgraftError as error:
        raise PixgraftError(f"{where}: {error}") from None


def _check_weights(method: Method, specs: Specs) -> None:
    """Raise PixgraftError unless these are the tensors, named "network.key", of whole networks of the method, and of
    all that are averaged or frozen. Floats may be of any precision."""
    expected: Specs = {}
    for name, network in method.named_children():
        if name in method.averaged + method.frozen or any(key.startswith(f"{name}.") for key in specs):
            expected |= {f"{name}.{key}": spec for key, spec in specs_of(network.state_dict()).items()}
    if reason := difference({k: _widened(s) for k, s in expected.items()}, {k: _widened(s) for k, s in specs.items()}):
        raise PixgraftError(f"the weights do not fit the configuration: {reason}")


def _widened(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(torch.float32, spec.shape) if spec.dtype.is_floating_point else spec


def _load_weights(method: Method, tensors: dict[str, Tensor]) -> tuple[str, ...]:
    """Load what `_check_weights` accepted into the method's networks; returns their names."""
    loaded = []
    for name, network in method.named_children():
        prefix = f"{name}."
        state = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        if state:
            network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
            loaded.append(name)
    return tuple(loaded)


def model_files(
    method: Method,
    *,
    info: dict[str, Any],
    networks: tuple[str, ...] | None = None,
    half: bool = False,
    metadata: dict[str, str] | None = None,
) -> dict[str, bytes]:
    """The files of a model folder by name, as `save_model` writes them; `metadata` are of the weights' file."""
    dtype = torch.float16 if half else torch.float32
    tensors = {
        f"{name}.{key}": tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name in networks or method.averaged + method.frozen
        for key, tensor in method.get_submodule(name).state_dict().items()
    }
    data = safetensors.torch.save(tensors, metadata)
    config = to_dict(method.config)
    description = {
        "format": FORMAT,
        "method": method.name,
        "config": config,
        "config_sha256": json_sha256(config),
        "weights": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "dtype": str(dtype)[6:]},
        **info,
    }
    return {WEIGHTS: data, DESCRIPTION: (json.dumps(description, indent=1) + "\n").encode()}


def save_model(
    folder: Path,
    method: Method,
    *,
    info: dict[str, Any],
    networks: tuple[str, ...] | None = None,
    half: bool = False,
    card: str = "",
) -> None:
    """Write a model folder with `networks`, by default the averaged and frozen ones, in float16 (`half`) or float32.

    `card` is the text of README.md; an empty one writes no such file. The folder is written under a temporary name and
    renamed, so that it is complete or absent.

    Raises PixgraftError if the folder exists and is not empty, or cannot be written.
    """
    files = model_files(method, info=info, networks=networks, half=half) | ({CARD: card.encode()} if card else {})
    with new_folder(folder) as place:
        for name, data in files.items():
            write_bytes(place / name, data)
