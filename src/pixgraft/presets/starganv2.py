"""Experiments with StarGAN v2 (Choi et al. 2020): the paper's and this library's."""

from pixgraft.methods.starganv2 import StarGANv2Config
from pixgraft.presets.schedules import SMALL_64, TINY
from pixgraft.training.experiment import Experiment, TrainConfig


def paper_256() -> Experiment:
    """StarGAN v2 for AFHQ: domains in the folders cat, dog and wild, references as sharp as sources."""
    method = StarGANv2Config(domains=("cat", "dog", "wild"), lambda_diversity=2.0)
    train = TrainConfig(batch=8, images=800_000, average_warmup=False)
    return Experiment(name="starganv2-paper-256", kind="starganv2", method=method, train=train)


def small_64() -> Experiment:
    """StarGAN v2 at 64 for a laptop's CPU and one domain, with references of 8 pixels.

    Ten times the published rates. A step costs what one of I2I-LR's small preset does. With a diversity weight of 1 and
    a faster mapping network the first 300 steps on faces lost the style.
    """
    method = StarGANv2Config(
        image_size=64, lr_size=8, channels=16, max_channels=128, style_dim=32, latent_dim=16, hidden_dim=128,
        lambda_diversity=2.0, diversity_images=200_000, r1_every=16, generator_lr=1e-3, mapping_lr=1e-5,
        discriminator_lr=1e-3, weight_decay=0.0,
    )  # fmt: skip
    return Experiment(name="starganv2-small-64", kind="starganv2", method=method, train=SMALL_64)


def tiny_32() -> Experiment:
    """StarGAN v2 at 32 for tests, which takes seconds on one core."""
    method = StarGANv2Config(
        image_size=32, lr_size=8, channels=4, max_channels=8, style_dim=8, latent_dim=4, hidden_dim=16,
        diversity_images=400, r1_every=4, generator_lr=1e-3, mapping_lr=1e-4, discriminator_lr=1e-3,
    )  # fmt: skip
    return Experiment(name="starganv2-tiny-32", kind="starganv2", method=method, train=TINY)
