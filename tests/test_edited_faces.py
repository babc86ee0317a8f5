"""Faces of a photograph encoded or searched for, moved along a direction, and pasted back."""

import hashlib
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

import pixgraft
from encoders import codes, pixels, saved
from pixgraft.app.actions import actions
from pixgraft.cli import main
from pixgraft.engine.bars import Bars
from pixgraft.errors import PixgraftError
from pixgraft.faces import Face
from pixgraft.models import load_model
from pixgraft.pipelines.base import UNFINISHED, Result
from pixgraft.pipelines.finished import COMPARED, finished_report
from pixgraft.pipelines.options import EncodingOptions
from pixgraft.pipelines.pasting import together
from test_photographs import FRAME, photograph
from using import opened, refusal, report

FACES = ((40, (5, 5)), (30, (60, 20)), (36, (104, 12)))
"""Side and corner of each square of the photograph in which a face lies."""


@pytest.fixture(scope="module")
def ome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("encoders") / "ome", "ome")


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photograph of three people."""
    found = [Face(np.zeros(4), 1.0, FRAME.points * side + place) for side, place in FACES]
    monkeypatch.setattr("pixgraft.faces.alignment.detect", lambda image: found if image.width == 150 else [])
    photograph(150, 60).save(tmp_path / "group.png")
    return tmp_path / "group.png"


def direction_for(folder: Path, shape: torch.Size) -> Path:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    safetensors.torch.save_file({"older": tensor, "smiling": -tensor}, folder / "directions.safetensors")
    return folder / "directions.safetensors"


@pytest.mark.parametrize("way", ["translate", "invert"])
def test_three_people_are_edited_and_pasted_back(
    way: str, ome: Path, styled: Path, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, search = (ome, ()) if way == "translate" else (styled, ("--by", "wplus", "--steps", 2, "--batch", 2))

    def made(out: str, *flags: object) -> Path:
        command = (way, model, "--condition", group, *search, "--out", tmp_path / out, "--device", "cpu", *flags)
        assert main([*map(str, command)]) == 0
        return tmp_path / out

    plain = made("plain", "--faces", "all")
    first = codes(plain / "group-1_codes.safetensors")
    file = direction_for(tmp_path, first.shape)
    vector = safetensors.torch.load_file(file)["older"]
    edit = ("--faces", "all", "--direction", file, "--name", "older")
    edited = made("edited", *edit, "--amount", 1.5)
    for number in (1, 2, 3):
        before, after = (codes(out / f"group-{number}_codes.safetensors") for out in (plain, edited))
        torch.testing.assert_close(after, before + 1.5 * vector)
        images = [pixels(out / f"group-{number}.png") for out in (plain, edited)]
        assert not torch.equal(*images)
        assert (
            pixels(edited / f"group-{number}_strip.png").shape[2] > pixels(plain / f"group-{number}_strip.png").shape[2]
        )
    settings = report(edited, "group")["settings"]
    assert (settings["direction"], settings["amount"], settings["faces"]) == ("older", 1.5, "all")
    # As the same codes give it again by `edit`'s own way.
    assert main([*map(str, ("edit", model, plain / "group-2_codes.safetensors", "--direction", file, "--name", "older",
                            "--amount", "1.5", "--out", tmp_path / "by-edit", "--device", "cpu"))]) == 0  # fmt: skip
    assert torch.equal(pixels(tmp_path / "by-edit" / "000000.png"), pixels(edited / "group-2.png"))
    whole, moved = made("whole.png", "--faces", "all", "--paste-back"), made("moved.png", *edit, "--paste-back")
    original, found, changed = np.asarray(photograph(150, 60)), opened(whole.read_bytes()), opened(moved.read_bytes())
    assert found.shape == changed.shape == original.shape
    for side, (x, y) in FACES:
        inside = np.s_[y + side // 3 : y + 2 * side // 3, x + side // 3 : x + 2 * side // 3]
        for one, other in ((original, found), (found, changed)):
            assert np.abs(one[inside].astype(int) - other[inside]).mean() > 1
    assert np.array_equal(changed[56:], original[56:])
    measures = [report(out, "group")["measures"]["faces"][0] for out in (plain, edited)]
    assert ["psnr" in each for each in measures] == [way == "invert", False]  # of what was found, not of what was made
    capsys.readouterr()
    assert made("edited", *edit, "--amount", 1.5) and "0 made, 1 finished before" in capsys.readouterr().out


def test_the_page_compares_a_picture_with_what_has_its_shape(ome: Path, group: Path, tmp_path: Path) -> None:
    """Neither a face with the photograph that it was cut from, nor a whole photograph with its centred square."""
    encode = actions(pixgraft.load(ome, device="cpu"))[0]
    shown = {each.name: each.shown for each in encode.controls if each.kind not in ("picture", "file")}
    given = shown | {"condition": [group]}
    assert encode.perform(given, tmp_path / "whole").compared is not None
    assert encode.perform(given | {"align": True}, tmp_path / "cut").compared is None
    pasted = encode.perform(given | {"faces": "all", "paste_back": True}, tmp_path / "pasted")
    assert pasted.compared is None and opened(pasted.images[0][0].read_bytes()).shape == (60, 150, 3)


def test_every_face_has_its_tuned_generator(
    styled: Path, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run finds them finished; one of fewer faces leaves none behind."""
    out = tmp_path / "out"
    given = ("invert", styled, "--condition", group, "--by", "pti", "--steps", 1, "--tuning", 1, "--faces", "all")
    command = [*map(str, (*given, "--out", out, "--device", "cpu"))]
    assert main(command) == 0 and main(command) == 0
    assert "0 made, 1 finished before" in capsys.readouterr().out
    folders = {path.name for path in out.iterdir() if path.is_dir()}
    assert folders == {"group-1_generator", "group-2_generator", "group-3_generator"}
    assert load_model(out / "group-3_generator").method.name == "stylegan2"
    command[command.index("all")] = "largest"
    assert main(command) == 0
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"group_generator"}
    assert not [path for path in out.iterdir() if path.name.startswith("group-")]


