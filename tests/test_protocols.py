"""The papers' tables and figures beyond the first ones: figures worked out again from the models' outputs, rows that
have images of their own, curves over training, and what is refused."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cases import grit
from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.sketch import xdog
from pixgraft.engine.log import RunLog
from pixgraft.engine.seeds import derive
from pixgraft.evaluation.protocols import PROTOCOLS
from pixgraft.features import Feature
from pixgraft.layers.resample import bicubic
from pixgraft.methods import METHODS
from pixgraft.methods.encoding import PriorEncoding
from pixgraft.methods.grit import GRITConfig
from pixgraft.models import load_model, save_model
from pixgraft.pipelines.loading import load
from pixgraft.pipelines.synthesize import SynthesisPipeline
from pixgraft.training.loop import Outcome
from test_ome_evaluation import saved, shrunk, values
from training import make_images, make_pairs
from using import CURVE, random_model, refusal

Captured = pytest.CaptureFixture[str]
COUNT = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`test/images`, `test/masks` and `test/sketches` of 32 x 32."""
    folder = tmp_path_factory.mktemp("data")
    pairs = make_pairs(folder / "test", COUNT, side=32)
    (pairs / "sketches").mkdir()
    for path in (pairs / "images").iterdir():
        image = Image.open(path).crop((0, 0, 32, 32))
        image.save(path)
        image.convert("L").save(pairs / "sketches" / path.name)
        mask = pairs / "masks" / path.name
        Image.open(mask).crop((0, 0, 32, 32)).save(mask)
    return folder


def measured(out: Path, model: object, data: Path, protocol: str, *more: object) -> dict[str, Any]:
    command = ["evaluate", model, "--data", data, "--split", "test", "--protocol", protocol, "--out", out]
    assert main([str(each) for each in [*command, "--device", "cpu", "--bootstrap", 0, "--quiet", *more]]) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


def named(result: dict[str, Any]) -> list[str]:
    return [row["name"] for row in result["rows"]]


# --- I2I-LR ---


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, with the classes cat and dog in test and train, and `runs`, a model for each."""
    folder = tmp_path_factory.mktemp("classes")
    for number, name in enumerate(("cat", "dog")):
        for split, count in (("test", 4 + number), ("train", 6)):
            make_images(folder / "data" / split / name, count, side=32 + 8 * number)
        random_model(folder / "runs" / name, seed=number)
    return folder


def test_rows_of_classes_are_measured_on_their_own_images_and_reals(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class's figures are to the last digit what they are alone."""
    small = Feature("squeezenet", nn.Sequential(nn.AvgPool2d(8), nn.Flatten()), "0" * 64)  # the real one takes seconds
    monkeypatch.setattr("pixgraft.evaluation.measure.open_feature", lambda *_, **__: small)
    asked = ("--samples", 2, "--metrics", "kd", "consistency", "spectrum")
    table = ("i2ilr-table3", "--real-split", "train", *asked)
    both = measured(tmp_path / "both", classes / "runs", classes / "data", *table, "--classes", "cat", "dog")
    rows = {row["name"]: row for row in both["rows"]}
    references = ("reference: bicubic target", "reference: source as it is")
    each = {name: [name, *(f"{reference}, {name}" for reference in references)] for name in ("cat", "dog")}
    assert named(both) == [*each["cat"], *each["dog"], "reals", "reals of dog"]
    alone = (classes / "runs" / "dog", "--data", classes / "data", "--split", "test/dog", "--real-split", "train/dog")
    command = ["evaluate", *alone, "--protocol", "i2ilr-table3", *asked, "--out", tmp_path / "dog", "--device", "cpu"]
    assert main([str(part) for part in [*command, "--bootstrap", 0, "--quiet"]]) == 0
    single = json.loads((tmp_path / "dog" / "result.json").read_text())
    assert [rows[name]["values"] for name in each["dog"]] == [row["values"] for row in single["rows"][:3]]
    assert rows["reals of dog"]["spectrum"] == single["rows"][3]["spectrum"] != rows["reals"]["spectrum"]
    for key in ("data", "real"):
        assert both["protocol"][key]["dog"] == single["protocol"][key]
        assert both["protocol"][key]["cat"]["split"].endswith("/cat")
    with Image.open(tmp_path / "both" / "images.png") as one, Image.open(tmp_path / "dog" / "images.png") as part:
        assert one.height == part.height + part.height - 132  # four cats, five dogs


