"""What the tests of pSp and OME in use share: models with random weights, the command, and what it wrote."""

from pathlib import Path

import safetensors
import torch
from torch import Tensor

from cases import encoding, tiny_prior
from pixgraft.cli import main
from pixgraft.methods import METHODS
from pixgraft.methods.encoding import PriorEncoding
from pixgraft.models import load_model, save_model
from using import opened


def saved(folder: Path, name: str, *settings: str, prior: str = "stylegan2") -> Path:
    """A model folder with random weights, none of them zero, so that a mix-up shows."""
    experiment = encoding(name, *(f"method.{setting}" for setting in settings), prior=prior)
    torch.manual_seed(0)
    method = METHODS[experiment.kind](experiment.method)
    assert isinstance(method, PriorEncoding)
    method.load_prior(load_model(tiny_prior(prior)).method)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_model(folder, method, info={})
    return folder


def translate(model: Path, condition: Path, out: Path, *flags: object) -> int:
    command = ["translate", model, "--condition", condition, "--out", out, "--device", "cpu", *flags]
    return main([str(each) for each in command])


def codes(file: Path) -> Tensor:
    with safetensors.safe_open(str(file), "pt") as opened_file:
        found: Tensor = opened_file.get_tensor("codes")
    return found


def pixels(file: Path) -> Tensor:
    return torch.from_numpy(opened(file.read_bytes()).copy()).permute(2, 0, 1)


def tiles(strip: Path, side: int = 32) -> list[Tensor]:
    """The pictures in a strip, which have white lines of two pixels around them."""
    sheet = pixels(strip)
    count, rest = divmod(sheet.shape[2] - 2, side + 2)
    assert rest == 0 and sheet.shape[1] == side + 4 and (sheet[:, :2] == 255).all() and (sheet[:, :, :2] == 255).all()
    return [sheet[:, 2 : 2 + side, 2 + i * (side + 2) :][:, :, :side] for i in range(count)]
