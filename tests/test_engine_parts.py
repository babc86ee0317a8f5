"""Seeds, averages, logs, locks and collectives: what a training run stands on."""

import errno
import io
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from pixgraft.engine import seeds
from pixgraft.engine.distributed import (
    Vote,
    World,
    average_gradients,
    barrier,
    broadcast_module,
    gather_objects,
    start,
    stop,
)
from pixgraft.engine.ema import Averages
from pixgraft.engine.lock import run_lock
from pixgraft.engine.log import Interrupt, Progress, RunLog
from pixgraft.errors import PixgraftError
from pixgraft.layers.spectral import SpectralConv2d

Groups = dict[str, dict[str, Tensor]]


def _same(a: Groups, b: Groups) -> bool:
    return a.keys() == b.keys() and all(
        a[g].keys() == b[g].keys()
        and all(a[g][k].dtype == b[g][k].dtype and torch.equal(a[g][k], b[g][k]) for k in a[g])
        for g in a
    )


# Seeds


def test_seed_is_the_documented_pure_function() -> None:
    assert seeds.derive(0, "data", 5) == 4743565499119885402  # else no former run can be repeated
    a = torch.rand(4, generator=seeds.generator("x", 1))
    assert torch.equal(a, torch.rand(4, generator=seeds.generator("x", 1)))
    assert not torch.equal(a, torch.rand(4, generator=seeds.generator("x", 2)))


PARTS = st.lists(st.one_of(st.integers(), st.text(max_size=4)), max_size=4)


@given(PARTS, PARTS)
def test_seeds_differ_wherever_their_parts_do(a: list[int | str], b: list[int | str]) -> None:
    assert 0 <= seeds.derive(*a) < 2**63
    assert (seeds.derive(*a) == seeds.derive(*b)) == (a == b)


def test_seed_parts_do_not_run_together() -> None:
    parts: list[tuple[int | str, ...]] = [(1, 23), (12, 3), (123,), ("1", 23), (1, "23"), ("i1:1", 23), ()]
    assert len({seeds.derive(*p) for p in parts}) == len(parts)


# Averages


def test_averages_follow_the_closed_form() -> None:
    linear, norm = nn.Linear(2, 2), nn.BatchNorm2d(2)
    net = nn.Sequential(linear, norm)
    nn.init.constant_(linear.weight, 1.0)
    averages = Averages({"generator": net})
    nn.init.constant_(linear.weight, 3.0)
    norm.register_buffer("running_mean", torch.full((2,), 0.25))
    for _ in range(10):
        averages.update(0.9)
    weight = averages.modules["generator"].state_dict()["0.weight"]
    torch.testing.assert_close(weight, torch.full((2, 2), 3.0 - 2.0 * 0.9**10))
    assert torch.equal(averages.state_dict()["generator.1.running_mean"], torch.full((2,), 0.25))
    assert not any(m.training for m in averages.modules["generator"].modules())
    assert net.training
    assert not any(p.requires_grad for p in averages.modules["generator"].parameters())
    assert linear.weight.requires_grad
    assert torch.equal(linear.weight, torch.full((2, 2), 3.0))


def test_averages_are_float32_and_decay_zero_copies() -> None:
    net = nn.Linear(3, 3).bfloat16()
    averages = Averages({"n": net})
    with torch.no_grad():
        net.weight.normal_()
    averages.update(0.0)
    assert averages.state_dict()["n.weight"].dtype == torch.float32
    assert torch.equal(averages.state_dict()["n.weight"], net.weight.float())


def test_spectral_vectors_belong_to_the_averaged_weights() -> None:
    torch.manual_seed(0)
    net = SpectralConv2d(3, 4, 3)
    averages = Averages({"d": net})
    average = averages.modules["d"]
    assert isinstance(average, SpectralConv2d)
    with torch.no_grad():
        net.weight.copy_(torch.randn_like(net.weight))
    for _ in range(200):
        averages.update(0.999)
    assert not torch.allclose(average.weight, net.weight)
    largest = torch.linalg.matrix_norm(average.weight.flatten(1), 2)
    torch.testing.assert_close(average.sigma(), largest, rtol=1e-4, atol=0)


