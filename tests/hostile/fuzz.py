"""Files as strangers may give them, by the thousand; `python tests/hostile/fuzz.py` prints a table of the outcomes.

Mutated images, zips, checkpoints, reports, model folders and run folders, and pickles that would run a program. Each is
opened in a child with limited memory and time; what becomes of it is counted. Exit status 1 if a promise was broken.
"""

import argparse
import codecs
import contextlib
import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import readers_fuzz
from folders import open_model, open_run, spoil_json, spoil_model, spoil_run

from pixgraft import config as configs
from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.data.outputs import read_report
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.result import read_result
from pixgraft.layouts import identify
from pixgraft.layouts.reading import read_content, read_tensors
from pixgraft.training.experiment import Experiment
from training import make_images

MEMORY = 4 * 2**30
"""Bytes that a child may take beyond what it has at its start."""
SECONDS = 30
"""Seconds after which a file counts as hanging: the machine may be busy."""
SHARES = {
    "images": 0.40, "zips": 0.15, "checkpoints": 0.20, "pickles that run a program": 0.05, "reports": 0.10,
    "model folders": 0.08, "run folders": 0.02,
}  # fmt: skip
"""Each kind's share of the files."""
OUTCOMES = ("opened", "refused", "traceback", "crash", "hang", "over 4 GiB", "executed")
PROMISED = OUTCOMES[2:]
"""Outcomes that are promised never to be."""

Case = Callable[[], object]
"""Opens one file; raises PixgraftError for one that is refused."""