def test_a_face_never_lies_beside_the_report_of_another_photograph(
    ome: Path, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of group.png and group-1.png, whose single face would be group-1-1.png."""
    other = tmp_path / "group-1.png"
    other.write_bytes(group.read_bytes())
    command = (
        "translate",
        ome,
        "--condition",
        group,
        other,
        "--faces",
        "all",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    )
    assert main([*map(str, command)]) == 1
    assert "group-1.png: would be written for two of the inputs: rename one of them" in capsys.readouterr().out
    assert not (tmp_path / "out" / "group-1.png").exists() and (tmp_path / "out" / "group-1-1.png").is_file()


@pytest.mark.parametrize("name", ["whole.gif", "whole.TIFF", "whole.bmp"])
def test_a_format_that_is_not_written_makes_no_folder(
    name: str, ome: Path, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    line = refusal(capsys, "translate", ome, "--condition", group, "--out", out, "--device", "cpu")
    assert line.startswith(f"{name}: no image that is written: end the name in one of .png .jpg") and not out.exists()


@pytest.mark.parametrize("name", ["../outside.png", "group-1_generator/../../outside.png", "other.png", "group-1.png"])
def test_a_report_that_lists_other_files_is_no_finished_work(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "group-1_generator").mkdir(parents=True)
    (folder / name).write_bytes(b"any")
    head: dict[str, Any] = dict.fromkeys(COMPARED, 0)
    listed = {"outputs": [{"file": name, "sha256": hashlib.sha256(b"any").hexdigest()}], "notes": []}
    (folder / "group.json").write_text(json.dumps(head | listed))
    assert (finished_report(folder, "group", head, None) is not None) == (name == "group-1.png")


def test_a_batch_of_calls_keeps_what_is_known_of_each(styled: Path) -> None:
    model: Any = pixgraft.load(styled, device="cpu", by="single", noise="searched")
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    said = "noise maps were searched too: the codes alone make another image"
    assert model(images, steps=1).report["notes"] == [f"image 1: {said}", f"image 2: {said}"]
    assert model(images[0], steps=1).report["notes"] == [said]
    with pytest.raises(PixgraftError, match="choose divisors of 16 up to 8"):
        model(images[0], steps=1, factor=16)
    with pytest.raises(PixgraftError, match="in_photograph takes no grid: choose among faces, amount"):
        model.in_photograph("a.png", grid=True)


def test_a_call_moves_the_codes(ome: Path, tmp_path: Path) -> None:
    model: Any = pixgraft.load(ome, device="cpu")
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    plain = model(image)
    file = direction_for(tmp_path, plain.codes[0].shape)
    moved = model(image, direction=str(file), name="smi", samples=2, mix_from=1)
    vector = safetensors.torch.load_file(file)["smiling"]
    torch.testing.assert_close(moved.codes[0], plain.codes[0] + 2 * vector)
    torch.testing.assert_close(moved.codes[1][:1], moved.codes[0][:1])
    assert torch.equal(moved.pixels[0], model.decode(moved.codes[0]))
    assert moved.report["settings"]["direction"] == "smiling"


@pytest.mark.parametrize("way", ["translate", "invert"])
def test_a_photograph_is_made_whole_by_a_call(way: str, ome: Path, styled: Path, group: Path, tmp_path: Path) -> None:
    search: Any = {} if way == "translate" else {"by": "wplus"}
    model: Any = pixgraft.load(styled if search else ome, device="cpu", **search)
    steps = 2
    result = model.in_photograph(group, steps=steps)
    flags = ("--by", "wplus") if search else ()
    command = (way, styled if search else ome, "--condition", group, *flags, "--steps", steps, "--faces", "all",
               "--paste-back")  # fmt: skip
    assert main([*map(str, command), "--out", str(tmp_path / "whole.png"), "--device", "cpu"]) == 0
    assert np.array_equal(np.asarray(result.image), opened((tmp_path / "whole.png").read_bytes()))
    assert len(result.parts) == 3 and result.report["settings"]["pasted"] is True
    assert {path.name for path in result.save(tmp_path / "saved")} == {"output.png"}
    with pytest.raises(PixgraftError, match="no face found"):
        model.in_photograph(photograph(151, 60), steps=steps)


def test_a_signal_pastes_no_face_that_was_not_searched_for(
    styled: Path, group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is a finished picture replaced by an unfinished one."""
    out = tmp_path / "whole.png"
    given = ("--by", "wplus", "--steps", 10, "--faces", "all", "--paste-back", "--out", out, "--device", "cpu")

    def told(*flags: object, at: int = 0) -> str:
        def counting(bars: Bars, name: str) -> Callable[[int, int], None]:
            return lambda done, _: os.kill(os.getpid(), signal.SIGINT) if done == at else None

        with monkeypatch.context() as patched:
            patched.setattr(Bars, "counting", counting)
            assert main([*map(str, ("invert", styled, "--condition", group, *given, *flags))]) == (130 if at else 0)
        return capsys.readouterr().err

    assert told(at=14) == "pixgraft: interrupted\n" and not out.exists()  # in the second of the three faces
    line = "pixgraft: interrupted: whole: the best so far; the same command makes it anew\n"
    assert told(at=24) == line and UNFINISHED in report(tmp_path, "whole")["notes"]
    told()
    finished = out.read_bytes(), (tmp_path / "whole.json").read_bytes()
    assert told("--again", at=24) == "pixgraft: interrupted\n"
    assert (out.read_bytes(), (tmp_path / "whole.json").read_bytes()) == finished


def test_the_table_has_the_figures_of_all_faces(
    ome: Path, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("invert", ome, "--condition", group, "--by", "wplus", "--steps", 2, "--faces", "all")
    assert main([*map(str, (*command, "--out", tmp_path / "out", "--device", "cpu"))]) == 0
    said = capsys.readouterr().out
    faces = report(tmp_path / "out", "group")["measures"]["faces"]
    assert f"{sum(each['psnr'] for each in faces) / 3:.2f}" in said and " 6 " in said  # steps
    taken = report(tmp_path / "out", "group")["sizes"][0]["square"]
    assert f": 1, such as {taken}x{taken} of group.png" in said


def test_a_photograph_is_unfinished_if_one_of_its_faces_is() -> None:
    pixels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    parts = [Result(pixels=pixels), Result(pixels=pixels, interrupted="SIGINT")]
    assert together(parts, [], EncodingOptions(faces="all")).interrupted == "SIGINT"


def test_directions_that_do_not_fit(ome: Path, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = direction_for(tmp_path, torch.Size((2, 3)))
    command = ("translate", ome, "--condition", group, "--out", tmp_path / "out", "--device", "cpu")
    for flags, said in (
        (("--amount", 2), "amount 2.0: needs a direction: give one, or leave it out"),
        (("--name", "older"), "name older: needs a direction"),
        (("--direction", file, "--name", "older"), "older is (2, 3), and the model's codes"),
        (("--direction", file), "several directions: choose with --name one of older, smiling"),
        (("--direction", file, "--name", "older", "--amount", "nan"), "amount nan: choose a number such as 2"),
        (("--direction", tmp_path / "none"), "No such file: give a file that pixgraft directions wrote"),
    ):
        assert said in refusal(capsys, *command, *flags)
    assert not (tmp_path / "out").exists()