def test_averages_round_trip() -> None:
    torch.manual_seed(0)
    first, second = (
        Averages({"a": nn.Sequential(nn.Linear(2, 2), SpectralConv2d(1, 2, 1)), "b": nn.BatchNorm1d(2)})
        for _ in range(2)
    )
    assert not _same({"": first.state_dict()}, {"": second.state_dict()})
    second.load_state_dict(first.state_dict())
    assert _same({"": first.state_dict()}, {"": second.state_dict()})
    state = first.state_dict()
    with pytest.raises(PixgraftError, match=r"a\.0\.bias"):
        second.load_state_dict({k: v for k, v in state.items() if k != "a.0.bias"})
    with pytest.raises(PixgraftError, match=r"c\.weight"):
        second.load_state_dict({**state, "c.weight": torch.ones(1)})
    with pytest.raises(PixgraftError, match=r"b\.weight"):
        second.load_state_dict({**state, "b.weight": torch.ones(3)})


# Log, progress, interrupt


def test_log_truncation(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.truncate(0)
    assert log.lines() == []
    log.write(event="start")
    for images in (8, 16, 24):
        log.write(images=images, loss=0.5, worst=float("nan"), parts=[float("-inf")])
    with log.path.open("ab") as file:
        file.write(b'{"images": 1')
    assert [line.get("images") for line in log.lines()] == [None, 8, 16, 24]
    log.truncate(16)
    log.write(images=17)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [line.get("images") for line in lines] == [None, 8, 16, 17]
    assert lines[1] == {"images": 8, "loss": 0.5, "worst": "nan", "parts": ["-inf"]}
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_log_truncation_keeps_a_whole_line_that_lacks_its_end(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.path.write_bytes(b'{"images": 1}\n\xff\xfe\0\n{"images": 2}')
    log.truncate(5)
    assert log.path.read_bytes() == b'{"images": 1}\n{"images": 2}\n'


def test_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(PixgraftError, match="nowhere"):
        RunLog(tmp_path / "nowhere" / "log.jsonl").write(images=1)


def _progress(terminal: bool, **options: Any) -> tuple[Progress, io.StringIO, list[float]]:
    out, now = io.StringIO(), [0.0]
    console = Console(file=out, force_terminal=terminal, width=60, highlight=False)
    return Progress(10_000, 1000, console=console, clock=lambda: now[0], **options), out, now


def test_progress_off_a_terminal_is_one_plain_line_a_report() -> None:
    progress, out, now = _progress(False)
    with progress:
        progress.note("resumed [bold]at[/bold] 1000")
        for i in range(1, 4):
            now[0] = 10.0 * i
            progress.update(1000 + 500 * i, {"generator": 1.23456, "discriminator": 0.00012345})
    lines = out.getvalue().splitlines()
    assert lines[0] == "resumed [bold]at[/bold] 1000"
    assert lines[3] == ("2,500/10,000 images  50.0 images/s  0:02:30 left  generator 1.235  discriminator 0.0001234")
    assert len(lines) == 4
    assert "\x1b" not in out.getvalue()


def test_progress_speed_is_smoothed_whatever_the_rhythm_of_reports() -> None:
    speeds = []
    for rhythm in (1, 10):
        progress, out, now = _progress(False)
        with progress:
            progress.update(1000, {})
            now[0] = 30.0
            progress.update(1300, {})
            for second in range(rhythm, 31, rhythm):
                now[0] = 30.0 + second
                progress.update(1300 + 100 * second, {})
        match = re.search(r"([\d.]+) images/s", out.getvalue().splitlines()[-1])
        assert match
        speeds.append(float(match[1]))
    assert speeds[0] == speeds[1]
    assert speeds[0] == pytest.approx(100 - 90 / 2.71828, abs=0.1)


def test_progress_on_a_terminal_draws_a_bar_and_disabled_says_nothing() -> None:
    progress, out, now = _progress(True)
    with progress:
        now[0] = 1.0
        progress.update(2000, {"generator": 0.5})
    assert "━" in out.getvalue()
    assert "2,000/10,000" in out.getvalue()
    assert "generator 0.5" in out.getvalue()
    progress, out, _ = _progress(True, enabled=False)
    with progress:
        progress.update(2000, {"generator": 0.5})
        progress.note("x")
    assert out.getvalue() == ""


def test_interrupt_flags_then_raises_then_restores() -> None:
    former = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        states = [interrupt.requested]
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            states.append(interrupt.requested)
    assert states == [None, "SIGTERM", "SIGTERM"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == former
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == former


def test_interrupt_outside_the_main_thread_changes_nothing() -> None:
    seen: list[str | None] = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


# Lock

HOLDER = """
import sys
from pathlib import Path
from pixgraft.engine.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_lock_from_a_second_process(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(PixgraftError, match=rf"run: process {holder.pid} ") as caught, run_lock(folder):
            pass
        assert "\n" not in str(caught.value)
        holder.kill()
        holder.wait()
    for _ in range(2):  # a killed holder holds nothing, and neither does one that left
        with run_lock(folder):
            assert (folder / ".lock").read_text() == f"{os.getpid()}\n"
    assert (folder / ".lock").read_text() == ""


def test_lock_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pixgraft.engine.lock.open_for_writing", write)
        with pytest.raises(PixgraftError, match="run: cannot be locked: No space left"), run_lock(tmp_path / "run"):
            pass
    with run_lock(tmp_path / "run"):  # it let go
        pass


def test_lock_in_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PixgraftError, match="cannot be locked"), run_lock(tmp_path / "file"):
        pass


# Collectives


def _net() -> nn.ModuleDict:
    return nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in ("both", "one", "none")})


def _with_gradients(rank: int) -> nn.ModuleDict:
    net = _net()
    net["both"].weight.grad = torch.full((2, 2), 1.0 + 2 * rank)
    if rank == 1:
        net["one"].weight.grad = torch.arange(4.0).view(2, 2).t()
    return net


def _worker(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    os.environ.update(MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    world = start("cpu")
    result: dict[str, Any] = {"world": world}
    net = _with_gradients(rank)
    result["norm"] = float(average_gradients(list(net.parameters()), world))
    result["gradients"] = {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}
    if rank == 1:
        net["both"].weight.grad = torch.tensor([[0.0, float("inf")], [0.0, 0.0]])
    result["infinite"] = float(average_gradients(list(net.parameters()), world))
    vote = Vote(world, torch.device("cpu"))
    result["any"] = [vote.any(rank == 1), vote.any(False), vote.any(False)]
    result["gathered"] = gather_objects({"rank": rank}, world)
    convolution = nn.Conv2d(2, 3, 2)
    convolution.weight = nn.Parameter(convolution.weight.detach().to(memory_format=torch.channels_last))
    module = nn.Sequential(convolution, nn.BatchNorm2d(3))
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.copy_(torch.full_like(tensor, rank + 1))
    broadcast_module(module, world)
    result["broadcast"] = {float(t.max()) for t in module.state_dict().values()}
    barrier()
    stop()
    torch.save(result, f"{out}/{rank}.pt")


def test_two_ranks_agree_with_the_mean(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start_processes(_worker, (port, str(tmp_path)), nprocs=2, start_method="spawn")
    one = torch.arange(4.0).view(2, 2).t() / 2
    norm = float(torch.cat([torch.full((4,), 2.0), one.flatten()]).norm())
    for rank in range(2):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert result["world"] == World(rank, 2, rank)
        assert torch.equal(result["gradients"]["both.weight"], torch.full((2, 2), 2.0))
        assert torch.equal(result["gradients"]["one.weight"], one)
        assert result["gradients"]["none.weight"] is None
        assert result["norm"] == pytest.approx(norm, rel=1e-6)
        assert result["infinite"] == float("inf")
        assert result["any"] == [False, True, False]
        assert result["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert result["broadcast"] == {1.0}


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    world = start("cpu")
    assert world == World(0, 1, 0)
    net = _with_gradients(1)
    before = net["one"].weight.grad
    expected = float(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm())
    assert average_gradients(list(net.parameters()), world) == pytest.approx(expected, rel=1e-6)
    assert net["one"].weight.grad is before
    assert net["none"].weight.grad is None
    net["both"].weight.grad = torch.full((2, 2), float("nan"))
    assert not average_gradients(list(net.parameters()), world) < float("inf")
    assert average_gradients([], world) == 0.0
    assert Vote(world, torch.device("cpu")).any(True)
    assert gather_objects("x", world) == ["x"]
    broadcast_module(net, world)
    barrier()
    stop()


def test_a_start_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(PixgraftError, match="start with torchrun"):
        start("cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the parameters are glibc's")
def test_freed_memory_is_kept() -> None:
    """Blocks of 4 MiB that are freed and taken again cost no more page faults."""
    program = """
import resource
from pixgraft.engine.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        b"x" * 2**22
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
keep_freed_memory()
faults()
print(given_back, faults())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    given_back, kept = map(int, ran.stdout.split())
    assert kept < given_back / 10
