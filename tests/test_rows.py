"""Tables of several rows: models, and folders that other programs wrote; their differences, and rows that are added."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pixgraft.cli import main
from pixgraft.evaluation.sheets import read_sheet
from pixgraft.features import Feature
from pixgraft.metrics.estimate import difference, mean_of
from pixgraft.pipelines.synthesize import SynthesisPipeline, SynthesisResult
from test_ome_evaluation import saved, values
from test_protocols import grit_model
from training import make_images, make_pairs
from using import random_model, refusal

Captured = pytest.CaptureFixture[str]
COUNT = 8

SCRIPT = """
import pathlib, sys
from PIL import Image, ImageFilter
inputs, out = map(pathlib.Path, sys.argv[1:])
out.mkdir()
for path in sorted((inputs / "references").iterdir()):
    image = Image.open(path)
    for number in range(2):
        image.filter(ImageFilter.GaussianBlur(1 + number)).save(out / f"{path.stem}_{number}.png")
(out / "notes.txt").write_text("made elsewhere")
image.save(out / "sheet.png")
"""
"""Another program: two blurred pictures for each input."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, pairs of 32 x 32; `first`, `second` and `third`, models of them."""
    folder = tmp_path_factory.mktemp("rows")
    make_pairs(folder / "data", COUNT, side=32)
    for path in (folder / "data").rglob("*.png"):
        Image.open(path).crop((0, 0, 32, 32)).save(path)
    grit_model(folder / "first")
    grit_model(folder / "second", "method.noise=false")
    grit_model(folder / "third", "method.residual=false")
    return folder


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """In SqueezeNet's place, which takes seconds."""
    small = Feature("squeezenet", nn.Sequential(nn.AvgPool2d(16), nn.Flatten()), "0" * 64)
    monkeypatch.setattr("pixgraft.evaluation.measure.open_feature", lambda *_, **__: small)


def command(work: Path, *more: object, protocol: str = "grit-table1") -> list[str]:
    asked = ["evaluate", "--data", work / "data", "--protocol", protocol, "--device", "cpu", "--quiet", *more]
    return [str(each) for each in asked]


def measured(work: Path, out: Path, *more: object, protocol: str = "grit-table1") -> dict[str, Any]:
    assert main(command(work, "--out", out, *more, protocol=protocol)) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


METRICS = ("--metrics", "l1", "psnr", "fd", "deviation", "--bootstrap", 40)


def made_elsewhere(work: Path, out: Path) -> Path:
    """The outputs that the other program made of the inputs that the package wrote."""
    assert main(command(work, work / "first", "--inputs-only", out / "inputs")) == 0
    subprocess.run([sys.executable, "-c", SCRIPT, out / "inputs", out / "blurred"], check=True, timeout=60)
    return out / "blurred"


