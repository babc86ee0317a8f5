"""Whole photographs: one file or a pipe, several inputs, every face, outputs pasted back, what was resized."""

import dataclasses
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixgraft
from pixgraft.cli import main
from pixgraft.data import images
from pixgraft.data.alignment import applied, similarity, warp
from pixgraft.data.conditions import ConditionKind
from pixgraft.data.frame import Frame
from pixgraft.data.outputs import is_output
from pixgraft.data.sources import open_sources
from pixgraft.errors import PixgraftError
from pixgraft.faces import Face, Patch, paste
from pixgraft.models import save_model
from using import opened, random_method, refusal, report

FRAME = Frame(
    left_eye=(0.32, 0.3), right_eye=(0.68, 0.3), nose=(0.5, 0.49), left_mouth=(0.36, 0.674), right_mouth=(0.64, 0.674)
)


def photograph(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 / width, y * 255 / height, 128 + 60 * np.sin(x / 9) * np.cos(y / 11)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows where the faces of its training images lie."""
    folder = tmp_path_factory.mktemp("framed") / "model"
    save_model(folder, random_method(), info={"frame": dataclasses.asdict(FRAME)})
    return folder


def translate(model: Path, source: object, target: object, out: object, *flags: object) -> int:
    sides = ["--source", *(source if isinstance(source, list) else [source]), "--target", target, "--out", out]
    return main([str(each) for each in ["translate", model, *sides, "--device", "cpu", *flags]])


# --- files as an artist names them ---


def test_one_output_has_the_name_that_it_was_given(
    model: Path, inputs: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, out = inputs / "s" / "01.png", inputs / "t" / "02.png", tmp_path / "new" / "result.png"
    assert translate(model, source, target, out) == 0
    assert np.array_equal(opened(out.read_bytes()), opened((done / "01__02.png").read_bytes()))
    assert {path.name for path in out.parent.iterdir()} == {"result.png", "result.json"}
    assert report(out.parent, "result")["outputs"][0]["file"] == "result.png"
    assert translate(model, source, target, out) == 0
    assert "0 made, 1 finished before" in capsys.readouterr().out
    other = translate(model, inputs / "s" / "02.png", target, out)  # another input under the same name
    assert other == 0 and report(out.parent, "result")["inputs"][0]["name"] == "02.png"

    sides = ["translate", model, "--target", target, "--device", "cpu", "--source"]
    both = [source, inputs / "s" / "02.png"]
    assert "one file for 2 outputs" in refusal(capsys, *sides, *both, "--out", tmp_path / "two.png")
    assert "one file for 2 outputs" in refusal(capsys, *sides, source, "--grid", "--out", tmp_path / "two.png")
    assert not (tmp_path / "two.png").exists()
    mine = tmp_path / "mine.png"
    mine.write_bytes(source.read_bytes())
    assert "no earlier run wrote it" in refusal(capsys, *sides, source, "--out", mine)
    assert "an output would replace it" in refusal(capsys, *sides, mine, "--out", mine)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".jp2"])
def test_the_suffix_says_the_format(model: Path, inputs: Path, done: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"result{suffix}"
    for source in ("01.png", "02.png"):  # the second replaces the first, which it has to know as an output
        assert translate(model, inputs / "s" / source, inputs / "t" / "02.png", out) == 0
    assert is_output(out) and report(tmp_path, "result")["outputs"][0]["file"] == out.name
    with Image.open(out) as image:
        assert image.format == images.WRITTEN[suffix]
        difference = np.asarray(image.convert("RGB")).astype(int) - opened((done / "02__02.png").read_bytes())
    assert np.abs(difference).mean() < 25  # of noise they keep less than of pictures


def test_a_pipe_takes_and_gives_one_image(
    model: Path, inputs: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    data = (inputs / "s" / "01.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert translate(model, "-", inputs / "t" / "02.png", "-") == 0
    told = capfdbinary.readouterr()
    assert np.array_equal(opened(told.out), opened((done / "01__02.png").read_bytes()))
    assert b"1 made" in told.err and list(tmp_path.iterdir()) == []


def test_several_inputs_are_named_at_once(tmp_path: Path, inputs: Path) -> None:
    first, second = inputs / "s" / "00.png", inputs / "t" / "00.png"
    source = open_sources([first, second])
    assert source.names == ["s/00.png", "t/00.png"]
    assert [source.read(name) for name in source.names] == [first.read_bytes(), second.read_bytes()]
    beside = open_sources([inputs / "s" / "01.png", first])
    assert beside.names == ["00.png", "01.png"] and beside.path == inputs / "s"
    assert "s/00.png" in open_sources([inputs / "s", second]).names
    cases: list[tuple[list[str | Path], str]] = [([first, first], "given twice"), (["-", first], "give it alone")]
    for paths, told in cases:
        with pytest.raises(PixgraftError, match=told):
            open_sources(paths)


def test_a_heic_image_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PixgraftError, match=r"a\.heic: a HEIC image: pip install 'pixgraft\[heic\]'"):
        images.decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a.heic")


# --- pasting ---


def test_what_was_cut_out_is_pasted_back_where_it_was() -> None:
    picture = photograph(160, 120)
    corners = np.array([[40.0, 30.0], [104.0, 40.0], [94.0, 104.0], [30.0, 94.0]])  # turned by some degrees
    matrix = similarity(corners, np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    crop = warp(picture, matrix * 130, 130)
    back = np.asarray(paste(picture, [Patch(crop, matrix)])).astype(int)
    assert np.abs(back - np.asarray(picture)).max() <= 4
    black = np.asarray(paste(picture, [Patch(Image.new("RGB", (16, 16)), matrix)])).astype(int)
    centre = np.rint(corners.mean(0)).astype(int)
    assert not black[centre[1], centre[0]].any()
    changed = np.argwhere((black != np.asarray(picture)).any(-1))[:, ::-1].astype(np.float64) + 0.5
    inside = applied(matrix, changed)
    assert inside.min() > 0 and inside.max() < 1
    share = black / np.asarray(picture).clip(1)
    steps = np.abs(np.diff(share[..., 0], axis=1))[:, 20:]  # from the photograph to black there is no edge
    assert steps.max() < 0.2


def test_nothing_is_blended_at_the_photographs_border_and_overlaps_are_shared() -> None:
    picture, grey = Image.new("RGB", (60, 40), (0, 0, 0)), Image.new("RGB", (8, 8), (200, 200, 200))
    centre = np.array([[1 / 40, 0, -0.25], [0, 1 / 40, 0]])
    pasted = np.asarray(paste(picture, [Patch(grey, centre)]))
    assert (pasted[0, 20:40] == 200).all() and (pasted[-1, 20:40] == 200).all()
    assert not pasted[:, :10].any() and not pasted[:, 50:].any()
    left, right = (np.array([[1 / 40, 0, -shift], [0, 1 / 40, 0]]) for shift in (0.1, 0.4))
    both = np.asarray(paste(picture, [Patch(grey, left), Patch(Image.new("RGB", (8, 8), (100, 100, 100)), right)]))
    assert both[20, 14, 0] > 190 and both[20, 46, 0] < 110 and (np.diff(both[20, 16:44, 0].astype(int)) <= 0).all()


def test_a_whole_photograph_comes_back_at_its_own_size(
    model: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turned by EXIF; without alignment the centre is replaced and the rest stays."""
    lying, exif = photograph(90, 60), Image.Exif()
    exif[0x112] = 6  # shown turned by a quarter: 60 x 90
    lying.save(tmp_path / "photo.png", exif=exif)
    out = tmp_path / "whole.png"
    assert translate(model, inputs / "s" / "00.png", tmp_path / "photo.png", out, "--paste-back") == 0
    upright, made = np.asarray(lying.transpose(Image.Transpose.ROTATE_270)), opened(out.read_bytes())
    assert made.shape == upright.shape == (90, 60, 3)
    assert np.array_equal(made[:15], upright[:15]) and np.array_equal(made[75:], upright[75:])
    assert np.abs(made[30:60].astype(int) - upright[30:60]).mean() > 10
    told = capsys.readouterr().out
    assert report(tmp_path, "whole")["settings"]["pasted"] is True
    assert "target: cropped to the square in the middle: 1, such as photo.png, 60x90" in told
    assert "target: reduced to 8 x 8 pixels: 1, such as photo.png, 60x60" in told
    assert "target: larger than the output" in told


def test_every_face_of_a_group_is_made(
    framed: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Face(np.zeros(4), 1.0, FRAME.points * side + place) for side, place in ((40, (5, 5)), (30, (60, 20)))]
    monkeypatch.setattr("pixgraft.faces.alignment.detect", lambda image: found if image.width == 100 else [])
    photograph(100, 60).save(tmp_path / "group.png")
    source, group = inputs / "t" / "00.png", tmp_path / "group.png"
    assert translate(framed, group, source, tmp_path / "faces", "--faces", "all") == 0
    label = "group__00"  # the target is tiny: the photograph is the source
    names = {f"{label}-1.png", f"{label}-2.png", f"{label}.json"}
    assert {path.name for path in (tmp_path / "faces").iterdir()} == names
    capsys.readouterr()
    assert translate(framed, group, source, tmp_path / "faces", "--faces", "all") == 0
    assert "0 made, 1 finished before" in capsys.readouterr().out
    assert translate(framed, group, source, tmp_path / "whole.jpg", "--faces", "all", "--paste-back") == 0
    with Image.open(tmp_path / "whole.jpg") as image:
        assert image.size == (100, 60)
        change = np.abs(np.asarray(image).astype(int) - np.asarray(photograph(100, 60))).mean(-1)
    assert change[20:30, 20:30].mean() > 10 and change[32:38, 72:78].mean() > 10 and change[50:, :50].mean() < 4
    called: Any = pixgraft.load(framed, device="cpu").in_photograph(group, source)  # type: ignore[attr-defined]
    assert translate(framed, group, source, tmp_path / "whole.png", "--faces", "all", "--paste-back") == 0
    assert np.array_equal(np.asarray(called.image), opened((tmp_path / "whole.png").read_bytes()))
    assert len(called.parts) == 2 and called.report["settings"] == report(tmp_path, "whole")["settings"]
    arguments = ["translate", framed, "--source", group, "--target", source, "--faces", "all", "--device", "cpu"]
    assert "one file for an output of each face" in refusal(capsys, *arguments, "--out", tmp_path / "x.png")
    photograph(99, 60).save(tmp_path / "empty.png")
    arguments[3] = tmp_path / "empty.png"
    assert "empty.png: no face found" in refusal(capsys, *arguments, "--out", tmp_path / "none")


# --- colours of label maps ---


def test_smoothed_edges_take_the_nearest_class() -> None:
    colors = ((0, 0, 0), (200, 0, 0), (0, 0, 200))
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2], pixels[2], pixels[3] = (200, 0, 0), (0, 0, 190), (120, 0, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    exact = ConditionKind(kind="color", classes=3, colors=colors)
    with pytest.raises(PixgraftError, match=r"is not in the palette: .*--nearest"):
        exact.decode(file.getvalue(), "a.png")
    picture, notes = dataclasses.replace(exact, nearest=True).decode_noted(file.getvalue(), "a.png")
    assert np.asarray(picture).tolist() == [[1] * 4, [1] * 4, [2] * 4, [1] * 4]
    assert notes == [
        "nearest class: of 16 pixels 8 had a colour of the palette, 12 within 16, 12 within 64 levels of one; "
        "the farthest was 80 off"
    ]
