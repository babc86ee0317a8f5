"""OME's tables and figures: numbers worked out again from the models' outputs, trained rows, statements, refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.data.degrade import Degradation
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.findings import findings
from pixgraft.evaluation.protocols import PROTOCOLS
from pixgraft.evaluation.result import Row
from pixgraft.layers.resample import bicubic
from pixgraft.methods import METHODS
from pixgraft.methods.encoding import PriorEncoding
from pixgraft.methods.ome import OME
from pixgraft.metrics.consistency import project
from pixgraft.metrics.estimate import Estimate
from pixgraft.models import load_model, save_model
from pixgraft.presets import preset
from test_paired_runs import torchrun
from using import CURVE, refusal

COUNT = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train` and `test`: pictures of 32 x 32, which no fitting changes."""
    folder = tmp_path_factory.mktemp("data")
    for part, first in (("train", 0), ("test", 10)):
        (folder / part).mkdir()
        for index in range(COUNT + 1 if part == "train" else COUNT):
            noise = np.random.default_rng(first + index)
            coarse = Image.fromarray(noise.integers(0, 256, (5, 5, 3), dtype=np.uint8))
            coarse.resize((32, 32), Image.Resampling.BICUBIC).save(folder / part / f"{index}.png")
    return folder


def saved(folder: Path, name: str, *settings: str) -> Path:
    """A model folder of a tiny encoder whose random weights move the codes."""
    torch.manual_seed(0)
    method = METHODS[name](replaced(preset(f"{name}-tiny-32"), list(settings)).method)
    assert isinstance(method, PriorEncoding)
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_model(folder, method, info={})
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models: `lr`, `self`, `psp` (of small images), `labels`, `flat` (one scale) and `prior`."""
    folder = tmp_path_factory.mktemp("models")
    saved(folder / "lr", "ome", "method.condition=lr")
    saved(folder / "self", "ome", "method.condition=self", "method.steps=3")
    saved(folder / "labels", "ome", "method.condition=labels")
    saved(folder / "flat", "ome", "method.condition=self", "method.many_scales=false")
    saved(folder / "psp", "psp")
    torch.manual_seed(0)
    save_model(folder / "prior", METHODS["stylegan2"](preset("stylegan2-tiny-32").method), info={})
    return folder


def measured(out: Path, model: object, data: Path, protocol: str, *more: object) -> dict[str, Any]:
    command = ["evaluate", model, "--data", data, "--split", "test", "--protocol", protocol, "--out", out]
    assert main([str(each) for each in [*command, "--device", "cpu", "--bootstrap", 20, "--quiet", *more]]) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


def values(result: dict[str, Any], label: str) -> dict[str, float]:
    """A column by the rows' names, of the rows that have it."""
    return {row["name"]: row["values"][label]["value"] for row in result["rows"] if label in row["values"]}


def pictures(data: Path) -> list[Tensor]:
    paths = sorted((data / "test").iterdir())
    return [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).unsqueeze(0) for path in paths]


def shrunk(picture: Tensor, factor: int) -> Tensor:
    return to_uint8(Degradation(factors=(factor,))(from_uint8(picture), factor))


def encoder(folder: Path) -> PriorEncoding:
    method = load_model(folder).method
    assert isinstance(method, PriorEncoding)
    return method


def by_hand(made: list[Tensor], wanted: list[Tensor]) -> float:
    """The mean PSNR."""
    errors = [(a.double() - b.double()).numpy() for a, b in zip(made, wanted, strict=True)]
    return float(np.mean([10 * np.log10(255**2 / (error**2).mean()) for error in errors]))


# --- tables ---


