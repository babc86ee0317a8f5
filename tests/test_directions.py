"""Directions in a prior's codes, from its weights or by labels, and `edit` along them."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from generators import opened, pixels
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.inversion.directions import boundary, sefa
from pixgraft.models import load_model
from pixgraft.pipelines.codes import read_direction
from pixgraft.pipelines.directions import directions
from pixgraft.pipelines.options import DirectionOptions, amounts
from pixgraft.pipelines.sample import SamplingPipeline

LAYERS, SIZE = 6, 5
"""Codes of an image of the `styled` prior, and their numbers."""


def command(*arguments: object) -> int:
    return main([*map(str, arguments), "--device", "cpu"])


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes of 60 images, and labels.csv: those with a hat differ in the second layer's third number."""
    folder = tmp_path_factory.mktemp("people")
    rows = ["name,hat,age"]
    for number, code in enumerate(torch.randn(60, LAYERS, SIZE, generator=random())):
        code[1, 2] += 4 * (number % 2)
        rows.append(f"{number:02d}.jpg,{('no', 'straw', 'no', 'wool')[number % 4]},{30 + number // 20}")
        safetensors.torch.save_file({"codes": code}, folder / f"{number:02d}_codes.safetensors")
    (folder / "labels.csv").write_text("\n".join([*rows, ""]))
    return folder


