"""Quality against time: an encoder's passes beside searches in its generator, and what cannot stand beside them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from cases import tiny_prior
from encoders import codes, pixels
from encoders import saved as perturbed
from pixgraft.cli import main
from pixgraft.data.charts import Axis
from pixgraft.data.grids import tiled, tiles
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.plots import tradeoff_svg
from pixgraft.evaluation.rows import OutputFolder
from pixgraft.evaluation.subjects import Pictures
from pixgraft.evaluation.tradeoff import Searches
from pixgraft.features import Feature
from pixgraft.methods.tasks import Encoding
from pixgraft.metrics.paired import psnr
from pixgraft.models import load_model, save_model
from pixgraft.pipelines.base import UNFINISHED
from test_ome_evaluation import values
from training import make_images
from using import CURVE, refusal, report

COUNT = 2
PLAIN = ("--perceptual", "none", "--device", "cpu", "--quiet")


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """In SqueezeNet's place, which takes seconds."""
    small = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())
    small.embed = small.forward  # type: ignore[assignment]
    feature = Feature("squeezenet", small, "0" * 64)
    monkeypatch.setattr("pixgraft.evaluation.measure.open_feature", lambda *_, **__: feature)


def invert(prior: object, condition: Path, out: Path, *flags: object) -> Path:
    assert main([str(each) for each in ["invert", prior, "--condition", condition, "--out", out, *PLAIN, *flags]]) == 0
    return out


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, pictures of 32 x 32; `ome`, an encoder of three passes; searches in its generator."""
    folder = tmp_path_factory.mktemp("work")
    make_images(folder / "all", COUNT)
    (folder / "data").mkdir()
    for path in (folder / "all").iterdir():
        Image.open(path).resize((32, 32)).save(folder / "data" / f"{path.stem}.png")
    ome = perturbed(folder / "ome", "ome", "condition=self", "steps=3")
    invert(ome, folder / "data", folder / "wplus", "--by", "wplus", "--steps", 6)
    invert(ome, folder / "data", folder / "hybrid", "--by", "wplus", "--start", ome, "--steps", 3)
    invert(ome, folder / "data", folder / "pulse", "--by", "pulse", "--factor", 8, "--steps", 2)
    return folder


def rows(work: Path, *names: str) -> list[object]:
    return [part for name in names for part in ("--row", f"{name}={work / name}")]


def command(work: Path, *more: object) -> list[object]:
    asked = ["evaluate", "--protocol", "invert-tradeoff", "--data", work / "data", "--device", "cpu", "--quiet"]
    return [*asked, "--bootstrap", 20, *more]


def measured(work: Path, out: Path, *names: str) -> dict[str, Any]:
    assert main([str(each) for each in command(work, "--out", out, *rows(work, *names))]) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


def test_passes_and_pictures_are_measured_with_what_they_took(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "table"
    two = measured(work, out, "ome", "wplus", "pulse")
    steps = [row["step"] for row in report(work / "wplus", "00")["measures"]["search"]]
    assert [row["name"] for row in two["rows"]] == [
        *(f"ome, pass {number}" for number in (1, 2, 3)), *(f"wplus, step {number}" for number in steps),
        *(f"pulse, step {number}" for number in (0, 1, 2)), "floor: starting codes",
    ]  # fmt: skip
    method = load_model(work / "ome").method
    assert isinstance(method, Encoding)
    references = [pixels(work / "data" / f"0{number}.png")[None] for number in range(COUNT)]
    encoded = [method.encode(each, steps=2).images[-1] for each in references]
    made = [((each + 1) * 127.5).round() for each in encoded]
    expected = sum(float(psnr(a, b.float())) for a, b in zip(made, references, strict=True)) / COUNT
    found = values(two, "PSNR")
    assert found["ome, pass 2"] == pytest.approx(expected, abs=1e-3)
    for name in ("wplus", "pulse"):
        last = [pixels(work / name / f"0{number}.png")[None] for number in range(COUNT)]
        ratios = [float(psnr(a, b)) for a, b in zip(last, references, strict=True)]
        assert found[f"{name}, step {6 if name == 'wplus' else 2}"] == pytest.approx(sum(ratios) / COUNT)
    for clock, label in (("seconds", "seconds"), ("processor", "processor seconds")):
        taken = values(two, label)
        for place, step in enumerate(steps):
            of_reports = [report(work / "wplus", f"0{number}")["measures"]["search"] for number in range(COUNT)]
            assert taken[f"wplus, step {step}"] == pytest.approx(sum(each[place][clock] for each in of_reports) / COUNT)
        assert "floor: starting codes" not in taken and taken["ome, pass 3"] > 0
    assert [(pair["first"], pair["second"]) for pair in two["pairs"]] == [
        ("ome, pass 3", "wplus, step 6"), ("ome, pass 3", "pulse, step 2"), ("wplus, step 6", "pulse, step 2"),
    ]  # fmt: skip
    assert [name for name, _ in two["sheet"]["columns"] if name] == [
        "ome, pass 3", "wplus, step 6", "pulse, step 2", "floor: starting codes",
    ]  # fmt: skip
    assert any(note.startswith("pulse: pulse in w, 2 steps, for images shrunk by 8; seconds") for note in two["notes"])
    drawn = (out / "tradeoff.svg").read_text()
    assert drawn.count(CURVE) == 2 * 3 and drawn in (out / "report.html").read_text()
    # Another row leaves those as they were measured, seconds too.
    three = measured(work, out, "ome", "wplus", "pulse", "hybrid")
    assert [row for row in three["rows"] if row.get("curve") != "hybrid"] == two["rows"]
    assert values(three, "PSNR")["hybrid, step 0"] == pytest.approx(found["ome, pass 3"], abs=0.01)


def test_an_encoder_stands_for_the_prior_that_it_holds(work: Path, tmp_path: Path) -> None:
    """A search in an encoder is one in its prior, and a start of another prior is told of."""
    for kind, by in (("stylegan2", "wplus"), ("progan", "mganprior")):
        cut = ("cut=4",) if kind == "progan" else ()
        encoder = perturbed(tmp_path / kind, "ome", "condition=self", *cut, prior=kind)
        method = load_model(encoder).method
        assert isinstance(method, Encoding)
        prior = load_model(tiny_prior(kind)).method
        assert not method.embedded_prior().is_same(prior)  # type: ignore[arg-type]
        method.get_submodule("generator").load_state_dict(prior.get_submodule("generator").state_dict())
        assert method.embedded_prior().is_same(prior)  # type: ignore[arg-type]
        flags = ("--by", by, "--steps", 2, *(("--side", 8, "--many", 2) if by == "mganprior" else ()))
        found = invert(encoder, work / "data" / "00.png", tmp_path / f"{kind}-found", *flags)
        assert report(found, "00")["weights_sha256"] == load_model(encoder).weights_sha256
    first = report(work / "hybrid", "00")["measures"]["search"][0]
    assert first["processor"] > 0 and report(work / "wplus", "01")["measures"]["search"][0]["processor"] > 0
    assert report(work / "hybrid", "00")["notes"] == []
    other = invert(tiny_prior("stylegan2"), work / "data" / "00.png", tmp_path / "other", "--by", "wplus", "--steps", 1,
                   "--start", work / "ome")  # fmt: skip
    assert "encodes for another generator than the prior's" in report(other, "00")["notes"][0]
    with torch.no_grad():
        image = load_model(work / "ome").method.decode(codes(work / "wplus" / "00_codes.safetensors")[None])  # type: ignore[operator]
    assert int((((image[0] + 1) * 127.5).round() - pixels(work / "wplus" / "00.png")).abs().max()) <= 1


def test_what_is_no_search_of_these_images_is_one_line(work: Path, tmp_path: Path) -> None:
    def said(folder: Path, size: int = 32) -> str:
        with pytest.raises(PixgraftError) as raised:
            Searches(OutputFolder("S", str(folder)), ["00", "01"], Pictures(work / "data", size=size), size)
        return str(raised.value).replace(str(folder), "F")

    def spoilt(change: Callable[[Path], object]) -> str:
        folder = tmp_path / "spoilt"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(work / "wplus", folder)
        change(folder)
        return said(folder)

    def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
        def edit(folder: Path) -> None:
            content = report(folder, "01")
            change(content)
            (folder / "01.json").write_text(json.dumps(content))

        return edit

    none = "--row S: F/01.json: has no curve of a search: name a folder that `pixgraft invert` wrote"
    assert spoilt(edited(lambda r: r["measures"].pop("search"))) == none
    assert spoilt(edited(lambda r: r["measures"]["search"].reverse())) == none
    assert spoilt(edited(lambda r: r["measures"]["search"][0].update(seconds="1"))) == none
    assert spoilt(edited(lambda r: r["settings"].update(by="magic"))) == none
    assert spoilt(lambda folder: (folder / "01.json").write_text("[]")) == none
    stopped = "--row S: F/01.json: a search that was stopped: the same command makes it anew"
    assert spoilt(edited(lambda r: r["notes"].append(UNFINISHED))) == stopped
    moved = "--row S: F/01.json: its images were moved along a direction: search without one"
    assert spoilt(edited(lambda r: r["settings"].update(direction="older"))) == moved
    otherwise = "--row S: F/01.json: searched otherwise than 00: make all images by one command"
    assert spoilt(edited(lambda r: r["settings"].update(starts=2))) == otherwise
    assert "S: F: no report for 1 of 2 images, the first 01.json" in spoilt(
        lambda folder: (folder / "01.json").unlink()
    )
    assert "00_strip.png: No such file" in spoilt(lambda folder: (folder / "00_strip.png").unlink())
    assert "00_strip.png: not the strip of this search, the table's are of 32" in spoilt(
        lambda folder: shutil.copy(folder / "00.png", folder / "00_strip.png")
    )
    assert "F/01.json: of another image than the one of that name in --data" in spoilt(
        lambda folder: shutil.copy(folder / "00_strip.png", folder / "01_strip.png")
    )
    assert "00_strip.png: shows pictures of 32 pixels, the table's are of 64" in said(work / "wplus", 64)


def test_rows_of_other_priors_and_tasks_are_refused_before_anything_is_measured(
    work: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*more: object) -> str:
        line = refusal(capsys, *command(work, "--out", tmp_path / "out", *more))
        assert not (tmp_path / "out").exists()
        return line

    shutil.copytree(work / "wplus", tmp_path / "other")
    for path in (tmp_path / "other").glob("*.json"):
        path.write_text(path.read_text().replace(report(work / "wplus", "00")["weights_sha256"], "0" * 64))
    line = refused(*rows(work, "ome"), "--row", f"W={tmp_path / 'other'}")
    hint = f"`pixgraft invert {work / 'ome'}` searches in its generator"
    assert line == f"--row W: {tmp_path / 'other'}: searched in another prior than ome's: {hint}"
    method = load_model(work / "ome").method
    with torch.no_grad():
        next(method.get_submodule("generator").parameters()).add_(1)
    save_model(tmp_path / "moved", method, info={})
    line = refused(*rows(work, "ome"), "--row", f"M={tmp_path / 'moved'}")
    assert line == "M: its generator is not ome's: measure encoders of one prior"
    assert "a model of i2ilr, whose task is graft: invert-tradeoff measures" in refused("--row", f"G={model}")
    assert "rows of outputs alone do not say" in refused(*rows(work, "wplus"))


def test_a_row_of_tiles_is_taken_apart() -> None:
    images = torch.rand(3, 3, 5, 5)
    sheet = tiled(images[None])
    found = tiles(sheet, 3)
    assert found is not None and torch.equal(found, images)
    assert tiles(sheet, 2) is None and tiles(sheet[:, :3], 3) is None


def test_axes_end_at_round_numbers() -> None:
    for given, logarithmic, ends, labels in (
        ([0.02, 0.2, 20.0], True, (0.01, 100.0), ["0.01", "0.1", "1", "10", "100"]),
        ([3.0], True, (2.0, 5.0), ["2", "5"]),
        ([999.9999999999999], True, (500.0, 1000.0), ["500", "1 k"]),
        ([0.0, 7.1], None, (0.0, 8.0), ["0", "2", "4", "6", "8"]),
        ([5.0], None, (2.0, 8.0), ["2", "4", "6", "8"]),
        ([1.0, 30.0], None, (1.0, 50.0), ["1", "2", "5", "10", "20", "50"]),
        ([], None, (0.0, 1.0), ["0", "0.25", "0.5", "0.75", "1"]),
    ):
        axis = Axis.around(given, logarithmic=logarithmic)
        assert (axis.low, axis.high) == pytest.approx(ends) and [*axis.labels.values()] == labels
        assert [axis.share(each) for each in (*ends, -1.0, 1e9)] == pytest.approx([0, 1, 0, 1])
    decades = Axis.around([0.02, 20.0], logarithmic=True)
    assert decades.share(1.0) == pytest.approx(0.5)
    assert decades.until(5.0).high == 5.0 and [*decades.until(5.0).labels] == pytest.approx([0.01, 0.1, 1.0])


def test_the_tradeoff_is_drawn_over_decades() -> None:
    points = [(0.02, 10.0), (0.2, 20.0), (20.0, 30.0)]
    drawn = tradeoff_svg({"PSNR": {"a <b>": points}}, "seconds")
    for label in (">0.01<", ">100<", ">a &lt;b&gt;<", ">seconds, logarithmic<", ">PSNR<"):
        assert label in drawn
    assert drawn.count("<circle") == 3 and drawn.count(CURVE) == 1
    assert "nan" not in tradeoff_svg({"PSNR": {"one": [(1.0, 5.0)]}}, "seconds").replace("dominant", "")
