"""What the tests of generators in use share: small models with random weights, and the command line's outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pixgraft.cli import main
from pixgraft.methods.progan import ProGAN, ProGANConfig
from pixgraft.methods.sampling import Sampling
from pixgraft.methods.stylegan2 import StyleGAN2, StyleGAN2Config
from pixgraft.models import load_model, save_model
from pixgraft.pipelines.sample import SamplingPipeline

CPU = torch.device("cpu")


def wild(method: StyleGAN2 | ProGAN) -> Sampling:
    """The method with weights that all have an effect."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in method.generator.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * (0.5 if "noise" in name else 0.1))
    return method


def styled_model(folder: Path) -> Path:
    """A model folder of StyleGAN2."""
    torch.manual_seed(0)
    method = StyleGAN2(
        StyleGAN2Config(
            image_size=16, base_channels=64, max_channels=8, z_dim=6, w_dim=5, mapping_layers=2,
            discriminator_base_channels=64,
        )
    )  # fmt: skip
    method.generator.w_mean.normal_()
    save_model(folder, wild(method), info={})
    return folder


def grown_model(folder: Path) -> Path:
    """A model folder of ProGAN."""
    torch.manual_seed(0)
    method = ProGAN(ProGANConfig(image_size=16, z_dim=6, base_channels=64, max_channels=8))
    save_model(folder, wild(method), info={})
    return folder


def opened(folder: Path) -> SamplingPipeline:
    return SamplingPipeline(load_model(folder), CPU)


def pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path))


def run(verb: str, model: Path, out: Path, *flags: object) -> Path:
    """What the command line writes."""
    assert main([str(each) for each in [verb, model, "--out", out, "--device", "cpu", *flags]]) == 0
    return out


def samples(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(out.glob("0*.png"))]
