"""Common parts of the benchmarks: one process per row, timing, peak memory, and the table.

Each row of a table is measured in a new process, because the peak memory of a process never decreases.
"""

import dataclasses
import json
import multiprocessing
import os
import platform
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from pixgraft import devices
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes
from pixgraft.version import __version__

T = TypeVar("T")
MIB = 2**20
WIDTH = 120  # least width of a table: a narrower terminal wraps the lines, so that no figures are cut off


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Options of every benchmark."""

    device: str = "cpu"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: int = 0
    """CPU threads; 0: PyTorch's default."""
    compile: bool = False
    """Add rows with torch.compile, which takes minutes to compile."""
    json: Path | None = None
    """Also write all figures to this file."""
    markdown: bool = False
    """Print the table as Markdown."""


@dataclass(frozen=True)
class Timing:
    """Durations of repeated runs."""

    seconds: tuple[float, ...]
    """Seconds of each repetition, in order."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the difference between the slowest and the fastest repetition, as a fraction of the median."""
        return (max(self.seconds) - min(self.seconds)) / 2 / self.median


def check_counts(**counts: int) -> None:
    """Raise PixgraftError, naming the first option that is below 1."""
    for name, value in counts.items():
        if value < 1:
            raise PixgraftError(f"--{name.replace('_', '-')} {value}: choose a number from 1")


def tracked(rows: Sequence[T]) -> Iterator[T]:
    """Iterate over the rows, with a progress bar on stderr if that is a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(rows, description="measuring")


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` in a new Python process; function, arguments and result must be picklable.

    Re-raises the function's exceptions. Raises PixgraftError if the process was killed, for example out of memory.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    except (BrokenProcessPool, torch.OutOfMemoryError) as error:
        raise PixgraftError(
            f"a row's process ended early ({type(error).__name__}): unless a traceback above says why, memory ran out: "
            "measure something smaller"
        ) from error


def prepared(device: str, threads: int) -> torch.device:
    """The checked device; sets PyTorch's number of CPU threads, unless `threads` is 0."""
    if threads:
        torch.set_num_threads(threads)
    return devices.pick(device)


def clocked(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run, including its work on the device."""
    _synchronize(device)
    began = time.perf_counter()
    run()
    _synchronize(device)
    return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: torch.device) -> float:
    """Peak memory in MiB: of PyTorch's allocator on a CUDA device, else the peak resident set size of this process.

    A resident size includes the libraries, some 300 to 400 MiB before any network is created.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    # On Linux a new process inherits the parent's peak. The parent only imports, so its peak is below that of any row.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def machine(device: str, threads: int) -> dict[str, str]:
    """The machine and versions of the measurement. Call it by `in_fresh_process`, because it may initialise CUDA."""
    picked = prepared(device, threads)
    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "pixgraft": __version__,
        "device": torch.cuda.get_device_name(picked) if picked.type == "cuda" else picked.type,
    }
    if picked.type == "cuda":
        facts["float32 convolutions"] = "TF32" if torch.backends.cudnn.allow_tf32 else "float32"
    return facts


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def report(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    facts: dict[str, str],
    *,
    markdown: bool,
) -> None:
    """Print the table, labels in the first column, with the machine below; as Markdown if `markdown`."""
    below = ", ".join(f"{name} {value}" for name, value in facts.items())
    if markdown:
        print(f"{title}\n")
        print("| " + " | ".join(columns) + " |")
        print("| --- |" + " ---: |" * (len(columns) - 1))
        for row in rows:
            print("| " + " | ".join(row) + " |")
        print(f"\n`{shlex.join(['python', *sys.argv])}`; {below}.")
        return
    table = Table(
        title=escape(title), box=box.SIMPLE, title_justify="left", caption=escape(below), caption_justify="left"
    )
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=max(Console().width, WIDTH), highlight=False).print(table)


def write_json(path: Path, options: Any, facts: dict[str, str], rows: Sequence[Any]) -> None:
    """Write the options (a dataclass), the machine, and the rows (dataclasses) with all repetitions."""
    content = {
        "options": dataclasses.asdict(options),
        "machine": facts,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    write_bytes(path, (json.dumps(content, indent=1, default=str) + "\n").encode())


def run_main(main: Callable[[], None]) -> None:
    """Run a benchmark as a program: print a PixgraftError in one line and exit with status 2."""
    try:
        main()
    except PixgraftError as error:
        sys.exit(_complain(f"{Path(sys.argv[0]).name}: {error}"))
    except OSError as error:
        sys.exit(_complain(f"{Path(sys.argv[0]).name}: {error.filename}: {error.strerror}"))
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(line: str) -> int:
    print(line, file=sys.stderr)
    return 2