@pytest.mark.parametrize("name", ["lr", "psp"])
def test_super_resolution_has_a_row_for_each_factor(name: str, models: Path, data: Path, tmp_path: Path) -> None:
    result = measured(tmp_path, models / name, data, "ome-table4")
    rows = [row["name"] for row in result["rows"]]
    assert rows == [f"{name}, x8", "reference: bicubic, x8", f"{name}, x16", "reference: bicubic, x16"]
    assert any("left out: x32" in note for note in result["notes"])

    references, method = pictures(data), encoder(models / name)
    found = values(result, "PSNR")
    for factor in (8, 16):
        inputs = [shrunk(picture, factor) for picture in references]
        made = [to_uint8(method.encode(each).images[-1]) for each in inputs]
        assert found[f"{name}, x{factor}"] == pytest.approx(by_hand(made, references), abs=1e-4)
        assert found[f"reference: bicubic, x{factor}"] == pytest.approx(by_hand(inputs, references), abs=1e-9)
    assert values(result, "PIQE").keys() == values(result, "PD-SqueezeNet").keys() == set(rows)
    seconds = values(result, "seconds")
    assert seconds.keys() == {f"{name}, x8", f"{name}, x16"}  # a floor takes none
    assert min(seconds.values()) > 0
    assert any("Seconds" in note and "depend on the machine" in note for note in result["notes"])
    assert result["rows"][0]["method"] == ("psp" if name == "psp" else "ome")

    protocol = result["protocol"]
    assert protocol["factors"] == [8, 16]
    assert "brought to 32 pixels" in protocol["compared"]
    text = (tmp_path / "report.md").read_text()
    assert "| *paper: OME, x16* | | 19.9642 |  | 19.1270 |  | 0.2242 LPIPS |" in text
    assert (tmp_path / "images.png").is_file()


def test_super_resolution_is_measured_projected(models: Path, data: Path, tmp_path: Path) -> None:
    result = measured(tmp_path, models / "lr", data, "ome-table4", "--project")
    references, method = pictures(data), encoder(models / "lr")
    found = values(result, "PSNR")
    for factor in (8, 16):
        made = [to_uint8(method.encode(shrunk(each, factor)).images[-1]) for each in references]
        small = [to_uint8(bicubic(from_uint8(each), factor)) for each in references]
        moved = [project(each, target) for each, target in zip(made, small, strict=True)]
        assert found[f"lr, x{factor}"] == pytest.approx(by_hand(moved, references), abs=1e-3)
        assert abs(by_hand(moved, references) - by_hand(made, references)) > 0.1
        inputs = [shrunk(each, factor) for each in references]
        assert found[f"reference: bicubic, x{factor}"] == pytest.approx(by_hand(inputs, references), abs=1e-9)
    assert result["protocol"]["projected"] is True


def test_inversion_measures_the_image_itself(models: Path, data: Path, tmp_path: Path) -> None:
    result = measured(tmp_path / "self", models / "self", data, "ome-table1")
    references, method = pictures(data), encoder(models / "self")
    found = values(result, "PSNR")
    made = [to_uint8(method.encode(each).images[-1]) for each in references]
    start = to_uint8(method.decode(method.start.codes.unsqueeze(0)))
    assert found["self"] == pytest.approx(by_hand(made, references), abs=1e-4)
    assert found["floor: starting codes"] == pytest.approx(by_hand([start] * COUNT, references), abs=1e-4)
    assert result["rows"][0]["steps"] == 3
    assert {"name": "OME, faces", "values": {"psnr": "21.43", "perceptual": "0.1600 LPIPS", "seconds": "0.51 s"}} in (
        result["published"]
    )
    # A model of small images takes an image as one that was shrunk by 1, and its result may be compared.
    small = measured(tmp_path / "lr", models / "lr", data, "ome-table1")
    assert "lr takes small images: here they are the references, shrunk by 1" in small["notes"]
    assert main(["compare", *(str(tmp_path / name / "result.json") for name in ("self", "lr"))]) == 0


def test_the_input_s_side_is_that_of_the_comparison(models: Path, data: Path, tmp_path: Path) -> None:
    """Of a generator of 64 whose encoder takes 32."""
    folder = saved(tmp_path / "wide", "ome", "method.condition=self", "method.image_size=64")
    result = measured(tmp_path / "out", folder, data, "ome-table1", "--metrics", "psnr")
    method, references = encoder(folder), pictures(data)
    made = []
    for each in references:
        large = method.encode(each).images[-1]
        assert large.shape[-1] == 64
        made.append(to_uint8(large.unflatten(3, (32, 2)).unflatten(2, (32, 2)).mean((3, 5))))
    assert values(result, "PSNR")["wide"] == pytest.approx(by_hand(made, references), abs=1e-3)


