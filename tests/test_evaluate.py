"""`pixgraft evaluate` and `compare`: whole runs on made images, in one process and two, and what they refuse."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pixgraft.cli import main
from using import CURVE, refusal

COUNT, SIDE = 12, 32


def picture(seed: int, side: int = SIDE) -> Image.Image:
    """A smooth background with some sharp shapes on it: enough structure to be blurred."""
    noise = np.random.default_rng(seed)
    coarse = Image.fromarray(noise.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).copy()
    for _ in range(6):
        left, top = noise.integers(0, side - 6, 2)
        width, height = noise.integers(2, 7, 2)
        pixels[top : top + height, left : left + width] = noise.integers(0, 256, 3)
    return Image.fromarray(pixels)


def folder(path: Path, change: Callable[[Image.Image, int], Image.Image] = lambda image, seed: image) -> Path:
    path.mkdir(parents=True)
    for index in range(COUNT):
        change(picture(index), index).save(path / f"{index:02d}.png")
    return path


def blurred(radius: float) -> Callable[[Image.Image, int], Image.Image]:
    return lambda image, seed: image.filter(ImageFilter.GaussianBlur(radius))


def noisy(levels: float) -> Callable[[Image.Image, int], Image.Image]:
    def change(image: Image.Image, seed: int) -> Image.Image:
        pixels = np.asarray(image) + np.random.default_rng(1000 + seed).normal(0, levels, (SIDE, SIDE, 3))
        return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))

    return change


def coarse(factor: int) -> Callable[[Image.Image, int], Image.Image]:
    def change(image: Image.Image, seed: int) -> Image.Image:
        small = image.resize((SIDE // factor,) * 2, Image.Resampling.BOX)
        return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)

    return change


WORSE = {
    "blur": [blurred(0.7), blurred(3)],
    "noise": [noisy(8), noisy(64)],
    "downscaling": [coarse(2), coarse(8)],
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`good`, and two grades of each harm."""
    root = tmp_path_factory.mktemp("sets")
    folder(root / "good")
    for harm, grades in WORSE.items():
        for grade, change in enumerate(grades):
            folder(root / f"{harm}{grade}", change)
    return root


def measured(out: Path, *arguments: object) -> dict[str, Any]:
    """The result of a command line that must succeed."""
    assert main([str(each) for each in ["evaluate", *arguments, "--out", out, "--device", "cpu"]]) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


def values(result: dict[str, Any], row: int = 0) -> dict[str, float]:
    return {label: figure["value"] for label, figure in result["rows"][row]["values"].items()}


def test_a_set_against_itself_has_no_distance_and_is_covered(sets: Path, tmp_path: Path) -> None:
    result = measured(tmp_path, "--real", sets / "good", "--fake", sets / "good")
    found = values(result)
    assert found["FD-SqueezeNet"] == 0
    few = [note for note in result["notes"] if "no covariance of full rank" in note]
    assert len(few) == 1 and few[0].startswith(
        f"FD-SqueezeNet was measured of {len(list((sets / 'good').iterdir()))} images"
    )
    assert found["coverage (SqueezeNet)"] == found["precision (SqueezeNet)"] == found["recall (SqueezeNet)"] == 1
    assert found["KD-SqueezeNet"] == 0


def test_recall_is_of_distinct_images(sets: Path, tmp_path: Path) -> None:
    """Images that repeat lie at no distance from each other: neighbourhoods of theirs would hold nothing."""
    (tmp_path / "copies").mkdir()
    for path in (sets / "good").iterdir():
        for copy in range(7):
            (tmp_path / "copies" / f"{copy}-{path.name}").write_bytes(path.read_bytes())
    asked = ("--real", sets / "good", "--fake", tmp_path / "copies", "--metrics", "recall", "coverage")
    assert set(values(measured(tmp_path / "out", *asked)).values()) == {1.0}


