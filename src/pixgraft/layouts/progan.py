"""The layout of genforce and genforce/mganprior for ProGAN's generator (Karras et al. 2018), converted there from the
authors' TensorFlow files.

Layer i is `layer<i>.conv.weight` and `layer<i>.wscale.bias`, or `layer<i>.weight` and `layer<i>.bias` in genforce's
later files; so are the images of stage k, `output<k>`. `lod`, how many stages are still to be grown, is 0 once trained.
mganprior's files hold one generator and nothing else; genforce's hold groups.
"""

from typing import cast

from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, filled, renamed
from pixgraft.networks.progan import Generator

GROUPS = ("generator", "generator_smooth")

_RENAMING: Renaming = [
    (r"^layer(\d+)\.", r"layers.\1."),
    (r"^output(\d+)\.", r"to_rgb.\1."),
    (r"\.(?:conv|wscale)\.", "."),
]


def progan(groups: StateDicts) -> dict[str, nn.Module]:
    """The generators in the groups, "generator" and "generator_smooth" (its average); others are passed over."""
    networks: dict[str, nn.Module] = {name: _generator(groups[name], name) for name in GROUPS if name in groups}
    if not networks:
        raise PixgraftError(f"no ProGAN checkpoint: none of the groups {', '.join(GROUPS)}: choose another layout")
    return networks


def _generator(tensors: Tensors, group: str) -> Generator:
    growing = tensors.get("lod")
    if growing is not None and growing.numel() == 1 and growing.item() != 0:
        raise PixgraftError(f"group {group}: lod is {growing.item():g}, so it is not grown yet: choose a later file")
    kept = {name: tensor for name, tensor in tensors.items() if name != "lod"}
    stages = count(kept, r"output(\d+)\.")
    shapes = {renamed(name, _RENAMING): tensor.shape for name, tensor in kept.items()}
    first, last = shapes.get("layers.0.weight"), shapes.get(f"layers.{2 * stages - 1}.weight")
    if first is None or last is None or not len(first) == len(last) == 4:
        raise PixgraftError(f"group {group}: no ProGAN generator: its first or last layer is missing or no convolution")
    # Only halved widths tell the base; where all are equal, any base from there on gives them.
    size = 2 << stages
    network = Generator(image_size=size, z_dim=first[1], base_channels=last[0] * size, max_channels=first[0])
    return cast(Generator, filled(network, kept, group, _RENAMING))
