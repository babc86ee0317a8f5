"""The training step and loop: phases, precision, microbatches, processes, faults, logs and sample grids."""

import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from pixgraft import config
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine import distributed
from pixgraft.engine.distributed import World
from pixgraft.engine.log import RunLog
from pixgraft.errors import PixgraftError
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch, Losses, Preview
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.presets import preset
from pixgraft.training.experiment import Experiment
from pixgraft.training.trainer import Trainer
from training import (
    arguments,
    assert_close,
    assert_equal,
    experiment,
    load,
    log_lines,
    make_images,
    newest,
    run,
    some_batch,
    trainer,
)

PLAIN = "method.augment=[]"
"""Augmentation draws anew for each microbatch and rank, so that equality needs it off."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


# --- the step ---


@pytest.mark.parametrize(("warmup", "first", "second"), [("false", 0.2, 0.2), ("true", 0.9, 9 / 11)])
def test_each_phase_moves_its_own_network_and_the_averages_follow(warmup: str, first: float, second: float) -> None:
    one = trainer("train.average_decay=0.8", f"train.average_warmup={warmup}")
    before = {name: value.clone() for name, value in one.method.state_dict().items()}
    losses = one.step(some_batch())
    assert sorted(losses) == ["cycle", "fake", "generator", "r1", "real"]
    assert all(torch.isfinite(value) and not value.requires_grad for value in losses.values())
    assert one.images_seen == 4
    for name, parameter in one.method.named_parameters():
        assert not torch.equal(parameter, before[name]) or parameter.numel() == 1, name
    expected = [before[f"generator.{name}"] for name, _ in one.method.get_submodule("generator").named_parameters()]
    for share in (first, second):
        live = [parameter.detach() for parameter in one.method.get_submodule("generator").parameters()]
        expected = [torch.lerp(average, now, share) for average, now in zip(expected, live, strict=True)]
        torch.testing.assert_close(list(one.averages.modules["generator"].parameters()), expected, rtol=0, atol=1e-6)
        one.step(some_batch(seed=1))


def test_averages_stand_in_for_a_while() -> None:
    one = trainer()
    live = one.method.get_submodule("generator")
    with pytest.raises(ZeroDivisionError), one.averaged() as method:
        assert method.get_submodule("generator") is one.averages.modules["generator"]
        raise ZeroDivisionError
    assert one.method.get_submodule("generator") is live


def _gradients(one: Trainer, name: str) -> list[list[Tensor]]:
    """Filled, at each step of an optimizer, with its gradients."""
    seen: list[list[Tensor]] = []
    optimizer = one.optimizers[name]

    def keep(*_: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        seen.append([parameter.grad.clone() for parameter in parameters if parameter.grad is not None])

    optimizer.register_step_pre_hook(keep)
    return seen


def test_lazy_r1_is_rarer_and_as_many_times_stronger() -> None:
    always, lazy = trainer("method.r1_every=1"), trainer("method.r1_every=3")
    strong, weak = _gradients(lazy, "discriminator"), _gradients(always, "discriminator")
    due = ["r1" in lazy.step(some_batch(seed=seed)) for seed in range(5)]
    assert due == [True, False, False, True, False]
    always.step(some_batch(seed=0))
    assert len(strong) == 7
    for three, single in zip(strong[1], weak[1], strict=True):  # the second call of the first step
        torch.testing.assert_close(three, 3 * single)


@pytest.mark.parametrize(("batch", "micro"), [(4, 2), (8, 6)])
def test_microbatches_make_the_whole_batch(batch: int, micro: int) -> None:
    for seed in range(3):
        settings = (PLAIN, f"train.batch={batch}", f"train.seed={seed}")
        whole, parts = trainer(*settings), trainer(*settings, f"train.microbatch={micro}")
        losses, others = (one.step(some_batch(batch, seed=seed)) for one in (whole, parts))
        torch.testing.assert_close(losses, others, rtol=1e-4, atol=1e-6)
        assert_close(whole, parts, 1e-5)


def test_low_precision_is_for_the_phases_that_bear_it() -> None:
    low = trainer("train.precision=bfloat16", "train.channels_last=true")
    seen: dict[str, bool] = {}

    def watched(name: str, losses: Callable[[Batch], Losses]) -> Callable[[Batch], Losses]:
        def inner(batch: Batch) -> Losses:
            seen[name] = torch.is_autocast_enabled("cpu")
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            return losses(batch)

        return inner

    low.phases = [dataclasses.replace(phase, losses=watched(phase.name, phase.losses)) for phase in low.phases]
    full = trainer()
    for seed in range(4):
        losses, others = (one.step(some_batch(seed=seed)) for one in (low, full))
        for name, value in losses.items():
            assert value.dtype == torch.float32
            assert float(value) == pytest.approx(float(others[name]), rel=0.1, abs=0.02)
    assert seen == {"generator": True, "discriminator": True, "r1": False}


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("aot_eager", marks=pytest.mark.slow),  # all but the generated code
        pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_compiled_steps_agree_with_eager_ones(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_(module, backend=backend))
    # Its traces would be formatted for pytest, at length.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)
    settings = (PLAIN, "method.lr_size=16", "method.r1_every=2")
    eager, compiled = trainer(*settings), trainer(*settings, "train.compile=true")
    for seed in range(2):
        losses, others = (one.step(some_batch(seed=seed)) for one in (eager, compiled))
        torch.testing.assert_close(losses, others, rtol=1e-3, atol=1e-3)
        if seed == 0:
            assert_close(eager, compiled, 1e-3)
    assert compiled.method.state_dict().keys() == eager.method.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("i2ilr-tiny-32", {"generator", "discriminator"}),
        ("stylegan2-tiny-32", {"generator.mapping", "generator.synthesis", "discriminator"}),
        ("psp-tiny-32", {"generator.mapping", "generator.synthesis", "start", "encoder"}),
    ],
)
def test_the_modules_whose_forward_is_called_are_compiled(name: str, expected: set[str]) -> None:
    chosen = preset(name)
    method = METHODS[chosen.kind](chosen.method)
    names = {module: path for path, module in method.named_modules()}
    assert {names[module] for module in method.compilable()} == expected


# --- what is not finite ---


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_gradient_that_is_not_finite_stops_before_its_step(index: int) -> None:
    poisoned, sound = trainer(), trainer()
    phase = poisoned.phases[index]
    losses = phase.losses
    poisoned.phases[index] = dataclasses.replace(
        phase, losses=lambda batch: {name: value * float("nan") for name, value in losses(batch).items()}
    )
    with pytest.raises(PixgraftError, match=f"gradient of phase {phase.name} is not finite after 0 images .* nan"):
        poisoned.step(some_batch())
    sound.phases = sound.phases[:index]  # just the phases before it
    sound.step(some_batch())
    for name, value in sound.method.state_dict().items():
        assert torch.equal(poisoned.method.state_dict()[name], value), name
    for name, optimizer in sound.optimizers.items():
        assert len(poisoned.optimizers[name].state) == len(optimizer.state)


def test_not_a_number_keeps_the_last_checkpoint(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Trainer.step

    def poisoning(self: Trainer, batch: Batch) -> dict[str, Tensor]:
        if self.images_seen == 20:
            with torch.no_grad():
                next(self.method.get_submodule("discriminator").parameters()).fill_(float("nan"))
        return step(self, batch)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", poisoning)
        assert run(data, out, "train.images=24") == 2
    error = capsys.readouterr().err
    assert error.startswith("pixgraft: the gradient of phase generator is not finite after 20 images (generator nan, ")
    assert error.count("\n") == 1
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["000000000016"]
    assert run(data, out, "train.images=24") == 0
    assert run(data, tmp_path / "whole", "train.images=24") == 0
    assert_equal(newest(out), newest(tmp_path / "whole"))


def test_a_device_that_is_not_waited_for_saves_and_logs_no_bad_state(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Trainer.step

    def poisoning(self: Trainer, batch: Batch) -> dict[str, Tensor]:
        self.waits = False
        if self.images_seen == 4:
            with torch.no_grad():
                next(self.method.get_submodule("discriminator").parameters()).fill_(float("nan"))
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", poisoning)
    assert run(data, tmp_path / "run", "train.images=16", "train.checkpoint_every=12", "train.log_every=12") == 2
    error = capsys.readouterr().err
    assert error.startswith("pixgraft: the gradient of phase generator is not finite after 4 images (generator nan, ")
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert [line["images"] for line in log_lines(tmp_path / "run")] == [0]


def test_a_learning_rate_that_blows_up_is_named(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, tmp_path / "run", "train.images=40", "method.generator_lr=1e30") == 2
    error = capsys.readouterr().err
    assert "the gradient of phase generator is not finite" in error
    assert "lower that optimizer's learning rate" in error


# --- processes ---


def test_two_processes_are_one(tmp_path: Path, data: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text("00\n01\n02\n")
    measured = ("train.metric=fd", f"train.metric_split={held}", "train.metric_every=20", "train.metric_outputs=3")
    settings = (PLAIN, "train.images=24", "train.checkpoint_every=4", *measured)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pixgraft"]
    done = subprocess.run(
        [sys.executable, *command, *arguments(data, tmp_path / "two", *settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "6 images, 2 process(es) on cpu" in done.stdout
    assert run(data, tmp_path / "one", *settings) == 0
    two, one = (checkpoints.load(tmp_path / each / "checkpoints" / "000000000004") for each in ("two", "one"))
    assert_close(load(two, *settings), load(one, *settings), 1e-5)
    assert newest(tmp_path / "two").images_seen == 24
    lines, others = log_lines(tmp_path / "two"), log_lines(tmp_path / "one")
    assert len(lines) == len(others) == 10  # only one of them writes; two measurements
    for line, other in zip(lines, others, strict=True):
        assert line == pytest.approx(other, rel=1e-2, abs=1e-4)


# --- what a run leaves ---


def test_a_run_writes_its_log_grids_and_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    for part, count in (("train", 4), ("test", 2)):
        make_images(folder / part, count)
    out = tmp_path / "run"
    settings = ("train.images=22", "train.checkpoint_every=10", "train.sample_every=12", "train.log_every=8")
    assert run(folder, out, *settings, flags=("--split", "train")) == 0
    said = capsys.readouterr()
    assert "i2ilr-tiny-32: 4 images, 1 process(es) on cpu, from image 0 to 22" in said.out
    assert said.err == ""
    assert config.loads(Experiment, (out / "config.toml").read_text(), "") == experiment(*settings)
    # At the first step that reaches a multiple, and at the end, which is that of the last whole step.
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [f"{n:012d}" for n in (12, 20, 24)]
    assert sorted(path.name for path in (out / "samples").iterdir()) == [f"{n:012d}.png" for n in (0, 12, 24)]
    for path in (out / "samples").iterdir():
        with Image.open(path) as grid:
            assert grid.size == (4 * 34 + 2, 3 * 34 + 2)  # 2 sources and the targets' two columns; 2 targets
            assert "synthesised" in str(grid.info["Description"])
    lines = RunLog(out / "log.jsonl").lines()
    looks = [line for line in lines if "diversity" in line]
    assert [line["images"] for line in looks] == [0, 12, 24]
    assert all(line["diversity"] > 0 and "warning" not in line for line in looks)
    losses = [line for line in lines if "diversity" not in line]
    assert [line["images"] for line in losses] == [8, 12, 16, 20, 24]
    fields = {"images", "seconds", "speed", "generator", "cycle", "real", "fake"}
    assert [line.keys() - fields for line in losses] == [{"r1"}, set(), {"r1"}, set(), set()]
    assert all(fields <= line.keys() and line["speed"] > 0 for line in losses)


def test_other_durations_are_the_same_run(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    assert run(data, out, "train.images=8") == 0
    changed = ("train.images=12", "train.log_every=2", "train.sample_every=4", "train.keep=1")
    assert run(data, out, *changed) == 0
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["000000000012"]
    assert config.loads(Experiment, (out / "config.toml").read_text(), "").train.log_every == 2


def test_outputs_that_fall_together_are_told(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = iter([1.5, 0.9, 0.3, 0.44, 0.46])
    grid = torch.zeros(1, 1, 3, 32, 32)

    def preview(self: I2ILR, images: Tensor, condition: Tensor | None) -> Preview:
        assert images.shape == (4, 3, 32, 32)
        assert not self.generator.training  # the average, not the live one
        return Preview(grid=grid, diversity=next(values))

    monkeypatch.setattr(I2ILR, "preview", preview)
    out = tmp_path / "run"
    assert run(data, out, "train.sample_every=4", "train.images=8") == 0
    said = capsys.readouterr().out
    assert f"warning: diversity fell to 0.300 from 0.900 at best: the outputs may be collapsing; look at {out}" in said
    assert run(data, out, "train.sample_every=4", "train.images=16") == 0  # a resumed run knows the best
    assert "diversity fell to 0.440 from 0.900" in capsys.readouterr().out
    looks = [line for line in log_lines(out) if "diversity" in line]
    assert [line.get("warning") for line in looks] == [None, None, "diversity", "diversity", None]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (("else", None, "same"), "see different images"),
        (("same", "0" * 64, "same"), "see different checkpoints"),
        (("same", None, "else"), "use different networks"),
    ],
)
def test_processes_that_begin_apart_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], other: Any, told: str
) -> None:
    """Two machines without a disk in common: the second has no checkpoint, or other images."""

    def gathered(own: Any, world: World) -> list[Any]:
        return [own, tuple(mine if its == "same" else its for mine, its in zip(own, other, strict=True))]

    monkeypatch.setattr(distributed, "gather_objects", gathered)
    assert run(make_images(tmp_path / "data"), tmp_path / "run") == 2
    assert told in capsys.readouterr().err
