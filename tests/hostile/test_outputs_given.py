"""No verb replaces what it was given, under whatever name an output would."""

import os
from pathlib import Path

import pytest
from PIL import Image

from encoders import saved
from pixgraft.cli import main
from pixgraft.data.outputs import Given
from training import make_images, tree
from using import random_model, refusal

Captured = pytest.CaptureFixture[str]


def photo(path: Path, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((40, 40), 30 + number).convert("RGB").save(path)
    return path


def test_a_graft_of_an_image_called_grid(tmp_path: Path, capsys: Captured) -> None:
    model, out = random_model(tmp_path / "model"), tmp_path / "out"
    mine, target = photo(out / "grid.png"), photo(tmp_path / "t" / "00.png")
    before = mine.read_bytes()
    sides = ("--source", mine, "--target", target, "--out", out, "--device", "cpu")
    assert "an output would replace it" in refusal(capsys, "translate", model, *sides, "--grid")
    assert main([str(each) for each in ("translate", model, *sides)]) == 0
    assert mine.read_bytes() == before
    # An earlier graft's own grid, as a source.
    first = ("--source", target, "--target", target, "--out", tmp_path / "two", "--device", "cpu")
    assert main([str(each) for each in ("translate", model, *first, "--grid")]) == 0
    grid = tmp_path / "two" / "grid.png"
    before = grid.read_bytes()
    again = ("--source", grid, "--target", target, "--out", tmp_path / "two", "--device", "cpu")
    assert main([str(each) for each in ("translate", model, *again)]) == 0
    assert grid.read_bytes() == before, "the grid is no longer asked for, but was given"


def test_an_input_that_is_a_link_to_an_output(tmp_path: Path, capsys: Captured) -> None:
    """Named itself, within a folder of inputs, and as a hard link."""
    model, out = saved(tmp_path / "ome", "ome"), tmp_path / "out"
    make_images(tmp_path / "images", 2)

    def run(condition: Path, *flags: object) -> tuple[object, ...]:
        return ("translate", model, "--condition", condition, "--out", out, "--device", "cpu", "--quiet", *flags)

    assert main([str(each) for each in run(tmp_path / "images")]) == 0
    before = tree(out)
    for kind, link in (("symbolic", os.symlink), ("hard", os.link)):
        folder = tmp_path / kind
        folder.mkdir()
        link(out / "01.png", folder / "00.png")
        link(out / "00.png", folder / "01.png")
        assert "0.png: an output would replace it" in refusal(capsys, *run(folder)).replace("01", "00"), kind
        link(out / "00.png", folder / "deep.png")
        (folder / "deep.png").rename(folder / "00.png")
        assert "00.png: an output would replace it" in refusal(capsys, *run(folder / "00.png")), kind
    assert tree(out) == before


def test_the_folder_of_a_model_and_a_palette(tmp_path: Path, capsys: Captured) -> None:
    model = saved(tmp_path / "ome", "ome")
    described = (model / "model.json").read_text().replace('"format"', '"made_by": "pixgraft",\n "format"', 1)
    (model / "model.json").write_text(described)  # as every published model's, it names the program
    before = tree(model)
    condition = photo(tmp_path / "model.png")
    said = refusal(capsys, "translate", model, "--condition", condition, "--out", model, "--device", "cpu")
    assert said == f"{model}/model.json: an output would replace it: choose another folder for the outputs"
    assert tree(model) == before


def test_an_evaluation_in_the_folder_of_an_image_called_images(tmp_path: Path, capsys: Captured) -> None:
    photos = tmp_path / "photos"
    mine = photo(photos / "images.png")
    real = ("evaluate", "--real", mine, "--fake", mine, "--pairs", "order", "--metrics", "psnr", "--device", "cpu")
    before = tree(photos)
    said = refusal(capsys, *real, "--out", photos)
    assert said == f"{mine}: an output would replace it: choose another folder for the outputs"
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "00.png").symlink_to(mine)
    pairs = ("evaluate", "--real", linked, "--fake", linked, "--pairs", "name", "--metrics", "psnr", "--device", "cpu")
    assert f"{linked}/00.png: an output would replace it" in refusal(capsys, *pairs, "--out", photos)
    (photos / "report.md").write_text("my own report")
    (photos / "images.png").unlink()
    (photos / "images.png").write_bytes((photo(tmp_path / "else.png")).read_bytes())
    both = ("--real", tmp_path / "else.png", "--fake", tmp_path / "else.png", "--pairs", "order")
    kept = tree(photos)
    for name in ("images.png", "report.md"):
        said = refusal(capsys, "evaluate", *both, "--metrics", "psnr", "--out", photos, "--device", "cpu")
        assert said == f"{photos}/{name}: is there, and no earlier report is: move it, or choose another folder"
        assert tree(photos) == kept
        (photos / name).unlink()
        kept.pop(name)
    assert before.keys() == {"images.png"}


def test_a_label_that_is_cut_to_another_source_s_name(tmp_path: Path, capsys: Captured) -> None:
    model, folder = saved(tmp_path / "ome", "ome"), tmp_path / "in"
    cut = photo(folder / f"{'n' * 110}.png", 1)
    long = photo(folder / f"{'n' * 110}-and-more.png")
    before = tree(folder)
    run = ("translate", model, "--out", folder, "--device", "cpu", "--condition")
    assert f"{cut}: is there, and no earlier run wrote it" in refusal(capsys, *run, long)
    (tmp_path / "links").mkdir()
    for path in (long, cut):
        (tmp_path / "links" / path.name).symlink_to(path)
    assert "an output would replace it" in refusal(capsys, *run, tmp_path / "links")
    assert tree(folder) == before


@pytest.mark.parametrize("verb", ["sketch", "align"])
def test_data_made_of_images_elsewhere_in_its_folder(verb: str, tmp_path: Path, capsys: Captured) -> None:
    """These outputs bear no mark: whatever is there may be the user's."""
    make_images(tmp_path / "photos", 1)
    make_images(tmp_path / "photos" / "small", 1)
    before = tree(tmp_path)
    said = refusal(capsys, "data", verb, tmp_path / "photos" / "small", tmp_path / "photos", "--size", 32)
    assert said.startswith(f"{tmp_path}/photos/00.png: is there, beside ")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "00.png").symlink_to(tmp_path / "photos" / "00.png")
    said = refusal(capsys, "data", verb, tmp_path / "links", tmp_path / "photos", "--size", 32)
    assert said.startswith(f"{tmp_path}/links/00.png: an output would replace it")
    (tmp_path / "links" / "00.png").unlink()
    assert {name: data for name, data in tree(tmp_path).items() if "links" not in name} == before


def test_files_are_told_apart_by_what_they_are(tmp_path: Path) -> None:
    mine = photo(tmp_path / "in" / "deep" / "Mine.png")
    given = Given([tmp_path / "in", None, "a-bundled-model", tmp_path / "nowhere"])
    (tmp_path / "link.png").symlink_to(mine)
    (tmp_path / "hard.png").hardlink_to(mine)
    (tmp_path / "broken.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "copy.png").write_bytes(mine.read_bytes())
    assert given.same(tmp_path / "link.png") == given.same(tmp_path / "hard.png") == given.same(mine) == mine
    for other in ("broken.png", "copy.png", "none.png", "in/deep/none.png"):
        assert given.same(tmp_path / other) is None
