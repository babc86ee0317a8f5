"""Searches in a prior: what they find, what is written, the same bytes in any company, and what is refused."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from cases import tiny_prior
from encoders import codes, pixels, saved
from generators import opened as sampling
from pixgraft.cli import main
from pixgraft.engine.bars import Bars
from pixgraft.errors import PixgraftError
from pixgraft.inversion.pulse import TOLERANCE
from pixgraft.layers.resample import bicubic
from pixgraft.losses.latent import geocross, noise_correlation
from pixgraft.metrics.paired import psnr
from pixgraft.models import load_model, save_model
from pixgraft.pipelines.base import UNFINISHED
from pixgraft.pipelines.loading import load
from test_metrics_oracle import Reference
from using import refusal, report

PLAIN = ("--perceptual", "none", "--device", "cpu")


def invert(prior: object, condition: Path, out: Path, by: str, *flags: object) -> int:
    command = ["invert", prior, "--condition", condition, "--out", out, "--by", by, *PLAIN, *flags]
    return main([str(each) for each in command])


@pytest.fixture(scope="module")
def styled(styled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' StyleGAN2, whose images are within their range but for a fifteenth."""
    method = load_model(styled).method
    for layer in method.get_submodule("generator.synthesis.to_rgb").children():
        for parameter in layer.parameters(recurse=False):
            parameter.mul_(0.3)
    folder = tmp_path_factory.mktemp("tame") / "styled"
    save_model(folder, method, info={})
    return folder


