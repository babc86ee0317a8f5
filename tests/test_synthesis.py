"""Conditions to images on files: names that clash, styles and palettes, and what an earlier run left."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pixgraft
from cases import grit_method
from encoders import saved, translate
from pixgraft.data.outputs import labels
from pixgraft.errors import PixgraftError
from pixgraft.models import load_model, save_model
from pixgraft.pipelines.synthesize import SynthesisPipeline
from using import refusal

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9))


@pytest.fixture(scope="module")
def grit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grit") / "grit"
    save_model(folder, grit_method(), info={})
    return folder


@pytest.fixture(scope="module")
def ome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("ome") / "ome", "ome", "condition=labels", "classes=4")


def maps(folder: Path, names: Iterable[str], *, width: int = 32) -> Path:
    """Label maps of 32 rows, each with its own classes."""
    for index, name in enumerate(names):
        pixels = np.arange(32 * width).reshape(32, width) // (5 + index) % 4
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def picture(path: Path, *, width: int = 32) -> Path:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (32, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def images(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def shown(out: Path) -> dict[str, bytes]:
    """Of the images alone, whose files also say what they are made of."""
    return {path.name: Image.open(path).tobytes() for path in out.glob("*.png")}


# --- names ---


@pytest.mark.parametrize(
    "names",
    [
        ["x/a.png", "x_a.png.png", "y/a.png"],
        ["A.png", "a.png", "a_2.png"],
        [f"{'n' * 120}{each}.png" for each in "abc"],
        ["ß.png", "ss.png"],
        ["\udcfe.png", "\udcff.png"],
    ],
)
def test_no_two_labels_are_the_same(names: list[str]) -> None:
    found = labels(names)
    assert list(found) == names and len({label.casefold() for label in found.values()}) == len(names)
    assert all(len(label.encode()) <= 120 and "/" not in label for label in found.values())


def test_labels_that_do_not_clash_are_left_alone() -> None:
    assert labels(["A.png", "a.png", "a_2.png", "deep/b.png"]) == {
        "A.png": "A", "a.png": "a_3", "a_2.png": "a_2", "deep/b.png": "b"
    }  # fmt: skip
    assert labels(["x/a.png", "y/a.png"]) == {"x/a.png": "x_a.png", "y/a.png": "y_a.png"}


def test_names_that_clash_all_come_out(grit: Path, ome: Path, tmp_path: Path) -> None:
    """Also where a condition is named like another one's output."""
    long = "n" * 120
    names = ["x/a", "y/a", "x_a.png", f"{long}1", f"{long}2", "Case", "case", "b", "b_0", "b_mean", "b_0_residual"]
    maps(tmp_path / "in", names)
    assert translate(grit, tmp_path / "in", tmp_path / "grit", "--samples", 2, "--components") == 0
    assert translate(ome, tmp_path / "in", tmp_path / "ome") == 0
    for out, each in ((tmp_path / "grit", 2 * 3 + 3), (tmp_path / "ome", 3)):
        assert len({name.casefold() for name in files(out)}) == len(names) * (each + 1)
        reports = [json.loads(path.read_text()) for path in out.glob("*.json")]
        assert {report["inputs"][0]["name"] for report in reports} == {f"{name}.png" for name in names}
    alone = tmp_path / "alone"
    assert translate(grit, maps(tmp_path / "b", names[:8]) / "b.png", alone, "--samples", 2, "--components") == 0
    everything = files(tmp_path / "grit")
    assert len(files(alone)) == 10
    assert all(everything[name] == data for name, data in files(alone).items() if name.endswith(".png"))


# --- in Python ---


