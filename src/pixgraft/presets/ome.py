"""Experiments with OME (Guo et al. 2023), the paper's and this library's: super-resolution of faces."""

from dataclasses import replace

from pixgraft.data.celebamask import mirrored
from pixgraft.methods.ome import OMEConfig
from pixgraft.presets import progan, stylegan2
from pixgraft.presets.schedules import ENCODER_32, ENCODER_64, ENCODER_128, TINY, scale
from pixgraft.presets.stylegan2 import generator_sizes
from pixgraft.training.experiment import DataConfig, Experiment, TrainConfig


def paper_stylegan2_1024() -> Experiment:
    """The paper's faces with StyleGAN2; batch size and duration, which the paper omits, are pSp's."""
    train = TrainConfig(batch=8, images=4_000_000)
    return Experiment(name="ome-paper-stylegan2-1024", kind="ome", method=OMEConfig(), train=train)


def paper_progan_1024() -> Experiment:
    """The paper's faces with ProGAN: 20 codes, fused after layer 8."""
    method = OMEConfig(generator="progan", base_channels=2**14)
    return replace(paper_stylegan2_1024(), name="ome-paper-progan-1024", method=method)


def ffhq_256() -> Experiment:
    """Super-resolution at 256 by the paper's network, with the prior of stylegan2-ffhq-256; five updates a batch."""
    method = OMEConfig(prior="stylegan2-ffhq-256", **generator_sizes(stylegan2.ffhq_256()))
    return Experiment(name="ome-ffhq-256", kind="ome", method=method, train=scale(32, 2_000_000, microbatch=4))


def inversion_ffhq_256() -> Experiment:
    """`ffhq_256` for inversion."""
    faces = ffhq_256()
    return replace(faces, name="ome-inversion-ffhq-256", method=replace(faces.method, condition="self"))


def labels_ffhq_256() -> Experiment:
    """`ffhq_256` for CelebAMask-HQ's label maps."""
    faces = ffhq_256()
    data = DataConfig(mirrored=mirrored("celebamask-hq"))
    return replace(faces, name="ome-labels-ffhq-256", data=data, method=replace(faces.method, condition="labels"))


def sketch_ffhq_256() -> Experiment:
    """`ffhq_256` for line drawings, which `pixgraft data sketch` makes."""
    faces = ffhq_256()
    data = DataConfig(conditions="sketches")
    return replace(faces, name="ome-sketch-ffhq-256", data=data, method=replace(faces.method, condition="sketch"))


def lsun_progan_256() -> Experiment:
    """The paper's scenes, inversion by ProGAN: ResNet-34, no identity loss, 20 codes fused after layer 8.

    The prior is a run of progan-lsun-256, or a published checkpoint of a scene (`pixgraft convert FILE OUT`).
    """
    prior = progan.lsun_256().method
    method = OMEConfig(
        prior="progan-lsun-256", generator="progan", image_size=prior.image_size, base_channels=prior.base_channels,
        max_channels=prior.max_channels, z_dim=prior.z_dim, condition="self", lambda_identity=0.0, depth=34,
    )  # fmt: skip
    return replace(ffhq_256(), name="ome-lsun-progan-256", method=method)


def portraits_128() -> Experiment:
    """OME at 128 for a GPU, with the prior of stylegan2-portraits-128."""
    method = OMEConfig(
        prior="stylegan2-portraits-128", **generator_sizes(stylegan2.portraits_128()), input_size=128,
        perceptual="squeezenet", lambda_identity=0.0, depth=34, encoder_channels=32, pyramid_channels=128,
        small_stem=True,
    )  # fmt: skip
    return Experiment(name="ome-portraits-128", kind="ome", method=method, train=ENCODER_128)


def faces_64() -> Experiment:
    """OME at 64 for a laptop's CPU, with the prior of stylegan2-faces-64."""
    method = OMEConfig(
        prior="stylegan2-faces-64", **generator_sizes(stylegan2.faces_64()), input_size=64, perceptual="squeezenet",
        lambda_identity=0.0, depth=34, encoder_channels=12, pyramid_channels=64, head_channels=64, small_stem=True,
    )  # fmt: skip
    data = DataConfig(factors=(1, 2, 4, 8, 16))
    return Experiment(name="ome-faces-64", kind="ome", method=method, data=data, train=ENCODER_64)


def sketch_faces_64() -> Experiment:
    """`faces_64` for line drawings, which `pixgraft data sketch` makes."""
    faces = faces_64()
    method, data = replace(faces.method, condition="sketch"), DataConfig(conditions="sketches")
    return replace(faces, name="ome-sketch-faces-64", method=method, data=data)


def small_32() -> Experiment:
    """OME at 32 for a laptop's CPU, with the prior of stylegan2-small-32."""
    method = OMEConfig(
        prior="stylegan2-small-32", **generator_sizes(stylegan2.small_32()), input_size=32,
        perceptual="squeezenet", lambda_identity=0.0, depth=34, encoder_channels=8, pyramid_channels=32,
        small_stem=True,
    )  # fmt: skip
    data, train = DataConfig(factors=(1, 2, 4, 8, 16)), replace(ENCODER_32, images=40_000)
    return Experiment(name="ome-small-32", kind="ome", method=method, data=data, train=train)


def tiny_32() -> Experiment:
    """OME at 32 with two steps for tests, with the prior of stylegan2-tiny-32; takes seconds on one core."""
    method = OMEConfig(
        **generator_sizes(stylegan2.tiny_32()), input_size=32, lambda_perceptual=0.0, lambda_identity=0.0, steps=2,
        depth=34, encoder_channels=4, pyramid_channels=8, small_stem=True,
    )  # fmt: skip
    return Experiment(name="ome-tiny-32", kind="ome", method=method, data=DataConfig(factors=(1, 4)), train=TINY)
