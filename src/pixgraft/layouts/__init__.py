"""Layouts of published checkpoints: one table, and one file for each family of layouts.

To add a layout: write its file, and add one entry to `LAYOUTS`. Sizes are read from the tensors.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts import features, i2ilr, pix2pixhd, progan, psp, spade, starganv2, stylegan2, stylegan2_nvidia
from pixgraft.layouts.common import StateDicts
from pixgraft.layouts.nvidia_pickle import is_plain_pickle
from pixgraft.layouts.priors import prior_model
from pixgraft.layouts.reading import Content, check_readable, read_content, read_networks
from pixgraft.layouts.stylegan2_nvidia import read_nvidia
from pixgraft.methods.base import Method


@dataclass(frozen=True)
class Layout:
    """How one project names the tensors of its checkpoints."""

    name: str
    description: str
    """The model, and the project that publishes it."""
    keys: str
    """A pattern that the beginning of a tensor's name matches in every file of this layout, and in no other."""
    networks: Callable[[StateDicts], dict[str, nn.Module]]
    """Groups of tensors to networks in eval mode, under the names of their groups."""
    model: Callable[[Content], tuple[Method, dict[str, nn.Module]]] | None = None
    """The content of a file to a method, and to its networks that the file has. None for feature networks."""
    read: Callable[[Path], Content] = read_content
    """The bounded reader of its files; it runs nothing that they hold."""
    lacks: str = ""
    """A pattern as `keys` that matches in no file of this layout, which tells apart what `keys` cannot."""
    omits: Mapping[str, str] = field(default_factory=dict)
    """The groups that `networks` leaves out although a method could have them, each with the reason."""

    def fits(self, groups: StateDicts) -> bool:
        """Whether the names of the tensors are those of this layout."""
        names = list(_names(groups))
        lacking = not self.lacks or not any(re.match(self.lacks, name) for name in names)
        return lacking and any(re.match(self.keys, name) for name in names)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("i2ilr", "I2I-LR (Medabid1/I2I-LR)", r"(Gen|AverageG)/down_block\.",
               lambda groups: i2ilr.read(groups)[1], lambda content: i2ilr.read(content.groups)),
        Layout("starganv2", "StarGAN v2 (clovaai/stargan-v2)",
               r"(mapping_network|style_encoder)/(module\.)?unshared\.", lambda groups: starganv2.read(groups)[1],
               lambda content: starganv2.read(content.groups), omits=starganv2.OMITTED),
        Layout("pix2pixhd", "pix2pixHD (NVIDIA/pix2pixHD)",
               r"(.*/)?(model\.\d+\.conv_block|scale0_layer0\.0)\.", pix2pixhd.networks, pix2pixhd.model,
               read=read_networks),
        Layout("spade", "SPADE (NVlabs/SPADE)",
               r"(.*/)?(head_0\.norm_0|discriminator_0\.model0|layer1\.0\.weight_orig)(\.|$)", spade.networks,
               spade.model, read=read_networks),
        Layout("psp", "pSp (eladrich/pixel2style2pixel)",
               r"(state_dict/)?(encoder[./]input_layer|decoder[./]to_rgb1)\.", psp.networks, psp.model),
        Layout("stylegan2-rosinality", "StyleGAN2 (rosinality/stylegan2-pytorch)", r"(g_ema|g)/to_rgb1\.|d/convs\.",
               stylegan2.rosinality, partial(prior_model, stylegan2.rosinality)),
        Layout("stylegan2-genforce", "StyleGAN2 (genforce/genforce)", r"generator(_smooth)?/(mapping|synthesis)\.",
               stylegan2.genforce, partial(prior_model, stylegan2.genforce)),
        Layout("stylegan2-nvidia", "StyleGAN2 (NVlabs/stylegan2-ada-pytorch)", r"(G_ema|G)/synthesis\.b4\.|D/b4\.",
               stylegan2_nvidia.networks, partial(prior_model, stylegan2_nvidia.networks), read=read_nvidia),
        Layout("progan-genforce", "ProGAN (genforce/genforce, genforce/mganprior)", r"(generator(_smooth)?/)?layer0\.",
               progan.networks, partial(prior_model, progan.networks), omits=progan.OMITTED),
        Layout("inception-fid", "Inception-v3 (mseitzer/pytorch-fid)", r"(.*/)?Conv2d_1a_3x3\.", features.inception,
               lacks=r"(.*/)?AuxLogits\."),
        Layout("inception-torchvision", "Inception-v3 (torchvision)", r"(.*/)?AuxLogits\.",
               features.inception_torchvision),
        Layout("vgg16", "VGG16 (torchvision)", r"(.*/)?features\.28\.weight", features.vgg16),
        Layout("squeezenet", "SqueezeNet 1.0 (torchvision)", r"(.*/)?features\.5\.squeeze\.", features.squeezenet),
        Layout("lpips", "LPIPS (richzhang/PerceptualSimilarity)", r"(.*/)?lin0\.model\.", features.lpips),
        Layout("mobilefacenet", "MobileFaceNet (Xiaoccer/MobileFaceNet_Pytorch)", r"(.*/)?dw_conv1\.conv\.",
               features.mobilefacenet),
        Layout("resnet", "ResNet-34 and ResNet-50 (torchvision)", r"(.*/)?layer1\.0\.conv1\.", features.resnet),
        Layout("irse50", "IR-SE-50 (TreB1eN/InsightFace_Pytorch)", r"(.*/)?output_layer\.", features.irse50),
    )
}  # fmt: skip
"""Every layout by its name. In `keys` a tensor's name is GROUP/NAME, or NAME for a tensor that stands by itself."""