def test_python_gives_the_pixels_of_the_command(grit: Path, tmp_path: Path) -> None:
    maps(tmp_path / "in", ["a", "b"])
    style = picture(tmp_path / "style.png")
    flags = ("--samples", 3, "--seed", 4, "--components", "--style", style)
    assert translate(grit, tmp_path / "in", tmp_path / "out", *flags) == 0
    pipeline = SynthesisPipeline(load_model(grit), torch.device("cpu"))
    paths = [tmp_path / "in" / f"{name}.png" for name in "ab"]
    tensors = torch.stack([torch.from_numpy(np.array(Image.open(path))).unsqueeze(0) for path in paths])
    options: dict[str, Any] = {"style": style, "samples": 3, "seed": 4}
    given = [pipeline(each, **options) for each in (paths[0], Image.open(paths[0]), tensors[0])]
    both = pipeline(tensors, **options)
    assert both.pixels.shape == (6, 3, 32, 32) and both.mean.shape == (2, 3, 32, 32)
    for result in given:
        assert torch.equal(result.pixels, both.pixels[:3]) and torch.equal(result.deviation, both.deviation[:1])
        assert result.report["measures"] == json.loads((tmp_path / "out" / "a.json").read_text())["measures"]
    given[0].write_components = True
    given[0].save(tmp_path / "saved", name="a")
    made = shown(tmp_path / "saved")
    assert made == {name: data for name, data in shown(tmp_path / "out").items() if name.startswith("a")}
    assert len(made) == 3 * 3 + 3


def test_python_refuses_what_is_unusable(grit: Path, tmp_path: Path) -> None:
    pipeline = pixgraft.load(grit, device="cpu")
    condition, image = torch.ones(1, 32, 32, dtype=torch.uint8), torch.zeros(3, 32, 32)
    for given, options, reason in (
        (condition + 3, {}, "class 4: there are 0 to 3"),
        (condition.float(), {}, "are torch.float32: give uint8"),
        (condition[:, :16], {}, r"give \(N, 1, 32, 32\)"),
        (condition.repeat(0, 1, 1, 1), {}, r"give \(N, 1, 32, 32\)"),
        (condition, {"samples": 0}, "samples 0: choose a number from 1"),
        (condition, {"style": image + 2}, "the style has values from 2 to 2"),
        (condition, {"style": image, "vary": "style", "samples": 2}, "vary style: draws styles at random"),
        (condition, {"source": image}, r"it takes a condition: load\("),
    ):
        with pytest.raises(PixgraftError, match=reason):
            pipeline(given, **options)


# --- styles and palettes ---


