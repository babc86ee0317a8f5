"""Milliseconds of one image in use, by engine and precision, beside what the arithmetic alone would take.

Each figure is measured in a process of its own: "plain" is the network as it is trained, with the memory that the C
library gives back; "ready" is what `pixgraft` uses. The limit divides the network's operations by the speed of a matrix
product measured in the same run, both in float32.

    python benchmarks/use.py                     # the published sizes, with random weights, and the bundled models
    python benchmarks/use.py --only i2ilr --threads 1
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import common
import torch
import tyro
from common import Timing
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pixgraft.engine.memory import keep_freed_memory
from pixgraft.errors import PixgraftError
from pixgraft.layers.ready import lower_weights, make_ready
from pixgraft.methods import METHODS
from pixgraft.methods.base import Method
from pixgraft.models import bundled, load_model
from pixgraft.pipelines.engines import SESSIONS
from pixgraft.pipelines.onnx import onnx_bytes
from pixgraft.pipelines.programs import Program, programs
from pixgraft.presets import preset

How = Literal["plain", "ready", "bfloat16", "onnxruntime", "openvino", "openvino bfloat16"]
HOW: tuple[How, ...] = ("plain", "ready", "bfloat16", "onnxruntime", "openvino", "openvino bfloat16")
LIMITED: tuple[How, ...] = ("plain", "ready", "onnxruntime", "openvino")
"""Those in float32, of which the best is divided by the limit."""


@dataclass(frozen=True, kw_only=True)
class Options(common.CommonOptions):
    """Milliseconds of one image, by engine and precision."""

    only: str = ""
    """Measure the rows whose names contain this."""
    repeats: int = 10
    """Timed passes for each figure, after passes that do not count."""
    warm_up: float = 3.0
    """Seconds of passes that do not count; at least two are made. OpenVINO's first take twice the time."""


@dataclass(frozen=True)
class Network:
    """A network of the table."""

    label: str
    model: str
    """A preset, whose networks get random weights, or a bundled model."""
    program: str
    """A program of its task, or "encoder"."""


NETWORKS = (
    Network("i2ilr-official-128, generator", "i2ilr-official-128", "translate"),
    Network("psp-official-1024, encoder", "psp-official-1024", "encoder"),
    Network("stylegan2-ffhq-256, synthesis", "stylegan2-ffhq-256", "synthesize"),
    Network("stylegan2-paper-1024, synthesis", "stylegan2-paper-1024", "synthesize"),
)


@dataclass(frozen=True)
class Row:
    """The figures of one network."""

    label: str
    gflop: float
    limit: float
    """Milliseconds of the arithmetic alone."""
    timings: dict[str, Timing]


def networks() -> list[Network]:
    """The published sizes, then each program of the bundled models."""
    of_bundled = [
        Network(f"{name}, {program}", name, program)
        for name in bundled()
        for program in programs(load_model(name).method)
    ]
    return [*NETWORKS, *of_bundled]


def opened(network: Network) -> tuple[Method, Program]:
    """The method in eval mode, and the program to measure."""
    if network.model in bundled():
        method = load_model(network.model).method
    else:
        torch.manual_seed(0)
        experiment = preset(network.model)
        method = METHODS[experiment.kind](experiment.method).eval().requires_grad_(False)
    if network.program != "encoder":
        return method, programs(method)[network.program]
    encoder = method.get_submodule("encoder")
    side = method.config.training_size

    def draw(count: int, random: torch.Generator) -> list[Tensor]:
        return [torch.rand(count, 3, side, side, generator=random) * 2 - 1]

    return method, Program(lambda image: [encoder(image)], {"image": ""}, {"codes": ""}, draw)


def exported(network: Network, file: Path) -> None:
    """Write the program as ONNX. Call it by `in_fresh_process`."""
    method, program = opened(network)
    make_ready(method)
    file.write_bytes(onnx_bytes(method, program))


def measured(network: Network, how: How, options: Options, file: Path) -> Timing:
    """Seconds of single images. Call it by `in_fresh_process`. `file` is the program as ONNX."""
    device = common.prepared("cpu", options.threads)
    method, program = opened(network)
    inputs = program.draw(1, torch.Generator().manual_seed(0))
    run: Callable[[], object] = lambda: program.function(*inputs)  # noqa: E731
    if how != "plain":
        keep_freed_memory()
        make_ready(method)
    engine, _, precision = how.partition(" ")
    if engine in SESSIONS:
        session = SESSIONS[engine](file, "bfloat16" if precision else "float32")
        run = lambda: session(*inputs)  # noqa: E731
    else:
        if how != "plain":
            method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if how == "bfloat16":
            lower_weights(method, torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "bfloat16"):
        run()
        ends = time.monotonic() + options.warm_up
        run()
        while time.monotonic() < ends:
            run()
        return Timing(tuple(common.clocked(run, device) for _ in range(options.repeats)))


def operations(network: Network) -> float:
    """Billions of floating-point operations for one image. Call it by `in_fresh_process`."""
    method, program = opened(network)
    make_ready(method)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        program.function(*program.draw(1, torch.Generator().manual_seed(0)))
    return float(counter.get_total_flops()) / 1e9


def speed(options: Options) -> float:
    """Billions of operations a second of a product of large float32 matrices. Call it by `in_fresh_process`."""
    device = common.prepared("cpu", options.threads)
    size = 2048
    left, right = torch.rand(2, size, size)
    seconds = min(common.clocked(lambda: left @ right, device) for _ in range(10))
    return float(2 * size**3 / seconds / 1e9)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    common.check_counts(repeats=options.repeats)
    chosen = [each for each in networks() if options.only in each.label]
    if not chosen:
        raise PixgraftError(f"--only {options.only}: no network's name contains it")
    per_second = common.in_fresh_process(speed, options)
    rows: list[Row] = []
    for network in common.tracked(chosen):
        gflop = common.in_fresh_process(operations, network)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "program.onnx"
            common.in_fresh_process(exported, network, file)
            timings: dict[str, Timing] = {
                how: common.in_fresh_process(measured, network, how, options, file) for how in HOW
            }
        rows.append(Row(network.label, gflop, gflop / per_second * 1e3, timings))
    facts = common.in_fresh_process(common.machine, "cpu", options.threads)
    facts |= {"matrix product": f"{per_second:.0f} GFLOP/s"}
    columns = ("network, milliseconds", "GFLOP", "limit", *HOW, "ready / limit", "best / limit", "bfloat16 / limit")
    common.report("One image in use", columns, [_cells(row) for row in rows], facts, markdown=options.markdown)
    if options.json is not None:
        common.write_json(options.json, replace(options, json=None), facts, rows)


def _cells(row: Row) -> Sequence[str]:
    best = {how: timing.median * 1e3 for how, timing in row.timings.items()}
    reduced = min(best["bfloat16"], best["openvino bfloat16"])
    ratios = (best["ready"], min(best[how] for how in LIMITED), reduced)
    times = (f"{best[how]:.1f}" for how in HOW)
    return [row.label, f"{row.gflop:.2f}", f"{row.limit:.1f}", *times, *(f"{each / row.limit:.2f}" for each in ratios)]


if __name__ == "__main__":
    common.run_main(main)
