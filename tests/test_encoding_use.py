"""pSp and OME used on files: images, strips, codes and reports; the same bytes in any company; what is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image

from cases import tiny_prior
from encoders import codes, pixels, saved, tiles, translate
from pixgraft.cli import main
from pixgraft.data.degrade import Degradation
from pixgraft.data.images import decode, from_uint8, to_tensor, to_uint8
from pixgraft.errors import PixgraftError
from pixgraft.metrics.consistency import consistency, project
from pixgraft.models import load_model
from pixgraft.pipelines.encode import EncodingPipeline
from training import make_images
from using import PHOTOGRAPHS, refusal

LAYERS = 8


@pytest.fixture(scope="module")
def ome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("ome") / "ome", "ome")


@pytest.fixture(scope="module")
def psp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("psp") / "psp", "psp")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of 64 x 68 pixels."""
    return make_images(tmp_path_factory.mktemp("images") / "images", 3, side=64)


@pytest.fixture(scope="module")
def done(ome: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples of each, as the command makes them, at a quarter of their side."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert translate(ome, images, out, "--factor", 4, "--samples", 3, "--seed", 5) == 0
    return out


def report(out: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return found


def opened(folder: Path) -> EncodingPipeline:
    return EncodingPipeline(load_model(folder), torch.device("cpu"))


# --- what comes out ---


def test_every_condition_gives_images_codes_a_strip_and_a_report(ome: Path, done: Path) -> None:
    parts = [f"_{number}{end}" for number in range(3) for end in (".png", "_codes.safetensors")]
    expected = {f"{name}{part}" for name in ("00", "01", "02") for part in (*parts, "_strip.png", ".json")}
    assert {path.name for path in done.iterdir()} == expected
    weights = json.loads((ome / "model.json").read_text())["weights"]["sha256"]
    found = report(done, "01")
    settings = {"steps": 2, "samples": 3, "mix_from": LAYERS // 2, "mix_alpha": 1.0, "factor": 4, "aligned": False}
    assert (found["weights_sha256"], found["seed"], found["settings"]) == (weights, 5, settings)
    assert found["seconds"] >= 0 and found["inputs"][0]["name"] == "01.png" and found["notes"] == []
    listed = [f"01{part}" for part in (*parts, "_strip.png")]
    assert found["outputs"] == [
        {"file": name, "sha256": hashlib.sha256((done / name).read_bytes()).hexdigest()} for name in listed
    ]
    with safetensors.safe_open(str(done / "01_2_codes.safetensors"), "pt") as file:
        metadata = json.loads(file.metadata()["pixgraft"])
    assert (metadata["weights_sha256"], metadata["settings"], metadata["seed"]) == (weights, settings, 5)
    picture = Image.open(done / "01_0.png")
    assert picture.size == (32, 32) and "Synthesised by a neural network" in picture.info["Description"]


@pytest.mark.parametrize("steps", [1, 3])
def test_the_strip_shows_each_step(ome: Path, images: Path, tmp_path: Path, steps: int) -> None:
    assert translate(ome, images / "00.png", tmp_path, "--steps", steps) == 0
    shown = tiles(tmp_path / "00_strip.png")
    assert len(shown) == steps + 2 and len({each.numpy().tobytes() for each in shown}) == steps + 2
    assert torch.equal(shown[-1], pixels(tmp_path / "00.png"))
    method = opened(ome).method
    assert torch.equal(shown[1], to_uint8(method.decode(method.start_codes.unsqueeze(0)))[0])
    found = report(tmp_path, "00")
    changes = found["measures"]["codes_changed_by"]
    assert found["settings"]["steps"] == steps == len(changes)
    if steps == 1:
        moved = codes(tmp_path / "00_codes.safetensors") - method.start_codes
        assert changes[0] == pytest.approx(float(moved.square().mean().sqrt()), abs=1e-5)


@pytest.mark.parametrize("name", ["ome", "psp"])
def test_codes_go_back_to_the_same_image(
    name: str, images: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: Path = request.getfixturevalue(name)
    out = tmp_path / "out"
    assert translate(model, images / "02.png", out, "--samples", 2) == 0
    for stem in ("02_0", "02_1"):
        command = ["translate", model, "--codes", out / f"{stem}_codes.safetensors", "--out", tmp_path / "back"]
        assert main([*map(str, command), "--device", "cpu"]) == 0
        assert torch.equal(pixels(tmp_path / "back" / f"{stem}_decoded.png"), pixels(out / f"{stem}.png"))
        assert report(tmp_path / "back", f"{stem}_decoded")["inputs"][0]["name"] == f"{stem}_codes.safetensors"


def test_company_changes_no_byte(ome: Path, images: Path, done: Path, tmp_path: Path) -> None:
    """Alone, with fewer samples, or in Python."""
    flags = ("--factor", 4, "--seed", 5)
    assert translate(ome, images / "01.png", tmp_path / "alone", *flags, "--samples", 3) == 0
    files = [path for path in (tmp_path / "alone").iterdir() if path.suffix != ".json"]
    assert len(files) == 7 and all(path.read_bytes() == (done / path.name).read_bytes() for path in files)
    assert translate(ome, images / "01.png", tmp_path / "fewer", *flags, "--samples", 2) == 0
    result = opened(ome)(Image.open(images / "01.png"), factor=4, samples=3, seed=5)
    for number in range(3):
        expected = pixels(done / f"01_{number}.png"), codes(done / f"01_{number}_codes.safetensors")
        assert torch.equal(result.pixels[number], expected[0]) and torch.equal(result.codes[number], expected[1])
        if number < 2:
            assert torch.equal(pixels(tmp_path / "fewer" / f"01_{number}.png"), expected[0])
            assert torch.equal(codes(tmp_path / "fewer" / f"01_{number}_codes.safetensors"), expected[1])
    assert result.report["measures"] == report(done, "01")["measures"]


def test_tensors_are_conditions(psp: Path, images: Path) -> None:
    pipeline = opened(psp)
    small = [pipeline.read_condition((images / f"0{number}.png").read_bytes(), "").pixels for number in range(2)]
    of_file = pipeline(images / "00.png")
    assert len(of_file.strip) == 3 and torch.equal(of_file.pixels, pipeline(small[0]).pixels)
    both = pipeline(from_uint8(torch.stack(small)))
    alone = [pipeline(each) for each in small]
    assert torch.equal(both.pixels, torch.cat([each.pixels for each in alone]))
    assert torch.equal(both.codes, torch.cat([each.codes for each in alone])) and both.codes.shape == (2, LAYERS, 16)
    for given, reason in (
        ({"image": from_uint8(small[0]) * 3}, "the condition has values from"),
        ({"image": small[0][:, :8]}, r"\(N, 3, 32, 32\)"),
        ({"image": small[0].int()}, "torch.int32: give uint8"),
        ({"image": small[0], "factor": 4}, "factor and align are for image files"),
        ({"image": small[0], "count": 2}, r"it takes an image or another condition: load\("),
    ):
        with pytest.raises(PixgraftError, match=reason):
            pipeline(**given)


def test_samples_differ_in_fine_styles_alone(ome: Path, images: Path, done: Path, tmp_path: Path) -> None:
    own, first, second = (codes(done / f"00_{number}_codes.safetensors") for number in range(3))
    half = LAYERS // 2
    assert torch.equal(own[:half], first[:half]) and torch.equal(own[:half], second[:half])
    assert not torch.isclose(own[half:], first[half:]).all(1).any()
    assert not torch.isclose(second[half:], first[half:]).all(1).any()
    assert torch.equal(first[half:], first[half].expand(half, -1))  # one random w
    assert torch.equal(first[half:], codes(done / "01_1_codes.safetensors")[half:])  # of (seed, number) alone
    assert (pixels(done / "00_0.png") != pixels(done / "00_1.png")).any()
    assert translate(ome, images / "00.png", tmp_path, "--factor", 4, "--samples", 2, "--mix-from", 6) == 0
    other = codes(tmp_path / "00_1_codes.safetensors")
    assert torch.equal(other[:6], own[:6]) and not torch.isclose(other[6:], own[6:]).all(1).any()
    assert not torch.isclose(other[6], first[6]).all()  # another seed
    some = opened(ome)(images / "00.png", factor=4, samples=2, mix_from=6, mix_alpha=0.25, seed=0).codes[1]
    torch.testing.assert_close(some[6:], torch.lerp(own, other, 0.25)[6:])
    assert torch.equal(some[:6], own[:6])


def test_the_layer_from_which_samples_differ_goes_with_the_generator(ome: Path) -> None:
    pipeline = opened(ome)
    for count, expected in ((8, 4), (14, 7), (16, 8), (18, 8)):
        pipeline.style_layers = lambda option, count=count: count  # type: ignore[method-assign, misc]
        assert pipeline.mix_from(None) == expected and pipeline.mix_from(3) == 3


# --- low resolution ---


def test_an_image_is_shrunk_as_in_training(ome: Path, images: Path) -> None:
    data = (images / "00.png").read_bytes()
    found = opened(ome).read_condition(data, "00.png", factor=8)
    whole = decode(data, "00.png").crop((0, 2, 64, 66)).resize((32, 32), Image.Resampling.LANCZOS)
    degraded = Degradation(factors=(8,))(to_tensor(whole).unsqueeze(0), 8)
    assert torch.equal(found.pixels, to_uint8(degraded)[0])
    assert found.small is not None and found.small.shape == (3, 4, 4)


def test_the_consistency_is_that_of_the_files(ome: Path, images: Path, done: Path, tmp_path: Path) -> None:
    """With an image that was shrunk, one that is small, and one that is not."""
    small = Image.open(images / "00.png").resize((8, 8))
    small.save(tmp_path / "small.png")
    Image.open(images / "00.png").resize((32, 32)).save(tmp_path / "whole.png")
    assert translate(ome, tmp_path, tmp_path.parent / "lr") == 0
    for name, side in (("small", 8), ("whole", 32)):
        target = pixels(tmp_path / f"{name}.png").unsqueeze(0).float()
        expected = consistency(pixels(tmp_path.parent / "lr" / f"{name}.png").unsqueeze(0), target)[0]
        figures = report(tmp_path.parent / "lr", name)["measures"]["outputs"][0]["difference"]
        assert figures["cells"] == side**2 and figures == pytest.approx(vars(expected)) and expected.largest > 1
    shrunk = opened(ome).read_condition((images / "01.png").read_bytes(), "01.png", factor=4).small
    assert shrunk is not None
    for number, output in enumerate(report(done, "01")["measures"]["outputs"]):
        expected = consistency(pixels(done / f"01_{number}.png").unsqueeze(0), shrunk.unsqueeze(0).float())[0]
        assert output["difference"] == pytest.approx(vars(expected))


def test_outputs_are_projected_onto_small_inputs(
    ome: Path, images: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert translate(ome, images, out, "--factor", 4, "--samples", 3, "--seed", 5, "--project") == 0
    small = opened(ome).read_condition((images / "01.png").read_bytes(), "01.png", factor=4).small
    assert small is not None and report(out, "01")["settings"]["projected"] is True
    figures = report(out, "01")["measures"]["outputs"]
    for number, figure in enumerate(figures):
        name = f"01_{number}.png"
        written, before = pixels(out / name).unsqueeze(0).float(), pixels(done / name).unsqueeze(0).float()
        assert torch.equal(written, project(before, small.unsqueeze(0)))
        assert figure["difference"] == pytest.approx(vars(consistency(written, small.unsqueeze(0))[0]))
        assert figure["difference"]["largest"] <= 1 < figure["difference_before_projection"]["largest"]
    assert len(figures) == 3
    assert torch.equal(codes(out / "01_0_codes.safetensors"), codes(done / "01_0_codes.safetensors"))
    called = opened(ome)(images / "01.png", factor=4, samples=3, seed=5, project=True)
    assert torch.equal(called.pixels[2], pixels(out / "01_2.png"))


@pytest.mark.parametrize("side", [11, 32])
def test_what_is_not_smaller_or_does_not_divide_is_not_projected_onto(
    ome: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], side: int
) -> None:
    Image.open(images / "00.png").resize((side, side)).save(tmp_path / "a.png")
    assert translate(ome, tmp_path / "a.png", tmp_path / "plain") == 0
    capsys.readouterr()
    assert translate(ome, tmp_path / "a.png", tmp_path / "out", "--project") == 0
    assert "note  a: not projected: give a small image whose side divides" in capsys.readouterr().out
    assert torch.equal(pixels(tmp_path / "out" / "a.png"), pixels(tmp_path / "plain" / "a.png"))


def test_a_side_that_does_not_divide_is_told_of(
    ome: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.open(images / "00.png").resize((11, 11)).save(tmp_path / "odd.png")
    assert translate(ome, tmp_path / "odd.png", tmp_path / "out") == 0
    assert "note  odd: 32 is no multiple of 11: the consistency is not measured" in capsys.readouterr().out
    assert report(tmp_path / "out", "odd")["measures"].keys() == {"codes_changed_by"}


# --- another generator ---


def test_progan_has_codes_but_no_layers(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path / "model", "ome", "condition=self", "cut=4", "progan_codes=4", prior="progan")
    out = tmp_path / "out"
    assert translate(model, images, out) == 0
    assert codes(out / "00_codes.safetensors").shape == (4, 16)
    a, b = (out / f"{name}_codes.safetensors" for name in ("00", "01"))
    assert main([str(each) for each in ("edit", model, a, b, "--out", tmp_path / "edit", "--steps", 3)]) == 0
    told = f"the codes of {model} are no styles of layers: leave it out"
    assert refusal(capsys, "edit", model, a, b, "--out", out, "--layers", "coarse") == f"layers: {told}"
    command = ("translate", model, "--condition", images, "--out", out, "--samples", 2)
    assert refusal(capsys, *command) == f"samples: {told}"


# --- codes edited ---


def test_codes_are_gone_between(ome: Path, images: Path, done: Path, tmp_path: Path) -> None:
    a, b = (done / f"{name}_0_codes.safetensors" for name in ("00", "01"))
    out = tmp_path / "edit"
    for steps in (5, 3):
        assert main([str(each) for each in ("edit", ome, a, b, "--out", out, "--steps", steps, "--device", "cpu")]) == 0
    assert len(list(out.iterdir())) == 3 * 3 + 2  # nothing of the five
    made = [codes(out / f"{number:06d}_codes.safetensors") for number in range(3)]
    assert torch.equal(made[0], codes(a)) and torch.equal(made[2], codes(b))
    torch.testing.assert_close(made[1], (codes(a) + codes(b)) / 2)
    for number, name in ((0, "00_0"), (2, "01_0")):
        assert torch.equal(pixels(out / f"{number:06d}.png"), pixels(done / f"{name}.png"))
    shown = tiles(out / "strip.png")
    assert len(shown) == 3 and torch.equal(shown[1], pixels(out / "000001.png"))
    reports = [report(out, f"{number:06d}") for number in range(3)]
    assert [each["settings"] for each in reports] == [{"layers": [0, 7], "share": share} for share in (0, 0.5, 1)]
    assert [each["name"] for each in reports[1]["inputs"]] == [a.name, b.name]
    assert report(out, "edit")["settings"]["first_sha256"] == hashlib.sha256(a.read_bytes()).hexdigest()


@pytest.mark.parametrize(("layers", "first", "last"), [("coarse", 0, 3), ("middle", 4, 7), ("5", 5, 5)])
def test_layers_are_taken(ome: Path, done: Path, tmp_path: Path, layers: str, first: int, last: int) -> None:
    a, b = (done / f"{name}_0_codes.safetensors" for name in ("00", "01"))
    command = ["edit", ome, a, b, "--out", tmp_path, "--layers", layers, "--device", "cpu"]
    assert main([str(each) for each in command]) == 0
    expected = codes(a)
    expected[first : last + 1] = codes(b)[first : last + 1]
    assert torch.equal(codes(tmp_path / "000000_codes.safetensors"), expected)
    shown = tiles(tmp_path / "strip.png")
    assert [torch.equal(each, pixels(file)) for each, file in zip(
        shown, (done / "00_0.png", tmp_path / "000000.png", done / "01_0.png"), strict=True
    )] == [True] * 3  # fmt: skip


def test_codes_of_another_model_are_told_of(
    psp: Path, ome: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = done / "00_0_codes.safetensors"
    for _ in range(2):  # when it is finished too
        assert main([str(each) for each in ("translate", psp, "--codes", file, "--out", tmp_path)]) == 0
        assert "00_0_codes.safetensors: codes of another model" in capsys.readouterr().out
    assert main([str(each) for each in ("translate", ome, "--codes", file, "--out", tmp_path / "own")]) == 0
    assert "codes of" not in capsys.readouterr().out


# --- faces ---


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One face, two of which the right one is larger, and none."""
    folder = tmp_path_factory.mktemp("faces") / "faces"
    folder.mkdir()
    one, other = (Image.open(each).resize((160, 160)) for each in PHOTOGRAPHS[:2])
    pair = Image.new("RGB", (360, 240), "grey")
    pair.paste(other.resize((110, 110)), (5, 60))
    pair.paste(one, (180, 40))
    pair.save(folder / "pair.png")
    one.save(folder / "one.png")
    Image.new("RGB", (90, 90), "grey").save(folder / "wall.png")
    return folder


def test_faces_are_aligned_first(ome: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pixgraft.faces import align

    out = tmp_path / "out"
    assert translate(ome, faces, out, "--align", "--factor", 4) == 1
    said = capsys.readouterr().out
    assert "note  pair: 2 faces: the largest was taken" in said
    assert "failed: wall.png: no face found" in said and "2 made, 0 finished before, 1 failed" in said
    assert {path.name for path in out.glob("*.json")} == {"one.json", "pair.json"}
    assert "2 faces: the largest was taken" in report(out, "pair")["notes"]
    assert not [note for note in report(out, "one")["notes"] if "faces" in note]
    crop = to_tensor(align(Image.open(faces / "pair.png").convert("RGB"), 32).image).unsqueeze(0)
    shown = Degradation(factors=(4,))(crop, 4)
    assert torch.equal(tiles(out / "pair_strip.png")[0], to_uint8(from_uint8(to_uint8(shown)))[0])
    assert (tiles(out / "pair_strip.png")[0].float() - tiles(out / "one_strip.png")[0].float()).abs().mean() < 20


# --- what is refused ---


def test_conditions_that_do_not_fit(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path / "model", "psp", "condition=labels", "classes=3")
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((32, 32), 1, np.uint8)).save(tmp_path / "in" / "a.png")
    Image.fromarray(np.full((32, 32), 5, np.uint8)).save(tmp_path / "in" / "b.png")

    def said(condition: Path, *flags: object) -> str:
        return refusal(capsys, "translate", model, "--condition", condition, "--out", tmp_path / "out", *flags)

    assert "b.png: value 5 at (0, 0), but there are 3 classes" in said(tmp_path / "in", "--strict")
    told = said(images)  # the first and how many more
    assert told.startswith("00.png: an image of mode RGB, not of class indices") and told.endswith(" (and 2 more)")
    assert said(images, "--align").startswith("align: ") and said(images, "--factor", 4).startswith("factor 4: ")
    assert said(images, "--project").endswith("which outputs do not shrink to: leave it out")


def test_settings_that_do_not_fit(
    ome: Path, psp: Path, model: Path, images: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def said(*flags: object, using: Path = ome, condition: Path = images) -> str:
        return refusal(capsys, "translate", using, "--condition", condition, "--out", out, *flags)

    assert said("--steps", 0) == "steps 0: choose a number from 1"
    assert "steps 2: psp models take 1 step: leave steps out" in said("--steps", 2, using=psp)
    assert "samples 0: choose a number from 1" in said("--samples", 0)
    assert "mix-from 3: the layer where samples differ" in said("--mix-from", 3)
    assert "mix-alpha 0.5: the random style's share" in said("--mix-alpha", 0.5)
    assert "mix-alpha 0" in said("--mix-alpha", 0, "--samples", 2)
    assert "mix-from 8: the model has the layers 0 to 7" in said("--samples", 2, "--mix-from", 8)
    assert "factor 5: images of 32 pixels cannot be shrunk" in said("--factor", 5)
    assert "factors (0,)" in said("--factor", 0)
    assert "palette.txt: the conditions are of kind lr, not labels" in said("--palette", tmp_path / "palette.txt")
    assert f"{ome}: takes no --style: it takes an image or another condition: load(" in said("--style", images)
    assert f"{model}: takes no --condition: it takes a source and a target: load(" in said(using=model)
    assert f"{model}: takes no --steps: " in refusal(
        capsys, "translate", model, "--source", images, "--target", images, "--out", out, "--steps", 2
    )
    assert "--codes does not go with --condition" in said("--codes", images)
    nothing = refusal(capsys, "translate", ome, "--out", out)
    assert nothing.startswith(f"{ome}: say what to translate: it takes an image or another condition: ")
    assert "it makes images of codes alone: load(" in said(using=Path(tiny_prior("stylegan2")))
    assert not out.exists()
    assert "wall.png: no face found" in said("--align", condition=faces / "wall.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "few.png")
    assert "few.png: 20 x 20 pixels, but factor 4" in said("--factor", 4, condition=tmp_path / "few.png")
    clash = make_images(tmp_path / "clash", 2)
    (clash / "00.png").rename(clash / "a.png")
    (clash / "01.png").rename(clash / "a_strip.png")
    assert "a_strip.png: would be written for 2" in said(condition=clash)


def test_codes_that_do_not_fit(
    ome: Path, model: Path, done: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, out = done / "00_0_codes.safetensors", tmp_path / "out"
    torch_save = safetensors.torch.save_file
    torch_save({"codes": torch.zeros(3, 16)}, tmp_path / "short.safetensors")
    torch_save({"w": torch.zeros(8, 16)}, tmp_path / "other.safetensors")
    torch_save({"codes": torch.full((8, 16), torch.nan)}, tmp_path / "nan.safetensors")

    def said(file: Path, *flags: object) -> str:
        return refusal(capsys, "translate", ome, "--codes", file, "--out", out, *flags)

    assert "short.safetensors: codes is (3, 16), the model takes (8, 16)" in said(tmp_path / "short.safetensors")
    assert "other.safetensors: holds w; expected codes" in said(tmp_path / "other.safetensors")
    assert "nan.safetensors: codes holds numbers that are not finite" in said(tmp_path / "nan.safetensors")
    assert "00.png: not a safetensors file" in said(images / "00.png")
    assert "nowhere: No such file" in said(tmp_path / "nowhere")
    assert "--codes does not go with --steps" in said(good, "--steps", 2)

    def edited(*flags: object, using: Path = ome, second: Path = good) -> str:
        return refusal(capsys, "edit", using, good, second, "--out", out, *flags)

    assert "steps 1: choose a number from 2" in edited("--steps", 1)
    assert "layers fine: begins at 8, and the model has the layers 0 to 7" in edited("--layers", "fine")
    assert "layers thin: choose coarse" in edited("--layers", "thin")
    assert f"{model}: has no codes to edit: it takes a source" in edited(using=model)
    assert "short.safetensors" in edited(second=tmp_path / "short.safetensors")
    assert not out.exists()
    inside = out / "000002_codes.safetensors"
    assert main([str(each) for each in ("edit", ome, good, good, "--out", out, "--steps", 3)]) == 0
    assert f"{inside}: is inside {out}, which is rewritten: choose" in edited("--steps", 2, second=inside)
    assert "holds other files" in refusal(capsys, "edit", ome, good, good, "--out", images)
