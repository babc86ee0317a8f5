"""Generative priors in use: samples, mixed styles and walks, by small models with random weights."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from generators import opened, pixels, run, samples
from pixgraft.errors import PixgraftError
from pixgraft.methods.progan import ProGAN, ProGANConfig
from pixgraft.methods.stylegan2 import StyleGAN2
from pixgraft.models import load_model, save_model
from pixgraft.pipelines.options import layer_range
from using import refusal

LAYERS = 6  # of StyleGAN2 at 16 pixels


def cell(path: Path, row: int, column: int, *, side: int = 16) -> np.ndarray[Any, Any]:
    """An image of a grid."""
    y, x = (2 + place * (side + 2) for place in (row, column))
    return pixels(path)[y : y + side, x : x + side]


# --- samples ---


def test_what_sample_writes(styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run("sample", styled, tmp_path / "out", "--count", 3, "--seed", 7, "--truncation", 0.5)
    names = [f"00000{index}{end}" for index in range(3) for end in (".json", ".png")]
    assert sorted(path.name for path in out.iterdir()) == [*names, "grid.png", "latents.safetensors", "samples.json"]
    report, of_one = (json.loads((out / name).read_text()) for name in ("samples.json", "000002.json"))
    origin = {"method": "stylegan2", "weights_sha256": load_model(styled).weights_sha256, "seed": 7}
    settings = {"truncation": 0.5, "noise": "stored"}
    for each, own in ((report, {"count": 3}), (of_one, {"sample": 2})):
        assert {key: each[key] for key in origin} == origin and each["settings"] == settings | own
    assert [each["file"] for each in report["outputs"]] == ["grid.png", "latents.safetensors"]
    said = capsys.readouterr().out
    assert "3 made, 0 finished before, 0 failed" in said and "grid.png, latents.safetensors" in said
    image = Image.open(out / "000002.png")
    assert image.size == (16, 16) and "Synthesised" in image.text["Description"]  # type: ignore[attr-defined]
    expected = {"task": "sample", **origin, "settings": settings | {"sample": 2}, "inputs": []}
    assert json.loads(image.text["pixgraft"]) == expected  # type: ignore[attr-defined]
    with safetensors.safe_open(str(out / "latents.safetensors"), "pt") as file:
        told = json.loads(file.metadata()["pixgraft"])
    assert {key: told[key] for key in origin | settings} == {k: str(v) for k, v in (origin | settings).items()}
    codes = safetensors.torch.load_file(out / "latents.safetensors")
    assert {name: tuple(each.shape) for name, each in codes.items()} == {"z": (3, 6), "w": (3, 5)}
    assert pixels(out / "grid.png").shape == (38, 38, 3)
    for index in range(3):
        assert np.array_equal(cell(out / "grid.png", *divmod(index, 2)), pixels(out / f"00000{index}.png"))
    assert (cell(out / "grid.png", 1, 1) == 255).all()


@pytest.mark.parametrize("flags", [(), ("--noise", "random"), ("--truncation", 0.3, "--noise", "none")])
def test_a_sample_is_the_same_in_any_company(styled: Path, tmp_path: Path, flags: tuple[object, ...]) -> None:
    many = samples(run("sample", styled, tmp_path / "many", "--count", 5, "--seed", 1, *flags))
    few = samples(run("sample", styled, tmp_path / "few", "--count", 2, "--seed", 1, *flags))
    assert len(set(many)) == 5 and few == many[:2]
    other = samples(run("sample", styled, tmp_path / "other", "--count", 2, "--seed", 2, *flags))
    assert not set(other) & set(many)


@pytest.mark.parametrize("noise", ["stored", "random"])
def test_passes_of_many_are_filled_up(styled: Path, noise: Any) -> None:
    """As a GPU takes them: each image with its own code and noise, and a count that fills no pass."""
    one, many = opened(styled), opened(styled)
    many.pass_size = 4
    z = one.latents(3, range(6))
    torch.testing.assert_close(many.codes(z), one.codes(z))
    w = one.codes(z)
    alone, together = (each.images(w, noise=noise, seed=3, numbers=range(2, 8)) for each in (one, many))
    assert alone.shape == together.shape == (6, 3, 16, 16)
    assert (alone.int() - together.int()).abs().max() <= 1
    assert torch.equal(one.images(w[4:], noise=noise, seed=3, numbers=[6, 7]), alone[4:])


def test_noise_and_truncation_have_their_effects(styled: Path, tmp_path: Path) -> None:
    made = {
        kind: samples(run("sample", styled, tmp_path / kind, "--count", 2, "--truncation", 0, "--noise", kind))
        for kind in ("stored", "random", "none")
    }

    def seen(kind: str) -> list[bytes]:
        return [pixels(tmp_path / kind / f"00000{index}.png").tobytes() for index in range(2)]

    assert len(set(seen("stored"))) == len(set(seen("none"))) == 1  # of one w, by truncation
    assert len({*seen("stored"), *seen("none"), *seen("random")}) == 4
    again = samples(run("sample", styled, tmp_path / "again", "--count", 2, "--truncation", 0, "--noise", "random"))
    assert again == made["random"]
    method = load_model(styled).method
    assert isinstance(method, StyleGAN2)
    w = safetensors.torch.load_file(tmp_path / "none" / "latents.safetensors")["w"]
    torch.testing.assert_close(w, method.generator.w_mean.expand(2, -1))


def test_progan_has_neither(grown: Path, tmp_path: Path) -> None:
    out = run("sample", grown, tmp_path / "out", "--count", 3, "--seed", 1)
    few = run("sample", grown, tmp_path / "few", "--count", 1, "--seed", 1)
    assert len(set(samples(out))) == 3 and samples(few) == samples(out)[:1]
    assert set(safetensors.torch.load_file(out / "latents.safetensors")) == {"z"}
    assert json.loads((out / "samples.json").read_text())["settings"]["noise"] == "none"


def test_a_network_half_grown_makes_smaller_images(tmp_path: Path) -> None:
    method = ProGAN(ProGANConfig(image_size=16, z_dim=6, base_channels=64, max_channels=8))
    save_model(tmp_path / "young", method, info={"images_seen": 0})
    out = run("sample", tmp_path / "young", tmp_path / "out", "--count", 1)
    assert pixels(out / "000000.png").shape == (4, 4, 3)


def test_large_images_are_shrunk_in_the_grid(tmp_path: Path) -> None:
    method = ProGAN(ProGANConfig(image_size=512, z_dim=2, base_channels=512, max_channels=2))
    save_model(tmp_path / "large", method, info={})
    out = run("sample", tmp_path / "large", tmp_path / "out", "--count", 2)
    assert pixels(out / "000001.png").shape == (512, 512, 3)
    assert pixels(out / "grid.png").shape == (260, 518, 3)


def test_python_gives_the_pixels_of_the_command(styled: Path, grown: Path, tmp_path: Path) -> None:
    flags: dict[str, Any] = {"seed": 4, "truncation": 0.5, "noise": "random"}
    out = run("sample", styled, tmp_path, "--count", 3, *(each for k, v in flags.items() for each in (f"--{k}", v)))
    pipeline = opened(styled)
    result = pipeline(3, **flags)
    for index in range(3):
        assert np.array_equal(np.asarray(result.images[index]), pixels(out / f"00000{index}.png"))
    latents = safetensors.torch.load_file(out / "latents.safetensors")
    assert torch.equal(result.codes, latents["w"])
    assert torch.equal(pipeline(latents=latents["z"], **flags).pixels, result.pixels)
    for codes in (result.codes, latents["w"].unsqueeze(1).repeat(1, LAYERS, 1)):
        assert torch.equal(pipeline(codes=codes, seed=4, noise="random").pixels, result.pixels)
    for model, options, reason in (
        (pipeline, {"count": 0}, "count 0: choose a number from 1"),
        (pipeline, {"count": 2, "latents": latents["z"]}, "count 2: the codes say how many"),
        (pipeline, {"latents": latents["z"][0]}, r"expected \(N, 6\)$"),
        (pipeline, {"codes": latents["w"], "truncation": 0.5}, "codes are taken as they are"),
        (pipeline, {"codes": latents["z"]}, r"expected \(N, 5\) or \(N, 6, 5\)"),
        (pipeline, {"codes": [1]}, "the codes are list: give a tensor"),
        (pipeline, {"latents": torch.tensor(1.0)}, r"shape \(\)"),
        (pipeline, {"count": "a.png"}, "count a.png: choose a number from 1"),
        (pipeline, {"noise": "loud"}, "noise 'loud': choose one of stored, random, none"),
        (pipeline, {"truncation": None}, "truncation None: choose a number from 0"),
        (pipeline, {"latents": latents["z"][:0]}, r"shape \(0, 6\)"),
        (pipeline, {"latents": latents["z"].int()}, "give finite floats"),
        (pipeline, {"latents": latents["z"] * torch.inf}, "give finite floats"),
        (pipeline, {"samples": 2}, r"it makes images of codes alone: load\("),
        (opened(grown), {"noise": "random"}, "noise random: progan models take no noise"),
    ):
        with pytest.raises(PixgraftError, match=reason):
            model(**options)


# --- saved latents ---


def test_latents_give_the_same_images_again(styled: Path, tmp_path: Path) -> None:
    flags = ("--seed", 4, "--truncation", 0.7, "--noise", "random")
    out = run("sample", styled, tmp_path / "out", "--count", 3, *flags)
    file = out / "latents.safetensors"
    again = run("sample", styled, tmp_path / "again", "--latents", file)
    same = run("sample", styled, tmp_path / "same", "--count", 3, *flags)
    assert (same / "latents.safetensors").read_bytes() == file.read_bytes()
    codes = safetensors.torch.load_file(file)
    with safetensors.safe_open(str(file), "pt") as opened_file:
        metadata = opened_file.metadata()
    only_w = {
        "w": {"w": codes["w"]},
        "plus": {"w": codes["w"].unsqueeze(1).repeat(1, LAYERS, 1)},
    }
    for name, tensors in only_w.items():
        safetensors.torch.save_file(tensors, tmp_path / f"{name}.safetensors", metadata)
        run("sample", styled, tmp_path / name, "--latents", tmp_path / f"{name}.safetensors")
    for index in range(3):
        for name in ("again", "w", "plus"):
            assert np.array_equal(pixels(tmp_path / name / f"00000{index}.png"), pixels(out / f"00000{index}.png"))
    report = json.loads((again / "samples.json").read_text())
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert report["seed"] == 4
    assert report["settings"] == {"truncation": 0.7, "noise": "random", "count": 3, "latents_sha256": sha256}
    of_one = json.loads((again / "000001.json").read_text())
    assert of_one["inputs"] == [{"role": "codes", "name": "latents.safetensors", "sha256": sha256}]
    plain = run("sample", styled, tmp_path / "plain", "--latents", file, "--truncation", 1, "--count", 2)
    assert len(samples(plain)) == 2
    assert not np.array_equal(pixels(plain / "000000.png"), pixels(out / "000000.png"))


def test_z_of_one_model_are_z_of_another(styled: Path, grown: Path, tmp_path: Path) -> None:
    file = run("sample", styled, tmp_path / "out", "--count", 2, "--seed", 4) / "latents.safetensors"
    run("sample", grown, tmp_path / "theirs", "--latents", file)
    run("sample", grown, tmp_path / "own", "--count", 2, "--seed", 4)
    for name in ("000000.png", "000001.png"):
        assert np.array_equal(pixels(tmp_path / "theirs" / name), pixels(tmp_path / "own" / name))


@pytest.mark.parametrize(
    ("tensors", "flags", "named"),
    [
        ({"v": torch.zeros(2, 6)}, (), "holds v; expected z or w or codes: give another file"),
        ({"z": torch.zeros(2, 7)}, (), r"z is \(2, 7\), the model takes \(N, 6\)"),
        ({"z": torch.zeros(0, 6)}, (), r"z is \(0, 6\)"),
        ({"z": torch.tensor(1.0)}, (), r"z is \(\)"),
        ({"z": torch.full((1, 6), torch.nan)}, (), "not finite"),
        ({"z": torch.zeros(2, 6, dtype=torch.complex64)}, (), "z holds complex numbers: give another file"),
        ({"w": torch.zeros(2, 5, 5)}, (), r"the model takes \(N, 5\) or \(N, 6, 5\)"),
        ({"w": torch.zeros(2, 5)}, ("--truncation", 0.5), "taken as they are"),
        ({"z": torch.zeros(2, 6)}, ("--count", 3), "choose a number from 1 to 2"),
        (None, (), "not a safetensors file"),
    ],
)
def test_latents_that_cannot_be_used(
    styled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tensors: dict[str, Tensor] | None,
    flags: tuple[object, ...],
    named: str,
) -> None:
    file = tmp_path / "codes.safetensors"
    file.write_bytes(b"no" if tensors is None else safetensors.torch.save(tensors))
    said = refusal(capsys, "sample", styled, "--out", tmp_path / "out", "--latents", file, *flags)
    assert re.search(named, said) and str(file) in said and not (tmp_path / "out").exists()


def test_latents_are_not_overwritten(styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run("sample", styled, tmp_path / "out", "--count", 3) / "latents.safetensors"
    before = file.read_bytes()
    (tmp_path / "link").symlink_to(file)
    for name in (file, tmp_path / "link"):
        said = refusal(capsys, "sample", styled, "--latents", name, "--count", 2, "--out", tmp_path / "out")
        assert said == f"{name}: an output would replace it: choose another folder for the outputs"
    assert file.read_bytes() == before and len(samples(tmp_path / "out")) == 3


def test_what_a_file_says_of_itself_may_be_unreadable(styled: Path, tmp_path: Path) -> None:
    for name, told in (("none", "no"), ("deep", "[" * 100_000)):
        file = tmp_path / f"{name}.safetensors"
        safetensors.torch.save_file({"z": torch.zeros(1, 6)}, file, {"pixgraft": told})
        report = json.loads((run("sample", styled, tmp_path / name, "--latents", file) / "samples.json").read_text())
        assert (report["seed"], report["settings"]["truncation"], report["settings"]["noise"]) == (0, 1.0, "stored")


# --- mixed styles ---


def test_the_grid_of_mixed_styles(styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--rows", 2, "--columns", 3, "--seed", 9)
    grid = run("mix", styled, tmp_path / "new" / "mix.png", *flags, "--layers", "3-5")
    assert f"11 made, 0 finished before, 0 failed; of all of them: {grid}" in capsys.readouterr().out
    out = run("sample", styled, tmp_path / "out", "--count", 5, "--seed", 9)
    sources = [pixels(out / f"00000{index}.png") for index in range(5)]
    assert pixels(grid).shape == (3 * 18 + 2, 4 * 18 + 2, 3)
    assert (cell(grid, 0, 0) == 255).all()
    for row in range(2):
        assert np.array_equal(cell(grid, row + 1, 0), sources[row])
    for column in range(3):
        assert np.array_equal(cell(grid, 0, column + 1), sources[2 + column])
    pipeline = opened(styled)
    w = pipeline.codes(pipeline.latents(9, range(5)))
    assert isinstance(pipeline.method, StyleGAN2)
    for row in range(2):
        for column in range(3):
            codes = pipeline.method.generator.mix(w[row : row + 1], w[2 + column : 3 + column], 3)
            expected = pipeline.images(codes)[0].permute(1, 2, 0).numpy()
            assert np.array_equal(cell(grid, row + 1, column + 1), expected)
    text = Image.open(grid).text  # type: ignore[attr-defined]
    settings = {"rows": 2, "columns": 3, "layers": [3, 5], "truncation": 1.0}
    assert json.loads(text["pixgraft"])["settings"] == settings and "Synthesised" in text["Description"]
    report = json.loads((tmp_path / "new" / "mix.json").read_text())
    assert report["settings"] == settings and [each["file"] for each in report["outputs"]] == ["mix.png"]
    assert {path.name for path in grid.parent.iterdir()} == {"mix.png", "mix.json"}


def test_all_layers_or_those_that_are_left(styled: Path, tmp_path: Path) -> None:
    whole = run("mix", styled, tmp_path / "whole.png", "--rows", 1, "--columns", 1, "--layers", "0-5")
    assert np.array_equal(cell(whole, 1, 1), cell(whole, 0, 1))
    coarse = run("mix", styled, tmp_path / "coarse.png", "--rows", 1, "--columns", 1)
    low = run("mix", styled, tmp_path / "low.png", "--rows", 1, "--columns", 1, "--layers", "0-3")
    assert np.array_equal(pixels(coarse), pixels(low)) and not np.array_equal(pixels(low), pixels(whole))


def test_the_names_of_layers() -> None:
    found = [layer_range(text, 10) for text in ("coarse", "middle", "fine", "2-6", "9")]
    assert found == [(0, 3), (4, 7), (8, 9), (2, 6), (9, 9)]


# --- what people do wrong ---


@pytest.mark.parametrize(
    ("verb", "flags", "named"),
    [
        ("sample", ("--count", 0), "count 0: choose a number from 1"),
        ("sample", ("--truncation", -0.5), "truncation -0.5: choose a number from 0"),
        ("sample", ("--truncation", "nan"), "truncation nan"),
        ("mix", ("--truncation", "inf"), "truncation inf"),
        ("mix", ("--layers", "4-6"), "layers 4-6: the model has the layers 0 to 5"),
        ("mix", ("--layers", "3-2"), "layers 3-2"),
        ("mix", ("--layers", "fine"), "layers fine: begins at 8, and the model has the layers 0 to 5"),
        ("mix", ("--layers", "eyes"), "layers eyes: choose coarse, middle, fine or a range such as 4-7"),
        ("mix", ("--rows", 0), "rows 0, columns 4: choose numbers from 1"),
        ("mix", ("--columns", 10**9), "up to 100,000,000 pixels"),
        ("walk", ("--points", 1), "points 1: choose a number from 2"),
        ("walk", ("--frames", 0), "frames 0: choose a number from 1"),
        ("walk", ("--frames", 10**12), "100,000 frames"),
    ],
)
def test_settings_that_do_not_fit(
    styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, flags: tuple[object, ...], named: str
) -> None:
    out = tmp_path / "new" / {"sample": "out", "mix": "mix.png", "walk": "walk.gif"}[verb]
    assert named in refusal(capsys, verb, styled, "--out", out, "--device", "cpu", *flags)
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("verb", "flags", "named"),
    [
        ("sample", ("--noise", "stored"), "noise stored: progan models take no noise: leave it out"),
        ("sample", ("--truncation", 0.5), "truncation 0.5: progan models have no w to truncate"),
        ("walk", ("--truncation", 0.5), "truncation 0.5: progan models have no w"),
        ("mix", (), "progan models have no styles to mix: use a StyleGAN2"),
    ],
)
def test_what_progan_does_not_have(
    grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, flags: tuple[object, ...], named: str
) -> None:
    out = tmp_path / "new" / {"sample": "out", "mix": "mix.png", "walk": "walk.gif"}[verb]
    assert named in refusal(capsys, verb, grown, "--out", out, "--device", "cpu", *flags)
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("verb", "name", "named"),
    [
        ("sample", "file", "file: cannot be made: File exists"),
        ("mix", "mix.jpg", "mix.jpg: a PNG file is written: end the name in .png"),
        ("mix", "folder.png", "folder.png: is a folder"),
        ("walk", "walk.mov", "walk.mov: a walk is written as a film or as PNG files"),
        ("walk", "folder.gif", "folder.gif: is a folder"),
        ("walk", "file", "file: cannot be made: File exists"),
    ],
)
def test_places_that_cannot_be_written(
    styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str, named: str
) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in ("folder.png", "folder.gif"):
        (tmp_path / folder).mkdir()
    assert named in refusal(capsys, verb, styled, "--out", tmp_path / name, "--device", "cpu")
    assert (tmp_path / "file").read_text() == "mine" and len(list(tmp_path.rglob("*"))) == 3


@pytest.mark.parametrize("verb", ["sample", "mix", "walk"])
def test_a_model_that_takes_images_is_sent_to_its_verb(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    said = refusal(capsys, verb, model, "--out", tmp_path / "out", "--device", "cpu")
    assert said.startswith(f"{model}: makes no images of codes alone: it takes a source and a target: load(")
    assert not list(tmp_path.iterdir())


def test_an_earlier_call_leaves_nothing_among_the_files(
    styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("sample", styled, tmp_path / "out", "--count", 5)
    first = samples(out)
    (out / "note.txt").write_text("mine")
    run("sample", styled, tmp_path / "out", "--count", 2, "--seed", 5)
    assert len(samples(out)) == 2 == len(list(out.glob("0*.json"))) and not set(samples(out)) & set(first)
    assert (out / "note.txt").read_text() == "mine"
    frames = run("walk", styled, tmp_path / "walk", "--points", 3, "--frames", 4)
    run("walk", styled, tmp_path / "walk", "--points", 2, "--frames", 2)
    assert len(list(frames.glob("*.png"))) == 4 == len(list(frames.glob("0*.json")))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").touch()
    for verb in ("sample", "walk"):
        said = refusal(capsys, verb, styled, "--out", mine, "--device", "cpu")
        assert f"{mine}: is there, and holds other files (photo.jpg): choose another folder" in said
    assert [path.name for path in mine.iterdir()] == ["photo.jpg"]
