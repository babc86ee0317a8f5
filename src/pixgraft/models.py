"""Load, verify and save trained models.

A model folder holds `model.json` (method, configuration, source of the weights, their SHA-256), `weights.safetensors`
and a model card, `README.md`. A run folder is loaded as the weight averages of its newest intact checkpoint.
"""

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pixgraft import config as configs
from pixgraft.data.frame import Frame, frame_of
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.errors import PixgraftError, unknown
from pixgraft.files import json_sha256, unfinished, write_bytes
from pixgraft.methods import METHODS
from pixgraft.methods.base import Method
from pixgraft.version import __version__

DESCRIPTION = "model.json"
WEIGHTS = "weights.safetensors"
CARD = "README.md"
FORMAT = 1


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

    @property
    def about(self) -> dict[str, Any]:
        """Provenance of an output, for reports."""
        names = {"model": self.name, "method": self.method.name}
        return {**names, "weights_sha256": self.weights_sha256, "version": __version__}


def bundled() -> list[str]:
    """Names of the models bundled with the package."""
    return sorted(entry.name for entry in _assets().iterdir() if (entry / DESCRIPTION).is_file())


def _assets() -> Path:
    return Path(str(resources.files("pixgraft") / "assets"))


def load_model(model: str | Path, *, device: torch.device | str = "cpu") -> Model:
    """Open a bundled name, a model folder, a run folder or a Hugging Face repository id ("owner/name").

    Raises PixgraftError if `model` is none of these, or if its weights are truncated, edited or of another method.
    """
    folder = _resolve(str(model))
    loaded = _load_folder(folder, str(model)) if (folder / DESCRIPTION).is_file() else _load_run(folder)
    loaded.method.requires_grad_(False).eval().to(device)
    return loaded


def task_of(model: str | Path) -> str:
    """Task of a model, read from its description alone. Takes and raises the same as `load_model`."""
    folder = _resolve(str(model))
    file = folder / DESCRIPTION
    if not file.is_file() and not (folder / "config.toml").is_file():
        return load_model(model).method.task  # a run's checkpoints hold its configuration too
    try:
        if file.is_file():
            kind = str(json.loads(file.read_text(encoding="utf-8"))["method"])
        else:
            file = folder / "config.toml"
            kind = str(configs.values_of(file.read_text(encoding="utf-8"), str(file))["kind"])
        return METHODS[kind].task
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PixgraftError(f"{file}: not a description of a model ({reason}): fetch or convert it anew") from None


def _resolve(model: str) -> Path:
    """The folder of a model, downloaded if `model` is a repository id."""
    path = Path(model)
    if path.is_dir():
        if (path / DESCRIPTION).is_file() or (path / "checkpoints").is_dir():
            return path
        raise PixgraftError(f"{model}: neither a model folder ({DESCRIPTION}) nor a run folder (checkpoints/)")
    if path.exists():
        raise PixgraftError(f"{model}: a file, not a model folder: pixgraft convert {model} OUT makes one")
    if model in bundled():
        return _assets() / model
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return _download(model)
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


def _load_folder(folder: Path, name: str) -> Model:
    file = folder / DESCRIPTION
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        kind, settings, expected = str(info["method"]), dict(info["config"]), info["weights"]
        size, sha256 = int(expected["bytes"]), str(expected["sha256"])
        edited = info["config_sha256"] != json_sha256(settings)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PixgraftError(f"{file}: not a model's description ({reason}): fetch or convert it anew") from None
    if info.get("format") != FORMAT or kind not in METHODS:
        raise PixgraftError(f"{file}: a model of method {kind!r} in format {info.get('format')!r}: update pixgraft")
    if edited:
        raise PixgraftError(f"{file}: its configuration was edited (SHA-256 differs): fetch or convert it anew")
    weights = folder / WEIGHTS
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise PixgraftError(f"{weights}: {error.strerror}: fetch or convert the model anew") from None
    if len(data) != size:
        raise PixgraftError(f"{weights}: {len(data):,} bytes, expected {size:,}: fetch or convert the model anew")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PixgraftError(f"{weights}: SHA-256 differs from {DESCRIPTION}'s: fetch or convert the model anew")
    method = _build_method(kind, settings, str(file))
    try:
        _load_weights(method, safetensors.torch.load(data), str(weights))
    except safetensors.SafetensorError as error:
        raise PixgraftError(f"{weights}: not a safetensors file ({error}): fetch or convert it anew") from None
    if isinstance(info.get("images_seen"), int):
        method.set_progress(info["images_seen"])
    frame = None if info.get("frame") is None else frame_of(info["frame"], f"{file}: frame")
    return Model(
        name, method, sha256, {key: info[key] for key in info if key not in ("config", "config_sha256")}, frame
    )


