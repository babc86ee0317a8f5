"""A run that was stopped, killed or damaged and then started again by the same command gives equal bits."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine.log import RunLog
from pixgraft.methods.base import Batch
from pixgraft.models import load_model
from pixgraft.training.trainer import Trainer
from training import arguments, assert_equal, log_lines, make_images, newest, run, tree

TO_THE_END = "train.images=48"
LOW = ("train.precision=bfloat16", "train.channels_last=true")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of 12 steps with checkpoints at 16, 32 and 48 images."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(data, out, TO_THE_END) == 0
    return out


def _assert_same_run(a: Path, b: Path) -> None:
    assert_equal(newest(a), newest(b))
    assert log_lines(a) == log_lines(b)
    assert tree(a / "samples") == tree(b / "samples")


def _at(monkeypatch: pytest.MonkeyPatch, images_seen: int, action: Any) -> None:
    """Do `action(trainer)` once, just before the step from `images_seen` on."""
    step = Trainer.step
    done: list[bool] = []

    def hooked(self: Trainer, batch: Batch) -> dict[str, torch.Tensor]:
        if self.images_seen == images_seen and not done:
            done.append(True)
            action(self)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", hooked)


@pytest.mark.parametrize("settings", [(), LOW], ids=["float32", "bfloat16-channels-last"])
def test_stopped_at_step_7_and_resumed_to_12(
    tmp_path: Path, data: Path, whole: Path, settings: tuple[str, ...]
) -> None:
    if settings:
        whole = tmp_path / "whole"
        assert run(data, whole, TO_THE_END, *settings) == 0
    out = tmp_path / "run"
    assert run(data, out, "train.images=28", *settings) == 0
    assert newest(out).images_seen == 28
    assert run(data, out, TO_THE_END, *settings, flags=("--resume",)) == 0
    _assert_same_run(out, whole)
    finished = tree(out)
    assert run(data, out, TO_THE_END, *settings) == 0  # a finished run stays as it is
    assert tree(out) == finished


def test_a_run_depends_on_its_seed(tmp_path: Path, data: Path, whole: Path) -> None:
    assert run(data, tmp_path / "run", "train.seed=1", "train.images=16") == 0
    former = checkpoints.load(whole / "checkpoints" / "000000000016").groups["networks"]
    now = newest(tmp_path / "run").groups["networks"]
    assert all(not torch.equal(now[key], former[key]) for key in now if key.endswith("weight"))


def test_killed_between_checkpoints(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("train.images=128", "train.keep=2")
    assert run(data, tmp_path / "whole", *settings) == 0
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "pixgraft", *arguments(data, out, *settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        log = RunLog(out / "log.jsonl")
        while process.poll() is None and not any(line["images"] > 16 for line in log.lines()):
            time.sleep(0.005)
        capsys.readouterr()
        status = run(data, out, *settings)  # while it trains, nobody else may
        told = capsys.readouterr().err
    finally:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert status == 2
    assert told.startswith(f"pixgraft: {out}: process {process.pid} is training into this folder; ")
    assert 16 <= newest(out).images_seen < 128
    assert run(data, out, *settings) == 0
    _assert_same_run(out, tmp_path / "whole")
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["000000000112", "000000000128"]


def test_crashed_before_the_first_checkpoint(
    tmp_path: Path, data: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(trainer: Trainer) -> None:
        raise ZeroDivisionError

    _at(monkeypatch, 8, crash)
    with pytest.raises(ZeroDivisionError):
        run(data, tmp_path / "run", TO_THE_END)
    assert log_lines(tmp_path / "run") == log_lines(whole)[:3]
    assert run(data, tmp_path / "run", TO_THE_END) == 0
    _assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_same_command_goes_on(
    tmp_path: Path,
    data: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
) -> None:
    handler = signal.getsignal(number)
    _at(monkeypatch, 16, lambda trainer: os.kill(os.getpid(), number))
    assert run(data, tmp_path / "run", TO_THE_END) == status
    said = capsys.readouterr()
    assert f"stopped by {number.name} after 20 images: the same command resumes" in said.out
    assert said.err == ""
    assert newest(tmp_path / "run").images_seen == 20
    assert signal.getsignal(number) is handler
    assert run(data, tmp_path / "run", TO_THE_END) == 0
    _assert_same_run(tmp_path / "run", whole)


def test_a_second_ctrl_c_does_not_wait(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def twice(trainer: Trainer) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    _at(monkeypatch, 20, twice)
    assert run(data, tmp_path / "run", TO_THE_END) == 130
    assert capsys.readouterr().err == "pixgraft: interrupted\n"
    assert newest(tmp_path / "run").images_seen == 16


# --- damage ---

FILES = ("networks.safetensors", "averages.safetensors", "optimizers.safetensors", "checkpoint.json")


def _cut(out: Path, name: str, keep: int, images: int = 48) -> None:
    path = out / "checkpoints" / f"{images:012d}" / name
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_cut_short_is_passed_over(
    tmp_path: Path, data: Path, whole: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    size = (whole / "checkpoints" / "000000000048" / name).stat().st_size
    before = checkpoints.load(whole / "checkpoints" / "000000000032")
    for keep in (size - 1, size // 2, 8, 0):
        out = tmp_path / str(keep)
        shutil.copytree(whole, out)
        _cut(out, name, keep)
        model = load_model(out)
        assert model.info["images_seen"] == 32
        assert model.weights_sha256 == before.sha256
        weights = model.method.get_submodule("generator").state_dict()
        assert all(torch.equal(weights[key], before.groups["averages"][f"generator.{key}"]) for key in weights)
    capsys.readouterr()
    assert run(data, tmp_path / "8", TO_THE_END) == 0
    assert f"passed over: {tmp_path / '8'}/checkpoints/000000000048/{name}: " in capsys.readouterr().out
    _assert_same_run(tmp_path / "8", whole)


def test_no_good_checkpoint_is_no_reason_to_begin_anew(
    tmp_path: Path, data: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for images in (16, 32, 48):
        _cut(out, "checkpoint.json", 100, images)
    damaged = tree(out)
    assert run(data, out, TO_THE_END) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"pixgraft: {out}/checkpoints/000000000048/checkpoint.json: not JSON: cut short")
    assert told.endswith(f"or remove {out}/checkpoints to begin anew\n")
    assert tree(out) == damaged


# --- another run ---


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        (("method.r1_every=5",), "method.r1_every was 3, not 5"),
        (("train.batch=8", "train.flip=false"), "train.batch was 4, not 8, train.flip was True, not False"),
    ],
)
def test_another_setting_is_another_run(
    data: Path, whole: Path, capsys: pytest.CaptureFixture[str], settings: tuple[str, ...], difference: str
) -> None:
    before = tree(whole)
    assert run(data, whole, TO_THE_END, *settings) == 2
    assert capsys.readouterr().err == (
        f"pixgraft: {whole}: holds another run ({difference}): choose another folder, or these values\n"
    )
    assert tree(whole) == before


def test_other_images_are_refused(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_images(tmp_path / "other", 7)
    before = tree(whole)
    assert run(other, whole, TO_THE_END) == 2
    assert capsys.readouterr().err == f"pixgraft: {other}: other images than {whole} was trained on: give those\n"
    assert tree(whole) == before
