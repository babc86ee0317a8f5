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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from pixgraft.engine.tensors import Specs, parsed, read_specs
from pixgraft.errors import PixgraftError, shown
from pixgraft.files import discard, json_sha256, read_bytes, refuse_link, write_flushed
from pixgraft.records import from_dict

FORMAT = 1
DESCRIPTION = "checkpoint.json"
DESCRIPTION_LIMIT = 16 * 2**20
"""Bytes of the largest description that is read; one of a thousand parameters has about 50,000."""

Check = Callable[[dict[str, Any], dict[str, Specs]], Iterable[str]]
"""Holds a checkpoint's `meta`, and the tensors of each group by their files' headers, against what they should be.

Returns the names of the groups to read; raises PixgraftError if the checkpoint does not fit.
"""

_GROUP = re.compile(r"[A-Za-z0-9_-]+")
_FOLDER = re.compile(r"(?P<name>\d{12})|\.(?P<aside>\d{12})\.old")
_SUFFIX = ".safetensors"
_WORK = re.compile(r"\.\d{12}\.tmp")


@dataclass(frozen=True)
class _File:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Description:
    """The content of a checkpoint's JSON but for its own digest."""

    format: int
    images_seen: int
    meta: dict[str, Any]
    files: dict[str, _File]


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
    refuse_link(root, "put the folder in its place")
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
            name, data = group + _SUFFIX, safetensors.torch.save(_separate(tensors))
            files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            write_flushed(temporary / name, data)
        # No newline at the end: then no shorter file is JSON.
        text = json.dumps({**content, "sha256": json_sha256(content)}, indent=1, allow_nan=False)
        write_flushed(temporary / DESCRIPTION, text.encode())
        _sync(temporary)
        if os.path.lexists(folder):
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


def load(folder: Path, check: Check | None = None) -> Checkpoint:
    """Read a checkpoint, or the groups of it that `check` names; every byte is verified before the first tensor is
    allocated. The files' sizes and, with `check`, their headers are looked at before any of them is read.

    Raises PixgraftError naming the file and whether it is missing, cut short, edited or of another format, or as
    `check`, with the folder's name.
    """
    content, sha256 = _read_description(folder / DESCRIPTION)
    name = _FOLDER.fullmatch(folder.name)
    if content.images_seen < 0 or (name and content.images_seen != int(name["name"] or name["aside"])):
        raise _refusal(folder / DESCRIPTION, f"of {content.images_seen:,} images, and the folder's name says another")
    for file_name, file in content.files.items():
        _check_size(folder, file_name, file.bytes)
    wanted = [file_name.removesuffix(_SUFFIX) for file_name in content.files]
    if check is not None:
        specs = {group: _specs(folder / (group + _SUFFIX)) for group in wanted}
        try:
            wanted = list(check(content.meta, specs))
        except PixgraftError as error:
            raise _refusal(folder, str(error)) from None
    stored = {group: _read_verified(folder / (group + _SUFFIX), content.files[group + _SUFFIX]) for group in wanted}
    groups: dict[str, dict[str, Tensor]] = {}
    for group in wanted:
        try:
            groups[group] = parsed(stored.pop(group))
        except PixgraftError as error:
            raise _refusal(folder / (group + _SUFFIX), str(error)) from error
    return Checkpoint(content.images_seen, groups, content.meta, sha256)


def latest(root: Path, check: Check | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest sound checkpoint under `root`, None if there is none; and why each newer one was refused."""
    refused: list[str] = []
    for folder in _folders(root):
        try:
            return load(folder, check), refused
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
            discard(path)


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


def _read_description(path: Path) -> tuple[_Description, str]:
    """The content of a checkpoint's JSON and its verified digest."""
    try:
        content = json.loads(_read(path, DESCRIPTION_LIMIT))
    except (ValueError, RecursionError) as error:
        raise _refusal(path, "not JSON: cut short or edited") from error
    if not isinstance(content, dict):
        raise _refusal(path, "not the description of a checkpoint")
    if content.get("format") != FORMAT:
        raise _refusal(path, f"format {shown(content.get('format'))}, and this version reads format {FORMAT}")
    sha256 = content.pop("sha256", None)
    try:
        digest = json_sha256(content)
    except (ValueError, RecursionError) as error:  # nan is not JSON, but Python's reader takes it
        raise _refusal(path, "not JSON: edited") from error
    if sha256 != digest:
        raise _refusal(path, "edited: SHA-256 differs")
    try:
        return from_dict(_Description, content, "not the description of a checkpoint"), digest
    except PixgraftError as error:
        raise _refusal(path, str(error)) from error


def _check_size(folder: Path, name: str, size: int) -> None:
    """Raise PixgraftError unless one of a checkpoint's files has that size."""
    if not name.endswith(_SUFFIX) or not _GROUP.fullmatch(name.removesuffix(_SUFFIX)):  # it could lead anywhere
        raise _refusal(folder / DESCRIPTION, f"not the name of a checkpoint's file: {shown(name)}")
    path = folder / name
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise _refusal(path, "missing") from error
    except OSError as error:
        raise _refusal(path, f"unreadable: {error.strerror}") from error
    if found != size:
        raise _refusal(path, f"{'cut short' if found < size else 'edited'}: expected {size} bytes, found {found}")


def _specs(path: Path) -> Specs:
    try:
        return read_specs(path)
    except OSError as error:
        raise _refusal(path, f"unreadable: {error.strerror}") from error
    except PixgraftError as error:
        raise _refusal(path, str(error).removeprefix(f"{path}: ")) from error


def _read_verified(path: Path, file: _File) -> bytes:
    """The verified bytes of one of a checkpoint's files."""
    data = _read(path, file.bytes)
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise _refusal(path, "edited: SHA-256 differs")
    return data


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_bytes(path, limit)
    except FileNotFoundError as error:
        raise _refusal(path, "missing") from error
    except PixgraftError as error:
        raise _refusal(path, str(error).removeprefix(f"{path}: ")) from error


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