@pytest.fixture(scope="module")
def found(styled: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the direction to hats."""
    out = tmp_path_factory.mktemp("found")
    flags = ("--codes", people, "--csv", people / "labels.csv", "--label", "hat=straw,wool", "--samples", 1)
    assert command("directions", styled, "--by", "labels", *flags, "--out", out) == 0
    return out / "directions.safetensors"


def test_sefa_finds_what_changes_the_styles_most() -> None:
    weights = [torch.randn(7, SIZE, generator=random()) for _ in range(2)]
    directions = sefa(weights, 3)
    torch.testing.assert_close(directions @ directions.T, torch.eye(3), rtol=0, atol=1e-6)
    rows = F.normalize(torch.cat(weights), dim=1)
    change = (rows @ directions.T).norm(dim=0)
    others = F.normalize(torch.randn(SIZE, 500, generator=random(1)), dim=0)
    assert change[0] >= (rows @ others).norm(dim=0).max()
    assert change[0] > change[1] > change[2]


def test_directions_from_the_weights(styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--by", "sefa", "--count", 2, "--samples", 1)
    assert command("directions", styled, *flags, "--out", tmp_path) == 0
    tensors = safetensors.torch.load_file(tmp_path / "directions.safetensors")
    assert sorted(tensors) == ["coarse-1", "coarse-2", "middle-1", "middle-2"]
    assert all(each.shape == (LAYERS, SIZE) and each.dtype == torch.float32 for each in tensors.values())
    assert tensors["coarse-1"][:4].any(1).all() and not tensors["coarse-1"][4:].any()
    assert not tensors["middle-2"][:4].any()
    w = opened(styled).method.codes(torch.randn(2000, 6, generator=random()))
    along = w @ tensors["coarse-2"][0]
    assert along.std() / tensors["coarse-2"][0].square().sum() == pytest.approx(1, abs=0.1)  # the unit is a deviation
    assert Image.open(tmp_path / "middle-1.png").size == (5 * 18 + 2, 18 + 2)
    capsys.readouterr()
    assert command("directions", styled, *flags, "--out", tmp_path) == 0
    assert "20 finished before" in capsys.readouterr().out


def test_directions_of_a_prior_without_layers(grown: Path, tmp_path: Path) -> None:
    assert command("directions", grown, "--by", "sefa", "--samples", 1, "--count", 2, "--out", tmp_path) == 0
    tensors = safetensors.torch.load_file(tmp_path / "directions.safetensors")
    assert {name: tuple(each.shape) for name, each in tensors.items()} == {f"all-{n}": (1, 6) for n in (1, 2)}


def test_a_direction_by_labels(styled: Path, people: Path, found: Path) -> None:
    direction = safetensors.torch.load_file(found)["hat-straw-wool"]
    assert direction.shape == (LAYERS, SIZE)
    assert int(direction.abs().argmax()) == SIZE + 2 and direction[1, 2] > 0.8
    figures = json.loads(found.with_name("directions.json").read_text())["settings"]["directions"]["hat-straw-wool"]
    assert figures["held_out"] == 15 and figures["codes"] == 60 and figures["balanced_accuracy"] > 0.8
    assert Image.open(found.with_name("hat-straw-wool.png")).size == (5 * 18 + 2, 18 + 2)


def test_chance_is_called_chance() -> None:
    labels = torch.arange(400) % 4 == 0
    result = boundary(torch.randn(400, 30, generator=random()), labels, random())
    assert abs(result.balanced - 0.5) < 0.12
    assert (result.held_out, result.fitted) == (100, 300)


def saved(out: Path) -> list[Tensor]:
    return [safetensors.torch.load_file(each)["codes"] for each in sorted(out.glob("0*_codes.safetensors"))]


def test_codes_are_moved_along_a_direction(styled: Path, people: Path, found: Path, tmp_path: Path) -> None:
    file, out = people / "03_codes.safetensors", tmp_path / "edit"
    start, vector = safetensors.torch.load_file(file)["codes"], safetensors.torch.load_file(found)["hat-straw-wool"]
    edit = ("edit", styled, file, "--direction", found, "--out", out)
    assert command(*edit, "--amount", "-3..3", "--steps", 3, "--layers", "coarse") == 0
    moved = vector.clone()
    moved[4:] = 0
    assert len(saved(out)) == 3
    for codes, amount in zip(saved(out), (-3, 0, 3), strict=True):
        torch.testing.assert_close(codes, start + amount * moved)
    report = json.loads((out / "000002.json").read_text())
    assert report["settings"] == {"layers": [0, 3], "direction": "hat-straw-wool", "amount": 3.0}
    assert [each["role"] for each in report["inputs"]] == ["codes", "direction"]
    assert Image.open(out / "strip.png").size == (3 * 18 + 2, 18 + 2)
    assert not (pixels(out / "000000.png") == pixels(out / "000002.png")).all()
    assert command(*edit, "--amount", "1.5") == 0
    torch.testing.assert_close(saved(out), [start + 1.5 * vector])


def test_files_of_directions_are_checked(found: Path, people: Path, tmp_path: Path) -> None:
    several, other = tmp_path / "several.safetensors", tmp_path / "other.safetensors"
    tensors = {"old-1": torch.zeros(LAYERS, SIZE), "old-2": torch.zeros(LAYERS, SIZE)}
    safetensors.torch.save_file(tensors | {"new\n": torch.full((LAYERS, SIZE), torch.nan)}, several)
    safetensors.torch.save_file({"old": torch.zeros(2, 3)}, other)
    for file, name, said in (
        (several, "", "several directions: choose with --name one of new\\n, old-1, old-2"),
        (several, "bald", "no direction bald: choose with --name one of"),
        (several, "old", "several directions old...: choose with --name one of"),
        (several, "new", "new\\n holds numbers that are not finite"),
        (other, "", "old is (2, 3), and the model's codes (6, 5): give a direction of the same prior"),
        (people / "labels.csv", "", "not a safetensors file"),
    ):
        with pytest.raises(PixgraftError) as refused:
            read_direction(file, name, (LAYERS, SIZE))
        assert str(refused.value).startswith(f"{file}: ") and said in str(refused.value)
        assert "\n" not in str(refused.value)
    assert read_direction(several, "old-2", (LAYERS, SIZE)).tensor == "old-2"
    (tmp_path / "written").mkdir()
    several.rename(tmp_path / "written" / "directions.safetensors")
    assert read_direction(tmp_path / "written", "old-2", (LAYERS, SIZE)).tensor == "old-2"
    assert amounts("-1..2", 4) == [-1, 0, 1, 2] and len(amounts("-3..3", None)) == 7 and amounts("2", None) == [2]
    for text, steps in (("much", None), ("1...2", None), ("nan", None), ("2", 3)):
        with pytest.raises(PixgraftError, match=r"choose a number such as 2|with one amount"):
            amounts(text, steps)


def test_what_does_not_fit_is_refused(
    styled: Path, grown: Path, people: Path, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, table = people / "03_codes.safetensors", people / "labels.csv"
    few = tmp_path / "few.csv"
    few.write_text("name,hat\n" + "".join(f"{number:02d}.jpg,{number > 52}\n" for number in range(60)))
    priors = {path: SamplingPipeline(load_model(path), torch.device("cpu")) for path in (styled, grown)}
    for prior, labels, options, said in (
        (styled, ("hut=no",), {}, "(--label) named hut: choose one of hat, age"),
        (styled, ("hat=felt",), {}, "no value of hat in"),
        (styled, ("age=30",), {"layers": "fine"}, "layers fine: begins at 8"),
        (styled, (), {}, "label: give it too"),
        (styled, ("hat=no",), {"by": "sefa"}, "codes: leave it out with --by sefa"),
        (grown, ("hat=no",), {}, "codes is (6, 5), the model takes (1, 6)"),
        (styled, ("hat=no",), {"codes": tmp_path}, "no files NAME_codes"),
        (styled, ("hat=True",), {"csv": few}, "7 codes with the label and 53 without are too few: give codes of more"),
    ):
        given: dict[str, Any] = {"by": "labels", "codes": people, "csv": table, "label": labels}
        with pytest.raises(PixgraftError) as refused:
            directions(priors[prior], DirectionOptions(**given | options))
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
    for arguments, said in (
        (("edit", styled, file), "give a second file of codes, or --direction FILE, and not both"),
        (("edit", styled, file, file, "--direction", found), "and not both"),
        (("edit", styled, file, file, "--amount", "2"), "amount 2: needs a direction: give one, or leave it out"),
    ):
        assert command(*arguments, "--out", tmp_path / "out") == 2
        assert said in capsys.readouterr().err
