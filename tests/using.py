"""What the tests of trained models share: small ones with random weights, and the command line's refusals."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pixgraft
from pixgraft.cli import main
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.models import save_model
from training import experiment, make_images

CURVE = ' stroke-width="2" '
"""What each curve of a chart has, and neither its axes nor its name."""
PHOTOGRAPHS = sorted((Path(pixgraft.__file__).parent / "assets" / "examples").glob("*/*.jpg"))
"""The bundled portraits, 128x128."""


def random_method(*settings: str, seed: int = 0) -> I2ILR:
    """The small experiment's method, with random weights throughout."""
    torch.manual_seed(seed)
    method = I2ILR(experiment(*settings).method)
    with torch.no_grad():
        for parameter in method.parameters():  # gains of one and biases of zero would hide a mix-up
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return method.eval()


def random_model(folder: Path, *settings: str, seed: int = 0) -> Path:
    """A model folder of it."""
    save_model(folder, random_method(*settings, seed=seed), info={"note": "random weights"})
    return folder


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line with which the command line refuses these arguments."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pixgraft: ")
    assert said.endswith("\n")
    assert said.count("\n") == 1, said
    return said.removeprefix("pixgraft: ").removesuffix("\n")


SOURCES, TARGETS = 4, 4


def make_inputs(folder: Path) -> Path:
    """`s`: sources of 40 x 44. `t`: targets, of which 00 and 01 are of LR size, 02 is full size and 03 in between."""
    make_images(folder / "s", SOURCES)
    make_images(folder / "t", TARGETS, side=32)
    for index, size in ((0, 8), (1, 8), (3, 20)):
        file = folder / "t" / f"{index:02d}.png"
        Image.open(file).resize((size, size)).save(file)
    return folder


def command(model: Path, inputs: Path, out: Path, *flags: object) -> list[str]:
    """The command line that translates them."""
    sides = ["--source", inputs / "s", "--target", inputs / "t", "--out", out, "--device", "cpu"]
    return [str(each) for each in ["translate", model, *sides, *flags]]


def pictures(out: Path) -> dict[str, bytes]:
    """The outputs by name, without the grid."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("*__*.png"))}


def report(out: Path, name: str) -> dict[str, Any]:
    """The report beside the output of that name."""
    found: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return found


def opened(data: bytes) -> np.ndarray[Any, Any]:
    """The pixels in a file's bytes, (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(data)))
