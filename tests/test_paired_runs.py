"""Whole runs of a method that takes conditions: trained, resumed, shared out, used, measured and refused."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine.checkpoint import Checkpoint
from pixgraft.engine.seeds import generator
from pixgraft.models import load_model
from pixgraft.pipelines.synthesize import SynthesisPipeline
from pixgraft.presets import preset
from pixgraft.training.experiment import Experiment
from pixgraft.training.trainer import Trainer
from training import ALONE, CPU, assert_close, assert_equal, log_lines, make_pairs, newest, tree
from using import opened, refusal

PRESET = "grit-tiny-32"
SETTINGS = ("train.log_every=4", "train.checkpoint_every=16", "train.keep=0", "train.sample_every=28")
TO_THE_END = "train.images=48"
CLASSES = 4


def arguments(data: Path, out: Path, *settings: str, flags: tuple[str, ...] = ()) -> list[str]:
    each = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    return ["train", PRESET, "--data", str(data), "--out", str(out), "--device", "cpu", *flags, *each]


def run(data: Path, out: Path, *settings: str, flags: tuple[str, ...] = ()) -> int:
    return main(arguments(data, out, *settings, flags=flags))


def loaded(checkpoint: Checkpoint, *settings: str) -> Trainer:
    experiment: Experiment = replaced(preset(PRESET), [*SETTINGS, *settings])
    trainer = Trainer(experiment, CPU, ALONE)
    trainer.load(checkpoint)
    return trainer


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pixgraft"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*program, *arguments], env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("pairs") / "data")


@pytest.fixture(scope="module")
def whole(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(pairs, out, TO_THE_END) == 0
    return out


def test_stopped_at_step_7_and_resumed_to_12(pairs: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(pairs, out, "train.images=28") == 0
    assert run(pairs, out, TO_THE_END, flags=("--resume",)) == 0
    assert_equal(newest(out), newest(whole))
    assert log_lines(out) == log_lines(whole)
    assert tree(out / "samples") == tree(whole / "samples")


@pytest.mark.slow
def test_two_processes_are_one(pairs: Path, tmp_path: Path) -> None:
    """Without noise, of which each process draws its own."""
    settings = ("method.noise=false", "train.flip=false", "train.images=8", "train.checkpoint_every=4")
    done = torchrun(*arguments(pairs, tmp_path / "two", *settings))
    assert done.returncode == 0, done.stderr
    assert run(pairs, tmp_path / "one", *settings) == 0
    two, one = (checkpoints.load(tmp_path / each / "checkpoints" / "000000000004") for each in ("two", "one"))
    assert_close(loaded(two, *settings), loaded(one, *settings), 1e-4)  # of gradients up to 1
    for line, other in zip(log_lines(tmp_path / "two"), log_lines(tmp_path / "one"), strict=True):
        assert line == pytest.approx(other, rel=1e-2, abs=1e-3)


def test_a_zip_and_a_perceptual_loss_train_too(pairs: Path, whole: Path, tmp_path: Path) -> None:
    """A zip as the folder that it holds; the loss as another one than L1."""
    file = tmp_path / "pairs.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(pairs.rglob("*.png")):
            archive.write(path, f"train/{path.relative_to(pairs)}")
    out = tmp_path / "run"
    settings = ("train.images=8", "method.reconstruction=perceptual")
    assert run(file, out, *settings, flags=("--split", "train")) == 0
    assert run(pairs, tmp_path / "folder", *settings) == 0
    assert_equal(newest(out), newest(tmp_path / "folder"))
    first, l1 = (next(line for line in log_lines(each) if "reconstruction" in line) for each in (out, whole))
    assert first["reconstruction"] > 0 and first["reconstruction"] != pytest.approx(l1["reconstruction"], rel=0.05)
    assert first["real"] == pytest.approx(l1["real"], rel=0.05)  # all else is the same at the start
    saved = newest(out).groups["networks"]
    assert not [name for name in saved if "perceptual" in name]  # it is borrowed, not the method's own


# --- use ---


@pytest.fixture(scope="module")
def samples(pairs: Path, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("samples") / "out"
    assert translate(whole, pairs, out, "--samples", 3, "--components", "--seed", 5) == 0
    return out


def translate(model: Path, pairs: Path, out: Path, *more: object) -> int:
    command = ["translate", model, "--condition", pairs / "masks", "--out", out, "--device", "cpu", *more]
    return main([str(each) for each in command])


def test_every_condition_gives_its_samples_and_their_maps(pairs: Path, samples: Path) -> None:
    report = json.loads((samples / "00.json").read_text())
    names = [output["file"] for output in report["outputs"][:3]]
    assert names == ["00_0.png", "00_1.png", "00_2.png"]
    assert len(list(samples.glob("*.json"))) == 6
    one, two, three = (opened((samples / name).read_bytes()).astype(float) for name in names)
    deviation = np.stack([one, two, three]).std(0).mean(-1)
    measured = report["measures"]["deviation"]
    assert measured["mean"] == pytest.approx(deviation.mean(), abs=1e-3)
    assert measured["largest"] == pytest.approx(deviation.max(), abs=1e-3)
    assert deviation.max() > 0
    shown = opened((samples / "00_deviation.png").read_bytes())
    assert np.abs(shown - deviation / deviation.max() * 255).max() <= 1
    mean = opened((samples / "00_mean.png").read_bytes())
    assert np.abs(mean - (one + two + three) / 3).max() <= 0.51
    # The sum of the parts, each rounded to whole levels about a middle grey of 127.5.
    parts = [opened((samples / f"00_0_{part}.png").read_bytes()) for part in ("reconstruction", "residual")]
    inside = (one > 0) & (one < 255) & (parts[1] > 0) & (parts[1] < 255)
    assert np.abs(parts[0] + (parts[1] - 127.5) - one)[inside].max() <= 1.51


def test_the_same_seed_gives_the_same_bytes_in_any_company(
    pairs: Path, whole: Path, samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks").mkdir()
    Image.open(pairs / "masks" / "03.png").save(tmp_path / "masks" / "03.png")
    assert translate(whole, tmp_path, tmp_path / "alone", "--samples", 2, "--seed", 5) == 0
    assert translate(whole, tmp_path, tmp_path / "other", "--samples", 2, "--seed", 6) == 0
    for number in (0, 1):
        name = f"03_{number}.png"
        pixels = [opened((folder / name).read_bytes()) for folder in (samples, tmp_path / "alone", tmp_path / "other")]
        assert (pixels[0] == pixels[1]).all()
        assert (pixels[0] != pixels[2]).any()


def test_the_seed_is_that_of_the_noise_too(pairs: Path, whole: Path, tmp_path: Path) -> None:
    """In one given style nothing else is random."""
    style = ("--style", pairs / "images" / "00.png")
    for seed in (5, 6):
        assert translate(whole, pairs, tmp_path / str(seed), *style, "--seed", seed) == 0
    one, other = (opened((tmp_path / seed / "03_0.png").read_bytes()) for seed in ("5", "6"))
    assert (one != other).any()


def test_between_two_styles_the_ends_are_the_styles_themselves(pairs: Path, whole: Path, tmp_path: Path) -> None:
    first, second = (pairs / "images" / name for name in ("00.png", "01.png"))
    assert translate(whole, pairs, tmp_path / "walk", "--style", first, second, "--samples", 3) == 0
    for number, style in ((0, first), (2, second)):
        assert translate(whole, pairs, tmp_path / style.stem, "--style", style) == 0
        end = (tmp_path / "walk" / f"02_{number}.png").read_bytes()
        alone = (tmp_path / style.stem / "02_0.png").read_bytes()
        assert (opened(end) == opened(alone)).all()
    middle = opened((tmp_path / "walk" / "02_1.png").read_bytes())
    assert (middle != opened((tmp_path / "walk" / "02_0.png").read_bytes())).any()


def test_styles_may_vary_under_one_noise(pairs: Path, whole: Path, samples: Path, tmp_path: Path) -> None:
    """The first sample is that of `--vary noise`; with the second one's style given, the first noise makes it too."""
    assert translate(whole, pairs, tmp_path / "out", "--samples", 2, "--vary", "style", "--seed", 5) == 0
    first, second = (opened((tmp_path / "out" / f"02_{number}.png").read_bytes()) for number in (0, 1))
    assert (first == opened((samples / "02_0.png").read_bytes())).all() and (first != second).any()
    pipeline = SynthesisPipeline(load_model(whole, device=CPU), CPU)
    condition, _ = pipeline.read_condition((pairs / "masks" / "02.png").read_bytes(), "02.png")
    code = pipeline.method.random_style(1, generator(5, "style", 1))[0]
    again = pipeline.sample(condition, [code], samples=1, seed=5).pixels[0]
    assert (again.permute(1, 2, 0).numpy() == second).all()


