"""Pipelines called from Python: results, batches of tensors, and calls that are refused in one line."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import pixgraft
from cases import grit_method
from encoders import saved
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.models import save_model
from pixgraft.pipelines.base import Pipeline, Result
from training import make_images
from using import random_model, refusal

TASKS = ("graft", "synthesize", "encode", "sample")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, styled: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    save_model(root / "grit", grit_method(), info={})
    paths = random_model(root / "i2ilr"), root / "grit", saved(root / "ome", "ome"), styled
    return dict(zip(TASKS, paths, strict=True))


@pytest.fixture(scope="module")
def pipelines(models: dict[str, Path]) -> dict[str, Pipeline]:
    return {task: pixgraft.load(model, device="cpu") for task, model in models.items()}


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("photo") / "in", 1) / "00.png"


def condition(count: int = 2) -> Tensor:
    """Label maps of four classes."""
    return (torch.arange(count * 32 * 32).reshape(count, 1, 32, 32) // 7 % 4).to(torch.uint8)


def source(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def called(pipelines: dict[str, Pipeline], task: str, count: int = 2) -> Result:
    arguments: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
        "graft": ((source(count), source(count)[..., ::4, ::4]), {"project": True}),
        "synthesize": ((condition(count),), {"style": source(1), "samples": 2, "seed": 3}),
        "encode": ((source(count),), {"steps": 2, "samples": 2}),
        "sample": ((2 * count,), {"seed": 3, "truncation": 0.7}),
    }
    positional, named = arguments[task]
    return pipelines[task](*positional, **named)


@pytest.mark.parametrize("task", TASKS)
def test_a_result_has_images_tensors_a_report_and_files(
    task: str, pipelines: dict[str, Pipeline], tmp_path: Path
) -> None:
    result = called(pipelines, task)
    count = 2 if task == "graft" else 4
    assert len(result.images) == len(result.tensors) == count
    assert np.array_equal(np.asarray(result.image), result.pixels[0].permute(1, 2, 0).numpy())
    assert result.tensors.dtype == torch.float32 and result.tensors.abs().max() <= 1
    assert torch.equal(((result.tensors + 1) * 127.5).round().to(torch.uint8), result.pixels)
    assert result.report["task"] == task and result.report["format"] == 2 and "pixgraft" in result.report
    assert Image.open(io.BytesIO(result._repr_png_())).size[0] > result.images[0].width
    files = result.save(tmp_path / "new", name="mine")
    report = json.loads((tmp_path / "new" / "mine.json").read_bytes())
    assert {output["file"] for output in report["outputs"]} == {file.name for file in files}
    assert len(list((tmp_path / "new").glob("mine_[0-9].png"))) == count


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_gives_what_each_alone_gives(task: str, pipelines: dict[str, Pipeline]) -> None:
    many, one = called(pipelines, task), called(pipelines, task, 1)
    assert torch.equal(many.pixels[: len(one.pixels)], one.pixels) and len(many.pixels) == 2 * len(one.pixels)


def test_tensors_of_every_float_type_and_deep_grey_images_are_taken(pipelines: dict[str, Pipeline]) -> None:
    encode = pipelines["encode"]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert encode(source().to(dtype).requires_grad_()).pixels.shape == (2, 3, 32, 32)
    deep = Image.fromarray(np.arange(40 * 40, dtype=np.int32).reshape(40, 40))
    assert deep.mode == "I" and len(encode(deep).images) == 1


def test_uint8_floats_pillow_images_and_files_are_alike(pipelines: dict[str, Pipeline], photo: Path) -> None:
    image = Image.open(photo).convert("RGB")
    side = min(image.size)
    square = image.crop((0, (image.height - side) // 2, side, (image.height - side) // 2 + side))
    pixels = torch.from_numpy(np.array(square.resize((32, 32), Image.Resampling.LANCZOS))).permute(2, 0, 1)
    encode = pipelines["encode"]
    expected = encode(photo).pixels
    for given in (image, str(photo), pixels, pixels.float() / 127.5 - 1, pixels.unsqueeze(0)):
        assert torch.equal(encode(given).pixels, expected)
    palette = Image.fromarray(condition(1)[0, 0].numpy()).convert("P")
    palette.putdata(condition(1)[0, 0].flatten().tolist())
    maps = pipelines["synthesize"](condition(1), seed=1).pixels
    assert torch.equal(pipelines["synthesize"](palette, seed=1).pixels, maps)


BAD: list[tuple[str, tuple[object, ...], dict[str, object], str]] = [
    ("graft", (torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)), {}, r"source is a tensor of shape \(3, 8, 8\): expected"),
    ("graft", (source(), source()), {}, r"target is a tensor of shape .*: expected \(3, 8, 8\) or \(N, 3, 8, 8\)"),
    ("graft", (source(0), source(0)), {}, "source is a tensor of shape"),
    ("graft", (source() * 3, source()[..., ::4, ::4]), {}, "source has values from .*: give floats in"),
    ("graft", (source() * torch.nan, source()[..., ::4, ::4]), {}, "source has values"),
    ("graft", (source().long(), source()[..., ::4, ::4]), {}, "source is a tensor of torch.int64: give uint8"),
    ("graft", (source(2), source(1)[..., ::4, ::4]), {}, "2 sources and 1 targets"),
    ("graft", (3, source()), {}, "the source is int: give a path"),
    ("synthesize", (condition().long(),), {}, "conditions are torch.int64: give uint8"),
    ("synthesize", (condition()[:0],), {}, r"conditions are \(0, 1, 32, 32\)"),
    ("synthesize", (condition() + 9,), {}, "a condition has class 12: there are 0 to 3"),
    ("synthesize", (condition(),), {"samples": 0}, "samples 0: choose a number from 1"),
    ("synthesize", (condition(),), {"style": [source(1)] * 3, "samples": 4}, "style: 3 images"),
    ("synthesize", (condition(),), {"vary": "colour"}, "vary 'colour': choose one of noise, style"),
    ("synthesize", (condition(),), {"style": source(3)}, "style is a batch of 3 images"),
    ("synthesize", (condition(),), {"style": torch.zeros(3, 9, 9)}, "style is a tensor of shape"),
    ("encode", (source(),), {"steps": 0}, "steps 0: choose a number from 1"),
    ("encode", (source(),), {"samples": 0}, "samples 0: choose"),
    ("encode", (source(),), {"samples": "2"}, "samples 2: choose a number from 1"),
    ("encode", (source(),), {"factor": 4}, "factor and align are for image files"),
    ("encode", (source()[:, :1],), {}, "condition is a tensor of shape"),
    ("sample", (0,), {}, "count 0: choose a number from 1"),
    ("sample", (), {"truncation": -1}, "truncation -1: choose a number from 0"),
    ("sample", (), {"latents": torch.zeros(0, 6)}, "codes are a tensor of shape"),
    ("sample", (), {"latents": torch.zeros(2, 7)}, r"codes are a tensor of shape \(2, 7\): expected \(N, 6\)"),
]


@pytest.mark.parametrize(("task", "positional", "named", "reason"), BAD)
def test_what_is_no_input_is_refused(
    task: str, positional: tuple[object, ...], named: dict[str, object], reason: str, pipelines: dict[str, Pipeline]
) -> None:
    with pytest.raises(PixgraftError, match=reason) as error:
        pipelines[task](*positional, **named)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("other", TASKS)
def test_another_tasks_call_is_answered_with_the_right_one(
    task: str, other: str, pipelines: dict[str, Pipeline], photo: Path
) -> None:
    calls: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
        "graft": ((photo, photo), {"project": True}),
        "synthesize": ((photo,), {"style": photo}),
        "encode": ((photo,), {"steps": 1}),
        "sample": ((), {"truncation": 0.5}),
    }
    if task == other:
        return
    positional, named = calls[other]
    with pytest.raises(PixgraftError) as error:
        pipelines[task](*positional, **named)
    assert "load(" in str(error.value) and "pixgraft " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("task", TASKS)
def test_another_tasks_options_are_answered_with_the_right_command(
    task: str, models: dict[str, Path], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags: dict[str, tuple[object, ...]] = {
        "graft": ("--source", photo, "--target", photo),
        "synthesize": ("--condition", photo, "--vary", "style"),
        "encode": ("--condition", photo, "--steps", 2),
    }
    for other, options in flags.items():
        if other != task:
            said = refusal(capsys, "translate", models[task], *options, "--out", tmp_path / "out")
            right = {"graft": "--source A --target B", "sample": "pixgraft sample"}.get(task, "--condition A")
            assert right in said
    if task != "sample":
        for verb in ("sample", "walk", "mix"):
            said = refusal(capsys, verb, models[task], "--out", tmp_path / f"{verb}.png")
            assert "makes no images of codes alone" in said and "pixgraft translate" in said
    assert not list(tmp_path.iterdir())


def test_the_bare_command_shows_its_help_and_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        said = capsys.readouterr().out
        assert stopped.value.code == 0 and "translate" in said and "Check and prepare images" in said
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pixgraft {pixgraft.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("train", "i2ilr-smal-64", "--data", "x", "--out", "y"), "did you mean i2ilr-small-64"),
        (("translate", "i2ilr-face-64", "--out", "y"), "did you mean i2ilr-faces-64"),
        (("evaluate", "i2ilr-faces-64", "--data", "x", "--protocol", "i2ilr-tabel1"), "did you mean i2ilr-table1"),
        (("evaluate", "--real", "examples", "--fake", "examples", "--metrics", "ssmi"), "did you mean ssim"),
        (("convert", "stylegan-nvidia", "a.pkl", "out"), "did you mean stylegan2-nvidia"),
    ],
)
def test_a_misspelt_name_gets_the_closest_ones(
    arguments: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "examples", 4)
    assert hint in refusal(capsys, *arguments)