def read_cases(kind: str, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Mutated files of one of `readers_fuzz.KINDS`."""
    make, read = readers_fuzz.KINDS[kind]
    whole = make()
    while True:
        name = chance.choice(list(whole))
        path = folder / name
        path.write_bytes(readers_fuzz.mutated(whole[name], chance))
        yield partial(read, path)


def running_pickles(chance: random.Random, folder: Path, plain: bool = False) -> Iterator[Case]:
    """Pickles of several makes that would make the file `folder/executed`; `plain`: none within another file."""
    command = f"touch {folder}/executed"
    calls: tuple[tuple[bytes, bytes], ...] = (
        (b"os\nsystem\n", command.encode()), (b"posix\nsystem\n", command.encode()),
        (b"builtins\neval\n", f"__import__('os').system({command!r})".encode()),
        (b"builtins\nexec\n", f"__import__('os').system({command!r})".encode()),
        (b"subprocess\ngetoutput\n", command.encode()),
    )  # fmt: skip
    while True:
        name, text = chance.choice(calls)
        argument = b"X" + struct.pack("<I", len(text)) + text
        module, _, function = name.rstrip(b"\n").partition(b"\n")
        named = b"".join(b"\x8c" + bytes([len(each)]) + each for each in (module, function)) + b"\x93"
        call = chance.choice((
            b"c" + name + argument + b"\x85R", b"c" + name + b"(" + argument + b"tR", named + argument + b"\x85R",
            b"(i" + name if chance.random() < 0.2 else b"(c" + name + argument + b"o",
            b"c" + name + argument + b"\x85\x81",
        ))  # fmt: skip
        around = chance.choice((
            call, b"}X\1\0\0\0a" + call + b"s", b"(" + call + b"l",
            b"ccollections\nOrderedDict\n)R}X\1\0\0\0a" + call + b"sb",
            b"ctorch._utils\n_rebuild_tensor_v2\n(" + call + b"tR",
        ))  # fmt: skip
        data = b"\x80" + bytes([chance.choice((2, 3, 4))]) + around + b"."
        path = folder / chance.choice(("x.pkl",) if plain else ("x.pkl", "x.pt", "x.pth"))
        if path.suffix != ".pkl" and chance.random() < 0.7:
            readers = {"zip": _in_zip, "legacy": _legacy}
            data = readers[chance.choice(list(readers))](data)
        path.write_bytes(data)

        def read(path: Path = path) -> object:
            for attempt in (identify, read_tensors):
                with contextlib.suppress(PixgraftError):
                    attempt(path)
            return read_content(path)

        yield read


def _in_zip(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("x/data.pkl", data)
        archive.writestr("x/version", b"3\n")
    return stream.getvalue()


def _legacy(data: bytes) -> bytes:
    number = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    return number + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + data + pickle.dumps([], 2)


def report_cases(chance: random.Random, folder: Path, result: bytes, report: bytes) -> Iterator[Case]:
    """Results and reports with a value edited, or mutated bytes."""
    while True:
        name, whole = chance.choice((("result.json", result), ("00.json", report)))
        path = folder / name
        if chance.random() < 0.6:
            content = json.loads(whole)
            spoil_json(content, chance)
            path.write_text(json.dumps(content))
        else:
            path.write_bytes(readers_fuzz.mutated(whole, chance))
        yield partial(read_result if name == "result.json" else read_report, path)


def folder_cases(chance: random.Random, folder: Path, sound: Path, data: Path) -> Iterator[Case]:
    """Copies of a sound model folder or run folder with one thing edited, its digests renewed."""
    is_run = (sound / "checkpoints").is_dir()
    experiment = configs.loads(Experiment, (sound / "config.toml").read_text(), "config.toml") if is_run else None
    copy = folder / "copy"
    while True:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(sound, copy)
        (spoil_run if is_run else spoil_model)(copy, chance)
        if experiment is None:
            yield partial(open_model, copy)
        else:
            seen = int(max((sound / "checkpoints").glob("0*")).name)
            yield partial(open_run, copy, replaced(experiment, [f"train.images={seen + 4}"]), data)


def outcomes(cases: Iterator[Case], count: int, canary: Path, note: Callable[[str], None]) -> Counter[str]:
    """What becomes of the next `count` cases."""
    counts: Counter[str] = Counter()
    for _ in range(count):
        case = next(cases)
        outcome, told = in_child(case)
        if canary.exists():
            outcome = "executed"
            canary.unlink()
        counts[outcome] += 1
        if outcome in PROMISED:
            note(f"{outcome}: {case}\n{told}")
    return counts


def in_child(case: Case) -> tuple[str, str]:
    """Run a case in a fork of this process; its outcome, and the traceback if there is one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        told = "opened"
        try:
            case()
        except PixgraftError as error:
            told = "refused" if "\n" not in str(error) else f"traceback\nan error of several lines: {error!r}"
        except MemoryError:
            told = "over 4 GiB"
        except BaseException:
            told = f"traceback\n{traceback.format_exc()}"
        signal.alarm(0)
        os.write(writing, told.encode(errors="backslashreplace")[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = codecs.decode(pipe.read(), errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGALRM:
        return "hang", ""
    if status != 0:
        return "crash", f"signal {-status}"
    outcome, _, more = told.partition("\n")
    return outcome, more


def sound_files(root: Path) -> dict[str, Path]:
    """A run folder, a model folder, a result and a report, made by the commands themselves."""
    data = make_images(root / "data", 6)
    run = root / "run"
    sizes = [f"method.{network}_channels=4" for network in ("generator", "discriminator")]
    sizes += [f"method.{network}_max_channels=8" for network in ("generator", "discriminator")]
    settings = ["train.images=16", "train.checkpoint_every=8", "train.samples=4", *sizes]
    options = ["--device", "cpu", "--quiet"]
    given = [part for each in settings for part in ("--set", each)]
    assert main(["train", "i2ilr-tiny-32", "--data", str(data), "--out", str(run), *options, *given]) == 0
    assert main(["export", str(run), str(root / "model")]) == 0
    inputs = ["--source", str(data), "--target", str(data), "--pairs", "name"]
    assert main(["translate", str(run), *inputs, "--out", str(root / "out"), *options]) == 0
    sets = ["--real", str(data), "--fake", str(data), "--pairs", "name", "--metrics", "l1", "psnr", "spectrum"]
    assert main(["evaluate", *sets, "--size", "32", "--out", str(root / "result"), *options]) == 0
    report = next(path for path in sorted((root / "out").glob("*.json")))
    return {
        "data": data, "run": run, "model": root / "model", "result": root / "result" / "result.json", "report": report,
    }  # fmt: skip


def fuzz(count: int, seed: int, root: Path, note: Callable[[str], None] = print) -> dict[str, Counter[str]]:
    """Outcomes of `count` files, by kind."""
    torch.set_num_threads(1)
    sound = sound_files(root)
    result, report = sound["result"].read_bytes(), sound["report"].read_bytes()
    makers: dict[str, Callable[[random.Random, Path], Iterator[Case]]] = {
        "images": partial(read_cases, "images"),
        "zips": partial(read_cases, "zips"),
        "checkpoints": partial(read_cases, "tensors"),
        "pickles that run a program": running_pickles,
        "reports": partial(report_cases, result=result, report=report),
        "model folders": partial(folder_cases, sound=sound["model"], data=sound["data"]),
        "run folders": partial(folder_cases, sound=sound["run"], data=sound["data"]),
    }
    table: dict[str, Counter[str]] = {}
    for kind, share in SHARES.items():
        folder = root / kind.replace(" ", "_")
        folder.mkdir()
        chance = random.Random(f"{kind} {seed}")
        cases = makers[kind](chance, folder)
        table[kind] = outcomes(cases, max(1, round(count * share)), folder / "executed", note)
    return table


def accounts(count: int, seed: int, root: Path) -> Counter[str]:
    """What `translate` says of a folder of `count` spoilt images, and how many of them it lost or changed."""
    run, data, images = root / "run", root / "data", root / "accounts"
    images.mkdir()
    chance, whole = random.Random(f"accounts {seed}"), readers_fuzz.picture_files()
    for number in range(count):
        name = chance.choice(list(whole))
        (images / f"{number:05d}{Path(name).suffix}").write_bytes(readers_fuzz.mutated(whole[name], chance))
    before = {path: path.read_bytes() for path in images.iterdir()}
    source = min(data.iterdir())
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        given = ["--source", str(source), "--target", str(images), "--out", str(root / "accounted")]
        main(["translate", str(run), *given, "--device", "cpu", "--quiet"])
    numbers = re.findall(r"([\d,]+) (made|finished before|failed)", said.getvalue())
    told = Counter({what: int(number.replace(",", "")) for number, what in numbers})
    changed = sum(not path.is_file() or path.read_bytes() != content for path, content in before.items())
    return Counter({"tried": count, **told, "lost inputs": count - told.total(), "replaced inputs": changed})


def markdown(table: dict[str, Counter[str]]) -> str:
    """The outcomes as a table, with a row for each kind and one for all."""
    rows: dict[str, Any] = {**table, "all": sum(table.values(), Counter())}
    lines = ["| | tried | " + " | ".join(OUTCOMES) + " |", "| --- |" + " ---: |" * (1 + len(OUTCOMES))]
    for kind, counts in rows.items():
        lines.append(f"| {kind} | {counts.total()} | " + " | ".join(str(counts[each]) for each in OUTCOMES) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Open thousands of spoilt files and count what becomes of them.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = fuzz(given.count, given.seed, Path(place))
        counted = accounts(given.count // 25, given.seed, Path(place))
    print(markdown(found))
    print(
        "`translate` over a folder of spoilt images:", ", ".join(f"{what} {number}" for what, number in counted.items())
    )
    broken = any(counts[each] for counts in found.values() for each in PROMISED)
    sys.exit(broken or bool(counted["lost inputs"] or counted["replaced inputs"]))