@pytest.mark.parametrize("harm", [pytest.param(h, marks=pytest.mark.slow if h == "blur" else ()) for h in WORSE])
def test_worse_images_are_measured_as_worse(harm: str, sets: Path, tmp_path: Path) -> None:
    """Every metric goes its own way with each grade, from the harmless on."""
    grades = [sets / "good", *(sets / f"{harm}{grade}" for grade in range(len(WORSE[harm])))]
    up = ["fd", "kd", "l1", "perceptual"]
    down = ["psnr", "ssim", "coverage", "density"]
    asked = ["--pairs", "name", "--bootstrap", 0, "--metrics", *up, *down]
    rows = [measured(tmp_path / path.name, "--real", sets / "good", "--fake", path, *asked) for path in grades]
    for column in rows[0]["columns"]:
        figures = [float(row["rows"][0]["values"][column["label"]]["value"]) for row in rows]
        ordered = sorted(figures, reverse=column["metric"] in down)
        assert figures == ordered, f"{column['label']} with more {harm}: {figures}"
        assert figures[0] != figures[-1]


def test_a_spectrum_shows_what_noise_adds(sets: Path, tmp_path: Path) -> None:
    result = measured(tmp_path, "--real", sets / "good", "--fake", sets / "noise1", "--metrics", "spectrum")
    fake, real = (np.array(row["spectrum"]) for row in result["rows"])
    assert result["rows"][1]["name"] == "reals"
    assert len(real) == SIDE // 2 + 1
    assert (fake[-6:] > real[-6:] * 4).all()
    assert real[1] / 2 < fake[1] < real[1] * 2
    assert (tmp_path / "spectra.svg").read_text().count(CURVE) == 2


def test_the_interval_holds_the_value_and_is_wider_for_fewer(sets: Path, tmp_path: Path) -> None:
    arguments = ["--real", sets / "good", "--fake", sets / "noise1", "--pairs", "order", "--metrics", "l1", "fd"]
    result = measured(tmp_path / "all", *arguments)
    for figure in result["rows"][0]["values"].values():
        assert figure["low"] < figure["value"] < figure["high"]
        assert figure["units"] == COUNT


# --- a model ---


