"""`pixgraft data align` by what it says and writes; how faces are found has tests of its own."""

from pathlib import Path

import pytest
from PIL import Image

from pixgraft.cli import main
from using import refusal


def test_pictures_without_a_face_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (60, 60), "grey").save(tmp_path / "in" / "wall.png")
    (tmp_path / "in" / "torn.png").write_bytes(b"no image")
    assert main(["data", "align", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "unusable wall.png: no face found" in said and "unusable torn.png: not an image" in said
    assert "0 faces" in said and not (tmp_path / "out").exists()


def test_its_settings_are_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (60, 60), "grey").save(tmp_path / "wall.png")
    assert "0" in refusal(capsys, "data", "align", tmp_path / "wall.png", tmp_path / "out", "--size", 0)
    assert "nowhere" in refusal(capsys, "data", "align", tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