def test_styles_are_named_at_once_or_one_by_one(grit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    condition = maps(tmp_path / "in", ["m"])
    first, second = picture(tmp_path / "one.png"), picture(tmp_path / "second.png")
    each = ("--style", first, "--style", second)
    assert translate(grit, condition, tmp_path / "each", *each, "--samples", 3) == 0
    assert translate(grit, condition, tmp_path / "both", "--style", first, second, "--samples", 3) == 0
    assert images(tmp_path / "each") == images(tmp_path / "both")
    report = json.loads((tmp_path / "both" / "m.json").read_text())
    assert report["inputs"][1:] == [
        {"role": "style", "name": style.name, "sha256": hashlib.sha256(style.read_bytes()).hexdigest()}
        for style in (first, second)
    ]
    assert report["settings"]["vary"] == "between the styles"

    def said(*flags: object) -> str:
        return refusal(capsys, "translate", grit, "--condition", condition, "--out", tmp_path / "out", *flags)

    assert "two images to go between in 1 sample: ask for 2 samples or more" in said(*each)
    assert "style: 3 images: give one, or two" in said(*each, "--style", first, "--samples", 3)


def test_maps_in_colours_are_those_of_indices(grit: Path, tmp_path: Path) -> None:
    index = maps(tmp_path / "index", ["m"])
    (tmp_path / "color").mkdir()
    pixels = np.array(COLORS, np.uint8)[np.asarray(Image.open(index / "m.png"))]
    Image.fromarray(pixels).save(tmp_path / "color" / "m.png")
    palette = write_palette(tmp_path / "palette.txt", 4)
    assert translate(grit, index, tmp_path / "one", "--samples", 2) == 0
    assert translate(grit, tmp_path / "color", tmp_path / "two", "--samples", 2, "--palette", palette) == 0
    one, two = (shown(tmp_path / each) for each in ("one", "two"))
    assert len(one) == 5 and one == two
    first, *others = palette.read_text().splitlines(keepends=True)
    palette.write_text("".join([*others, first]))  # other classes by the same colours: nothing finished holds
    assert translate(grit, tmp_path / "color", tmp_path / "two", "--samples", 2, "--palette", palette) == 0
    assert shown(tmp_path / "two") != one


def write_palette(path: Path, count: int) -> Path:
    path.write_text("".join(f"class{i} {r} {g} {b}\n" for i, (r, g, b) in enumerate(COLORS[:count])))
    return path


def test_a_palette_that_does_not_fit_is_refused(grit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    condition, out = maps(tmp_path / "in", ["m"]), tmp_path / "out"
    palette = write_palette(tmp_path / "palette.txt", 3)

    def said(model: Path) -> str:
        return refusal(capsys, "translate", model, "--condition", condition, "--out", out, "--palette", palette)

    message = said(grit)
    assert message.startswith(f"{palette}: ") and "4 classes" in message
    for kind in ("sketch", "lr"):
        save_model(tmp_path / kind, grit_method(f"condition={kind}"), info={})
        expected = f"palette {palette}: the conditions are of kind {kind}, not labels: leave it out"
        assert said(tmp_path / kind) == expected
    assert not out.exists()


def test_a_style_of_no_conditions_shape_is_refused(
    grit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    condition, out = maps(tmp_path / "in", ["a", "b"]), tmp_path / "out"
    wide = ("--style", picture(tmp_path / "wide.png", width=48))
    command = ("translate", grit, "--condition", condition, "--out", out, *wide)
    told = "wide.png: a style image of 48 x 32 for a condition (a.png) of 32 x 32: crop one of them to the other's"
    assert told in refusal(capsys, *command)
    maps(condition, ["c"], width=48)
    assert told in refusal(capsys, *command, "--strict") and not out.exists()
    assert translate(grit, condition, out, *wide) == 1
    assert set(files(out)) == {"c_0.png", "c.json"}


# --- a second run ---


def test_nothing_of_an_earlier_run_is_left_beside_a_new_one(grit: Path, ome: Path, tmp_path: Path) -> None:
    condition = maps(tmp_path / "in", ["a", "b"])
    for model, ends in ((grit, ("_0.png", ".json")), (ome, (".png", "_codes.safetensors", "_strip.png", ".json"))):
        out = tmp_path / model.name
        more = ("--components",) if model is grit else ()
        assert translate(model, condition, out, "--samples", 3, "--seed", 1, *more) == 0
        own = {"a_9.png": b"mine", "a_notes.json": b'{"outputs": ["a_9.png"]}', "notes.json": b"[1]"}
        for name, data in own.items():
            (out / name).write_bytes(data)
        kept = {name: data for name, data in files(out).items() if name.startswith("b")}
        assert translate(model, condition / "a.png", out) == 0
        assert translate(model, condition / "a.png", tmp_path / "fresh" / model.name) == 0
        found = files(out)
        assert set(found) == {*own, *kept, *(f"a{end}" for end in ends)}
        assert {name: found[name] for name in (*own, *kept)} == {**own, **kept}
        fresh = files(tmp_path / "fresh" / model.name)
        assert all(found[name] == data for name, data in fresh.items() if not name.endswith(".json"))


def test_what_this_run_writes_is_not_taken_for_an_earlier_one_s(ome: Path, tmp_path: Path) -> None:
    """The earlier samples of `a` are named like this run's image of `a_0`, which is made before it."""
    condition = maps(tmp_path / "in", ["deep/a", "a_0"])
    assert translate(ome, condition / "deep", tmp_path / "out", "--samples", 2) == 0
    assert translate(ome, condition, tmp_path / "out") == 0
    assert set(files(tmp_path / "out")) == {
        f"{label}{end}" for label in ("a", "a_0") for end in (".png", "_codes.safetensors", "_strip.png", ".json")
    }


def test_an_earlier_output_that_is_an_input_now_stays(grit: Path, ome: Path, tmp_path: Path) -> None:
    condition, out = maps(tmp_path / "in", ["a"]), tmp_path / "out"
    assert translate(grit, condition / "a.png", out, "--samples", 4) == 0
    style = out / "a_2.png"
    before = style.read_bytes()
    assert translate(grit, condition / "a.png", out, "--style", style, "--samples", 2) == 0
    assert style.read_bytes() == before and not (out / "a_3.png").exists()
    own = maps(tmp_path / "own", ["a_0"])
    before = (own / "a_0.png").read_bytes()
    (own / "a_0.json").write_text(json.dumps({"weights_sha256": "", "outputs": ["a_0.png"]}))
    assert translate(ome, own / "a_0.png", own, "--samples", 2) == 0
    assert (own / "a_0.png").read_bytes() == before


def test_another_model_s_outputs_go_too(grit: Path, ome: Path, tmp_path: Path) -> None:
    condition, out = maps(tmp_path / "in", ["a"]), tmp_path / "out"
    assert translate(ome, condition, out, "--samples", 2) == 0
    assert translate(grit, condition, out) == 0
    assert set(files(out)) == {"a_0.png", "a.json"}


def test_a_file_that_is_no_report_of_ours_removes_nothing(grit: Path, tmp_path: Path) -> None:
    condition, out = maps(tmp_path / "in", ["a"]), tmp_path / "out"
    out.mkdir()
    (out / "a_9.png").write_bytes(b"mine")
    for content in ({"outputs": ["a_9.png"]}, [1], {"weights_sha256": "", "outputs": {"image": "a_9.png"}}):
        (out / "a.json").write_text(json.dumps(content))
        before = files(out)
        if "weights_sha256" in content:
            assert translate(grit, condition, out) == 0
            assert set(files(out)) == {"a_9.png", "a_0.png", "a.json"}
        else:
            assert translate(grit, condition, out) == 2
            assert files(out) == before


@pytest.mark.parametrize("listed", ["../mine.png", "mine.png", "a_x/../../mine.png", "a\0.png", 3, ["a"], None])
def test_an_edited_report_removes_no_other_file(grit: Path, tmp_path: Path, listed: object) -> None:
    condition, out = maps(tmp_path / "in", ["a"]), tmp_path / "out"
    (out / "a_x").mkdir(parents=True)
    for path in (tmp_path / "mine.png", out / "mine.png"):
        path.write_bytes(b"mine")
    (out / "a.json").write_text(json.dumps({"weights_sha256": "", "outputs": [listed, {"file": listed, "sha256": ""}]}))
    assert translate(grit, condition, out) == 0
    assert (tmp_path / "mine.png").exists() and set(files_of(out)) == {"mine.png", "a_0.png", "a.json"}


def files_of(out: Path) -> list[str]:
    return [path.name for path in out.iterdir() if path.is_file()]


def test_smoothed_colours_are_taken_for_the_nearest_class(
    grit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colors = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    palette, classes = tmp_path / "palette.txt", np.arange(32 * 32).reshape(32, 32) // 5 % 4
    palette.write_text("".join(f"c{index} {r} {g} {b}\n" for index, (r, g, b) in enumerate(colors)))
    Image.fromarray(colors[classes]).save(tmp_path / "sharp.png")
    smooth = colors[classes].copy()
    smooth[3] += 7
    Image.fromarray(smooth).save(tmp_path / "smooth.png")
    flags = ["--palette", palette]
    assert translate(grit, tmp_path / "sharp.png", tmp_path / "a", *flags) == 0
    arguments = ["translate", grit, "--condition", tmp_path / "smooth.png", "--out", tmp_path / "b", *flags]
    assert "--nearest" in refusal(capsys, *arguments)
    assert translate(grit, tmp_path / "smooth.png", tmp_path / "b", *flags, "--nearest") == 0
    told = capsys.readouterr().out
    assert "of 1,024 pixels 992 had a colour of the palette, 1,024 within 16" in told
    made = [np.asarray(Image.open(path)) for path in (tmp_path / "a/sharp_0.png", tmp_path / "b/smooth_0.png")]
    assert np.array_equal(made[0], made[1])
    assert "name one with --palette" in refusal(capsys, *arguments[:6], "--nearest")
