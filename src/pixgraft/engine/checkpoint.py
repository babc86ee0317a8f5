"""Checkpoints: a folder of safetensors files and one JSON, written under a temporary name and verified when read.

    root/000000012345/              named after the images seen
        checkpoint.json             format, images_seen, meta, size and SHA-256 of each file and of itself
        generator.safetensors ...   one file for each group of tensors

A folder under its final name is always complete: every byte is on the disk before the rename. Folders whose names start
with a dot are work in progress: `.NAME.tmp` is being written or removed, `.NAME.old` is the former NAME while it is
replaced. A reader never changes anything; only the one process that saves removes leftovers.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.files import json_sha256, write_flushed

FORMAT = 1
DESCRIPTION = "checkpoint.json"

_GROUP = re.compile(r"[A-Za-z0-9_-]+")
_FOLDER = re.compile(r"(?P<name>\d{12})|\.(?P<aside>\d{12})\.old")
_WORK = re.compile(r"\.\d{12}\.tmp")


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: tensors on the CPU by group and name, and `meta` as parsed from JSON."""

    images_seen: int
    groups: dict[str, dict[str, Tensor]]
    meta: dict[str, Any]
    sha256: str
    """The digest of the JSON, which holds the files' digests: it identifies the whole checkpoint."""


def save(
    root: Path, images_seen: int, groups: dict[str, dict[str, Tensor]], meta: dict[str, Any], *, keep: int
) -> Path:
    """Write the checkpoint `root/IMAGES_SEEN`, prune those up to it to the newest `keep`, return its folder.

    `keep` 0 removes none. A checkpoint of the same name is replaced. `meta` must be JSON, without nan or inf. On any
    failure the other checkpoints are unchanged. Errors of the file system become a PixgraftError that names the folder.
    """
    if bad := [name for name in groups if not _GROUP.fullmatch(name)]:
        raise ValueError(f"not a name for a group of tensors: {bad[0]!r}")
    folder = root / f"{images_seen:012d}"
    temporary = root / f".{folder.name}.tmp"
    files: dict[str, dict[str, Any]] = {}
    content = {"format": FORMAT, "images_seen": images_seen, "meta": meta, "files": files}
    json_sha256(content)  # a meta that is not JSON fails here, before the disk is touched
    try:
        root.mkdir(parents=True, exist_ok=True)
        _tidy(root)
        temporary.mkdir()
        for group, tensors in groups.items():
            name, data = f"{group}.safetensors", safetensors.torch.save(_separate(tensors))
            files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            write_flushed(temporary / name, data)
        # No newline at the end: then no shorter file is JSON.
        text = json.dumps({**content, "sha256": json_sha256(content)}, indent=1, allow_nan=False)
        write_flushed(temporary / DESCRIPTION, text.encode())
        _sync(temporary)
        if folder.exists():
            folder.rename(root / f".{folder.name}.old")
        temporary.rename(folder)
        _sync(root)
    except OSError as error:
        reason = f"the checkpoint was not written: {error.strerror or error}"
        raise PixgraftError(f"{folder}: {reason}; mend that and run the same command again") from error
    finally:
        _tidy(root)
    prune(root, keep, newest=images_seen)
    return folder


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint; every byte is verified before the first tensor is allocated.

    Raises PixgraftError naming the file and whether it is missing, cut short, edited or of another format.
    """
    content, sha256 = _read_description(folder / DESCRIPTION)
    try:
        images_seen, meta = int(content["images_seen"]), dict(content["meta"])
        expected = {str(name): (int(e["bytes"]), str(e["sha256"])) for name, e in content["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refusal(folder / DESCRIPTION, "not the description of a checkpoint") from error
    stored = {name: _read_verified(folder, name, *expected[name]) for name in expected}
    groups: dict[str, dict[str, Tensor]] = {}
    for name in expected:
        try:
            groups[name.removesuffix(".safetensors")] = safetensors.torch.load(stored.pop(name))
        except safetensors.SafetensorError as error:
            raise _refusal(folder / name, "not a safetensors file") from error
    return Checkpoint(images_seen, groups, meta, sha256)


def latest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest sound checkpoint under `root`, None if there is none; and why each newer one was refused."""
    refused: list[str] = []
    for folder in _folders(root):
        try:
            return load(folder), refused
        except PixgraftError as error:
            refused.append(str(error))
    return None, refused


