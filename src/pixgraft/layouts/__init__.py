"""Published state dicts into our networks, one file a family of layouts.

A layout names its groups of tensors as its publisher did; `from_state_dicts` gives networks under those same names.
Sizes are read off the tensors, never asked for. To add a layout: its file, and one line in `MODELS` or `NETWORKS`.
"""

from collections.abc import Callable

from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import StateDicts
from pixgraft.layouts.features import FEATURES, feature_networks
from pixgraft.layouts.i2ilr import i2ilr
from pixgraft.layouts.progan import progan
from pixgraft.layouts.psp import psp
from pixgraft.layouts.stylegan2 import genforce, rosinality
from pixgraft.layouts.stylegan2_nvidia import nvidia
from pixgraft.methods.base import Method

MODELS: dict[str, Callable[[StateDicts], tuple[Method, dict[str, nn.Module]]]] = {
    "i2ilr": i2ilr,
}
"""Layouts of whole models: our method with the networks in it, and those networks under the names of their groups."""

NETWORKS: dict[str, Callable[[StateDicts], dict[str, nn.Module]]] = {
    "progan-genforce": progan,
    "psp": psp,
    "stylegan2-rosinality": rosinality,
    "stylegan2-genforce": genforce,
    "stylegan2-nvidia": nvidia,
}
"""Layouts of networks alone, under the names of their groups."""

PRIORS = ("progan-genforce", "stylegan2-rosinality", "stylegan2-genforce", "stylegan2-nvidia")
"""Those of `NETWORKS` that `priors.prior` makes a method of."""

LAYOUTS = (*MODELS, *FEATURES, *NETWORKS)
"""The names of all layouts."""


def from_state_dicts(layout: str, groups: StateDicts) -> dict[str, nn.Module]:
    """Networks of a published layout, in eval mode, under the names of its groups.

    "i2ilr" (Medabid1/I2I-LR): "Gen" and "AverageG" are generators, called (source, lr); "Dis" is a discriminator,
    called (image, lr_difference). Groups that hold no network are passed over.

    "stylegan2-rosinality" (rosinality/stylegan2-pytorch): "g_ema" and "g" are generators of StyleGAN2, "d" is its
    discriminator. Beside them "latent_avg", a tensor, may give the mean of w; else it is estimated from 4096 codes.
    "stylegan2-genforce" (genforce/genforce): "generator" and "generator_smooth", its average, are generators,
    "discriminator" is a discriminator.
    "stylegan2-nvidia" (NVlabs/stylegan2-ada-pytorch): "G_ema" and "G" are generators, "D" is a discriminator; a file's
    groups are what `stylegan2_nvidia.nvidia_groups` reads.

    "progan-genforce" (genforce/mganprior, genforce/genforce): "generator" and "generator_smooth", its average, are
    generators of ProGAN.

    "psp" (eladrich/pixel2style2pixel): "encoder" gives codes (N, L, D), to which "latent_avg" is to be added, and
    "decoder" is a generator of StyleGAN2; each where it is there, or both within "state_dict".

    Feature networks have one group, of any name, and take images (N, 3, H, W) in [-1, 1] of any size:
    "inception-fid" (mseitzer/pytorch-fid) gives (N, 2048), "vgg16" (torchvision) (N, 4096), "squeezenet" (torchvision's
    squeezenet1_0) (N, 512), "mobilefacenet" (Xiaoccer/MobileFaceNet_Pytorch) (N, 128), "irse50"
    (TreB1eN/InsightFace_Pytorch) (N, 512). "lpips" (richzhang/PerceptualSimilarity) takes two and gives distances (N,).

    Raises PixgraftError for an unknown layout, and for tensors that are missing, unknown or misshapen.
    """
    if layout in MODELS:
        return MODELS[layout](groups)[1]
    if layout in NETWORKS:
        return NETWORKS[layout](groups)
    if layout in FEATURES:
        return feature_networks(layout, groups)
    raise PixgraftError(f"no layout named {layout}: choose one of {', '.join(LAYOUTS)}")