@pytest.fixture(scope="module")
def made(styled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images that the prior makes, as files."""
    folder = tmp_path_factory.mktemp("made") / "made"
    folder.mkdir()
    for number, image in enumerate(sampling(styled)(3, seed=5).images):
        image.save(folder / f"{number}.png")
    return folder


# --- what is found ---


@pytest.mark.parametrize(("by", "steps"), [("wplus", 108), ("single", 108)])
def test_an_image_of_the_prior_is_recovered(styled: Path, made: Path, by: Any, steps: int) -> None:
    pipeline: Any = load(styled, by=by, perceptual="none", device="cpu", starts=20)
    result = pipeline(made / "0.png", steps=steps)
    assert result.report["measures"]["psnr"] > 35
    assert result.report["measures"]["psnr"] == pytest.approx(float(psnr(result.pixels, pixels(made / "0.png")[None])))
    rows = result.report["measures"]["search"]
    assert [row["step"] for row in rows] == [round(steps * (place / 6) ** 2) for place in range(7)]
    assert rows[0]["psnr"] < 30 and all(a["pixels"] >= b["pixels"] for a, b in itertools.pairwise(rows))
    assert len(result.strip) == 8 and len(result.report["measures"]["loss"]["values"]) == steps + 1


@pytest.mark.slow
@pytest.mark.parametrize("by", ["wplus", "pti"])
def test_an_image_of_the_bundled_prior_is_recovered(tmp_path: Path, by: Any) -> None:
    """From the best of 20 starts."""
    prior = "stylegan2-faces-64"
    sampled: Any = load(prior, device="cpu")
    sampled(1, seed=3, truncation=0.7).image.save(tmp_path / "a.png")
    pipeline: Any = load(prior, by=by, perceptual="squeezenet", device="cpu", starts=20)
    result = pipeline(tmp_path / "a.png", steps=600, **({"tuning": 20} if by == "pti" else {}))
    assert result.report["measures"]["psnr"] > 35


@pytest.mark.parametrize("space", ["w", "z"])
def test_pulse_shrinks_to_its_input_within_its_tolerance(styled: Path, made: Path, tmp_path: Path, space: str) -> None:
    flags = ("--factor", 4, "--space", space, "--starts", 20)
    assert invert(styled, made / "0.png", tmp_path, "pulse", *flags) == 0
    for name in "0":
        found, image = report(tmp_path, name)["measures"], pixels(tmp_path / f"{name}.png")
        small = [
            bicubic(each[None].double() / 255, 4).mul(255).round() / 255
            for each in (pixels(made / f"{name}.png"), image)
        ]
        assert found["within"] and found["tolerance"] == TOLERANCE
        assert float((small[0] - small[1]).square().mean()) < TOLERANCE * 1.1  # of whole grey levels
        assert found["outputs"][0]["difference"]["cells"] == 16


def test_pulses_loss_is_the_published_one() -> None:
    reference = Reference()
    found = geocross(reference.input("geocross/latent", 2, 18, 512))
    assert float(found.sum()) == pytest.approx(float(reference.expected["geocross"]), rel=1e-5)
    right = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 2.0]]], dtype=torch.float64)
    torch.testing.assert_close(
        geocross(right), torch.tensor([2 / 8 * (np.pi / 2) ** 2 / 2, 0]).double(), atol=1e-6, rtol=0
    )
    codes = right.clone().requires_grad_()
    geocross(codes).sum().backward()
    assert codes.grad is not None and codes.grad.isfinite().all()


def test_neighbours_in_noise_maps_count() -> None:
    random = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(random, 3, 1, 1) * 3
    assert (noise_correlation(smooth) > 20 * noise_correlation(random)).all()
    flat = torch.ones(1, 1, 16, 16)
    assert float(noise_correlation(flat)) == pytest.approx(4)  # 1 across and 1 down, at 16 and at 8 pixels


@pytest.mark.parametrize(
    ("prior", "by", "flags", "shape"),
    [
        ("styled", "wplus", ("--noise", "searched"), (6, 5)),
        ("styled", "mganprior", ("--many", 3, "--optimizer", "adam"), (3, 5 + 8)),
        ("grown", "mganprior", ("--many", 3, "--side", 8), (3, 6 + 8)),
        ("grown", "single", (), (1, 6)),
        ("grown", "pulse", ("--factor", 2), (1, 6)),
    ],
)
def test_every_search_comes_closer_and_writes_what_it_found(
    prior: str, by: str, flags: tuple[object, ...], shape: tuple[int, ...], made: Path, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    model: Path = request.getfixturevalue(prior)
    assert invert(model, made / "1.png", tmp_path, by, "--steps", 20, *flags) == 0
    written = {"1.json", "1.png", "1_codes.safetensors", "1_loss.svg", "1_strip.png"}
    assert {path.name for path in tmp_path.iterdir()} == written
    assert codes(tmp_path / "1_codes.safetensors").shape == shape
    found = report(tmp_path, "1")
    assert found["task"] == "encode" and found["method"] == found["settings"]["by"] == by
    assert found["measures"]["search"][-1]["pixels"] < found["measures"]["search"][0]["pixels"]
    assert found["measures"]["steps_made"] == 20 and found["seconds"] > 0
    stored = safetensors.torch.load_file(tmp_path / "1_codes.safetensors")
    assert len(stored) == (6 if "searched" in flags else 1) and bool(found["notes"]) == ("searched" in flags)


def test_codes_make_the_same_image_elsewhere(styled: Path, made: Path, tmp_path: Path) -> None:
    """`edit` and `sample --latents` of the prior read what `invert` writes."""
    assert invert(styled, made, tmp_path / "out", "wplus", "--steps", 5) == 0
    a, b = (tmp_path / "out" / f"{name}_codes.safetensors" for name in "01")
    command = ["edit", styled, a, b, "--out", tmp_path / "edit", "--steps", 2, "--device", "cpu"]
    assert main([str(each) for each in command]) == 0
    assert torch.equal(pixels(tmp_path / "edit" / "000001.png"), pixels(tmp_path / "out" / "1.png"))
    command = ["sample", styled, "--latents", a, "--out", tmp_path / "samples", "--device", "cpu"]
    assert main([str(each) for each in command]) == 0
    assert torch.equal(pixels(tmp_path / "samples" / "000000.png"), pixels(tmp_path / "out" / "0.png"))


def test_the_generator_is_tuned_to_the_image(
    styled: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for tuning in (20, 30):
        assert invert(styled, made / "2.png", out, "pti", "--steps", 10, "--tuning", tuning) == 0
    found = report(out, "2")
    assert found["measures"]["steps_made"] == 40 and found["settings"]["tuning"] == 30
    rows = {row["step"]: row["pixels"] for row in found["measures"]["search"]}
    assert rows[40] < rows[10] and len(found["outputs"]) == 6
    result = sampling(out / "2_generator")(codes=codes(out / "2_codes.safetensors")[None])
    assert int((result.pixels[0].int() - pixels(out / "2.png").int()).abs().max()) <= 1
    assert not torch.equal(sampling(styled)(codes=codes(out / "2_codes.safetensors")[None]).pixels, result.pixels)
    assert load_model(out / "2_generator").info["source"] == "pixgraft invert, tuned to 2"
    for prior, noted in ((styled, True), (out / "2_generator", False)):
        again = ("sample", prior, "--latents", out / "2_codes.safetensors", "--out", tmp_path / f"again-{noted}")
        capsys.readouterr()
        assert main([*map(str, (*again, "--device", "cpu"))]) == 0
        assert ("2_codes.safetensors: its generator was tuned" in capsys.readouterr().err) == noted
    (out / "2_generator" / "mine.txt").write_text("x")
    assert invert(styled, made / "2.png", out, "single", "--steps", 1) == 0
    assert [path.name for path in (out / "2_generator").iterdir()] == ["mine.txt"]
    (out / "2_generator" / "mine.txt").unlink()
    (out / "2_generator").rmdir()
    (out / "2_generator").symlink_to(made)
    capsys.readouterr()
    assert invert(styled, made / "2.png", out, "pti", "--steps", 1, "--tuning", 1) == 2
    assert "2_generator: a link" in capsys.readouterr().err and len(list(made.iterdir())) == 3


# --- where it begins ---


def test_a_search_begins_at_an_encoders_codes(tmp_path: Path) -> None:
    ome, prior = saved(tmp_path / "ome", "ome"), tiny_prior("stylegan2")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    encoder: Any = load(ome, device="cpu")
    expected = encoder(tmp_path / "a.png").codes
    pipeline: Any = load(prior, by="wplus", perceptual="none", device="cpu")
    result = pipeline(tmp_path / "a.png", start=str(ome), steps=0)
    assert torch.equal(result.codes, expected)
    assert result.report["settings"]["start_sha256"] == load_model(ome).weights_sha256
    further = pipeline(tmp_path / "a.png", start=str(ome), steps=10).report["measures"]["search"]
    assert further[-1]["pixels"] < further[0]["pixels"] == result.report["measures"]["search"][0]["pixels"]
    with pytest.raises(PixgraftError, match=r"its codes are \(8, 16\), and the prior's"):
        load("stylegan2-faces-64", by="wplus", perceptual="none", device="cpu")(tmp_path / "a.png", start=str(ome))


def test_the_best_start_goes_on(styled: Path, made: Path) -> None:
    losses = []
    for starts in (1, 12):
        pipeline: Any = load(styled, by="single", perceptual="none", device="cpu", starts=starts)
        losses.append(pipeline(made / "0.png", steps=0).report["measures"]["search"][0]["pixels"])
    assert losses[1] < losses[0]


# --- files ---


def test_company_changes_no_byte(styled: Path, made: Path, tmp_path: Path) -> None:
    flags = ("--steps", 8, "--batch", 2, "--noise", "searched")
    assert invert(styled, made, tmp_path / "all", "wplus", *flags) == 0
    assert invert(styled, made / "1.png", tmp_path / "alone", "wplus", *flags) == 0
    for name in ("1.png", "1_codes.safetensors", "1_strip.png"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    pipeline: Any = load(styled, by="wplus", perceptual="none", device="cpu", noise="searched", batch=2)
    result = pipeline(torch.stack([pixels(made / f"{name}.png") for name in "021"]), steps=8)
    assert torch.equal(result.pixels[2], pixels(tmp_path / "all" / "1.png"))


def test_a_signal_leaves_the_best_so_far(
    styled: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"

    def counting(bars: Bars, name: str) -> Callable[[int, int], None]:
        done = iter(range(1, 1000))
        return lambda *_: (
            os.kill(os.getpid(), signal.SIGINT) if next(done) == 14 else None
        )  # of ten steps each, in the second

    with monkeypatch.context() as patched:
        patched.setattr(Bars, "counting", counting)
        assert invert(styled, made, out, "wplus", "--steps", 10) == 130
    assert sorted(path.stem for path in out.glob("*.json")) == ["0", "1"]
    first, second = report(out, "0"), report(out, "1")
    assert first["notes"] == [] and second["notes"] == [UNFINISHED] and second["measures"]["steps_made"] == 4
    assert (out / "1.png").is_file() and (out / "1_codes.safetensors").is_file()
    capsys.readouterr()
    assert invert(styled, made, out, "wplus", "--steps", 10) == 0
    assert "2 made, 1 finished before, 0 failed" in capsys.readouterr().out
    assert invert(styled, made, tmp_path / "whole", "wplus", "--steps", 10) == 0
    for path in (tmp_path / "whole").glob("*[gs]"):
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_bad_inputs_are_named_and_the_rest_is_made(
    styled: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"x")
    Image.new("RGB", (1, 3)).save(folder / "dot.png")
    Image.open(made / "0.png").resize((8, 8)).save(folder / "small.png")
    Image.open(made / "0.png").resize((11, 11)).save(folder / "odd.png")
    Image.open(made / "0.png").resize((40, 50)).save(folder / "large.png")
    assert invert(styled, folder, tmp_path / "out", "single", "--steps", 1) == 1
    said = capsys.readouterr().out
    assert "failed: bad.png" in said and "3 made, 0 finished before, 2 failed" in said
    assert "failed: dot.png: smaller than 2 x 2 pixels: give a larger image" in " ".join(said.split())
    assert "operator" in report(tmp_path / "out", "small")["measures"]
    for name in ("odd", "large"):
        assert "operator" not in report(tmp_path / "out", name)["measures"]


def test_what_cannot_be_searched_is_one_line(
    styled: Path, grown: Path, model: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def said(prior: Path, by: Any, call: dict[str, Any] | None = None, **search: Any) -> str:
        with pytest.raises(PixgraftError) as raised:
            pipeline: Any = load(prior, by=by, device="cpu", **({"perceptual": "none"} | search))
            pipeline(made / "0.png", **(call or {}))
        return str(raised.value)

    for prior, by, flags, expected in (
        (
            grown,
            "wplus",
            (),
            f"{grown}: by wplus: progan models take no codes by layer: choose single, pulse, mganprior",
        ),
        (styled, "wplus", ("--factor", 16), "degradation factor 16: images of 16 pixels cannot be shrunk by it: "),
        (styled, "wplus", ("--start", styled), f"start {styled}: its task is sample: name a model that encodes images"),
    ):
        line = refusal(capsys, "invert", prior, "--condition", made, "--out", out, "--by", by, *PLAIN, *flags)
        assert line.startswith(expected)
    assert "by pti: progan models take no codes by layer" in said(grown, "pti")
    assert f"{model}: its task is graft: codes are searched in priors" in said(model, "wplus")
    assert "space z: wplus searches a stylegan2 in w+" in said(styled, "wplus", space="z")
    assert "space w: single searches a progan in z" in said(grown, "single", space="w")
    assert "noise searched: not by single in a progan" in said(grown, "single", noise="searched")
    assert "noise searched: not by pti" in said(styled, "pti", noise="searched")
    assert "many: a setting of mganprior" in said(styled, "wplus", many=3)
    assert "side 16: the model has maps of [4, 8] pixels" in said(styled, "mganprior", side=16)
    assert "side 5: the model has maps of [4, 8] pixels" in said(grown, "mganprior", side=5)
    assert "starts 0: choose a number from 1" in said(styled, "wplus", starts=0)
    assert "perceptual squeezenet: PULSE's loss has none" in said(styled, "pulse", perceptual="squeezenet")
    assert "steps -1: choose a number from 0" in said(styled, "wplus", {"steps": -1})
    assert "tuning 3: wplus tunes no generator" in said(styled, "wplus", {"tuning": 3})
    assert "begins at random codes: leave it out" in said(styled, "pulse", {"start": str(styled)})
    assert "searches need gradients" in said(styled, "wplus", precision="bfloat16")
    assert "is inside" in refusal(capsys, "invert", styled, "--condition", made, "--out", made / "x", "--by", "single")
    assert not out.exists() and len(list(made.iterdir())) == 3
    with pytest.raises(PixgraftError, match="starts: settings of searches: name one with by='wplus'"):
        load(styled, starts=3)
    with pytest.raises(PixgraftError, match=r"load: by: 'magic' is not one of"):
        load(styled, by="magic")  # type: ignore[arg-type]
    with pytest.raises(PixgraftError, match=r"it takes images to search for: load\("):
        load(styled, by="single", perceptual="none", device="cpu")(made / "0.png", samples=3)


def test_as_an_encoder_it_gives_the_best_of_some_steps(styled: Path, made: Path) -> None:
    """The task's own function, which tables call."""
    pipeline: Any = load(styled, by="single", perceptual="none", device="cpu")
    condition: Tensor = pixels(made / "0.png")[None]
    encoded = pipeline.method.encode(condition, steps=36)
    assert len(encoded.codes) == 6 and encoded.images[-1].shape == (1, 3, 16, 16)
    torch.testing.assert_close(pipeline.method.decode(encoded.codes[-1]), encoded.images[-1])
    assert json.dumps(pipeline(condition, steps=12).report["measures"])
