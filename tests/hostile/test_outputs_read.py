"""Earlier reports and results that were edited, of something else, or made to harm: one line, or work done anew."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from encoders import saved
from pixgraft import files
from pixgraft.cli import main
from pixgraft.data.outputs import read_report
from training import make_images
from using import refusal

Captured = pytest.CaptureFixture[str]
DEEP = b'{"weights_sha256": 1, "a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


SPOILT: dict[str, Callable[[Path], Any]] = {
    "deep": lambda path: path.write_bytes(DEEP),
    "a list": lambda path: path.write_text("[1]"),
    "a number": lambda path: path.write_text("1e999"),
    "empty": lambda path: path.write_bytes(b""),
    "no UTF-8": lambda path: path.write_bytes(b'{"a": "\xff"}'),
    "a pipe": pipe,
    "huge": lambda path: os.truncate(path, files.TEXT_LIMIT + 1),
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("result")
    images = make_images(root / "images", 2)
    command = [
        "evaluate",
        "--real",
        images,
        "--fake",
        images,
        "--pairs",
        "name",
        "--metrics",
        "l1",
        "--out",
        root / "out",
    ]
    assert main([str(each) for each in [*command, "--device", "cpu", "--quiet"]]) == 0
    return root / "out" / "result.json"


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no rows": lambda content: content.update(rows=5),
    "a row is no table": lambda content: content.update(rows=[3]),
    "a name is no text": lambda content: content["rows"][0].update(name=[1]),
    "values are no table": lambda content: content["rows"][0].update(values=[1]),
    "a figure is no table": lambda content: content["rows"][0]["values"].update(L1=3),
    "a figure is too large": lambda content: content["rows"][0]["values"]["L1"].update(value=10**400),
    "a figure is a text": lambda content: content["rows"][0]["values"]["L1"].update(low="low"),
    "a figure lacks": lambda content: content["rows"][0]["values"]["L1"].pop("high"),
    "a column is no table": lambda content: content.update(columns=["L1"]),
    "a heading is no text": lambda content: content["columns"][0].update(heading=None),
    "no protocol": lambda content: content.pop("protocol"),
}


def test_spoilt_results_are_refused_in_one_line(result: Path, tmp_path: Path, capsys: Captured) -> None:
    bad = tmp_path / "result.json"
    for name, spoil in SPOILT.items():
        bad.unlink(missing_ok=True)
        bad.write_bytes(result.read_bytes())
        spoil(bad)
        assert refusal(capsys, "compare", result, bad).startswith(f"{bad}: "), name
    bad.unlink()
    for name, edit in EDITS.items():
        content = json.loads(result.read_bytes())
        edit(content)
        bad.write_text(json.dumps(content))
        assert "not a result of pixgraft evaluate" in refusal(capsys, "compare", bad, result), name
    content = json.loads(result.read_bytes())
    bad.write_text(json.dumps(content | {"format": 9}))
    assert "in format 9: update pixgraft" in refusal(capsys, "compare", result, bad)
    bad.write_text(json.dumps({"format": 1, "made_by": {"pixgraft": "0"}, "pending": True}))
    assert "was stopped while it wrote" in refusal(capsys, "compare", result, bad)
    assert main(["compare", str(result), str(result)]) == 0


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_reports_are_no_reports(kind: str, tmp_path: Path) -> None:
    report = tmp_path / "00.json"
    report.write_text('{"weights_sha256": "x"}')
    assert read_report(report) is not None
    SPOILT[kind](report)
    assert read_report(report) is None


def test_outputs_with_spoilt_reports_are_made_again(tmp_path: Path, capsys: Captured) -> None:
    model, images, out = saved(tmp_path / "ome", "ome"), make_images(tmp_path / "in", 1), tmp_path / "out"
    command = ["translate", str(model), "--condition", str(images), "--out", str(out), "--device", "cpu"]
    assert main(command) == 0
    report = out / "00.json"
    sound = json.loads(report.read_bytes())
    changes: tuple[dict[str, object], ...] = (
        {"seconds": 10**400},
        {"measures": {"codes_changed_by": [10**400]}},
        {"notes": [3]},
        {"outputs": {}},
    )
    for change in changes:
        report.write_text(json.dumps(sound | change))
        assert main(command) == 0
    report.write_bytes(DEEP)
    assert main(command) == 0
    report.write_text(json.dumps(sound | {"threads": 77}))
    capsys.readouterr()
    assert main(command) == 0
    assert "0 made, 1 finished before" in capsys.readouterr().out, "made with other threads, it is finished still"


def test_an_empty_path_is_refused(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (("sample", "any", "--out", ""), ("sample", "any", "--out="), ("data", "sketch", "", "out")):
        assert "is empty: name a file or folder" in refusal(capsys, *arguments)
    assert "no such file or folder" in refusal(capsys, "data", "sketch", "none", "out", "--split", "")
    assert not list(tmp_path.iterdir())


def test_a_misspelt_verb_gets_the_closest_one(capsys: Captured) -> None:
    assert refusal(capsys, "trnaslate", "x").startswith(
        "no verb named trnaslate: did you mean translate? choose one of"
    )
    assert refusal(capsys, "data", "aling", "x").startswith("no data verb named aling: did you mean align? choose")
    assert "choose one of" in refusal(capsys, "\x1b[31m")


def test_threads_stand_in_every_report(tmp_path: Path, result: Path, capsys: Captured) -> None:
    assert json.loads(result.read_bytes())["made_by"]["threads"] == 1
    for number in (-1, 10**6):
        for verb in (
            ("sample", "x"),
            ("evaluate", "--real", result, "--fake", result),
            ("train", "i2ilr-tiny-32", "--data", result),
        ):
            assert "--threads" in refusal(capsys, *verb, "--out", tmp_path / "out", "--threads", number)
