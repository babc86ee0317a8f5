"""Run folders and model folders as a stranger may give them: sound ones with one thing edited, and the digests renewed.

`spoil_run` and `spoil_model` change a folder by a random generator. As a program this spoils copies of a folder and
opens each: `folders.py SEED COUNT DATA FOLDER...`. COUNT is for model folders; of a run folder, which is also resumed
on DATA, there are a sixth. It prints a line for each copy, before it is opened; what is neither opened nor refused by a
PixgraftError is printed with its traceback.
"""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from pixgraft import config as configs
from pixgraft.config import replaced
from pixgraft.errors import PixgraftError
from pixgraft.models import load_model, task_of
from pixgraft.training.experiment import Experiment
from pixgraft.training.loop import train

MEMORY = 2 * 2**30
"""Bytes that opening one folder may take beyond what the process had."""
SECONDS = 60

DEEP: Any = json.loads("[" * 400 + "]" * 400)
VALUES: tuple[Any, ...] = (
    None, [], {}, "", "x", "\x1b[31m\n", "0" * 5_000, True, 0, -1, 1.5, 65_536, 20_000, 10**6, 2**31, 2**62, 2**63,
    10**400, 1e308, float("nan"), float("inf"), [1], [[]], {"a": {}}, ["x"] * 3, DEEP,
)  # fmt: skip
TOML_VALUES = (
    "9" * 5_000, "0x" + "f" * 5_000, "[" * 5_000, "{a=" * 400, "nan", "-inf", "''", "[]", "{}", "1979-05-27", "-1", "0",
    "9223372036854775807", "1000000", "[[1, 2], [3]]", '"\\u001b[31m"', "true", "1e400", "65536",
)  # fmt: skip
LINES = (
    b"[]", b"{}", b'{"images": "x"}', b'{"images": null}', b'{"images": 1e400}', b"9" * 5_000, b"[" * 100_000,
    b'{"images": -1, "diversity": "x"}', b'{"images": 4, "diversity": 1e400}', b"\xff\x00", b'{"images": true}',
    b'{"images": ' + b"9" * 5_000 + b"}", b'{"a": 1}' * 20_000,
)  # fmt: skip
DTYPES = (torch.float16, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.float8_e4m3fn, torch.uint8)


# --- single values ---


def _places(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if prefix:
        yield prefix
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value[:3])
        for key, inner in items:
            yield from _places(inner, (*prefix, key))


def spoil_json(content: Any, chance: random.Random) -> str:
    """Change, remove or add one value of parsed JSON; says what."""
    place = chance.choice(list(_places(content)))
    table = content
    for key in place[:-1]:
        table = table[key]
    kind = chance.random()
    if kind < 0.15:
        del table[place[-1]]
        return f"without {place}"
    value = chance.choice(VALUES)
    if kind < 0.25 and isinstance(table, dict):
        table["surplus"] = value
    else:
        table[place[-1]] = value
    return f"{place} is {str(type(value)) if value is DEEP else repr(value)[:40]}"


def spoil_tensors(file: Path, chance: random.Random) -> str:
    """Change, remove or add one tensor of a file, or one entry of its header; says what."""
    if chance.random() < 0.3:
        return _spoil_header(file, chance)
    tensors = safetensors.torch.load(file.read_bytes())
    name = chance.choice(sorted(tensors))
    tensor = tensors[name]
    edits: dict[str, Callable[[], torch.Tensor | None]] = {
        "one": lambda: torch.zeros(1, dtype=tensor.dtype),
        "none": lambda: torch.zeros(0, dtype=tensor.dtype),
        "scalar": lambda: torch.zeros((), dtype=tensor.dtype),
        "long": lambda: torch.zeros(100_000, dtype=tensor.dtype),
        "deeper": lambda: tensor.unsqueeze(0),
        "flat": lambda: tensor.flatten(),
        "turned": lambda: tensor.t().contiguous() if tensor.ndim == 2 else tensor.flatten()[:-1].clone(),
        "dtype": lambda: tensor.to(chance.choice(DTYPES)),
        "removed": lambda: None,
        "nan": lambda: torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor - 2**40,
        "minus": lambda: torch.full_like(tensor, -1),
        "huge": lambda: torch.full_like(tensor, 3e38) if tensor.is_floating_point() else tensor + 2**40,
    }
    edit = chance.choice([*edits, "added", "renamed"])
    if edit == "added":
        tensors[chance.choice(["surplus", f"{name}.more", "9999.exp_avg", "generator.9999.exp_avg", "x" * 500])] = (
            tensor
        )
    elif edit == "renamed":
        tensors[f"{name[:-1]}\x1b"] = tensors.pop(name)
    else:
        made = edits[edit]()
        tensors.pop(name)
        if made is not None:
            tensors[name] = made
    file.write_bytes(safetensors.torch.save({key: value.clone() for key, value in tensors.items()}))
    return f"{file.name}: {name} {edit}"


