"""Runs that can be watched: a metric that disturbs nothing, the best model, curves, films, a run's last words."""

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from cases import CASES, Case, trainer_of
from encoders import codes, saved
from generators import run as use
from pixgraft.cli import main
from pixgraft.data.video import mp4_bytes
from pixgraft.engine.log import RunLog
from pixgraft.evaluation.curves import read_curves, smoothed
from pixgraft.features import BUNDLED, Feature, open_feature
from pixgraft.methods import METHODS
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.models import load_model
from pixgraft.presets import preset
from pixgraft.training.speed import training_speed
from training import CPU, assert_equal, log_lines, make_images, newest, run, tree
from using import refusal

av: Any = pytest.importorskip("av")
WATCHED = ("--split", "train", "--metric", "fd", "--metric-every", "8")
OFTEN = "train.sample_every=8"
FEW = "train.metric_outputs=6"
NAME = "fd:squeezenet"
OF_EACH_TASK = [case for case in CASES if case.name in ("starganv2-domains", "grit", "psp", "progan")]


class Small(nn.Module):
    """Features of an image that take no time."""

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, 2).flatten(1)


def small_feature(name: str, *given: Any, **more: Any) -> Feature:
    return Feature(name, Small(), "0" * 64) if name == BUNDLED else open_feature(name, *given, **more)


