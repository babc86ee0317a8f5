"""What attacks by hand found: files that were not ours to replace, and reports, logs and names that cost too much."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from encoders import saved
from pixgraft import load
from pixgraft.cli import main
from pixgraft.engine.log import LINES, RunLog
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.result import read_result
from pixgraft.files import read_json
from training import make_images
from using import refusal

Captured = pytest.CaptureFixture[str]


def test_images_made_of_others_replace_only_such_images(tmp_path: Path, capsys: Captured) -> None:
    given, mine = make_images(tmp_path / "in", 2), make_images(tmp_path / "mine", 3)
    before = {path: path.read_bytes() for path in mine.iterdir()}
    said = refusal(capsys, "data", "sketch", given, mine)
    assert said.endswith("is there, and no earlier run wrote it: choose another folder for the outputs")
    assert {path: path.read_bytes() for path in mine.iterdir()} == before
    for _ in range(2):  # its own drawings it may replace
        assert main(["data", "sketch", str(given), str(tmp_path / "out")]) == 0


def test_images_are_not_written_through_a_folder_that_is_a_link(tmp_path: Path, capsys: Captured) -> None:
    make_images(tmp_path / "in" / "sub", 1)
    (tmp_path / "victim").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "victim")
    assert "sub: a link" in refusal(capsys, "data", "sketch", tmp_path / "in", tmp_path / "out")
    assert not any((tmp_path / "victim").iterdir())


@pytest.fixture
def translated(tmp_path: Path) -> list[str]:
    """A command line of two outputs, done once; its folder is `tmp_path / "out"`."""
    model, images = saved(tmp_path / "ome", "ome"), make_images(tmp_path / "in", 2)
    command = ["translate", str(model), "--condition", str(images), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    return command


def test_a_report_with_numbers_that_are_none_is_no_report(translated: list[str], tmp_path: Path) -> None:
    report = tmp_path / "out" / "00.json"
    content = json.loads(report.read_bytes())
    for number in (float("nan"), float("inf")):
        content["outputs"][0]["x"] = number
        report.write_text(json.dumps(content))
        with pytest.raises(PixgraftError, match="not JSON"):
            read_json(report)
        assert main(translated) == 0
    report.write_text('{"a": 1e999}')
    with pytest.raises(PixgraftError, match="not JSON"):
        read_json(report)


def test_an_output_that_has_become_huge_is_made_again(translated: list[str], tmp_path: Path, capsys: Captured) -> None:
    output = tmp_path / "out" / "00.png"
    whole = output.read_bytes()
    os.truncate(output, 20 * 2**30)
    capsys.readouterr()
    assert main(translated) == 0
    assert "1 made, 1 finished before" in capsys.readouterr().out
    assert output.read_bytes() == whole


def test_an_empty_picture_does_not_make_the_file_beside_it_a_report(
    translated: list[str], tmp_path: Path, capsys: Captured
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    (other / "00.png").write_bytes(b"")
    (other / "00.json").write_text(json.dumps({"shapes": ["my annotation"]}))
    assert "no earlier run wrote it" in refusal(capsys, *translated[:-1], other)
    (out / "00.png").write_bytes(b"")  # a crash of the machine
    assert main(translated) == 0
    assert (out / "00.png").stat().st_size


def test_a_result_of_too_many_cells_is_none(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in", 2)
    sets = ["--real", str(images), "--fake", str(images), "--pairs", "name", "--metrics", "l1"]
    assert main(["evaluate", *sets, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    content = json.loads((tmp_path / "out" / "result.json").read_bytes())
    content["columns"] = [content["columns"][0] | {"label": f"{number}"} for number in range(1_000)]
    content["rows"] = [content["rows"][0] | {"values": {}, "name": f"{number}"} for number in range(1_000)]
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(PixgraftError, match="not a result"):
        read_result(tmp_path / "result.json")


def test_a_log_of_millions_of_lines_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"{}\n" * (LINES + 1))
    start = time.process_time()
    with pytest.raises(PixgraftError, match=r"log\.jsonl: more than 1,000,000 lines"):
        RunLog(tmp_path / "log.jsonl").truncate(0)
    assert time.process_time() - start < 5  # of the process, whatever else the machine does


@pytest.mark.parametrize("name", ["x" * 5_000, "a\0b", "x" * 300 + "/b"])
def test_a_name_that_no_model_can_have(name: str) -> None:
    with pytest.raises(PixgraftError, match="no name of a model") as error:
        load(name)
    assert str(error.value).isprintable()
