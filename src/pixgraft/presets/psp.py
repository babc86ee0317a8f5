"""Experiments with pSp (Richardson et al. 2021), the paper's and this library's: super-resolution of faces."""

from dataclasses import replace

from pixgraft.data.celebamask import mirrored
from pixgraft.methods.psp import PSPConfig
from pixgraft.presets import stylegan2
from pixgraft.presets.schedules import ENCODER_32, ENCODER_64, ENCODER_128, TINY, scale
from pixgraft.presets.stylegan2 import generator_sizes
from pixgraft.training.experiment import DataConfig, Experiment, TrainConfig


def paper_1024() -> Experiment:
    """Super-resolution as the paper's text has it, with an FFHQ prior at 1024; half a million steps of 8."""
    method, train = PSPConfig(lambda_w=0.0), TrainConfig(batch=8, images=4_000_000)
    data = DataConfig(factors=(1, 2, 4, 8, 16))
    return Experiment(name="psp-paper-1024", kind="psp", method=method, data=data, train=train)


def official_1024() -> Experiment:
    """Super-resolution as published: a start from face recognition, random noise, no averages and no mirroring."""
    method = PSPConfig(backbone="irse50", noise="random", enlarging="bilinear")
    train = TrainConfig(batch=8, images=4_000_000, flip=False, average_decay=0.0)
    return Experiment(name="psp-official-1024", kind="psp", method=method, train=train)


def ffhq_256() -> Experiment:
    """Super-resolution at 256 as published, with the prior of stylegan2-ffhq-256.

    The published rate and batch of 8, the latter four times: one microbatch's batch normalisation then sees the same
    images on one GPU and on eight.
    """
    method = PSPConfig(
        prior="stylegan2-ffhq-256", **generator_sizes(stylegan2.ffhq_256()), backbone="irse50", noise="random",
        enlarging="bilinear",
    )  # fmt: skip
    train = scale(32, 4_000_000, microbatch=4)
    return Experiment(name="psp-ffhq-256", kind="psp", method=method, train=train)


def inversion_ffhq_256() -> Experiment:
    """`ffhq_256` for inversion, whose published losses leave the codes' distance from the average out."""
    faces = ffhq_256()
    method = replace(faces.method, condition="self", lambda_w=0.0)
    return replace(faces, name="psp-inversion-ffhq-256", method=method)


def labels_ffhq_256() -> Experiment:
    """`ffhq_256` for CelebAMask-HQ's label maps, without the identity loss, as published."""
    faces = ffhq_256()
    method = replace(faces.method, condition="labels", lambda_identity=0.0)
    data = DataConfig(mirrored=mirrored("celebamask-hq"))
    return replace(faces, name="psp-labels-ffhq-256", data=data, method=method)


def sketch_ffhq_256() -> Experiment:
    """`ffhq_256` for line drawings, which `pixgraft data sketch` makes, without the identity loss, as published."""
    faces = ffhq_256()
    method = replace(faces.method, condition="sketch", sketches="unit", lambda_identity=0.0)
    return replace(faces, name="psp-sketch-ffhq-256", data=DataConfig(conditions="sketches"), method=method)


def portraits_128() -> Experiment:
    """pSp at 128 for a GPU, with the prior of stylegan2-portraits-128."""
    method = PSPConfig(
        prior="stylegan2-portraits-128", **generator_sizes(stylegan2.portraits_128()), input_size=128,
        stages=((32, 2), (64, 2), (128, 4), (256, 2)), perceptual="squeezenet", lambda_identity=0.0, lr=3e-4,
    )  # fmt: skip
    return Experiment(name="psp-portraits-128", kind="psp", method=method, train=ENCODER_128)


def faces_64() -> Experiment:
    """pSp at 64 for a laptop's CPU, with the prior of stylegan2-faces-64; half-precision weights take 7 MB."""
    method = PSPConfig(
        prior="stylegan2-faces-64", **generator_sizes(stylegan2.faces_64()), input_size=64,
        stages=((32, 1), (48, 2), (96, 2), (128, 2)), head_channels=64, perceptual="squeezenet", lambda_identity=0.0,
        lr=1e-3,
    )  # fmt: skip
    data = DataConfig(factors=(1, 2, 4, 8, 16))
    return Experiment(name="psp-faces-64", kind="psp", method=method, data=data, train=ENCODER_64)


def small_32() -> Experiment:
    """pSp at 32 for a laptop's CPU, with the prior of stylegan2-small-32."""
    method = PSPConfig(
        prior="stylegan2-small-32", **generator_sizes(stylegan2.small_32()), input_size=32,
        stages=((16, 1), (32, 1), (64, 2), (128, 1)), perceptual="squeezenet", lambda_identity=0.0, lr=1e-3,
    )  # fmt: skip
    data = DataConfig(factors=(1, 2, 4, 8, 16))
    return Experiment(name="psp-small-32", kind="psp", method=method, data=data, train=ENCODER_32)


def tiny_32() -> Experiment:
    """pSp at 32 for tests, with the prior of stylegan2-tiny-32; takes seconds on one core."""
    method = PSPConfig(
        **generator_sizes(stylegan2.tiny_32()), input_size=32, stages=((8, 1), (8, 1), (16, 1), (16, 1)),
        lambda_perceptual=0.0, lambda_identity=0.0, lr=1e-3,
    )  # fmt: skip
    return Experiment(name="psp-tiny-32", kind="psp", method=method, data=DataConfig(factors=(1, 4)), train=TINY)
