"""`pixgraft nearest`: a copy is found, and nearer than what was held out."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pixgraft.cli import main
from pixgraft.evaluation.nearest import distances_to_nearest
from training import make_images
from using import PHOTOGRAPHS, refusal


def test_distances_are_those_of_each_pair() -> None:
    one, other = (torch.randn(count, 7, generator=torch.Generator().manual_seed(count)) for count in (5, 9))
    expected = 1 - torch.nn.functional.cosine_similarity(one[:, None].double(), other[None].double(), dim=2)
    distances, places = distances_to_nearest(one, other)
    torch.testing.assert_close(distances, expected.amin(1))
    assert torch.equal(places, expected.argmin(1))


def test_a_copy_is_shown_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, photographs in (("train", PHOTOGRAPHS[:4]), ("test", PHOTOGRAPHS[4:6])):
        (tmp_path / "data" / split).mkdir(parents=True)
        for path in photographs:
            Image.open(path).resize((64, 64)).save(tmp_path / "data" / split / f"{path.stem}.png")
    (tmp_path / "made").mkdir()
    for name, path in (("a", PHOTOGRAPHS[6]), ("b", PHOTOGRAPHS[2])):
        Image.open(path).resize((64, 64)).save(tmp_path / "made" / f"{name}.png")
    command = ["nearest", str(tmp_path / "made"), "--data", str(tmp_path / "data"), "--held-out", "test"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "closer than 99 % of the held-out images: 50.0%" in said
    result = json.loads((tmp_path / "out" / "nearest.json").read_text())
    first = result["pairs"][0]
    assert (first["image"], Path(first["training"]).stem, first["distance"]) == ("b.png", PHOTOGRAPHS[2].stem, 0)
    assert result["pairs"][1]["distance"] > 0.01 and result["sets"]["training"]["images"] == 4
    assert Image.open(tmp_path / "out" / "nearest.png").size == (4 * 66 + 2, 66 + 2)


def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "images", 2)
    given = ("nearest", images, "--data", images, "--split", "", "--out", tmp_path / "out")
    assert "--show 0: choose" in refusal(capsys, *given, "--show", "0")
    assert "no feature network named vgg" in refusal(capsys, *given, "--features", "vgg")
    assert "outputs would become inputs" in refusal(capsys, *given[:-1], images / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "nearest.json").write_text("{}")
    assert "no earlier report" in refusal(capsys, *given)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["nearest.json"]
