"""What the terminal is told."""

import pytest

from pixgraft.cli import main
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