def test_a_preset_is_trained_on_each_class(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    trained: list[tuple[str, str]] = []

    def train(experiment: object, data: object, run: Path, *, split: str, **_: object) -> Outcome:
        trained.append((run.name, split))
        return Outcome(run, 0, "SIGINT" if len(trained) == 2 else None)

    monkeypatch.setattr("pixgraft.evaluation.sweep.train", train)
    table = ("evaluate", "i2ilr-tiny-32", "--data", classes / "data", "--protocol", "i2ilr-table3", "--split", "test")
    two = (*table, "--classes", "cat", "dog", "--out", tmp_path / "out", "--device", "cpu")
    assert main([str(each) for each in two]) == 130
    assert trained == [("cat", "train/cat"), ("dog", "train/dog")]
    told = capsys.readouterr().out.splitlines()
    assert told == [f"row {n} of 2, {each}: {tmp_path / 'out' / each}" for n, each in enumerate(("cat", "dog"), 1)]
    assert "no images under test/cow/" in refusal(capsys, *table, "--classes", "cat", "cow", "--out", tmp_path / "out")
    assert "--out" in refusal(capsys, *table, "--classes", "cat")
    for wrong in ("..", "a/b", "images.png"):
        said = refusal(capsys, *table, "--classes", wrong, "--out", tmp_path / "out")
        assert said == f"--classes {wrong}: name folders within the splits, each once"
    assert "each once" in refusal(capsys, *table, "--classes", "cat", "cat")
    others = ("evaluate", "i2ilr-tiny-32", "--data", classes / "data", "--protocol", "i2ilr-table4", "--classes", "cat")
    assert "has no part in i2ilr-table4: choose i2ilr-table1, i2ilr-table2, i2ilr-table3" in refusal(capsys, *others)


def test_the_colour_s_rows_have_targets_of_their_own(classes: Path, tmp_path: Path) -> None:
    table = PROTOCOLS["i2ilr-colour"]
    for variant in table.variants:
        random_model(tmp_path / "runs" / variant.folder, *variant.settings)
    split = ("--split", "test/cat", "--samples", 2, "--metrics", "consistency", "--out", tmp_path / "out")
    command = ["evaluate", tmp_path / "runs", "--data", classes / "data", "--protocol", table.name, *split]
    assert main([str(each) for each in [*command, "--device", "cpu", "--bootstrap", 0]]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    bicubic = ["reference: bicubic target, LR 8", "reference: bicubic target, LR 8 grey"]
    assert named(result) == ["colour", bicubic[0], "grey", bicubic[1], "reference: source as it is, LR 8"]
    assert result["protocol"]["targets"]["channels"] == [3, 1]
    found = values(result, "LR difference")
    assert found[bicubic[0]] != found[bicubic[1]]


# --- GRIT ---


def test_the_rows_of_grit_s_losses_and_objectives() -> None:
    """By the networks that the losses need, the parts of an image, and the phases of a step."""

    def rows(protocol: str) -> dict[str, tuple[str, int, int]]:
        found = {}
        for variant in PROTOCOLS[protocol].variants:
            config = replaced(grit(), list(variant.settings)).method
            assert isinstance(config, GRITConfig)
            method = METHODS["grit"](config)
            found[variant.name] = (config.perceptual_network, len(method.components), len(method.phases()))  # type: ignore[arg-type]
        return found

    assert rows("grit-losses") == {"L1": ("", 2, 2), "perceptual": ("lpips-vgg", 2, 2)}
    assert rows("grit-figure3") == {
        "L1": ("", 1, 1), "perceptual": ("lpips-vgg", 1, 1), "perceptual + adversarial": ("lpips-vgg", 1, 2),
        "decoupled": ("", 2, 2),
    }  # fmt: skip


def grit_model(folder: Path, *settings: str) -> Path:
    torch.manual_seed(0)
    method = METHODS["grit"](replaced(grit(), list(settings)).method)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_model(folder, method, info={})
    return folder


def test_the_losses_network_stands_beside_its_row(data: Path, tmp_path: Path) -> None:
    for variant in PROTOCOLS["grit-losses"].variants:
        grit_model(tmp_path / "runs" / variant.folder, *variant.settings, "method.perceptual=squeezenet")
    result = measured(tmp_path / "out", tmp_path / "runs", data, "grit-losses", "--metrics", "l1")
    assert named(result) == ["L1", "perceptual"]
    assert "perceptual loss in training: squeezenet, of perceptual" in result["notes"]


def test_figure_7_is_the_deviation_over_the_samples(data: Path, tmp_path: Path, capsys: Captured) -> None:
    model = grit_model(tmp_path / "model")
    assert PROTOCOLS["grit-figure7"].samples == 20
    few = measured(tmp_path / "few", model, data, "grit-figure7", "--metrics", "deviation", "l1", "--samples", 3)
    assert few["protocol"]["samples_for_each_condition"] == 3
    assert few["rows"][0]["images"] == 3 * COUNT
    with Image.open(tmp_path / "few" / "images.png") as sheet:
        assert sheet.width == 4 + 5 * (128 + 4)  # condition, reference, a sample, mean and deviation
    pipeline = load(model, device="cpu")
    assert isinstance(pipeline, SynthesisPipeline)
    expected = []
    for unit, (mask, image) in enumerate(
        zip(tensors(data / "test" / "masks"), tensors(data / "test" / "images"), strict=True)
    ):
        style = pipeline.style_code(from_uint8(image[0]))
        samples = pipeline.sample(mask[0], [style], samples=3, seed=derive(0, "unit", unit))
        expected.append(float(samples.deviation.mean()))
    assert values(few, "deviation")["model"] == pytest.approx(sum(expected) / COUNT, rel=1e-9)
    assert expected[0] > 0
    command = ("evaluate", model, "--data", data, "--device", "cpu", "--protocol")
    assert "at least 2 of each condition" in refusal(capsys, *command, "grit-figure7", "--samples", 1)
    assert "--samples 4: has no part in grit-table1" in refusal(capsys, *command, "grit-table1", "--samples", 4)


# --- encoders ---


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    saved(folder / "labels", "ome", "method.condition=labels", "method.classes=4")
    saved(folder / "sketch", "psp", "method.condition=sketch")
    saved(folder / "lr", "psp")
    return folder


def tensors(folder: Path) -> list[Tensor]:
    """The images of a folder, uint8 (1, C, 32, 32), C 1 or 3."""
    arrays = [np.atleast_3d(np.array(Image.open(path))) for path in sorted(folder.iterdir())]
    return [torch.from_numpy(each).permute(2, 0, 1).unsqueeze(0) for each in arrays]


def conditions(model: Path, data: Path, kind: str) -> tuple[PriorEncoding, list[Tensor], list[Tensor]]:
    """The method, the conditions and the images."""
    method = load_model(model).method
    assert isinstance(method, PriorEncoding)
    return method, tensors(data / "test" / kind), tensors(data / "test" / "images")


@pytest.mark.parametrize(("name", "kind", "figure"), [("labels", "masks", "11"), ("sketch", "sketches", "12")])
def test_conditions_from_files_are_measured_by_their_images(
    name: str, kind: str, figure: str, models: Path, data: Path, tmp_path: Path
) -> None:
    method, given, references = conditions(models / name, data, kind)
    made = [to_uint8(method.encode(each).images[-1]) for each in given]
    drawn = [
        (xdog(from_uint8(a)) - xdog(from_uint8(b))).abs().mean() * 127.5 for a, b in zip(made, references, strict=True)
    ]
    asked = ("--conditions", kind, "--metrics", "l1", "drawing")
    result = measured(tmp_path / figure, models / name, data, f"ome-figure{figure}", *asked)
    assert named(result) == [name, "floor: starting codes"]
    assert values(result, "drawing")[name] == pytest.approx(float(sum(drawn)) / COUNT, rel=1e-5)
    expected = sum(float((a.double() - b.double()).abs().mean()) for a, b in zip(made, references, strict=True)) / COUNT
    for protocol in ("ome-table1", "ome-table4")[name == "sketch" :]:
        table = measured(tmp_path / protocol, models / name, data, protocol, *asked[:2], "--metrics", "l1")
        assert named(table) == [name, "floor: starting codes"]
        assert values(table, "L1")[name] == pytest.approx(expected, abs=1e-9)
        assert "files of their own" in table["protocol"]["input"]
    assert any("are not shrunk: one row stands for all factors" in note for note in table["notes"])
    with Image.open(tmp_path / figure / "images.png") as sheet:
        assert sheet.width == 4 + 4 * (128 + 4)  # condition, reference, output and floor


def test_the_one_image_of_the_starting_codes_is_no_set(
    models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Feature("squeezenet", nn.Sequential(nn.AvgPool2d(8), nn.Flatten()), "0" * 64)
    monkeypatch.setattr("pixgraft.evaluation.measure.open_feature", lambda *_, **__: small)
    result = measured(tmp_path / "out", models / "labels", data, "ome-figure11", "--metrics", "kd", "l1")
    assert named(result) == ["labels"]
    assert any("left out: floor: starting codes: one image for all" in note for note in result["notes"])
    monkeypatch.undo()
    usual = measured(tmp_path / "usual", models / "labels", data, "ome-figure11")
    assert [column["metric"] for column in usual["columns"]] == ["drawing", "perceptual", "psnr"]


def test_the_steps_of_a_model_of_label_maps(models: Path, data: Path, tmp_path: Path) -> None:
    method, given, references = conditions(models / "labels", data, "masks")
    result = measured(tmp_path, models / "labels", data, "ome-figure8", "--metrics", "l1")
    steps = [to_uint8(torch.cat(method.encode(each).images)) for each in given]
    expected = [
        sum(float((a[step].double() - b[0].double()).abs().mean()) for a, b in zip(steps, references, strict=True))
        / COUNT
        for step in range(2)
    ]
    assert list(values(result, "L1").values())[1:] == pytest.approx(expected, abs=1e-9)


def test_psp_s_consistency_is_pulse_s_downscaling_loss(models: Path, data: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    (flat / "test").mkdir(parents=True)
    for path in (data / "test" / "images").iterdir():
        (flat / "test" / path.name).write_bytes(path.read_bytes())
    result = measured(
        tmp_path / "out", models / "lr", flat, "psp-consistency", "--metrics", "consistent", "downscaling"
    )
    method = load_model(models / "lr").method
    assert isinstance(method, PriorEncoding)
    losses = []
    for each in tensors(flat / "test"):
        image = to_uint8(method.encode(shrunk(each, 8)).images[-1])
        small = to_uint8(bicubic(from_uint8(each), 8))
        again = bicubic(image.double() / 255, 8)
        losses.append(float((again - small.double() / 255).square().mean()))
    assert values(result, "downscaling loss")["lr"] == pytest.approx(sum(losses) / COUNT, rel=1e-6)
    shares = values(result, "consistent")
    assert shares["lr"] == sum(loss <= 1e-3 for loss in losses) / COUNT
    assert result["published"] == [{"name": "every method", "values": {"consistent": "1"}}]


def test_figure_6_draws_the_identity_loss_over_training(
    data: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat, runs = tmp_path / "flat.zip", tmp_path / "runs"
    with zipfile.ZipFile(flat, "w") as archive:
        for path in sorted((data / "test" / "images").iterdir()):
            archive.write(path, f"test/{path.name}")
    table = PROTOCOLS["ome-figure6"]
    assert [variant.name for variant in table.variants] == ["one code", "OB", "OB MC", "OB MS", "OB MS DF"]
    table = dataclasses.replace(table, variants=table.variants[::2])
    monkeypatch.setitem(PROTOCOLS, table.name, table)
    own = ("method.cut=4", "method.progan_codes=4")
    for number, variant in enumerate(table.variants):
        log = RunLog(saved(runs / variant.folder, "ome", *own, *variant.settings) / "log.jsonl")
        for images in (0, 8, 16)[: 3 if number else 2]:
            steps = (
                {"identity_1": 0.9, "identity_2": 0.1 / (images + 1)} if "OB" in variant.name else {"identity_1": 0.2}
            )
            log.write(images=images, seconds=1.0, l2_1=0.5, **steps)
    result = measured(tmp_path / "out", runs, flat, table.name, "--metrics", "psnr")
    assert named(result) == ["one code", "OB MC", "OB MS DF", "floor: starting codes"]
    assert result["rows"][0]["training"] == {"images": [0, 8], "identity": [0.2, 0.2]}
    assert result["rows"][2]["training"]["identity"] == [0.1, 0.1 / 9, 0.1 / 17]
    assert "training" not in result["rows"][3]
    drawing = (tmp_path / "out" / "training.svg").read_text()
    assert drawing.count(CURVE) == 3
    assert "images seen" in drawing
    command = ("evaluate", runs, "--data", flat, "--protocol", table.name, "--device", "cpu", "--metrics", "psnr")
    RunLog(runs / "ob-mc" / "log.jsonl").write(images=20, identity_2=0.1)
    RunLog(runs / "ob-ms-df" / "log.jsonl").write(images=24, identity_2=0.1)
    assert "ob-ms-df/log.jsonl: written at other images than" in refusal(capsys, *command)
    (runs / "ob-mc" / "log.jsonl").write_text('{"images": 8, "l2_1": 1.0}\n')
    assert "ob-mc/log.jsonl: no identity loss over training" in refusal(capsys, *command)
    new = (
        "evaluate",
        "ome-tiny-32",
        "--data",
        flat,
        "--split",
        "test",
        "--protocol",
        table.name,
        "--set",
        "method.cut=4",
    )
    said = refusal(capsys, *new, "--out", tmp_path / "new", "--device", "cpu")
    assert "ome-figure6 draws the identity loss over training: give it a weight (method.lambda_identity)" in said
    assert not (tmp_path / "new").exists()


def test_conditions_that_a_protocol_does_not_measure_are_refused(
    models: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    def refused(name: str, protocol: str, *more: object) -> str:
        command = ("evaluate", models / name, "--data", data, "--protocol", protocol, "--device", "cpu")
        return refusal(capsys, *command, *more)

    assert "kind sketch: ome-figure11 measures a model of label maps (labels)" in refused("sketch", "ome-figure11")
    assert "kind labels: ome-figure12 measures a model of sketches (sketch)" in refused("labels", "ome-figure12")
    assert "kind labels: psp-consistency measures a model of small images (lr)" in refused("labels", "psp-consistency")
    said = refused("lr", "ome-table4", "--conditions", "nope")
    assert said == "--conditions nope: has no part where models take small images: leave it out"
    assert "in a folder nope/" in refused("labels", "ome-table1", "--conditions", "nope")
    assert "needs a small image" in refused("labels", "ome-table1", "--metrics", "consistent")