def test_evaluate_gives_the_table_and_the_figure(pairs: Path, whole: Path, tmp_path: Path) -> None:
    def measured(model: Path, protocol: str) -> dict[str, object]:
        command = ["evaluate", model, "--data", pairs, "--protocol", protocol, "--out", tmp_path / protocol]
        assert main([str(each) for each in [*command, "--device", "cpu", "--bootstrap", 20]]) == 0
        found: dict[str, object] = json.loads((tmp_path / protocol / "result.json").read_text())
        return found

    runs = tmp_path / "runs"
    without = ("train.images=4", "method.residual=false")
    assert run(pairs, runs / "unet", *without, "method.noise=false") == 0
    assert run(pairs, runs / "noise", *without) == 0
    (runs / "residual").symlink_to(whole)
    table = measured(runs, "grit-table3")
    assert [row["name"] for row in table["rows"]] == ["U-Net", "+ noise", "+ residual"]  # type: ignore[attr-defined]
    assert table["published"][2]["values"]["l1"] == "18.34"  # type: ignore[index]
    figure = measured(whole, "grit-figure9")
    spectra = {row["name"]: row["spectrum"] for row in figure["rows"]}  # type: ignore[attr-defined]
    assert list(spectra) == ["reconstruction", "residual", "sum", "reals"]
    assert all(len(each) == 17 for each in spectra.values())