def test_rows_are_compared_in_pairs_and_others_added_without_measuring_them_again(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    calls: list[str] = []
    sample = SynthesisPipeline.sample

    def counted(self: SynthesisPipeline, *given: Any, **more: Any) -> SynthesisResult:
        calls.append(Path(self.model.name).name)
        return sample(self, *given, **more)

    monkeypatch.setattr(SynthesisPipeline, "sample", counted)
    blurred = made_elsewhere(work, tmp_path)
    out = tmp_path / "table"
    rows = ["--row", f"GRIT={work / 'first'}", "--row", f"no noise={work / 'second'}", "--row", f"blur={blurred}"]
    three = measured(work, out, *rows, *METRICS)
    assert [row["name"] for row in three["rows"]] == ["GRIT", "no noise", "blur"]
    assert [row["images"] for row in three["rows"]] == [COUNT, COUNT, 2 * COUNT]
    grit, _, folder = three["rows"]
    assert (grit["model"], grit["method"], len(grit["weights_sha256"])) == ("first", "grit", 64)
    assert folder["outputs"]["name"] == "blurred" and folder["outputs"]["images"] == 2 * COUNT
    assert values(three, "deviation").keys() == {"blur"}  # the only one with several outputs of an input
    assert any(note == "blur: 1 other file of blurred not used, such as sheet.png." for note in three["notes"])
    assert [(pair["first"], pair["second"]) for pair in three["pairs"]] == [
        ("GRIT", "no noise"), ("GRIT", "blur"), ("no noise", "blur"),
    ]  # fmt: skip
    for pair in three["pairs"]:
        assert pair["values"].keys() == {"L1", "PSNR", "FD-SqueezeNet"}
        for label, figure in pair["values"].items():
            apart = values(three, label)[pair["second"]] - values(three, label)[pair["first"]]
            assert figure["value"] == pytest.approx(apart, rel=1e-12)
            assert figure["low"] < figure["value"] < figure["high"]
    markdown, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    assert "| blur - GRIT | -" in markdown and "<td>blur - GRIT</td>" in page
    assert "paper: FID" in markdown and "paper: SSIM" not in markdown and "<th>paper: FID</th>" in page
    said = capsys.readouterr().out
    assert "no noise - GRIT" in said

    shown = read_sheet(out, three, ["GRIT", "blur"])
    kept = {row["name"]: json.dumps(row) for row in three["rows"]}
    calls.clear()
    four = measured(work, out, *rows[:4], "--row", f"sum alone={work / 'third'}", *rows[4:], *METRICS)
    assert set(calls) == {"third"}
    assert [row["name"] for row in four["rows"]] == ["GRIT", "no noise", "sum alone", "blur"]
    assert {row["name"]: json.dumps(row) for row in four["rows"] if row["name"] in kept} == kept
    text = (out / "result.json").read_text()
    assert all(json.dumps([row], indent=1)[3:-2] in text.replace("\n ", "\n") for row in three["rows"])
    assert [pair for pair in four["pairs"] if "sum alone" not in pair.values()] == three["pairs"]
    again = read_sheet(out, four, ["GRIT", "blur"])
    assert all(torch.equal(column, again[key]) for key, column in shown.items())
    whole = measured(work, tmp_path / "whole", *rows[:4], "--row", f"sum alone={work / 'third'}", *rows[4:], *METRICS)
    assert (whole["rows"], whole["pairs"]) == (four["rows"], four["pairs"])
    assert (tmp_path / "whole" / "images.png").read_bytes() == (out / "images.png").read_bytes()

    assert main(["compare", str(out / "result.json"), str(tmp_path / "whole" / "result.json")]) == 0
    assert "A: sum alone" in capsys.readouterr().out
    # What another row, other bytes or a damaged file has is measured.
    calls.clear()
    Image.new("RGB", (32, 32)).save(blurred / "00_0.png")
    (out / "images.png").write_bytes(b"")
    changed = measured(work, out, *rows[:2], "--row", f"no noise={work / 'third'}", *rows[4:], *METRICS)
    assert calls.count("third") == 2 * COUNT and calls.count("first") == COUNT  # for the sheet alone
    assert json.dumps(changed["rows"][0]) == kept["GRIT"]
    assert changed["rows"][2]["values"] != three["rows"][2]["values"]
    calls.clear()
    (out / "resamples.safetensors").write_bytes((out / "resamples.safetensors").read_bytes()[:-8] + bytes(8))
    measured(work, out, *rows[:2], *rows[4:], *METRICS)
    assert calls.count("first") == 2 * COUNT


def test_a_difference_is_of_the_same_resamples() -> None:
    """Its interval is that of the differences: narrow where two rows rise and fall together."""
    units, hard = torch.arange(50), torch.linspace(0, 100, 50, dtype=torch.float64)
    apart = torch.linspace(-0.5, 1.5, 50, dtype=torch.float64)

    def estimate(each: Tensor) -> Any:
        return mean_of(each, units, replicates=200, seed=3)

    found, alone = difference(estimate(hard), estimate(hard + apart), biased=False), estimate(apart)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-9)
    normal = difference(estimate(hard), estimate(hard + apart), biased=True)
    assert normal is not None and normal.high - normal.value == pytest.approx(normal.value - normal.low)
    endless = hard.clone()
    endless[0] = torch.inf
    assert difference(estimate(endless), estimate(endless), biased=False) is None
    assert difference(estimate(hard), mean_of(hard[:9], units[:9], replicates=200, seed=3), biased=False) is None


# --- the other tasks ---


def test_outputs_of_a_graft_are_named_after_the_target_or_both_inputs(tmp_path: Path) -> None:
    make_images(tmp_path / "data", COUNT, side=32)
    model = random_model(tmp_path / "model")
    asked = ("--samples", 2, "--metrics", "consistency", "kd", "deviation", "--bootstrap", 0)
    inputs = ("--samples", 2, "--inputs-only", tmp_path / "inputs")
    assert main(command(tmp_path, model, *inputs, protocol="i2ilr-table1")) == 0
    lines = [line.split(",") for line in (tmp_path / "inputs" / "pairs.csv").read_text().splitlines()]
    assert lines[0] == ["output", "target", "source"] and len(lines) == 1 + 2 * COUNT
    assert Image.open(tmp_path / "inputs" / lines[1][1]).size == (8, 8)
    for name in ("numbered", "both"):
        (tmp_path / name).mkdir()
    for output, target, source in lines[1:]:
        shutil.copy(tmp_path / "inputs" / source, tmp_path / "numbered" / output)
        both = f"{Path(source).stem}__{Path(target).stem}.png"
        shutil.copy(tmp_path / "inputs" / source, tmp_path / "both" / both)
    single = measured(tmp_path, tmp_path / "one", model, *asked, protocol="i2ilr-table1")
    finer = random_model(tmp_path / "finer", "method.lr_size=16")  # its own targets; measured by those of the table
    rows = ("--row", f"a={tmp_path / 'numbered'}", "--row", f"b={tmp_path / 'both'}", "--row", f"finer={finer}")
    table = measured(tmp_path, tmp_path / "out", model, *rows, *asked, protocol="i2ilr-table1")
    names = ["model", "a", "b", "finer", "reference: bicubic target", "reference: source as it is"]
    assert [row["name"] for row in table["rows"]] == names
    assert [table["rows"][place] for place in (0, 4, 5)] == single["rows"]
    assert table["rows"][1]["values"] == table["rows"][2]["values"] == table["rows"][5]["values"]
    assert table["protocol"] == single["protocol"] and "pairs" not in single
    assert [pair["second"] for pair in table["pairs"]] == ["a", "b", "finer", "b", "finer", "finer"]