@pytest.fixture(scope="module")
def table1(model: Path, sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("table1")
    measured(out, model, *TABLE1, "--data", sets / "good")
    return out


TABLE1 = ("--protocol", "i2ilr-table1", "--samples", 2, "--bootstrap", 20)


def test_a_model_stands_beside_its_references_and_the_paper(table1: Path) -> None:
    result = json.loads((table1 / "result.json").read_text())
    own, bicubic, source = result["rows"]
    assert own["name"] == "wild"
    assert own["images"] == 2 * COUNT
    assert len(own["weights_sha256"]) == 64
    assert bicubic["values"]["PD-SqueezeNet diversity"]["value"] == 0  # one and the same image for all sources
    assert source["values"]["FD-SqueezeNet"]["value"] < bicubic["values"]["FD-SqueezeNet"]["value"]
    assert source["values"]["LR difference"]["value"] > bicubic["values"]["LR difference"]["value"]
    assert result["published"][0] == {
        "name": "I2I-LR, 128",
        "values": {"fd": "15.52 FID", "diversity": "0.34 LPIPS"},
    }
    protocol = result["protocol"]
    assert protocol["sources_for_each_target"] == 2
    assert protocol["data"]["images"] == COUNT
    assert len(protocol["networks"]["squeezenet (set)"]) == 64
    assert any("mobilefacenet" in note for note in result["notes"])


def test_one_source_for_each_target_is_enough_without_diversity(model: Path, sets: Path, tmp_path: Path) -> None:
    flags = (*TABLE1[:2], "--samples", 1, "--data", sets / "good", "--metrics", "consistency", "fd")
    assert set(values(measured(tmp_path, model, *flags))) == {"LR difference", "FD-SqueezeNet"}


def test_the_report_can_be_read_and_looked_at(table1: Path) -> None:
    page, text = (table1 / "report.html").read_text(), (table1 / "report.md").read_text()
    for report in (page, text):
        assert "15.52 FID" in report
        assert "paper: I2I-LR, 128" in report
        assert "reference: bicubic target" in report
    with Image.open(table1 / "images.png") as sheet:
        assert sheet.height > 8 * 128
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # it needs no other file


def without_times(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    del result["times"]
    return result


def test_the_same_command_gives_the_same_numbers(model: Path, sets: Path, table1: Path, tmp_path: Path) -> None:
    measured(tmp_path, model, *TABLE1, "--data", sets / "good")
    assert without_times(tmp_path) == without_times(table1)


def test_two_processes_give_one_s_numbers(model: Path, sets: Path, table1: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pixgraft"]
    arguments = ["evaluate", model, *TABLE1, "--data", sets / "good", "--out", tmp_path, "--device", "cpu"]
    command = [*program, *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stderr
    two, one = without_times(tmp_path), without_times(table1)
    for result in (two, one):
        del result["resamples"]  # a hash of what agrees as the figures do
    for ours, theirs in zip(two.pop("rows"), one.pop("rows"), strict=True):
        left, right = ours.pop("values"), theirs.pop("values")
        assert ours == theirs
        assert left.keys() == right.keys()
        for label in left:
            assert left[label] == pytest.approx(right[label], rel=1e-6, abs=1e-9)
    assert two == one


def test_results_are_compared_only_under_one_protocol(
    model: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def result(name: str, *changed: object) -> Path:
        quick = (*TABLE1, "--metrics", "consistency", "piqe", "--data", sets / "good")
        measured(tmp_path / name, model, *quick, *changed)
        return tmp_path / name / "result.json"

    usual = result("usual")
    problem = refusal(capsys, "compare", usual, result("seed", "--seed", 1))
    assert "different protocols: seed: 0 and 1" in problem
    problem = refusal(capsys, "compare", usual, result("projected", "--project"))
    assert "different protocols: projected: false and true" in problem
    problem = refusal(capsys, "compare", usual, tmp_path / "usual" / "report.md")
    assert problem.endswith("not a result of pixgraft evaluate: give its result.json")

    capsys.readouterr()
    assert main(["compare", str(usual), str(usual)]) == 0
    said = capsys.readouterr().out
    assert "A: wild" in said
    assert "B: wild" in said


def test_an_edited_protocol_is_noticed(table1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (table1 / "result.json").read_text()
    (tmp_path / "edited.json").write_text(text.replace('"sources_for_each_target": 2', '"sources_for_each_target": 10'))
    problem = refusal(capsys, "compare", table1 / "result.json", tmp_path / "edited.json")
    assert problem == f"{tmp_path}/edited.json: its protocol was edited (SHA-256 differs): measure anew"


# --- bad input ---


def test_what_does_not_fit_together_is_refused(
    model: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sets / "good"

    def refused(*arguments: object) -> str:
        return refusal(capsys, "evaluate", *arguments)

    assert "say what to measure" in refused()
    assert "say what images" in refused(model)
    assert "i2ilr-table1" in refused(model, "--data", good)
    said = refused(model, "--data", good, "--protocol", "i2ilr-tabel1")
    assert said.startswith("no protocol named i2ilr-tabel1: did you mean i2ilr-table1")
    assert "measures a model" in refused("--real", good, "--fake", good, "--protocol", "i2ilr-table1")
    assert "leave it out" in refused(model, "--data", good, "--fake", good)
    assert "measured at 32" in refused(model, "--data", good, "--protocol", "i2ilr-table1", "--size", 64)
    table4 = ("i2ilr-tiny-32", "--data", good, "--protocol", "i2ilr-table4")
    assert "give --out" in refused(*table4)
    assert "--split" in refused(*table4, "--out", tmp_path / "out")
    table1 = (model, "--data", good, "--protocol", "i2ilr-table1")
    assert "trains nothing" in refused(*table1, "--set", "train.images=8")
    assert "no feature network (--features) named foo: choose one of" in refused(*table1, "--features", "foo")
    assert "no metric here takes it" in refused(*table1, "--features", "vgg16", "--metrics", "consistency")
    assert f"{good}/out: is inside {good}" in refused(*table1, "--out", good / "out")
    both = ("--real", good, "--fake", good)
    assert "measures a model" in refused(*both, "--split", "test")
    assert "choose a number of pixels" in refused(*both, "--size", -5)
    assert "networks that fit" in refused(*both, "--metrics", "fd:")
    assert "no metric named coverige: did you mean coverage? choose one of" in refused(*both, "--metrics", "coverige")
    assert "did you mean inception?" in refused(*both, "--features", "incepton")
    assert "did you mean vgg16?" in refused(*both, "--metrics", "fd:vgg6")
    assert "networks that fit fd" in refused(*both, "--metrics", "fd:lpips-alex")
    assert "add --features mobilefacenet" in refused(*both, "--metrics", "identity")
    assert "needs a reference" in refused(*both, "--metrics", "psnr")
    assert "needs a source" in refused(*both, "--metrics", "identity", "--features", "irse50")
    assert "choose 0" in refused(*both, "--bootstrap", 1)
    assert "write NAME=FILE" in refused(*both, "--weights", "inception")
    assert "sources for each target" in refused(model, "--data", good, *TABLE1[:2], "--samples", 11)
    assert "diversity needs at least 2" in refused(model, "--data", good, *TABLE1[:2], "--samples", 1)
    assert not list(tmp_path.iterdir())


def test_unusable_sets_are_refused(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def copies(name: str, count: int, **changed: Image.Image) -> Path:
        (tmp_path / name).mkdir()
        for index in range(count):
            picture(index).save(tmp_path / name / f"{index:02d}.png")
        for stem, image in changed.items():
            image.save(tmp_path / name / f"{stem[1:]}.png")
        return tmp_path / name

    good = sets / "good"
    few = copies("few", 5)
    assert f"{few.name}: 5 images; the metrics on sets need at least 6" in refusal(
        capsys, "evaluate", "--real", good, "--fake", few
    )
    one = copies("one", 1)
    assert "1 images; the metrics on sets need at least 2" in refusal(
        capsys, "evaluate", "--real", good, "--fake", one, "--metrics", "fd"
    )
    mixed = copies("mixed", 8, _05=picture(5, 40))
    assert "mixes sizes: 05.png is 40 x 40, 00.png is 32 x 32: give --size" in refusal(
        capsys, "evaluate", "--real", good, "--fake", mixed
    )
    larger = copies("larger", 0, **{f"_{index:02d}": picture(index, 40) for index in range(COUNT)})
    assert "a pair of sizes 40 x 40 and 32 x 32" in refusal(
        capsys, "evaluate", "--real", good, "--fake", larger, "--pairs", "name"
    )
    assert "is on one side only" in refusal(capsys, "evaluate", "--real", good, "--fake", few, "--pairs", "name")
    alike = copies("alike", 0, **{f"_{index:02d}": picture(0) for index in range(8)})
    problem = refusal(capsys, "evaluate", "--real", good, "--fake", alike)
    assert problem == "alike: all 8 have the same features: give images that differ"
    damaged = copies("damaged", 8)
    (damaged / "03.png").write_bytes((damaged / "03.png").read_bytes()[:200])
    assert "03.png" in refusal(capsys, "evaluate", "--real", good, "--fake", damaged)


def test_wrong_weights_are_refused(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    both = ("--real", sets / "good", "--fake", sets / "good", "--quiet")
    problem = refusal(capsys, "evaluate", *both, "--features", "inception")
    assert problem.startswith(f"{tmp_path}/cache/pt_inception-2015-12-05-6726825d.pth: not there")
    assert "--weights inception=FILE" in problem

    problem = refusal(capsys, "evaluate", *both, "--metrics", "fd:mobilefacenet")
    assert problem.startswith(f"{tmp_path}/cache/mobilefacenet_casia.safetensors: the weights of mobilefacenet")

    other = tmp_path / "other.pth"
    other.write_bytes(b"not the published file")
    problem = refusal(capsys, "evaluate", *both, "--features", "inception", "--weights", f"inception={other}")
    assert problem.startswith(f"{other}: SHA-256 ")
    assert "6726825d0af5" in problem

    problem = refusal(capsys, "evaluate", *both, "--features", "inception", "--weights", f"inception={tmp_path}/none")
    assert problem.endswith("no such file, given for inception: check the path")

    # The layout of another network, where no SHA-256 is known.
    from pixgraft.features import asset

    file = asset("squeezenet1_0.safetensors")
    weights = ("--weights", f"mobilefacenet={file}")
    problem = refusal(capsys, "evaluate", *both, "--metrics", "fd:mobilefacenet", *weights)
    assert problem.startswith(str(file))


def unreachable(*_: object, **__: object) -> io.BytesIO:
    raise URLError("no network")