@pytest.mark.slow
def test_two_processes_train_and_measure_a_table(pairs: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.zip"
    with zipfile.ZipFile(data, "w") as archive:
        for part in ("train", "test"):
            for path in sorted(pairs.rglob("*.png")):
                archive.write(path, f"{part}/{path.relative_to(pairs)}")
    command = ["evaluate", PRESET, "--protocol", "grit-table3", "--data", data, "--split", "test", "--metrics", "l1"]
    command += ["--set", "train.images=4", "--out", tmp_path / "out", "--device", "cpu", "--bootstrap", "0"]
    done = torchrun(*map(str, command))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["U-Net", "+ noise", "+ residual"]
    assert result["protocol"]["data"]["images"] == 6
    assert result["rows"][0]["values"]["L1"]["value"] != result["rows"][2]["values"]["L1"]["value"]


# --- bad input ---


def test_unusable_pairs_stop_a_run_before_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pairs(tmp_path / "data", 8)
    mask = np.asarray(Image.open(data / "masks" / "02.png")).copy()
    mask[5, 7] = 9
    Image.fromarray(mask).save(data / "masks" / "02.png")
    out = tmp_path / "run"
    assert "masks/02.png: value 9 at (7, 5), but there are 4 classes" in refusal(capsys, *arguments(data, out))
    Image.fromarray(np.full_like(mask, 2)).save(data / "masks" / "02.png")
    assert "masks/02.png: class 2 alone" in refusal(capsys, *arguments(data, out))
    (data / "masks" / "03.png").unlink()
    assert "images/03.png: image without condition" in refusal(capsys, *arguments(data, out))
    assert not out.exists()

    swapped = "data.mirrored=[[1, 2]]"
    assert run(data, out, "train.images=4", swapped, flags=("--skip-bad",)) == 0
    said = capsys.readouterr().out
    assert "left out: images/03.png: image without condition" in said
    assert "left out: masks/02.png: class 2 alone" in said
    assert "6 images" in said
    assert "in mirrored pairs these classes change places: 1 and 2 (data.mirrored)" in said
    assert run(data, out, "train.images=4", swapped, flags=("--skip-bad", "--quiet")) == 0
    assert [line[:8] for line in capsys.readouterr().out.splitlines()] == ["left out"] * 2


def test_a_palette_that_does_not_fit_is_refused_before_a_run_begins(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    palette, out = tmp_path / "colours.txt", tmp_path / "run"
    palette.write_text("red 255 0 0\ngreen 0 255 0\nblue 0 0 255\n")
    own = f"data.palette={palette}"
    assert f"{palette}: 3 different colours for 4 classes" in refusal(capsys, *arguments(pairs, out, own))
    said = refusal(capsys, *arguments(pairs, out, own, "method.condition=sketch"))
    assert f"palette {palette}: the conditions are of kind sketch, not labels: leave it out" in said
    assert not out.exists()


def test_unusable_conditions_and_styles_are_refused(
    pairs: Path, whole: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*more: object, with_model: Path = whole, masks: Path = pairs / "masks") -> str:
        return refusal(
            capsys, "translate", with_model, "--condition", masks, "--out", tmp_path / "out", "--device", "cpu", *more
        )

    assert f"{model}: takes no --condition: it takes a source and a target" in refused(with_model=model)
    assert f"{whole}: takes no --source: it takes a condition" in refused("--source", pairs)
    assert "choose a number from 1" in refused("--samples", 0)
    bad = make_pairs(tmp_path / "bad", 3) / "masks"
    Image.fromarray(np.full((44, 40), 7, np.uint8)).save(bad / "01.png")
    assert "01.png: value 7" in refused("--strict", masks=bad)
