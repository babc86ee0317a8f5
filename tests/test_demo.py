"""`pixgraft demo`: every bundled model, on the bundled photographs, by commands that are shown."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from cases import grit_method
from encoders import saved
from pixgraft import models
from pixgraft.cli import main
from pixgraft.data.frame import Frame
from pixgraft.models import bundled, save_model
from using import PHOTOGRAPHS

FRAME = Frame(
    left_eye=(0.36, 0.45), right_eye=(0.64, 0.45), nose=(0.5, 0.62), left_mouth=(0.36, 0.73), right_mouth=(0.64, 0.73)
)


def test_every_task_is_shown_by_commands_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tiny models stand for bundled ones of the tasks that have none."""
    info = {"frame": dataclasses.asdict(FRAME)}
    save_model(tmp_path / "grit", grit_method("condition=sketch"), info=info)
    shown = [*bundled(), "grit", "ome"]
    saved(tmp_path / "ome", "ome")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "bundled", lambda: shown)
    assert main(["demo", "out"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-len(shown) :] == [f"out/{model}/grid.png" for model in shown]
    for model in shown:
        assert Image.open(tmp_path / "out" / model / "grid.png").width > 64
    lines = [shlex.split(line) for line in re.findall(r"^\$ pixgraft (.+)$", said, re.MULTILINE)]
    assert main(next(line for line in lines if line[:2] == ["translate", "ome"])) == 0
    assert "\n0 made, 8 finished before" in capsys.readouterr().out
    drawn = sorted(path.stem for path in (tmp_path / "out" / "drawings").rglob("*.png"))
    assert drawn == sorted(path.stem for path in PHOTOGRAPHS)