def _spoil_header(file: Path, chance: random.Random) -> str:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = chance.choice(sorted(header))
    entry = header[name]
    field = chance.choice([*entry, "raw", "raw"])
    if field == "raw":
        text = chance.choice([b"[" * 100_000, b"{" * 50, b"[]", b'{"a": 1}', b"null", b"\xff" * 20, b"9" * 5_000])
    else:
        choices = {
            "dtype": ["F4", "F8_E4M3", "F8_E5M2", "C64", "U64", "x", None, [], 1, "F64"],
            "shape": [[2**62], [2**62] * 4, [-1], [], None, ["x"], [1.5], [0] * 5_000, [True], DEEP],
            "data_offsets": [[0, 2**62], [-1, 3], [8, 0], [0], None, ["a", "b"], [0, 0], [2**64, 2**65]],
        }
        entry[field] = chance.choice(choices.get(field, [1]))
        text = json.dumps(header).encode()
    size = chance.choice([len(text), len(text), len(text), 2**62, 0, len(text) - 1])
    file.write_bytes(struct.pack("<Q", size) + text + data[8 + length :])
    return f"{file.name}: the header's {field} of {name}"


def spoil_kind(file: Path, chance: random.Random) -> str:
    """Replace a file by something else; says what."""
    kind = chance.choice(["fifo", "zero", "folder", "sparse", "dangling", "empty"])
    if file.is_symlink() or not file.is_dir():
        file.unlink(missing_ok=True)
    else:
        shutil.rmtree(file)
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        (file / "inner").mkdir(parents=True)
    elif kind == "sparse":
        with file.open("wb") as stream:
            stream.truncate(20 * 2**30)
    elif kind != "empty":
        file.symlink_to("/dev/zero" if kind == "zero" else "/nowhere")
    else:
        file.write_bytes(b"")
    return f"{file.name} is {kind}"


