"""`pixgraft data`: what its commands say and write; what they do to images is tested beside each part."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixgraft.cli import main
from test_celebamask import FACE, write
from test_paired_runs import make_pairs
from using import refusal


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """What a command line prints that ends with that status."""
    capsys.readouterr()
    assert main(["data", *map(str, arguments)]) == status
    return capsys.readouterr().out


def test_check_knows_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pairs(tmp_path / "data")
    labels = ("check", data, "--size", 32, "--pairs", "labels", "--classes")
    assert "6 image files: 6 usable" in said(capsys, *labels, 4)
    found = said(capsys, *labels, 3, status=1)
    assert "unusable  masks/" in found
    assert "but there are 3 classes" in found
    (data / "masks" / "04.png").unlink()
    assert "unusable  images/04.png: image without condition" in said(capsys, *labels, 4, status=1)


def test_check_reads_colours_by_their_palette(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pairs(tmp_path / "data", 3)
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)], np.uint8)
    for path in (data / "masks").iterdir():
        Image.fromarray(colors[np.asarray(Image.open(path))]).save(path)
    palette = tmp_path / "palette.txt"
    palette.write_text("".join(f"class{i} {r} {g} {b}\n" for i, (r, g, b) in enumerate(colors.tolist())))
    command = ("check", data, "--size", 32, "--pairs", "color")
    assert "3 usable" in said(capsys, *command, "--palette", palette)
    assert "give --palette" in refusal(capsys, "data", *command)
    palette.write_text("one 255 0 0\ntwo 0 255 0\n")
    assert "is not in the palette" in said(capsys, *command, "--palette", palette, status=1)


def test_sketches_are_named_as_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_pairs(tmp_path / "data", 3)
    (data / "images" / "02.png").write_bytes(b"")
    found = said(capsys, "sketch", data / "images", tmp_path / "sketches", "--size", 32, status=1)
    assert "unusable  02.png" in found
    assert f"2 sketches: {tmp_path}/sketches" in found
    assert sorted(path.name for path in (tmp_path / "sketches").iterdir()) == ["00.png", "01.png"]
    with Image.open(tmp_path / "sketches" / "00.png") as sketch:
        assert sketch.size == (32, 32)
        assert sketch.mode == "L"


def test_sketches_never_replace_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = make_pairs(tmp_path / "data", 2) / "images"
    before = [path.read_bytes() for path in sorted(images.iterdir())]
    for out in (images, images / "out"):
        assert "is inside" in refusal(capsys, "data", "sketch", images, out)
    assert [path.read_bytes() for path in sorted(images.iterdir())] == before


@pytest.mark.parametrize("order", ["celebamask-hq", "face-parsing"])
def test_parts_are_merged_and_their_order_is_told(
    order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {f"{face:05d}_{name}.png": data for face in range(3) for name, data in FACE.items()}
    folder = write(tmp_path / "parts", parts)
    found = said(capsys, "masks", folder, tmp_path / "masks", "--order", order)
    assert f"3 label maps in the order {order}" in found
    assert "hair 3" in found
    assert said(capsys, "order", tmp_path / "masks").startswith(f"{order} (signs: ")
