"""Experiments with GRIT (Suri et al.): the paper's and this library's."""

from dataclasses import replace

from pixgraft.data.celebamask import mirrored
from pixgraft.methods.grit import GRITConfig
from pixgraft.presets.schedules import FACES_DATA, GPU_128, SKETCHES, SMALL_64, TINY, scale
from pixgraft.training.experiment import DataConfig, Experiment, TrainConfig

FACES = GRITConfig(
    classes=8, noise_start=0.1, noise_into="residual", discriminator_norm=False, r1_gamma=3.0, style_lr=1e-3,
    discriminator_lr=4e-3,
)  # fmt: skip
"""Configuration for a few thousand faces with eight labels: background, face, brows, eyes, nose, mouth.

docs/grit.md explains its differences from the paper's: with so few images the discriminator otherwise stays at chance.
"""


def paper_256() -> Experiment:
    """Suri et al. at 256 with CelebAMask-HQ's 19 labels; sizes and learning rates that the paper omits are StEP's."""
    data, train = DataConfig(mirrored=mirrored("celebamask-hq")), TrainConfig(batch=8, images=900_000)
    return Experiment(name="grit-paper-256", kind="grit", data=data, method=GRITConfig(), train=train)


def paper_512() -> Experiment:
    """`paper_256` at 512."""
    return replace(paper_256(), name="grit-paper-512", method=GRITConfig(image_size=512))


def celebamask_256() -> Experiment:
    """GRIT at 256 with CelebAMask-HQ's 19 labels: the paper's networks, and `FACES` settings for losses and noise."""
    method = replace(FACES, image_size=256, classes=19)
    return replace(paper_256(), name="grit-celebamask-256", method=method, train=scale(16, 1_500_000))


def faces_128() -> Experiment:
    """GRIT at 128 for a GPU."""
    method, train = replace(FACES, image_size=128), replace(GPU_128, images=1_500_000)
    return Experiment(name="grit-faces-128", kind="grit", data=FACES_DATA, method=method, train=train)


def small_64() -> Experiment:
    """GRIT at 64 for a laptop's CPU."""
    method = replace(
        FACES, image_size=64, generator_channels=24, generator_max_channels=192, blocks=2,
        style_channels=(16, 32, 48, 64),
    )  # fmt: skip
    return Experiment(name="grit-small-64", kind="grit", data=FACES_DATA, method=method, train=SMALL_64)


def sketch_faces_64() -> Experiment:
    """GRIT at 64 from line drawings, which `pixgraft data sketch` makes, for a laptop's CPU: samples that differ."""
    small = small_64()
    method = replace(small.method, condition="sketch", lambda_diversity=1.0)
    return replace(small, name="grit-sketch-faces-64", data=SKETCHES, method=method)


def tiny_32() -> Experiment:
    """GRIT at 32 for tests, which takes seconds on one core."""
    method = GRITConfig(
        image_size=32, classes=4, generator_channels=8, generator_max_channels=16, downsamplings=2, blocks=1,
        style_channels=(8, 16), discriminator_channels=8, discriminator_max_channels=16, discriminator_layers=2,
        discriminator_scales=2, style_lr=1e-3,
    )  # fmt: skip
    return Experiment(name="grit-tiny-32", kind="grit", method=method, train=TINY)
