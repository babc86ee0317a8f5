"""Tables on the terminal: presets, and the outputs of a pipeline."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixgraft.cli import main
from pixgraft.cli.outputs import print_outputs
from pixgraft.cli.presets import parameter_count
from pixgraft.methods import METHODS
from pixgraft.pipelines.base import Done
from pixgraft.pipelines.loading import load
from pixgraft.presets import PRESETS, REMARKS


def test_the_presets_are_listed_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table, notes = lines[: 1 + len(PRESETS)], lines[1 + len(PRESETS) :]
    for line, name in zip(table[1:], PRESETS, strict=True):
        assert line.startswith(f"{name} ") and "…" not in line
    assert [line.split(":")[0] for line in notes] == ["GiB", *REMARKS]
    rows = {line.split()[0]: line for line in table}
    assert "codes" in rows["stylegan2-tiny-32"] and "19 labels" in rows["grit-paper-256"]
    assert "lr" in rows["psp-tiny-32"] and "8 color" in rows["i2ilr-tiny-32"]


@pytest.mark.parametrize("name", PRESETS)
def test_skipping_the_initialisation_changes_no_parameter_count(name: str) -> None:
    experiment = PRESETS[name]()
    with torch.device("meta"):
        method = METHODS[experiment.kind](experiment.method)
    assert parameter_count(experiment) == sum(parameter.numel() for parameter in method.parameters())


def test_the_presets_are_listed_without_slow_imports() -> None:
    code = """
import sys
from pixgraft.cli import main
assert main(["presets"]) == 0
slow = "torch._dynamo", "pixgraft.evaluation.pages", "pixgraft.pipelines.base"
print(*(name for name in slow if name in sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("count", [20, 23])
def test_a_long_table_says_how_many_rows_it_lacks(count: int, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Failed jobs, which come first here, take no row."""
    figures = {"mean": 0.5, "largest": 1.5, "beyond": 0, "cells": 64}
    report = {"measures": {"difference": figures}, "notes": [], "seconds": 1.0}
    failed = [Done(f"bad{number}", None, f"bad{number}: no image") for number in range(5)]
    done = [Done(f"good{number:02d}", report) for number in range(count)]
    assert print_outputs(load(model, device="cpu"), [*failed, *done], Path("out")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("good") for line in lines) == 20
    assert [line.split() for line in lines if "more" in line] == ([["...", "3", "more"]] if count == 23 else [])
    assert lines[-1] == f"{count} made, 0 finished before, 5 failed: out"
