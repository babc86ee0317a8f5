"""A method that joins: one class, one entry in the table of methods and one preset; everything else is there."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

import pixgraft
from pixgraft.cli import main
from pixgraft.layers.conditions import ConditionSpec, from_levels
from pixgraft.layers.resample import enlarge
from pixgraft.losses.reconstruction import l1
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch, Losses, MethodConfig, Phase
from pixgraft.methods.tasks import Graft, GraftConfig, Synthesis, Synthesized
from pixgraft.models import save_model
from pixgraft.presets import PRESETS
from pixgraft.training.experiment import Experiment, TrainConfig
from training import assert_equal, make_images, make_pairs, newest

# --- two toys ---


@dataclass(frozen=True, kw_only=True)
class TracingConfig(MethodConfig):
    image_size: int = 32
    channels: int = 4

    @property
    def condition_spec(self) -> ConditionSpec:
        return ConditionSpec("sketch", self.image_size)


class Tracing(Synthesis):
    """Drawings to images by two convolutions, without style and noise."""

    name: ClassVar[str] = "tracing"
    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    Config: ClassVar[type] = TracingConfig

    def __init__(self, config: TracingConfig) -> None:
        super().__init__(config)
        layers = nn.Conv2d(1, config.channels, 3, padding=1), nn.ReLU(), nn.Conv2d(config.channels, 3, 3, padding=1)
        self.generator = nn.Sequential(*layers)

    def phases(self) -> list[Phase]:
        return [Phase(name="generator", losses=self.losses, optimizer="generator")]

    def losses(self, batch: Batch) -> Losses:
        assert batch.condition is not None
        return {"l1": l1(self.generator(from_levels(batch.condition)), batch.images)}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"generator": Adam(self.generator.parameters(), lr=1e-2)}

    @torch.no_grad()
    def samples(self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]) -> list[Synthesized]:
        self.condition.check(condition)
        image = self.generator(from_levels(condition)).clamp(-1, 1)
        return [Synthesized(image) for _ in noises]


@dataclass(frozen=True, kw_only=True)
class BlendConfig(GraftConfig):
    image_size: int = 32
    lr_size: int = 8


class Blend(Graft):
    """The source's and the enlarged target's colours, weighted."""

    name: ClassVar[str] = "blend"
    averaged: ClassVar[tuple[str, ...]] = ("generator",)
    Config: ClassVar[type] = BlendConfig

    def __init__(self, config: BlendConfig) -> None:
        super().__init__(config)
        self.generator = nn.Conv2d(6, 3, 1)

    def phases(self) -> list[Phase]:
        return [Phase(name="generator", losses=self.losses, optimizer="generator")]

    def losses(self, batch: Batch) -> Losses:
        return {"l1": l1(self.blend(batch.images, self.downscale(batch.images)), batch.images)}

    def blend(self, source: Tensor, target: Tensor) -> Tensor:
        blended: Tensor = self.generator(torch.cat([source, enlarge(target, 4)], 1))
        return blended

    def optimizers(self) -> dict[str, Optimizer]:
        return {"generator": Adam(self.generator.parameters(), lr=1e-2)}

    @torch.no_grad()
    def translate(self, source: Tensor, target: Tensor) -> Tensor:
        return self.blend(source, target).clamp(-1, 1)


def experiment(kind: str) -> Experiment:
    train = TrainConfig(batch=4, images=48, checkpoint_every=16, sample_every=48, samples=4, log_every=16)
    return Experiment(name=f"{kind}-tiny-32", kind=kind, method=METHODS[kind].Config(), train=train)


def register() -> None:
    """Enter each method in the table of methods, with one preset."""
    for method in (Tracing, Blend):
        METHODS[method.name] = method
        PRESETS[f"{method.name}-tiny-32"] = partial(experiment, method.name)


# --- what they can do ---


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (Tracing, Blend):
        monkeypatch.setitem(METHODS, method.name, method)
        monkeypatch.setitem(PRESETS, f"{method.name}-tiny-32", partial(experiment, method.name))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_pairs(tmp_path / "pairs", 8)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
import test_fifth_method
from pixgraft.cli import main
from pixgraft.training import loop
test_fifth_method.register()
real = loop.checkpoints.save
def save(*args, **options):
    real(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
loop.checkpoints.save = save
main(sys.argv[1:])
"""


@pytest.mark.parametrize("kind", ["tracing", "blend"])
def test_a_fifth_method_is_trained_resumed_used_and_measured(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = data if kind == "tracing" else data / "images"
    if kind == "tracing":
        for mask in (data / "masks").iterdir():  # drawings in place of label maps
            mask.write_bytes((data / "images" / mask.name).read_bytes())
    train = ["train", f"{kind}-tiny-32", "--data", str(given), "--device", "cpu", "--quiet"]
    assert main([*train, "--out", str(tmp_path / "whole")]) == 0
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), *train, "--out", str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9
    assert newest(tmp_path / "run").images_seen == 16
    assert main([*train, "--out", str(tmp_path / "run")]) == 0
    assert_equal(newest(tmp_path / "run"), newest(tmp_path / "whole"))

    assert main(["export", str(tmp_path / "run"), str(tmp_path / "model")]) == 0
    pipeline = pixgraft.load(tmp_path / "model", device="cpu")
    photos = make_images(tmp_path / "photos", 3)
    if kind == "tracing":
        result = pipeline(photos / "00.png")
        inputs = ["--condition", str(photos)]
        output, protocol = "00_0.png", "grit-table1"
    else:
        result = pipeline(photos / "00.png", photos / "00.png")
        inputs = ["--source", str(photos), "--target", str(photos), "--pairs", "name"]
        output, protocol = "00__00.png", "i2ilr-table1"
    out = tmp_path / "out"
    capsys.readouterr()
    assert main(["translate", str(tmp_path / "model"), *inputs, "--out", str(out), "--device", "cpu"]) == 0
    assert "3 made, 0 finished before, 0 failed" in capsys.readouterr().out
    result.save(tmp_path / "saved")
    saved = next((tmp_path / "saved").glob("*.png"))
    assert pixgraft.load(tmp_path / "model", device="cpu").model.method.name == kind
    assert open_pixels(saved) == open_pixels(out / output)

    measured = ["evaluate", str(tmp_path / "run"), "--data", str(given), "--protocol", protocol, "--bootstrap", "0"]
    more = ["--samples", "2"] if kind == "blend" else []
    metrics = ["--metrics", "l1", "psnr"] if kind == "tracing" else ["--metrics", "consistency", "diversity"]
    assert main([*measured, *more, *metrics, "--out", str(tmp_path / "table"), "--device", "cpu"]) == 0
    table = json.loads((tmp_path / "table" / "result.json").read_bytes())
    assert len(table["rows"]) == (1 if kind == "tracing" else 3) and table["rows"][0]["values"]


def open_pixels(path: Path) -> bytes:
    return Image.open(path).convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["tracing", "blend"])
def test_its_help_shows_its_tasks_options_alone(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path / "model", METHODS[kind](experiment(kind).method), info={})
    with pytest.raises(SystemExit) as exit_:
        main(["translate", str(tmp_path / "model"), "--help"])
    shown = capsys.readouterr().out
    assert exit_.value.code == 0
    assert ("--condition" in shown, "--source" in shown) == ((True, False) if kind == "tracing" else (False, True))
    assert "--steps" not in shown and "--strict" in shown