@pytest.fixture(scope="module", autouse=True)
def _small_features(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixgraft.training.metric.open_feature", small_feature)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_images(folder / "train")
    make_images(folder / "held", 4)
    return folder


@pytest.fixture(scope="module")
def watched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 images, measured every 8."""
    out = tmp_path_factory.mktemp("watched") / "run"
    assert run(data, out, "train.images=24", OFTEN, FEW, "train.tensorboard=true", flags=WATCHED) == 0
    return out


def measured(out: Path) -> dict[int, float]:
    return {line["images"]: line[NAME] for line in RunLog(out / "log.jsonl").lines() if NAME in line}


# --- a metric while training ---


def test_a_metric_changes_nothing_of_the_run(watched: Path, data: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    assert run(data, plain, "train.images=24", OFTEN, flags=WATCHED[:2]) == 0
    assert_equal(newest(plain), newest(watched))
    assert tree(plain / "samples") == tree(watched / "samples")
    assert log_lines(plain) == [line for line in log_lines(watched) if NAME not in line]


def test_a_run_that_resumes_keeps_its_metric_and_its_length(
    watched: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(data, out, "train.images=16", OFTEN, FEW, flags=WATCHED) == 0
    capsys.readouterr()
    assert run(data, out, flags=WATCHED[:2]) == 0
    assert "\n16 images in 0:00:" in capsys.readouterr().out
    assert newest(out).images_seen == 16
    assert run(data, out, "train.images=24", flags=WATCHED[:2]) == 0
    assert_equal(newest(out), newest(watched))
    assert log_lines(out) == log_lines(watched)
    assert tree(out / "best") == tree(watched / "best")


def test_the_best_model_stands_beside_the_last(watched: Path, tmp_path: Path) -> None:
    values = measured(watched)
    assert list(values) == [8, 16, 24] and all(map(math.isfinite, values.values()))
    seen, least = min(values.items(), key=lambda each: each[1])
    best = load_model(watched / "best")
    assert best.info["metric"] == {"name": NAME, "value": least} and best.info["images_seen"] == seen
    for flags, images in (((), 24), (("--best",), seen)):
        out = tmp_path / f"exported{len(flags)}"
        assert main(["export", str(watched), str(out), *flags]) == 0
        exported = load_model(out)
        assert exported.info["images_seen"] == images
    for name, tensor in best.method.state_dict().items():
        if name.startswith(best.method.averaged):
            assert torch.equal(tensor, exported.method.state_dict()[name])


def test_a_run_says_what_it_made_and_what_comes_next(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(data, out, "train.images=8", flags=("--split", "train")) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last[0].startswith("8 images in 0:00:0")
    assert last[0].endswith(f": {out}: 1 checkpoint, 2 sample grids, log.jsonl")
    assert last[1] == f"next: pixgraft plot {out}, or pixgraft translate {out} --source A --target B --out OUT"
    assert run(data, out, "train.images=8", flags=("--split", "train", "--quiet")) == 0
    assert capsys.readouterr().out == ""


def test_outputs_that_are_all_alike_are_the_worst_and_stop_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(I2ILR, "outputs", lambda self, batch, others, randoms: torch.zeros_like(batch.images))
    out = tmp_path / "run"
    assert run(data, out, "train.images=4", FEW, flags=WATCHED) == 0
    assert [line.get(NAME) for line in log_lines(out)][-1] == "inf" and not (out / "best").exists()


def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "one.txt"
    one.write_text("held/00")
    for flags, told in (
        (("--metric", "fd"), "takes images that are held out: give --split, or name some with"),
        ((*WATCHED[:2], "--metric", "kd"), "train.metric is kd: choose fd, or fd:NETWORK"),
        ((*WATCHED[:2], "--metric", "fd:none"), "no feature network named none"),
        ((*WATCHED, "--set", f"train.metric_split={one}"), "at least 2 images, found 1"),
        ((*WATCHED, "--set", "train.metric_outputs=1"), "train.metric_outputs is 1"),
    ):
        assert run(data, tmp_path / "run", flags=flags) == 2
        assert told in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    assert "no run with a best model" in refusal(capsys, "export", tmp_path, tmp_path / "out", "--best")


@pytest.mark.slow
def test_the_metric_of_samples_is_the_one_that_evaluate_gives(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixgraft.training.metric.open_feature", open_feature)
    out, settings = tmp_path / "run", ("train.images=8", "train.batch=4", "train.metric=fd", "train.metric_outputs=6")
    each = [part for setting in settings for part in ("--set", setting)]
    command = ["stylegan2-tiny-32", "--data", str(data), "--split", "train", "--out", str(out), "--device", "cpu"]
    assert main(["train", *command, *each]) == 0
    table = tmp_path / "table"
    assert main(["evaluate", str(out), "--data", str(data), "--split", "train", "--protocol", "samples", "--samples",
                 "6", "--metrics", "fd", "--out", str(table), "--device", "cpu"]) == 0  # fmt: skip
    (row,) = [row for row in json.loads((table / "result.json").read_text())["rows"] if row["images"] == 6]
    assert row["values"]["FD-SqueezeNet"]["value"] == pytest.approx(measured(out)[8], rel=1e-4)


@pytest.mark.parametrize("case", OF_EACH_TASK, ids=lambda case: case.name)
def test_every_task_has_outputs_to_measure(case: Case) -> None:
    trainer, size = trainer_of(case.experiment), case.experiment.method.training_size
    assert METHODS[case.experiment.kind].takes_inputs == (case.name != "progan")

    def made(seed: int) -> Tensor:
        randoms = [torch.Generator().manual_seed(seed + number) for number in range(3)]
        with trainer.averaged() as method, torch.no_grad():
            return method.outputs(case.batch(3), case.batch(3, seed=1).images, randoms)

    images = made(0)
    assert images.shape == (3, 3, size, size) and images.abs().max() <= 1 and torch.equal(images, made(0))


# --- curves and films ---


def test_the_curves_of_runs(watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other" / "log.jsonl"
    other.parent.mkdir()
    log = RunLog(other)
    for number in range(60):
        log.write(images=number * 1000, real=10.0 ** (number / 20), fake=float("nan") if number == 3 else 0.5)
    log.write(images=60_000, diversity=0.1, warning="diversity")
    with other.open("a") as file:
        file.write('{"images": 1, "a<b>\\u001b": 2.5, "real": 1e300}\nnot a line\n{"images": -1, "real": 1.0}\n')
    curves = read_curves(other)
    assert curves["fake"].lost == 1 and len(curves["fake"].values) == 59 and curves["diversity"].warned == [0]
    for name in ("curves.svg", "curves.png"):
        assert main(["plot", str(watched), str(other.parent), "--out", str(tmp_path / name)]) == 0
    svg = (tmp_path / "curves.svg").read_text()
    for text in (">run<", ">other<", f">{NAME}<", ">diversity, logarithmic<", ">real, logarithmic<", "images seen",
                 ">60 k<", "a running mean over 1/25", "2 values that are nan", "a&lt;b&gt;\\x1b"):  # fmt: skip
        assert text in svg, text
    assert svg.count("<circle") == 4  # the lowest metric, the warning, and two curves of one point
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width == 2160 and len(picture.getcolors(2**20) or ()) > 100
    assert main(["plot", str(other), "--out", str(tmp_path / "curves.png")]) == 0  # ours is replaced
    capsys.readouterr()
    foreign = tmp_path / "foreign.png"
    foreign.write_bytes(b"mine")
    for arguments, told in (
        ((watched, "--out", foreign), "is there, and this program did not write it"),
        ((watched, "--out", tmp_path / "a.jpg"), "end the name in .png or .svg"),
        ((tmp_path, "--out", tmp_path / "a.png"), "no log.jsonl in it: give a run folder"),
        (("--out", tmp_path / "a.png"), "name a run folder"),
        ((watched, other, "--samples", tmp_path / "a.gif"), "a film is of one run"),
        ((other, "--samples", tmp_path / "a.gif"), "no sample grids"),
        ((watched, "--samples", tmp_path / "a.avi"), "end the name in .gif or .mp4"),
    ):
        assert told in refusal(capsys, "plot", *arguments)


def test_a_smoothed_curve_has_the_means_of_what_is_near() -> None:
    assert smoothed([1.0, 2.0, 6.0, 3.0], 1) == [1.5, 3.0, 11 / 3, 4.5]


def decoded(file: Path) -> list[Tensor]:
    """The frames of a film, uint8 (3, H, W)."""
    with av.open(io.BytesIO(file.read_bytes())) as film:
        return [torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1) for frame in film.decode(video=0)]


def test_the_samples_of_a_run_over_time(watched: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.mp4"
    for _ in range(2):  # ours is replaced
        assert main(["plot", str(watched), "--samples", str(out)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {out.name}
    frames, grids = decoded(out), sorted((watched / "samples").iterdir())
    assert len(frames) == len(grids) == 4
    for frame, grid in zip(frames, grids, strict=True):
        shown = np.asarray(Image.open(grid)).astype(float)
        difference = frame.permute(1, 2, 0).numpy()[: shown.shape[0], : shown.shape[1]] - shown
        assert abs(difference.mean()) < 2 and abs(difference).mean() < 20  # colours have half the resolution
        assert frame[:, shown.shape[0] :].min() < 64  # the images seen, in black


def test_a_film_has_the_colours_of_its_frames(tmp_path: Path) -> None:
    colours = torch.tensor([[200, 40, 60], [30, 160, 90], [50, 70, 210], [128, 128, 128]], dtype=torch.uint8)
    frames = [colour.view(3, 1, 1).expand(3, 33, 47) for colour in colours]
    films = [mp4_bytes(frames, milliseconds=40, comment="c") for _ in range(2)]
    assert films[0] == films[1]
    (tmp_path / "film.mp4").write_bytes(films[0])
    shown = decoded(tmp_path / "film.mp4")
    assert [tuple(frame.shape) for frame in shown] == [(3, 34, 48)] * 4
    for frame, colour in zip(shown, colours, strict=True):
        assert (frame.float() - colour.view(3, 1, 1)).abs().max() <= 6


def test_a_walk_and_an_edit_as_films(
    styled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    film = use("walk", styled, tmp_path / "walk.mp4", "--points", 2, "--frames", 3)
    frames = use("walk", styled, tmp_path / "walk", "--points", 2, "--frames", 3)
    assert len(decoded(film)) == 6
    for number, frame in enumerate(decoded(film)):
        exact = np.asarray(Image.open(frames / f"{number:06d}.png")).astype(float)
        assert abs(frame.permute(1, 2, 0).numpy() - exact).mean() < 30
    with av.open(str(film)) as opened:
        assert "Synthesised" in opened.metadata["comment"] and opened.streams.video[0].average_rate == 25
    use("walk", styled, film, "--points", 2, "--frames", 2)  # ours is replaced
    assert len(decoded(film)) == 4
    ome = saved(tmp_path / "ome", "ome")
    for name in ("a", "b"):
        Image.new("RGB", (32, 32), "red" if name == "a" else "blue").save(tmp_path / f"{name}.png")
        assert main([str(each) for each in ("translate", ome, "--condition", tmp_path / f"{name}.png", "--out",
                                            tmp_path / "codes", "--device", "cpu")]) == 0  # fmt: skip
    a, b = (tmp_path / "codes" / f"{name}_codes.safetensors" for name in ("a", "b"))
    assert not torch.equal(codes(a), codes(b))
    assert main([str(each) for each in ("edit", ome, a, b, "--out", tmp_path / "way.mp4", "--steps", 5)]) == 0
    assert len(decoded(tmp_path / "way.mp4")) == 5 and (tmp_path / "way.json").is_file()
    capsys.readouterr()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    out = tmp_path / "other.mp4"
    told = refusal(capsys, "walk", styled, "--out", out, "--device", "cpu")
    assert told == f"{out}: needs av: pip install 'pixgraft[video]'"


# --- elsewhere ---


def test_tensorboard_has_the_scalars_and_the_grids(
    watched: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(watched / "tensorboard"))
    events.Reload()
    assert {NAME, "diversity", "generator", "real", "speed"} <= set(events.Tags()["scalars"])
    assert {each.step: each.value for each in events.Scalars(NAME)} == pytest.approx(measured(watched))
    assert [each.step for each in events.Images("samples")] == [0, 8, 16, 24]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(data, tmp_path / "run", "train.tensorboard=true") == 2
    assert "train.tensorboard: needs tensorboard: pip install 'pixgraft[log]'" in capsys.readouterr().err


def test_the_speed_of_a_preset_is_measured_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["presets", "progan-tiny-32", "--measure", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "images/s on a CPU" in lines[0] and "400 images take" in lines[0] and "random images" in lines[1]
    assert not list(tmp_path.iterdir())
    assert "--measure: measures one preset: name it" in refusal(capsys, "presets", "--measure")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i2ilr-tiny-32", "starganv2-tiny-32", "grit-tiny-32", "pix2pixhd-tiny-32",
                                  "spade-tiny-32", "stylegan2-tiny-32", "psp-tiny-32", "ome-tiny-32"])  # fmt: skip
def test_every_method_s_speed_can_be_measured(name: str) -> None:
    assert training_speed(preset(name), CPU, repeats=1).images_per_second > 0