def from_state_dicts(layout: str, groups: StateDicts) -> dict[str, nn.Module]:
    """Networks of a published layout, in eval mode, under the names of its groups.

    Each family's file describes its groups and what its networks take. A feature network has one group, of any name,
    and takes images (N, 3, H, W) in [-1, 1] of any size: "inception-fid" and "inception-torchvision" give (N, 2048),
    "vgg16" (N, 4096), "squeezenet" and "irse50" (N, 512), "mobilefacenet" (N, 128); "lpips" takes two and gives
    distances (N,). "resnet" takes normalised images and gives maps, see `networks.resnet`.

    Raises PixgraftError for an unknown layout, and for tensors that are missing, unknown or misshapen.
    """
    return named_layout(layout).networks(groups)


def named_layout(name: str, *, models_only: bool = False) -> Layout:
    """The layout of that name; `models_only` leaves feature networks out of the choices in the error.

    Raises PixgraftError for an unknown name, with the closest names.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    choices = [each for each, layout in LAYOUTS.items() if layout.model or not models_only]
    close = " or ".join(difflib.get_close_matches(name, choices))
    hint = f"did you mean {close}? " if close else ""
    raise PixgraftError(f"no layout named {ascii(name[:60])[1:-1]}: {hint}choose one of {', '.join(choices)}")


def identify(file: Path) -> tuple[Layout, Content]:
    """The one layout whose names the file's tensors have, and the content of the file.

    Raises PixgraftError if the file cannot be read, or if no layout or several layouts fit.
    """
    read = read_nvidia if is_plain_pickle(check_readable(file)) else read_content
    content = read(file)
    tried = [layout for layout in LAYOUTS.values() if (layout.read is read_nvidia) == (read is read_nvidia)]
    fitting = [layout for layout in tried if layout.fits(content.groups)]
    if len(fitting) > 1:
        names = " and ".join(f"{layout.name}, {layout.description}" for layout in fitting)
        raise PixgraftError(f"{file}: fits {names}: name one, as in --layout {fitting[0].name}")
    if not fitting:
        names, count = ", ".join(layout.name for layout in tried), sum(map(len, content.groups.values()))
        shown = ", ".join(f"{key[:60]!a}" for key in islice(_names(content.groups), 4))
        held = f"its {count} tensors begin with {shown}" if count else "it holds no named tensors"
        raise PixgraftError(f"{file}: fits no layout of {names}: {held}: choose another file")
    chosen = fitting[0]
    return chosen, content if chosen.read is read else chosen.read(file)


def _names(groups: StateDicts) -> Iterator[str]:
    """The names of all tensors, as `Layout.keys` matches them."""
    for group, tensors in groups.items():
        alone = list(tensors) == [group]
        yield from tensors if alone else (f"{group}/{key}" for key in tensors)
