"""`make gpu`: its pieces are resumed and given up as it says, and the whole plan runs in miniature on the CPU."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def test_pieces_are_done_once_and_a_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = benchmark("gpu", monkeypatch)
    noted = tmp_path / "noted"
    note = f"open({str(noted)!r}, 'a').write('x'); print('{{\"speed\": 2}}')"
    # Like a training, it ends at once when it is called again.
    wait = f"import pathlib, time; p = pathlib.Path({str(noted) + '2'!r}); p.exists() or (p.touch(), time.sleep(60))"
    pieces = [
        gpu.Piece("one", ("-c", note)),
        gpu.Piece("bad", ("-c", "import sys; sys.exit(7)")),
        gpu.Piece("long", ("-c", wait), continues=True),
    ]
    assert not gpu.work(pieces, tmp_path, 0.02)
    assert gpu.work(pieces, tmp_path, 0.2)
    assert noted.read_text() == "x"
    results = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "bad", "long")}
    assert results["one"]["result"] == {"speed": 2}
    assert (results["bad"]["rc"], results["bad"]["tries"]) == (7, 2)
    assert (results["long"]["rc"], results["long"]["tries"]) == (0, 1)
    assert "long ... status 124" in capsys.readouterr().out


def test_the_report_replaces_its_own_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = benchmark("gpu_report", monkeypatch)
    piece: dict[str, object] = {
        "rc": 0,
        "tries": 1,
        "seconds": 3.0,
        "stopped": False,
        "result": None,
        "command": [],
        "said": "",
    }
    row = {"preset": "a", "kind": "TF32", "batch": 4, "images_per_second": 12.5, "peak_mib": 1000}
    for name, each in (
        ("machine", {"result": {"device": "a GPU"}}), ("step-a-TF32", {"result": row}), ("step-b-compile", {"rc": 1}),
        ("train-c", {"rc": 124}),
    ):  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(piece | {"name": name} | each))
    (tmp_path / "oracles.jsonl").write_text('{"w": 1e-5}\n{"w": 3e-5}\n')
    results = tmp_path / "results.md"
    results.write_text("# Results\n\nOurs.\n")
    for _ in range(2):
        report.main(tmp_path, into=results)
    text = results.read_text()
    assert text.startswith("# Results\n\nOurs.\n\n<!-- gpu -->\n## On a GPU\n\n`make gpu`; device a GPU.")
    assert text.count("<!-- gpu -->") == 1
    for line in ("| a | TF32 | 4 | 12.5 | 1,000 |", "| b | compile |  | failed |  |", "off by 3.0e-05"):
        assert line in text
    assert "| train-c | not finished | 3 |" in text


@pytest.mark.slow
def test_the_plan_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = benchmark("gpu", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out"), "--dry"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    said = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.json")}
    assert ended.value.code == 0, said
    assert "| train-i2ilr-tiny-32 | done |" in benchmark("gpu_report", monkeypatch).tables(tmp_path / "out")
    assert (tmp_path / "out" / "i2ilr-tiny-32.png").is_file()