@pytest.mark.slow
def test_the_rows_of_table_3_are_trained_and_measured_again(
    models: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (f"method.prior={models / 'prior'}", "train.images=4", "train.average_decay=0.0")
    settings = [part for setting in given for part in ("--set", setting)]
    result = measured(tmp_path / "out", "ome-tiny-32", data, "ome-table3", *settings, "--features", "squeezenet")
    names = ["single code", "multi-scale codes", "+ offsets", "+ offsets, one update a batch"]
    assert [row["name"] for row in result["rows"]] == [*names, "floor: starting codes"]
    assert [row["steps"] for row in result["rows"][:4]] == [1, 1, 2, 2]
    assert result["published"][2]["values"]["ssim"] == "0.6502"
    assert sum("the paper's order" in note for note in result["notes"]) == 4  # of PSNR and the perceptual distance

    single, many, offsets = (encoder(tmp_path / "out" / folder) for folder in ("single", "multi-scale", "offsets"))
    codes = single.encode(pictures(data)[0]).codes[-1] - single.start.codes
    torch.testing.assert_close(codes, codes[:, :1].expand_as(codes))
    assert isinstance(many, OME)
    assert not many.config.offsets
    assert isinstance(offsets, OME)
    assert offsets.config.many_scales
    assert offsets.config.condition == "self"
    assert values(result, "PSNR")["+ offsets"] == pytest.approx(
        by_hand([to_uint8(offsets.encode(each).images[-1]) for each in pictures(data)], pictures(data)), abs=1e-9
    )

    again = measured(tmp_path / "again", tmp_path / "out", data, "ome-table3", "--metrics", "psnr")
    assert values(again, "PSNR") == values(result, "PSNR")
    shutil.rmtree(tmp_path / "out" / "multi-scale")
    assert "no run for ome-table3's row 'multi-scale codes'" in refusal(
        capsys, "evaluate", tmp_path / "out", "--data", data, "--protocol", "ome-table3"
    )


def test_table_2_switches_one_thing_at_a_time() -> None:
    table = PROTOCOLS["ome-table2"]
    assert [variant.name for variant in table.variants] == [entry.name for entry in table.published]
    for variant in table.variants:
        method = METHODS["ome"](replaced(preset("ome-tiny-32"), ["method.cut=4", *variant.settings]).method)
        assert isinstance(method, OME)
        assert method.config.generator == "progan"
        found = {
            "OB": method.steps > 1,
            "MC": method.codes > 1 and not method.config.many_scales,
            "MS": method.codes > 1 and method.config.many_scales,
            "DF": method.fusion is not None,
        }
        ticks = [] if variant.name == "one code" else variant.name.split()
        assert [name for name, on in found.items() if on] == ticks


# --- figures ---


def test_figure_7_is_the_change_of_the_codes(models: Path, data: Path, tmp_path: Path) -> None:
    result = measured(tmp_path, models / "self", data, "ome-figure7")
    method = encoder(models / "self")
    assert isinstance(method, OME)
    start = method.start_codes.unsqueeze(0)
    codes = [torch.stack([start, *method.encode(each).codes])[:, 0].double() for each in pictures(data)]
    moved = torch.stack([(each[1:] - each[:-1]).abs() for each in codes]).mean((0, 3))  # (steps, M)
    # At 32 pixels StyleGAN2 has 8 codes: 3 coarse, 4 middle and the rest fine.
    for scale, own in (("coarse", slice(0, 3)), ("middle", slice(3, 7)), ("fine", slice(7, 8))):
        found = values(result, f"{scale} codes")
        assert list(found) == ["step 1", "step 2", "step 3"]
        assert list(found.values()) == pytest.approx(moved[:, own].mean(1).tolist(), rel=1e-4)
    assert any("coarse ones" in note for note in result["notes"])
    page = (tmp_path / "report.html").read_text()
    assert "Mean absolute change of the codes by step" in page
    assert page.count(CURVE) == 3
    assert (tmp_path / "change.svg").read_text() in page


def test_figure_8_is_the_distance_after_each_step(models: Path, data: Path, tmp_path: Path) -> None:
    result = measured(tmp_path, models / "lr", data, "ome-figure8")
    method, references = encoder(models / "lr"), pictures(data)
    start = method.decode(method.start_codes.unsqueeze(0))
    images = [[to_uint8(image) for image in (start, *method.encode(each).images)] for each in references]
    wanted = [
        np.mean([
            ((from_uint8(made[step]).double() - from_uint8(each).double()) ** 2).mean()
            for made, each in zip(images, references, strict=True)
        ])
        for step in range(3)
    ]  # fmt: skip
    found = values(result, "L2")
    assert list(found) == ["step 0", "step 1", "step 2"]
    assert list(found.values()) == pytest.approx(wanted, rel=1e-5)
    assert values(result, "PD-SqueezeNet").keys() == found.keys()
    assert sum("the distance" in note for note in result["notes"]) >= 2
    for name in ("perceptual.svg", "l2.svg"):
        assert (tmp_path / name).read_text() in (tmp_path / "report.html").read_text()


def test_scales_that_a_model_lacks_are_left_out(models: Path, data: Path, tmp_path: Path) -> None:
    result = measured(tmp_path / "flat", models / "flat", data, "ome-figure7")
    assert [column["label"] for column in result["columns"]] == ["coarse codes"]
    assert any("left out: change-fine" in note for note in result["notes"])


def test_other_metrics_stand_beside_the_steps(models: Path, data: Path, tmp_path: Path) -> None:
    more = ("--metrics", "fd", "spectrum", "change-coarse")
    result = measured(tmp_path, models / "lr", data, "ome-figure7", *more)
    assert values(result, "FD-SqueezeNet").keys() == {"step 1", "step 2"}
    assert (tmp_path / "fd.svg").is_file()
    assert (tmp_path / "spectra.svg").read_text().count(CURVE) == 3  # two steps and the references


# --- statements ---


def test_the_order_of_table_3_is_stated_as_it_is() -> None:
    """By differences on the same images, however far apart these are."""
    psnr, distance = Column("psnr"), Column("perceptual", "squeezenet")
    names = ("single code", "multi-scale codes", "+ offsets", "+ offsets, one update a batch")
    images = torch.tensor([10.0, 20.0, 60.0], dtype=torch.float64)

    def stated(column: Column, *better: list[float]) -> list[str]:
        values = {name: {column: images + torch.tensor(more)} for name, more in zip(names, better, strict=True)}
        return findings("ome-table3", [], [column], values, replicates=100, seed=0)

    def said(column: Column, *better: list[float]) -> str:
        return stated(column, *better, better[2])[0]

    apart = ([0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [3.0, 4.0, 5.0])
    assert said(psnr, *apart) == (
        "PSNR: in the paper's order (differences on the same images): multi-scale codes is better than single code, by "
        "2.000; + offsets is better than multi-scale codes, by 2.000, 1.000 to 3.000."
    )
    assert said(distance, *apart).startswith(
        "PD-SqueezeNet: not in the paper's order (differences on the same images): multi-scale codes is not better "
        "than single code, by -2.000;"
    )
    assert "PD-SqueezeNet: in the paper's order" in said(distance, *apart[::-1])
    unsure = said(psnr, apart[0], apart[1], [1.0, 2.0, 6.0])
    assert "PSNR: in the paper's order" in unsure
    assert unsure.endswith("by 1.000, -1.000 to 4.000; an interval that holds 0 leaves it open.")
    assert "+ offsets is not better than multi-scale codes, by 0" in said(psnr, apart[0], apart[1], apart[1])
    assert stated(psnr, *apart, [2.5, 2.5, 2.5])[1] == (
        "PSNR: with equal numbers of updates in the paper's order (differences on the same images): + offsets, one "
        "update a batch is better than multi-scale codes, by 0.5000."
    )


def test_what_the_figures_show_is_stated_as_it_is() -> None:
    column = Column("l2")

    def fall(*figures: float) -> str:
        steps = [Row(f"step {n}", {"L2": Estimate(value, value, value, 9)}, 9) for n, value in enumerate(figures)]
        return findings("ome-figure8", steps, [column], {}, replicates=0, seed=0)[0]

    assert fall(0.5, 0.3, 0.2) == "L2: the distance falls at each step, from 0.5000 to 0.2000."
    assert "falls on the whole, from 0.5000 to 0.2000, and does not fall at step 2" in fall(0.5, 0.2, 0.2)
    assert "the distance does not fall, from 0.5000 to 0.6000" in fall(0.5, 0.4, 0.6)

    scales = [Column(f"change-{scale}") for scale in ("coarse", "middle", "fine")]

    def changes(*figures: float) -> str:
        found = {each.label: Estimate(value, value, value, 9) for each, value in zip(scales, figures, strict=True)}
        return findings("ome-figure7", [Row("step 1", found, 9)], scales, {}, replicates=0, seed=0)[0]

    assert changes(0.1, 0.2, 0.3).startswith("The fine and middle codes change more than the coarse ones, as in")
    assert changes(0.2, 0.1, 0.3).startswith("Not as in the paper")


# --- two processes, bad input ---


@pytest.mark.slow
def test_two_processes_give_one_s_figures(models: Path, data: Path, tmp_path: Path) -> None:
    one = measured(tmp_path / "one", models / "lr", data, "ome-table4", "--metrics", "psnr", "piqe")
    command = ["evaluate", models / "lr", "--data", data, "--split", "test", "--protocol", "ome-table4", "--out"]
    command += [tmp_path / "two", "--metrics", "psnr", "piqe", "--device", "cpu", "--bootstrap", 20, "--quiet"]
    done = torchrun(*map(str, command))
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "result.json").read_text())
    assert two["rows"] == one["rows"]
    assert two["protocol_sha256"] == one["protocol_sha256"]