def test_outputs_of_super_resolution_stand_in_a_folder_for_each_factor(tmp_path: Path) -> None:
    data = make_images(tmp_path / "data", 3, side=32)
    for path in data.iterdir():
        Image.open(path).crop((0, 0, 32, 32)).save(path)
    model = saved(tmp_path / "model", "psp")
    assert main(command(tmp_path, model, "--inputs-only", tmp_path / "inputs", protocol="ome-table4")) == 0
    assert Image.open(tmp_path / "inputs" / "x16" / "00.png").size == (2, 2)
    shutil.copytree(data, tmp_path / "outputs" / "x8")
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "outputs")
    asked = ("--metrics", "l1", "seconds", "--bootstrap", 0, "--row", f"copies={archive}")
    table = measured(tmp_path, tmp_path / "out", model, *asked, protocol="ome-table4")
    assert [row["name"] for row in table["rows"]] == [
        "model, x8", "copies, x8", "reference: bicubic, x8", "model, x16", "reference: bicubic, x16",
    ]  # fmt: skip
    assert values(table, "L1")["copies, x8"] == 0
    assert values(table, "seconds").keys() == {"model, x8", "model, x16"}
    assert [(pair["first"], pair["second"]) for pair in table["pairs"]] == [("model, x8", "copies, x8")]
    notes = " ".join(table["notes"])
    assert "copies: no seconds: its images were made elsewhere." in notes
    assert "left out: copies, x16: zipped.zip has no x16/" in notes


# --- bad input ---


def test_rows_that_do_not_fit_are_refused(work: Path, tmp_path: Path, capsys: Captured, model: Path) -> None:
    first = f"first={work / 'first'}"

    def refused(*rows: object, protocol: str = "grit-table1") -> str:
        given = [part for row in rows for part in ("--row", row)]
        said = refusal(capsys, *command(work, "--out", tmp_path / "out", *given, protocol=protocol))
        assert not (tmp_path / "out").exists()
        return said

    def outputs(name: str, count: int = COUNT, side: int = 32, form: str = "{:02d}.png") -> Path:
        (tmp_path / name).mkdir()
        for index in range(count):
            noise = np.random.default_rng(index).integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / name / form.format(index))
        return tmp_path / name

    assert refused("grit").startswith("--row grit: write NAME=PATH")
    assert "write NAME=PATH" in refused("=runs") and "is empty" in refused("grit=")
    assert "there is a row first before it: give each its own name" in refused(first, first)
    assert "cannot be shown" in refused("a\tb=x") and "the table's own" in refused("reals=x")
    good = outputs("good")
    assert "give a model too, whose inputs they were made of" in refused(f"a={good}")
    assert "neither a model folder" in refusal(capsys, *command(work, good, "--row", first))
    assert "whose task is graft: grit-table1 measures the task synthesize" in refused(first, f"other={model}")
    assert "no such folder" in refused(first, "other=nowhere-to-be-found")
    assert "the rows of grit-table3 are runs that it trains: leave it out" in refused(first, protocol="grit-table3")
    assert "are the components of one model's images" in refused(first, protocol="grit-figure9")
    assert "are the steps of one model" in refused(first, protocol="ome-figure8")

    few = outputs("few", COUNT - 2)
    said = f"no output for 2 of {COUNT} inputs, the first 06: name each 06.png, or 06_0.png, 06_1.png for several"
    assert refused(first, f"a={few}") == f"--row a: {few}: {said}"
    others = outputs("others", form="x{}.png")
    assert "no output for 8 of 8 inputs, the first 00, but x0.png: name each 00.png" in refused(first, f"a={others}")
    large = outputs("large", side=48)
    assert "00.png has 48 x 48 pixels, but the table's are 32 x 32: resize the outputs" in refused(first, f"a={large}")
    (good / "03.png").rename(good / "03_1.png")
    assert "03 has outputs 1, 00 has 1: give each as many, numbered from 0" in refused(first, f"a={good}")
    shutil.copy(good / "00.png", good / "00_0.png")
    assert "00.png and 00_0.png are one output of 00: keep one" in refused(first, f"a={good}")
    (few / "06.png").write_bytes(b"no image")
    (few / "07.png").write_bytes(b"no image")
    assert f"--row a: {few}: 06.png: not an image" in refused(first, f"a={few}")
    sketch = saved(tmp_path / "psp", "psp")
    assert "whose task is encode" in refused(first, f"psp={sketch}")
    inside = refusal(capsys, *command(work, "--row", first, "--row", f"a={others}", "--out", others / "out"))
    assert f"is inside {others}" in inside
    one = refusal(capsys, *command(work, work / "first", "--inputs-only", tmp_path / "few"))
    assert one == f"{tmp_path / 'few'}: is there: choose a new folder for the inputs"
