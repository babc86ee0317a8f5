"""What the terminal is told."""

from pathlib import Path

import pytest

from pixgraft.cli import main
from pixgraft.cli.report import print_encoded, print_samples
from pixgraft.pipelines.synthesis import Made
from pixgraft.presets import PRESETS


def test_the_presets_are_listed_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(PRESETS)
    for line, name in zip(lines[1:], PRESETS, strict=True):
        assert line.startswith(f"{name} ") and "…" not in line
    rows = {line.split()[0]: line for line in lines}
    assert "codes" in rows["stylegan2-tiny-32"] and "19 labels" in rows["grit-paper-256"]
    assert "lr" in rows["psp-tiny-32"] and "8 color" in rows["i2ilr-tiny-32"]


@pytest.mark.parametrize("count", [20, 23])
def test_a_long_table_says_how_many_rows_it_lacks(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that were left out, which come first here, take no row."""
    encoded = {"codes_changed_by": [0.5], "outputs": [{}], "seconds": 1.0, "notes": [], "samples": 1}
    failed = [Made(f"bad{number}", None, f"bad{number}: no image") for number in range(5)]
    reports = [{**encoded, "condition": {"name": f"good{number:02d}"}} for number in range(count)]
    made = [Made(report["condition"]["name"], report) for report in reports]  # type: ignore[index]
    for show in (print_samples, print_encoded):
        assert show([*failed, *made], Path("out")) == 1
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("good") for line in lines) == 20
        assert [line.strip() for line in lines if "more" in line] == (["... 3 more"] if count == 23 else [])
        assert lines[-1] == f"{count} made, 5 left out: out"