def test_what_does_not_fit_is_refused(
    models: Path, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(opened: object, protocol: str, *more: object) -> str:
        return refusal(capsys, "evaluate", opened, "--data", data, "--protocol", protocol, "--device", "cpu", *more)

    assert "a model of i2ilr, whose task is graft: ome-table4 measures the task encode" in refused(model, "ome-table4")
    assert "psp models take one step: ome-figure8 measures models that take several" in refused(
        models / "psp", "ome-figure8"
    )
    assert "a model of stylegan2, whose task is sample: ome-table1" in refused(models / "prior", "ome-table1")
    assert "a model of ome" in refused(models / "lr", "i2ilr-table1")
    assert "a model of ome" in refused(models / "lr", "grit-table1")
    assert "conditions of kind self: ome-table4 measures a model of small images" in refused(
        models / "self", "ome-table4"
    )
    assert "no images in a folder images/" in refused(models / "labels", "ome-table1")
    assert "psp-table1: is a rating by people" in refused(models / "psp", "psp-table1")
    assert "measured at 32" in refused(models / "lr", "ome-table4", "--size", 64)
    assert "--project True: has no part where models take the image itself" in refused(
        models / "self", "ome-table1", "--project"
    )
    assert "--samples 3: has no part in ome-table4" in refused(models / "lr", "ome-table4", "--samples", 3)
    assert "--set" in refused(models / "lr", "ome-table4", "--set", "train.images=4")
    assert "needs several samples" in refused(models / "lr", "ome-table4", "--metrics", "diversity")
    fine = refused(models / "flat", "ome-figure7", "--metrics", "change-fine")
    assert "needs a step that changes fine codes" in fine
    assert "needs a model whose time is taken" in refused(models / "self", "ome-figure8", "--metrics", "seconds")
    table3 = ("ome-table3", "--split", "test", "--out", tmp_path / "out")
    assert "psp-tiny-32, row 'single code' of ome-table3: --set method.offsets=false: no such field" in refused(
        "psp-tiny-32", *table3
    )
    assert "a preset of grit, whose task is synthesize: ome-table3 measures the task encode" in refused(
        "grit-tiny-32", *table3
    )
    assert "needs a trained generator" in refused("ome-tiny-32", *table3)
    assert "give --out" in refused("ome-tiny-32", "ome-table3")
