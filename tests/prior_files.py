"""Files of generative priors in their published layouts, small and with random weights."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvidia_files import saved
from nvidia_networks import discriminator_module, discriminator_tensors, generator_module, generator_tensors
from pixgraft.networks.progan import Generator as ProGANGenerator
from test_progan_networks import published as published_progan
from test_stylegan2_layouts import as_genforce, judge_as_genforce, published_discriminator, published_generator

Groups = dict[str, Any]
SIZE, BASE, MOST = 16, 64, 8


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rosinality() -> Groups:
    shape = {"image_size": SIZE, "base": BASE, "most": MOST}
    return {
        "g": published_generator(**shape, depth=2, w_dim=10, seed=1),
        "d": published_discriminator(image_size=SIZE, base=128, most=12),
        "g_ema": published_generator(**shape, depth=2, w_dim=10, seed=2),
        "latent_avg": noise(10, seed=3),
        "args": {"size": SIZE},
    }


def genforce() -> Groups:
    shape = {"image_size": SIZE, "base": BASE, "most": MOST}
    found: Groups = {
        name: as_genforce(published_generator(**shape, depth=2, w_dim=10, seed=seed))
        for name, seed in (("generator", 1), ("generator_smooth", 2))
    }
    return {**found, "discriminator": judge_as_genforce(published_discriminator(image_size=SIZE, base=128, most=12))}


def nvidia() -> Groups:
    return {
        "G": generator_tensors(SIZE, base=BASE, most=MOST, seed=1),
        "D": discriminator_tensors(SIZE, base=128, most=12),
        "G_ema": generator_tensors(SIZE, base=BASE, most=MOST, seed=2),
    }


def progan() -> Groups:
    found = {}
    for name in ("generator", "generator_smooth"):
        torch.manual_seed(len(name))
        network = ProGANGenerator(image_size=SIZE, z_dim=10, base_channels=BASE, max_channels=MOST)
        found[name] = published_progan(network)
    return found


def nvidia_bytes(groups: Groups) -> bytes:
    made = {
        name: (discriminator_module if name == "D" else generator_module)(tensors) for name, tensors in groups.items()
    }
    return saved({"training_set_kwargs": {}, **made})


def torch_bytes(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


LAYOUTS: dict[str, tuple[Callable[[], Groups], Callable[[Groups], bytes], tuple[str, str]]] = {
    "stylegan2-rosinality": (rosinality, torch_bytes, ("g_ema", "g")),
    "stylegan2-genforce": (genforce, torch_bytes, ("generator_smooth", "generator")),
    "stylegan2-nvidia": (nvidia, nvidia_bytes, ("G_ema", "G")),
    "progan-genforce": (progan, torch_bytes, ("generator_smooth", "generator")),
}
"""For each layout: its groups, a file of them, and the names of its generators, the average first."""


def suffix(layout: str) -> str:
    return ".pkl" if layout == "stylegan2-nvidia" else ".pt"


def published(folder: Path, layout: str, groups: Groups) -> Path:
    file = folder / f"theirs{suffix(layout)}"
    file.write_bytes(LAYOUTS[layout][1](groups))
    return file
