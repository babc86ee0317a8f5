"""Experiments with SPADE (Park et al. 2019): the published code's at 256, and small ones."""

from dataclasses import replace

from pixgraft.data.celebamask import mirrored
from pixgraft.methods.spade import SPADEConfig
from pixgraft.presets.schedules import FACES_DATA, SKETCHES, SMALL_64, TINY
from pixgraft.training.experiment import DataConfig, Experiment, TrainConfig


def paper_256() -> Experiment:
    """SPADE at 256 with CelebAMask-HQ's 19 labels and styles, a baseline of GRIT's Table 1: the published code's
    settings, for 50 passes over 24,000 images."""
    data = DataConfig(mirrored=mirrored("celebamask-hq"))
    train = TrainConfig(batch=32, images=1_200_000, average_decay=0.0)
    return Experiment(name="spade-paper-256", kind="spade", data=data, method=SPADEConfig(), train=train)


def small_64() -> Experiment:
    """SPADE at 64 for a laptop's CPU, with eight labels as `grit-small-64`."""
    method = SPADEConfig(
        image_size=64, classes=8, style_dim=32, upsamplings=4, generator_channels=16, hidden_channels=32,
        encoder_channels=16, discriminator_channels=32, perceptual="squeezenet",
    )  # fmt: skip
    return Experiment(name="spade-small-64", kind="spade", data=FACES_DATA, method=method, train=SMALL_64)


def sketch_faces_64() -> Experiment:
    """`small_64` from line drawings, which `pixgraft data sketch` makes."""
    small = small_64()
    method = replace(small.method, condition="sketch")
    return replace(small, name="spade-sketch-faces-64", data=SKETCHES, method=method)


def tiny_32() -> Experiment:
    """SPADE at 32 for tests, which takes seconds on one core."""
    method = SPADEConfig(
        image_size=32, classes=4, style_dim=4, upsamplings=4, generator_channels=2, hidden_channels=4,
        encoder_channels=4, discriminator_channels=8, discriminator_layers=2, lambda_perceptual=0.0,
    )  # fmt: skip
    return Experiment(name="spade-tiny-32", kind="spade", method=method, train=TINY)
