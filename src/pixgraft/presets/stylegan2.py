"""Experiments with StyleGAN2 (Karras et al. 2020): the paper's and this library's."""

from dataclasses import replace
from typing import Any

from pixgraft.methods.stylegan2 import StyleGAN2Config
from pixgraft.presets.schedules import SMALL_32, TINY, scale
from pixgraft.training.experiment import Experiment, TrainConfig


def paper_1024() -> Experiment:
    """Karras et al. 2020, configuration F, for FFHQ."""
    train = TrainConfig(batch=32, images=25_000_000, average_half_life=10_000, average_ramp=0.0)
    return Experiment(name="stylegan2-paper-1024", kind="stylegan2", method=StyleGAN2Config(), train=train)


def paper_256() -> Experiment:
    """The ADA paper's baseline at 256: half the channels, twice the batch size.

    The minibatch deviation is over groups of 4 images; in that paper it is over 8.
    """
    method = StyleGAN2Config(
        image_size=256, base_channels=16384, discriminator_base_channels=16384, r1_gamma=1.0, generator_lr=0.0025,
        discriminator_lr=0.0025,
    )  # fmt: skip
    train = TrainConfig(batch=64, images=25_000_000, average_half_life=20_000, average_ramp=0.0)
    return Experiment(name="stylegan2-paper-256", kind="stylegan2", method=method, train=train)


def ffhq_256() -> Experiment:
    """`paper_256` with the paper's adaptive augmentation (ADA), in bfloat16."""
    paper = paper_256()
    train = replace(scale(64, 25_000_000, microbatch=32), average_half_life=20_000, average_ramp=0.0)
    return replace(paper, name="stylegan2-ffhq-256", method=replace(paper.method, augment_target=0.6), train=train)


def portraits_128() -> Experiment:
    """StyleGAN2 at 128 for a GPU and about a thousand portraits; half-precision weights take less than 32 MiB."""
    method = StyleGAN2Config(
        image_size=128, base_channels=8192, max_channels=256, mapping_layers=4, discriminator_base_channels=8192,
        discriminator_max_channels=256, r1_gamma=0.2, augment_target=0.6, generator_lr=0.0025, discriminator_lr=0.0025,
    )  # fmt: skip
    train = TrainConfig(batch=32, images=3_000_000, precision="bfloat16", channels_last=True, average_half_life=10_000)
    return Experiment(name="stylegan2-portraits-128", kind="stylegan2", method=method, train=train)


def small_32() -> Experiment:
    """StyleGAN2 at 32 for a laptop's CPU."""
    method = StyleGAN2Config(
        image_size=32, base_channels=1024, max_channels=128, z_dim=128, w_dim=128, mapping_layers=4,
        discriminator_base_channels=1024, discriminator_max_channels=128, r1_gamma=0.05, augment_target=0.6,
        augment_images=100_000, generator_lr=0.0025, discriminator_lr=0.0025,
    )  # fmt: skip
    train = replace(SMALL_32, average_half_life=5_000)
    return Experiment(name="stylegan2-small-32", kind="stylegan2", method=method, train=train)


def faces_64() -> Experiment:
    """For a laptop's CPU and some thousand faces; half-precision weights take 5 MB."""
    small = small_32()
    sizes = {"image_size": 64, "base_channels": 2048, "discriminator_base_channels": 2048}
    return replace(
        small,
        name="stylegan2-faces-64",
        method=replace(small.method, **sizes, r1_gamma=0.1, path_every=8, augment_images=200_000),
        train=replace(small.train, images=1_000_000, sample_every=20_000),
    )


def generator_sizes(prior: Experiment) -> dict[str, Any]:
    """The configuration fields that an encoder shares with its prior, for `prior`'s experiment."""
    names = ("image_size", "base_channels", "max_channels", "z_dim", "w_dim", "mapping_layers")
    return {name: getattr(prior.method, name) for name in names}


def tiny_32() -> Experiment:
    """StyleGAN2 at 32 for tests, which takes seconds on one core."""
    method = StyleGAN2Config(
        image_size=32, base_channels=256, max_channels=16, z_dim=16, w_dim=16, mapping_layers=2,
        discriminator_base_channels=256, discriminator_max_channels=16, r1_gamma=1.0, augment_target=0.6,
        augment_images=2_000,
    )  # fmt: skip
    train = replace(TINY, average_half_life=40)
    return Experiment(name="stylegan2-tiny-32", kind="stylegan2", method=method, train=train)
