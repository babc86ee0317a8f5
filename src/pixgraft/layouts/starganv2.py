"""The layout of clovaai/stargan-v2, the published code of StarGAN v2 (Choi et al. 2020).

Groups "generator", "mapping_network" and "style_encoder", as in its files of averages (nets_ema), and "discriminator".
Names may begin with "module.". The model for CelebA-HQ has "fan", a landmark network, too.
"""

from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import Renaming, StateDicts, count, empty, filled, shape_of
from pixgraft.methods.starganv2 import StarGANv2, StarGANv2Config

GROUPS = ("generator", "mapping_network", "style_encoder")
OMITTED = {"fan": "the high-pass features that it masks are not here: outputs keep less of the source than published"}
DOMAINS = {(3, True): ("cat", "dog", "wild"), (2, False): ("female", "male")}
"""Names of the domains of AFHQ and CelebA-HQ, which the files do not have, by their number and the shortcuts."""
DEEPEST = 7
"""Blocks of a style encoder for images of 512."""

_COMMON: Renaming = [(r"\.conv1x1\.", ".skip.")]
_GENERATOR: Renaming = [
    *_COMMON,
    (r"^encode\.", "encoder."),
    (r"^decode\.", "decoder."),
    (r"\.norm([12])\.fc\.", r".norm\1.style."),
    (r"^to_rgb\.0\.", "to_rgb_norm."),
    (r"^to_rgb\.2\.", "to_rgb."),
]
# Every other place of a sequence is an activation, without tensors.
_MAPPING: Renaming = [
    *_COMMON,
    *((rf"^shared\.{2 * i}\.", f"shared.{i}.") for i in range(4)),
    *((rf"^unshared\.(\d+)\.{2 * i}\.", rf"heads.\1.{i}.") for i in range(4)),
]


def _trunk(sequence: str, blocks: int) -> Renaming:
    """For the trunk in a sequence: a convolution, blocks, an activation, a convolution."""
    return [
        *_COMMON,
        (rf"^{sequence}\.0\.", "trunk.from_rgb."),
        (rf"^{sequence}\.{blocks + 2}\.", "trunk.final."),
        (rf"^{sequence}\.{blocks + 4}\.", "to_logits."),
        *((rf"^{sequence}\.{i + 1}\.", f"trunk.blocks.{i}.") for i in range(blocks)),
        (r"^unshared\.", "heads."),
    ]


def read(groups: StateDicts) -> tuple[StarGANv2, dict[str, nn.Module]]:
    """The method with the networks of the groups, and these networks; others of the method are without values."""
    groups = {
        group: {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        for group, tensors in groups.items()
    }
    if missing := [group for group in GROUPS if group not in groups]:
        raise PixgraftError(f"no StarGAN v2 checkpoint: it lacks {missing[0]}: choose the file nets_ema")
    blocks = count(groups["style_encoder"], r"shared\.(\d+)\.conv1\.")
    config = _config(groups, blocks)
    method = empty(lambda: StarGANv2(config))
    renamings = {
        "generator": _GENERATOR,
        "mapping_network": _MAPPING,
        "style_encoder": _trunk("shared", blocks),
        "discriminator": _trunk("main", blocks),
    }
    networks: dict[str, nn.Module] = {
        group: filled(method.get_submodule(group), groups[group], group, renaming)
        for group, renaming in renamings.items()
        if group in groups
    }
    return method, networks


def _config(groups: StateDicts, blocks: int) -> StarGANv2Config:
    """The configuration with the sizes of the tensors, for sharp references, as published."""
    generator, mapping, encoder = (groups[group] for group in GROUPS)
    if not 3 <= blocks <= DEEPEST:
        raise PixgraftError(f"no StarGAN v2 checkpoint: its style encoder has {blocks} blocks: choose another layout")
    size, model = 4 << blocks, "StarGAN v2"
    residual = count(generator, r"encode\.(\d+)\.") < blocks + 1
    kinds = count(mapping, r"unshared\.(\d+)\.")
    hidden, latent = shape_of(mapping, "shared.0.weight", 2, "mapping_network", model)
    named = DOMAINS.get((kinds, residual), tuple(str(index) for index in range(kinds)))
    return StarGANv2Config(
        image_size=size,
        lr_size=size,
        domains=named if kinds > 1 else (),
        channels=shape_of(generator, "from_rgb.weight", 4, "generator", model)[0],
        max_channels=shape_of(encoder, f"shared.{blocks + 2}.weight", 4, "style_encoder", model)[0],
        style_dim=shape_of(mapping, "unshared.0.6.weight", 2, "mapping_network", model)[0],
        latent_dim=latent,
        hidden_dim=hidden,
        residual=residual,
    )