def prune(root: Path, keep: int, *, newest: int | None = None) -> None:
    """Remove the leftovers of a killed process, and all checkpoints but the newest `keep` (0: remove none).

    Checkpoints of more than `newest` images are neither counted nor removed: otherwise a run that resumed before a
    damaged checkpoint would lose the sound one that it has just written.
    """
    _tidy(root)
    folders = [path for path in _folders(root) if newest is None or int(path.name) <= newest]
    try:
        for folder in folders[keep:] if keep else []:
            folder.rename(root / f".{folder.name}.tmp")  # half removed, it must not look like a damaged one
    except OSError as error:
        raise PixgraftError(f"{root}: not pruned: {error.strerror}; remove the old ones by hand") from error
    _tidy(root)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as flat tensors ("0.exp_avg" is that of parameter 0) and the rest as JSON.

    The tensors are the live ones, not copies. `load_optimizer` restores both.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                values.setdefault(str(index), {})[name] = value
    return tensors, {"param_groups": state["param_groups"], "values": values}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Restore the state of `optimizer_tensors`, bit for bit; `tensors` are copied.

    Raises PixgraftError if the state belongs to other parameters.
    """
    state = {int(index): dict(entries) for index, entries in meta["values"].items()}
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters.get(int(index))
        # Files hold no strides, and fused optimizers ignore them: each tensor takes its parameter's memory format.
        like = tensor if parameter is None or parameter.shape != tensor.shape else parameter
        copy = torch.empty_like(like, dtype=tensor.dtype, device=tensor.device, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[name] = copy
    # JSON has no tuples, and an optimizer does not check that betas are a tuple of floats.
    groups = [
        group | ({"betas": tuple(map(float, group["betas"]))} if "betas" in group else {})
        for group in meta["param_groups"]
    ]
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        reason = f"the optimizer's state is of other parameters: {error}"
        raise PixgraftError(f"{reason}; resume with the configuration of its run") from error


def _folders(root: Path) -> list[Path]:
    """The checkpoints under `root`, newest first; a `.NAME.old` counts while there is no NAME."""
    folders: dict[str, Path] = {}
    for path in sorted(root.glob("*")):  # the dot sorts first, so that NAME replaces .NAME.old
        if match := _FOLDER.fullmatch(path.name):
            folders[match["name"] or match["aside"]] = path
    return [folders[name] for name in sorted(folders, reverse=True)]


def _tidy(root: Path) -> None:
    """Restore a `.NAME.old` that was not replaced; remove all other work in progress."""
    for path in root.glob(".*"):
        match = _FOLDER.fullmatch(path.name)
        if match and not (root / match["aside"]).exists():
            path.rename(root / match["aside"])
        elif match or _WORK.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors requires them: on the CPU, contiguous, each with a storage of its own."""
    separate: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != plain.nbytes:
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        separate[name] = plain
    return separate


def _read_description(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a checkpoint's JSON and its verified digest."""
    try:
        content = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise _refusal(path, "not JSON: cut short or edited") from error
    if not isinstance(content, dict):
        raise _refusal(path, "not the description of a checkpoint")
    if content.get("format") != FORMAT:
        raise _refusal(path, f"format {content.get('format')!r}, and this version reads format {FORMAT}")
    sha256 = content.pop("sha256", None)
    try:
        digest = json_sha256(content)
    except ValueError as error:  # nan is not JSON, but Python's reader takes it
        raise _refusal(path, "not JSON: edited") from error
    if sha256 != digest:
        raise _refusal(path, "edited: SHA-256 differs")
    return content, digest


def _read_verified(folder: Path, name: str, size: int, sha256: str) -> bytes:
    """The verified bytes of one of a checkpoint's files."""
    if not _GROUP.fullmatch(name.removesuffix(".safetensors")):  # a crafted name could lead anywhere
        raise _refusal(folder / DESCRIPTION, f"not the name of a checkpoint's file: {name!r}")
    path = folder / name
    data = _read(path)
    if len(data) != size:
        reason = "cut short" if len(data) < size else "edited"
        raise _refusal(path, f"{reason}: expected {size} bytes, found {len(data)}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _refusal(path, "edited: SHA-256 differs")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _refusal(path, "missing") from error
    except OSError as error:
        raise _refusal(path, f"unreadable: {error.strerror}") from error


def _refusal(path: Path, reason: str) -> PixgraftError:
    return PixgraftError(f"{path}: {reason}; use another checkpoint")


def _sync(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the platform can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
