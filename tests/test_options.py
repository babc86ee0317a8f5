"""What a command line must not do in silence: drop an option, pass one over, or replace what it was given."""

from pathlib import Path

import pytest

from cases import grit_method
from pixgraft.models import save_model
from training import make_images, make_pairs, run, tree
from using import refusal

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("translate", "model", "--source", "a", "--source", "b"), "--source: given twice: give it once"),
        (("translate", "model", "--source=a", "--source", "b"), "--source: given twice"),
        (("evaluate", "model", "--metrics", "l1", "--metrics", "psnr"), "--metrics: given twice"),
        (("train", "i2ilr-tiny-32", "--data", "one", "--data", "other"), "--data: given twice"),
    ],
)
def test_an_option_that_is_given_twice_is_refused(capsys: Captured, arguments: tuple[str, ...], named: str) -> None:
    """Or its last value would win."""
    assert named in refusal(capsys, *arguments)


@pytest.mark.parametrize("option", ["--train-split", "--images", "--conditions"])
def test_options_of_other_forms_of_evaluate_are_refused(tmp_path: Path, capsys: Captured, option: str) -> None:
    images = make_images(tmp_path / "images", 4)
    folders = ("evaluate", "--real", images, "--fake", images)
    table = ("evaluate", "i2ilr-faces-64", "--data", images, "--protocol", "i2ilr-table1")
    for command in (folders, table):
        assert refusal(capsys, *command, option, "nope").startswith(f"{option} nope: ")


def test_a_table_of_trained_runs_trains_nothing(tmp_path: Path, capsys: Captured) -> None:
    command = ("evaluate", tmp_path, "--data", tmp_path, "--protocol", "i2ilr-table4")
    for option, value in (("--train-split", "nope"), ("--set", "train.images=8")):
        assert "of trained runs trains nothing" in refusal(capsys, *command, option, value)


@pytest.mark.parametrize("verb", ["sketch", "align"])
def test_an_image_is_not_replaced_by_what_is_made_of_it(tmp_path: Path, capsys: Captured, verb: str) -> None:
    mine = make_images(tmp_path / "mine", 1) / "00.png"
    before = tree(tmp_path)
    said = refusal(capsys, "data", verb, mine, tmp_path / "mine", "--size", 32)
    assert said == f"{mine}: an output would replace it: choose another folder for the outputs"
    assert tree(tmp_path) == before


def test_a_style_is_not_replaced_by_a_sample_in_it(tmp_path: Path, capsys: Captured) -> None:
    save_model(tmp_path / "model", grit_method(), info={})
    pairs = make_pairs(tmp_path / "pairs", 1)
    style = (pairs / "images" / "00.png").rename(pairs / "images" / "00_1.png")
    before = tree(pairs)
    command = ("translate", tmp_path / "model", "--condition", pairs / "masks", "--style", style, "--samples", 2)
    said = refusal(capsys, *command, "--out", pairs / "images", "--device", "cpu")
    assert said == f"{style}: an output would replace it: choose another folder for the outputs"
    assert tree(pairs) == before


def test_another_method_is_another_run(tmp_path: Path, capsys: Captured) -> None:
    images = make_images(tmp_path / "images", 4)
    assert run(images, tmp_path / "run", "train.images=4") == 0
    before = tree(tmp_path)
    for images_ in (images, make_images(tmp_path / "other", 5)):
        said = refusal(capsys, "train", "progan-tiny-32", "--data", images_, "--out", tmp_path / "run")
        assert "run: holds another run (kind was 'i2ilr', not 'progan'): choose another folder" in said
    assert run(tmp_path / "other", tmp_path / "run", "train.images=8") == 2
    assert {name: data for name, data in tree(tmp_path).items() if not name.startswith("other")} == before


def test_differences_need_a_step(tmp_path: Path, capsys: Captured) -> None:
    command = ("train", "i2ilr-tiny-32", "--data", make_images(tmp_path / "images", 4), "--out", tmp_path / "run")
    said = refusal(capsys, *command, "--set", "method.difference_step=0")
    assert said == "difference_step is 0.0: it must be above 0"
    assert not (tmp_path / "run").exists()
