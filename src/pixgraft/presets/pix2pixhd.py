"""Experiments with pix2pixHD (Wang et al. 2018): the published code's at 256, and small ones."""

from dataclasses import replace

from pixgraft.data.celebamask import mirrored
from pixgraft.methods.pix2pixhd import Pix2PixHDConfig
from pixgraft.presets.schedules import FACES_DATA, SKETCHES, SMALL_64, TINY
from pixgraft.training.experiment import DataConfig, Experiment, TrainConfig


def paper_256() -> Experiment:
    """pix2pixHD at 256 with CelebAMask-HQ's 19 labels, a baseline of GRIT's Table 1: the published code's settings, for
    200 passes over 24,000 images, without its falling learning rate."""
    data = DataConfig(mirrored=mirrored("celebamask-hq"))
    train = TrainConfig(batch=1, images=4_800_000, average_decay=0.0)
    return Experiment(name="pix2pixhd-paper-256", kind="pix2pixhd", data=data, method=Pix2PixHDConfig(), train=train)


def small_64() -> Experiment:
    """pix2pixHD at 64 for a laptop's CPU, with eight labels as `grit-small-64`.

    Two halvings: with three, blocks of 8x8 pixels followed the drawings later.
    """
    method = Pix2PixHDConfig(
        image_size=64, classes=8, generator_channels=32, downsamplings=2, discriminator_channels=32,
        perceptual="squeezenet",
    )  # fmt: skip
    return Experiment(name="pix2pixhd-small-64", kind="pix2pixhd", data=FACES_DATA, method=method, train=SMALL_64)


def sketch_faces_64() -> Experiment:
    """`small_64` from line drawings, which `pixgraft data sketch` makes."""
    small = small_64()
    method = replace(small.method, condition="sketch")
    return replace(small, name="pix2pixhd-sketch-faces-64", data=SKETCHES, method=method)


def tiny_32() -> Experiment:
    """pix2pixHD at 32 for tests, which takes seconds on one core."""
    method = Pix2PixHDConfig(
        image_size=32, classes=4, generator_channels=8, downsamplings=2, blocks=1, discriminator_channels=8,
        discriminator_layers=2, lambda_perceptual=0.0,
    )  # fmt: skip
    return Experiment(name="pix2pixhd-tiny-32", kind="pix2pixhd", method=method, train=TINY)