# --- folders ---


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def renew(folder: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint's description, with the sizes and digests of its files as they are, and its own digest."""
    content.pop("sha256", None)
    files: Any = content.get("files")
    for name in files if isinstance(files, dict) else ():
        try:
            size = (folder / name).stat().st_size if (folder / name).is_file() else -1
        except OSError:  # a name that is too long
            continue
        if isinstance(files[name], dict) and size >= 0:
            files[name]["bytes"] = size
            if size < 2**30:
                files[name]["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    text = json.dumps({**content, "sha256": _digest(content)})
    (folder / "checkpoint.json").write_text(text)


def spoil_run(folder: Path, chance: random.Random) -> str:
    """Edit one thing in a run folder, in its newest checkpoint if it is there; says what."""
    checkpoint = max((folder / "checkpoints").glob("0*"))
    files = sorted(checkpoint.glob("*.safetensors"))
    content = json.loads((checkpoint / "checkpoint.json").read_text())
    kind = chance.random()
    if kind < 0.35:
        told = spoil_json(content, chance)
        if chance.random() < 0.8:  # the sizes and digests of files that may no longer be named
            content.pop("sha256", None)
            (checkpoint / "checkpoint.json").write_text(json.dumps({**content, "sha256": _digest(content)}))
        return told
    if kind < 0.7:
        told = spoil_tensors(chance.choice(files), chance)
        renew(checkpoint, content)
        return told
    if kind < 0.8:
        lines = (folder / "config.toml").read_text().splitlines()
        number = chance.choice([number for number, line in enumerate(lines) if "=" in line])
        lines[number] = f"{lines[number].partition('=')[0]}= {chance.choice(TOML_VALUES)}"
        (folder / "config.toml").write_text("\n".join(lines))
        return f"config.toml: {lines[number][:60]}"
    if kind < 0.85:
        log = folder / "log.jsonl"
        line = chance.choice(LINES)
        log.write_bytes(line + b"\n" + log.read_bytes())
        return f"log.jsonl: {line[:40]!r}"
    names = ["config.toml", "log.jsonl", ".lock", "samples", "checkpoints", f"checkpoints/.{checkpoint.name}.tmp"]
    told = spoil_kind(
        chance.choice([*(folder / name for name in names), checkpoint / "checkpoint.json", *files]), chance
    )
    if (checkpoint / "checkpoint.json").is_file() and (checkpoint / "checkpoint.json").stat().st_size < 2**30:
        renew(checkpoint, content)
    return told


def spoil_model(folder: Path, chance: random.Random) -> str:
    """Edit one thing in a model folder; says what."""
    file, weights = folder / "model.json", folder / "weights.safetensors"
    info = json.loads(file.read_text())
    kind = chance.random()
    if kind < 0.5:
        told = spoil_json(info, chance)
    elif kind < 0.85:
        told = spoil_tensors(weights, chance)
        info["weights"] |= {"bytes": weights.stat().st_size, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    else:
        told = spoil_kind(chance.choice([file, weights]), chance)
        if weights.is_file():
            info["weights"]["bytes"] = weights.stat().st_size
        if not file.is_file() or file.stat().st_size not in range(1, 2**20):
            return told
    if isinstance(info.get("config"), dict):
        info["config_sha256"] = _digest(info["config"])
    file.write_text(json.dumps(info))
    return told


# --- the child ---


def open_run(folder: Path, experiment: Experiment, data: Path) -> None:
    """Open a run as a model, then train it on by one step."""
    for use in (lambda: load_model(folder), lambda: task_of(folder)):
        try:
            use()
        except PixgraftError as error:
            _check_line(error)
    train(experiment, data, folder, device="cpu", quiet=True)


def open_model(folder: Path) -> None:
    """Open a model folder, as `translate` does."""
    try:
        task_of(folder)
    except PixgraftError as error:
        _check_line(error)
    load_model(folder)


def _check_line(error: PixgraftError) -> None:
    assert len(str(error)) < 3_000, f"a message of {len(str(error))} characters: {str(error)[:300]}"


def attack(folder: Path, chance: random.Random, count: int, data: Path) -> int:
    """Spoil and open `count` copies of a model folder, or a sixth of it of a run folder; returns the number of copies
    that were neither opened nor refused."""
    faults, is_run = 0, (folder / "checkpoints").is_dir()
    if is_run:
        experiment = configs.loads(Experiment, (folder / "config.toml").read_text(), "config.toml")
        seen = int(max((folder / "checkpoints").glob("0*")).name)
        experiment = replaced(experiment, [f"train.images={seen + experiment.train.batch}"])
        count //= 6
    with tempfile.TemporaryDirectory() as root:
        for number in range(count):
            copy = Path(shutil.copytree(folder, Path(root) / f"{number}"))
            print(f"{number}: {(spoil_run if is_run else spoil_model)(copy, chance)}", flush=True)
            signal.alarm(SECONDS)
            try:
                if is_run:
                    open_run(copy, experiment, data)
                else:
                    open_model(copy)
            except PixgraftError as error:
                _check_line(error)
                print(f"   refused: {str(error)[-200:]!r}", flush=True)
            except BaseException:
                faults += 1
                print("FAULT", traceback.format_exc(), flush=True)
            signal.alarm(0)
            shutil.rmtree(copy, ignore_errors=True)
    return faults


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


if __name__ == "__main__":
    torch.set_num_threads(1)
    _limit_memory()
    seed, count, data, *others = sys.argv[1:]
    chances = random.Random(int(seed))
    sys.exit(bool(sum([attack(Path(each), chances, int(count), Path(data)) for each in others])))