def _load_run(folder: Path) -> Model:
    checkpoint, rejected = checkpoints.latest(folder / "checkpoints")
    if checkpoint is None:
        raise PixgraftError(rejected[0] if rejected else f"{folder}: no checkpoint yet: train on, then try again")
    experiment = checkpoint.meta["experiment"]
    kind = experiment["kind"]
    if kind not in METHODS:
        raise PixgraftError(f"{folder}: a run of method {kind!r}: update pixgraft")
    method = _build_method(kind, experiment["method"], str(folder))
    prefixes = tuple(f"{name}." for name in method.frozen)
    frozen = {key: tensor for key, tensor in checkpoint.groups["networks"].items() if key.startswith(prefixes)}
    _load_weights(method, checkpoint.groups["averages"] | frozen, str(folder))
    method.set_progress(checkpoint.images_seen)
    info = {"method": kind, "images_seen": checkpoint.images_seen, "preset": experiment["name"]}
    if experiment.get("frame") is None:
        return Model(str(folder), method, checkpoint.sha256, info)
    frame = frame_of(experiment["frame"], f"{folder}: frame")
    return Model(str(folder), method, checkpoint.sha256, info | {"frame": experiment["frame"]}, frame)


def _build_method(kind: str, settings: dict[str, Any], where: str) -> Method:
    try:
        return METHODS[kind](configs.from_dict(METHODS[kind].Config, settings, "config"))
    except PixgraftError as error:
        raise PixgraftError(f"{where}: {error}") from None


def _load_weights(method: Method, tensors: dict[str, Tensor], where: str) -> None:
    """Load tensors, named "network.key", into the method's networks; averaged and frozen networks must be complete."""
    for name, network in method.named_children():
        prefix = f"{name}."
        state = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
        if not state and name not in method.averaged + method.frozen:
            continue
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise PixgraftError(f"{where}: the weights do not fit the configuration: {reason}") from None


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
    check_free(folder)
    dtype = torch.float16 if half else torch.float32
    tensors = {
        f"{name}.{key}": tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name in networks or method.averaged + method.frozen
        for key, tensor in method.get_submodule(name).state_dict().items()
    }
    data = safetensors.torch.save(tensors)
    config = configs.to_dict(method.config)
    description = {
        "format": FORMAT,
        "method": method.name,
        "config": config,
        "config_sha256": json_sha256(config),
        "weights": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "dtype": str(dtype)[6:]},
        **info,
    }
    target = folder.resolve()
    stack = contextlib.ExitStack()
    temporary = stack.enter_context(unfinished(target))
    try:
        temporary.mkdir(parents=True)
        write_bytes(temporary / WEIGHTS, data)
        write_bytes(temporary / DESCRIPTION, (json.dumps(description, indent=1) + "\n").encode())
        if card:
            write_bytes(temporary / CARD, card.encode())
        if target.exists():
            target.rmdir()  # empty; not every system can rename onto a folder
        temporary.rename(target)
    except OSError as error:
        raise PixgraftError(f"{folder}: cannot be made: {error.strerror or error}: choose another folder") from error
    finally:
        stack.close()


def check_free(folder: Path) -> None:
    """Raise PixgraftError if `folder` is a file or a folder that is not empty, to which `save_model` cannot write."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise PixgraftError(f"{folder}: is there and not empty: choose another folder")
    except OSError as error:
        raise PixgraftError(f"{folder}: cannot be made: {error.strerror}: choose another folder") from error
