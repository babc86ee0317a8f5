"""Sources and targets to images: what is written, the same bytes however it is run, pairs, names and the grid."""

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import pixgraft
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import average_pool
from pixgraft.models import load_model
from pixgraft.pipelines import graft
from pixgraft.pipelines.files import run
from pixgraft.pipelines.graft import GraftPipeline
from pixgraft.pipelines.options import GraftOptions
from pixgraft.pipelines.pairing import pairs
from pixgraft.version import __version__
from using import SOURCES, TARGETS, command, opened, pictures, report

# --- what comes out ---


def test_every_pair_gives_an_image_and_a_report(model: Path, inputs: Path, done: Path) -> None:
    names = [f"{s:02d}__{t:02d}" for s in range(SOURCES) for t in range(TARGETS)]
    assert {path.name for path in done.iterdir()} == {f"{name}{end}" for name in names for end in (".json", ".png")}
    weights = hashlib.sha256((model / "weights.safetensors").read_bytes()).hexdigest()
    for name in names:
        data, found = (done / f"{name}.png").read_bytes(), report(done, name)
        assert found.pop("measures")["difference"]["cells"] == 64
        assert found.pop("seconds") >= 0
        assert [each["role"] for each in found.pop("sizes")] == ["source"] + ["target"] * (name[-2:] > "01")
        files = (inputs / side / f"{number}.png" for side, number in zip("st", name.split("__"), strict=True))
        inside = {
            "task": "graft",
            "method": "i2ilr",
            "weights_sha256": weights,
            "seed": 7,
            "settings": {"operator": "average pooling", "projected": False},
            "inputs": [
                {"role": role, "name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
                for role, file in zip(("source", "target"), files, strict=True)
            ],
        }
        assert found == inside | {
            "format": 2,
            "pixgraft": __version__,
            "model": str(model),
            "outputs": [{"file": f"{name}.png", "sha256": hashlib.sha256(data).hexdigest()}],
            "notes": [],
            "device": "cpu",
            "threads": 1,
            "precision": "float32",
            "engine": "torch",
        }
        picture = Image.open(io.BytesIO(data))
        assert (picture.size, picture.mode) == ((32, 32), "RGB")
        assert picture.info["Software"] == f"pixgraft {__version__}"
        assert "Synthesised by a neural network (pixgraft, model wild)" in picture.info["Description"]
        assert json.loads(picture.info["pixgraft"]) == inside
    assert len(set(pictures(done).values())) == len(names)


@pytest.mark.parametrize("projected", [False, True])
def test_a_report_is_true(model: Path, inputs: Path, tmp_path: Path, projected: bool) -> None:
    """Its differences are measured here anew, from the files alone; a projected output is within a grey level."""
    both = ["--pairs", "name", *(["--project"] if projected else [])]
    assert main(command(model, inputs, tmp_path, *both)) == 0
    for name in ("00", "01", "02"):
        target = Image.open(inputs / "t" / f"{name}.png")
        if name == "02":  # full size: cropped to the square, resized, and pooled
            assert target.size == (32, 36)
            wanted = np.asarray(target.crop((0, 2, 32, 34))).reshape(8, 4, 8, 4, 3).mean((1, 3))
        else:
            wanted = np.asarray(target).astype(float)
        pixels = opened((tmp_path / f"{name}__{name}.png").read_bytes())
        apart = np.abs(pixels.reshape(8, 4, 8, 4, 3).mean((1, 3)) - wanted)
        figures = report(tmp_path, f"{name}__{name}")["measures"]
        assert figures["difference"]["mean"] == pytest.approx(apart.mean(), abs=1e-3)
        assert figures["difference"]["largest"] == pytest.approx(apart.max(), abs=1e-3)
        assert figures["difference"]["beyond"] == int((apart.max(-1) > 1).sum())
        if projected:
            assert apart.max() <= 1
            assert figures["difference_before_projection"]["largest"] > 1
        else:
            assert apart.max() > 1


def opened_pipeline(model: Path) -> GraftPipeline:
    return GraftPipeline(load_model(model), torch.device("cpu"))


def source_of(pipeline: GraftPipeline, path: Path) -> Tensor:
    return pipeline.read_source(path.read_bytes(), path.name).pixels


def target_of(pipeline: GraftPipeline, path: Path) -> Tensor:
    return pipeline.read_target(path.read_bytes(), path.name).pixels


def test_python_gives_the_bytes_of_the_command(model: Path, inputs: Path, done: Path, tmp_path: Path) -> None:
    pipeline = pixgraft.load(model, device="cpu")
    assert isinstance(pipeline, GraftPipeline)
    expected = opened((done / "01__02.png").read_bytes())
    source, target = inputs / "s" / "01.png", inputs / "t" / "02.png"
    for a, b in (
        (source, target),
        (str(source), str(target)),
        (Image.open(source), Image.open(target)),
        (source_of(pipeline, source), target_of(pipeline, target)),
    ):
        made = pipeline(a, b)
        assert np.array_equal(np.asarray(made.image), expected) and made.unprojected is None
        assert made.report["measures"] == report(done, "01__02")["measures"]
        made.save(tmp_path)
        assert np.array_equal(opened((tmp_path / "output.png").read_bytes()), expected)
    projected = pipeline(source, target, project=True)
    assert projected.unprojected == made.consistencies
    assert projected.consistency.largest <= 1
    small = average_pool(projected.pixels.float(), 8)[0]
    assert ((small / 127.5 - 1 - target_of(pipeline, target)).abs().max() * 127.5) <= 1


def test_python_refuses_what_is_unusable(model: Path, inputs: Path, tmp_path: Path) -> None:
    pipeline = opened_pipeline(model)
    tiny = tmp_path / "tiny.png"
    Image.new("RGB", (4, 9)).save(tiny)
    good = inputs / "s" / "00.png"
    whole, small = torch.zeros(3, 32, 32), torch.zeros(3, 8, 8)
    for source, target, reason in (
        (good, tiny, r"tiny.png: 4 x 9 pixels are too few"),
        (good, Image.open(tiny), "the target: 4 x 9 pixels are too few"),
        (inputs / "s", good, "4 images: name one"),
        (tmp_path / "none.png", good, "none.png: no such file"),
        (small, good, r"the source is a tensor of shape \(3, 8, 8\): expected \(3, 32, 32\) or \(N, 3, 32, 32\)"),
        (good, torch.zeros(1, 8, 8), r"the target is a tensor of shape \(1, 8, 8\): expected \(3, 8, 8\)"),
        (whole.repeat(0, 1, 1, 1), small, r"shape \(0, 3, 32, 32\)"),
        (whole.int(), small, "the source is a tensor of torch.int32: give uint8, or floats"),
        (whole, small + 2, r"the target has values from 2 to 2: give floats in \[-1, 1\]"),
        (whole * torch.nan, small, "the source has values from nan"),
        (whole.repeat(2, 1, 1, 1), small, "2 sources and 1 targets: give as many of both"),
        (3, good, "the source is int: give a path, a Pillow image or, to a call, a tensor"),
    ):
        with pytest.raises(PixgraftError, match=reason):
            pipeline(source, target)  # type: ignore[arg-type]
    with pytest.raises(PixgraftError, match=r"it takes a source and a target: load\("):
        pipeline(good, samples=2)  # type: ignore[call-arg]


# --- the same bytes ---


@pytest.mark.parametrize("project", [False, True])
def test_a_batch_gives_the_images_of_its_pairs(model: Path, inputs: Path, project: bool) -> None:
    pipeline = opened_pipeline(model)
    sources = torch.stack([source_of(pipeline, inputs / "s" / f"0{index}.png") for index in range(4)])
    targets = torch.stack([target_of(pipeline, inputs / "t" / f"0{index}.png") for index in range(4)])
    alone = [pipeline(*pair, project=project) for pair in zip(sources, targets, strict=True)]
    together = pipeline(sources, targets, project=project)
    assert torch.equal(together.pixels, torch.cat([each.pixels for each in alone]))
    assert together.consistencies == [each.consistency for each in alone]
    assert together.report["measures"] == {"images": [each.measures for each in alone]}


@pytest.mark.parametrize("project", [False, True])
def test_bytes_do_not_depend_on_the_company(
    model: Path, inputs: Path, done: Path, tmp_path: Path, project: bool
) -> None:
    """In passes of three, as a GPU takes more than one, of which the last is filled up."""
    pipeline = opened_pipeline(model)
    pipeline.pass_size = 3
    sides: dict[str, Any] = {"source": (inputs / "s",), "target": (inputs / "t",), "project": project, "seed": 7}
    for pairing in ("all", "name"):
        run(pipeline, pipeline.plan(GraftOptions(**sides, pairs=pairing)), tmp_path / pairing)
    many, few = (pictures(tmp_path / pairing) for pairing in ("all", "name"))
    assert len(many) == SOURCES * TARGETS and few == {name: many[name] for name in few} and len(few) == 4
    for name, data in (pictures(done) if not project else {}).items():
        assert np.abs(opened(data).astype(int) - opened(many[name])).max() <= 1


def test_bytes_do_not_depend_on_the_order(model: Path, inputs: Path, done: Path, tmp_path: Path) -> None:
    """Renamed, the inputs come in the opposite order and with other neighbours; names are part of the metadata."""
    for side in ("s", "t"):
        (tmp_path / side).mkdir()
        for index in range(4):
            shutil.copy(inputs / side / f"{index:02d}.png", tmp_path / side / f"{9 - index}.png")
    assert main(command(model, tmp_path, tmp_path / "out")) == 0
    for s in range(SOURCES):
        for t in range(TARGETS):
            a, b = (done / f"{s:02d}__{t:02d}.png").read_bytes(), (tmp_path / f"out/{9 - s}__{9 - t}.png").read_bytes()
            assert np.array_equal(opened(a), opened(b))


def test_a_zip_gives_the_bytes_of_its_folder(model: Path, inputs: Path, done: Path, tmp_path: Path) -> None:
    for side in ("s", "t"):
        with zipfile.ZipFile(tmp_path / f"{side}.zip", "w") as archive:
            for file in (inputs / side).iterdir():
                archive.write(file, file.name)
    sides = ["--source", tmp_path / "s.zip", "--target", tmp_path / "t.zip", "--out", tmp_path / "out", "--seed", 7]
    assert main(["translate", str(model), "--device", "cpu", *map(str, sides)]) == 0
    assert pictures(tmp_path / "out") == pictures(done)


def test_single_files(model: Path, inputs: Path, done: Path, tmp_path: Path) -> None:
    sides = ["--source", inputs / "s" / "02.png", "--target", inputs / "t" / "03.png", "--out", tmp_path, "--seed", 7]
    assert main(["translate", str(model), "--device", "cpu", *map(str, sides)]) == 0
    assert pictures(tmp_path) == {"02__03.png": (done / "02__03.png").read_bytes()}


# --- pairs ---


def test_pairs() -> None:
    every = pairs(["b/x.png", "a.jpg"], ["1.png", "2.png"], "all")
    assert [label for label, _, _ in every] == ["x__1", "x__2", "a__1", "a__2"]
    assert [label for label, _, _ in pairs(["a.png", "b.png"], ["y.png", "x.png"], "order")] == ["a__y", "b__x"]
    matched = pairs(["a.png", "b.png"], ["deep/b.jpg", "a.tif"], "name")
    assert [files for _, *files in matched] == [["a.png", "a.tif"], ["b.png", "deep/b.jpg"]]
    for sources, targets, pairing, reason in (
        (["a.png"], ["a.png", "b.png"], "order", "1 sources but 2 targets"),
        (["a.png"], ["a.png", "b.png"], "name", "b is on one side only"),
        (["a.png", "b/a.png"], ["a.png"], "name", "2 files are named a"),
    ):
        with pytest.raises(PixgraftError, match=reason):
            pairs(sources, targets, pairing)


@pytest.mark.parametrize(
    ("sources", "targets"),
    [
        (["a__b.png", "a.png"], ["c.png", "b__c.png"]),
        (["x/a.png", "y/a.png", "x_a.png", "x_a.png.png"], ["t.png"]),
        (["a.png", "a.jpg", "A.png", "a.png.jpg"], ["t.png", "T.png", "t_2.png"]),
        ([f"{'long' * 60}{i}.png" for i in range(3)], [f"{'ü' * 200}{i}.png" for i in range(3)]),
        (["\udcff.png", "\udcfe.png"], ["\udcff\udcfe.png"]),
    ],
)
def test_no_two_pairs_share_an_output(sources: list[str], targets: list[str]) -> None:
    """Nor do they where upper and lower case are one; and a file system can hold the name."""
    found = [label for label, _, _ in pairs(sources, targets, "all")]
    assert len(found) == len(sources) * len(targets)
    assert len({label.casefold() for label in found}) == len(found)
    assert all(len(f"{label}.json".encode()) <= 255 and "/" not in label for label in found)


def test_names_that_clash_all_come_out(model: Path, inputs: Path, tmp_path: Path) -> None:
    long = "a very long name " * 13
    for side, names in (("s", ("x/a", "y/a", "a__b", long)), ("t", ("c", "b__c"))):
        for index, name in enumerate(names):
            (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(inputs / side / f"{index:02d}.png", tmp_path / side / f"{name}.png")
    assert main(command(model, tmp_path, tmp_path / "out")) == 0
    assert len(pictures(tmp_path / "out")) == 8


# --- the grid ---


def test_the_grid_shows_sources_across_and_targets_down(
    model: Path, work: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "s" / "02.png").write_bytes(b"")
    out = Path(shutil.copytree(done, tmp_path / "out"))
    assert main(command(model, work, out, "--seed", 7, "--grid")) == 1
    assert "of all of them: grid.png" in capsys.readouterr().out
    sheet = opened((out / "grid.png").read_bytes())
    assert sheet.shape == (5 * 34 + 2, 5 * 34 + 2, 3)
    assert "Synthesised" in Image.open(out / "grid.png").info["Description"]

    def cell(row: int, column: int) -> np.ndarray[Any, Any]:
        return sheet[2 + row * 34 :, 2 + column * 34 :][:32, :32]

    pipeline = opened_pipeline(model)

    def shown(picture: torch.Tensor) -> np.ndarray[Any, Any]:
        return ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()

    assert (cell(0, 0) == 255).all()
    for column, source in enumerate(("00", "01", "03"), 2):
        assert np.array_equal(cell(0, column), shown(source_of(pipeline, work / "s" / f"{source}.png")))
        for row, target in enumerate(("00", "01", "02", "03"), 1):
            assert np.array_equal(cell(row, column), opened((done / f"{source}__{target}.png").read_bytes()))
    for row, target in enumerate(("00", "01", "02", "03"), 1):
        assert np.array_equal(cell(row, 0), shown(source_of(pipeline, work / "t" / f"{target}.png")))
        small = shown(target_of(pipeline, work / "t" / f"{target}.png"))
        assert np.array_equal(cell(row, 1), small.repeat(4, 0).repeat(4, 1))


def test_the_grid_of_matched_pairs_is_grey_elsewhere(model: Path, inputs: Path, tmp_path: Path) -> None:
    assert main(command(model, inputs, tmp_path, "--pairs", "order", "--grid")) == 0
    sheet = opened((tmp_path / "grid.png").read_bytes())
    assert (sheet[2 + 34 : 34 + 34, 2 + 3 * 34 : 34 + 3 * 34] == 128).all()


def test_a_pillow_image_is_what_its_file_is(model: Path, inputs: Path, tmp_path: Path) -> None:
    """Turned by its EXIF and partly transparent: as an object it gives what the path gives."""
    picture = Image.open(inputs / "s" / "00.png").convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    pipeline, target = opened_pipeline(model), inputs / "t" / "00.png"
    with Image.open(tmp_path / "turned.png") as turned:
        expected = pipeline(tmp_path / "turned.png", target).pixels
        assert torch.equal(pipeline(turned, target).pixels, expected)
    assert not torch.equal(pipeline(inputs / "s" / "00.png", target).pixels, expected)


def test_a_huge_grid_shows_the_first_of_either_side(
    model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graft, "GRID_SIDE", 2)
    assert main(command(model, inputs, tmp_path / "out", "--grid")) == 0
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        assert grid.size == ((2 + 2) * 34 + 2, (1 + 2) * 34 + 2)
