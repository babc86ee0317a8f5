"""The layout of genforce/genforce and genforce/mganprior for the generator of ProGAN (Karras et al. 2018), which they
converted from the authors' TensorFlow files.

Layer i is `layer<i>.conv.weight` and `layer<i>.wscale.bias`, or `layer<i>.weight` and `layer<i>.bias` in later files of
genforce. `output<k>`, which gives the images of stage k, has the same two forms. `lod` is the number of stages that the
training has not yet added, 0 at its end. A file of mganprior is one generator; a file of genforce has groups.
"""

from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, filled, read_all, renamed
from pixgraft.networks.progan import Generator

OMITTED = {"discriminator": "in what groups it compares images, its file does not tell"}

_RENAMING: Renaming = [
    (r"^layer(\d+)\.", r"layers.\1."),
    (r"^output(\d+)\.", r"to_rgb.\1."),
    (r"\.(?:conv|wscale)\.", "."),
]


def networks(groups: StateDicts) -> dict[str, nn.Module]:
    """The generators "generator" and "generator_smooth", its average; tensors without groups are one generator."""
    if groups and all(list(tensors) == [name] for name, tensors in groups.items()):
        groups = {"generator": {name: tensors[name] for name, tensors in groups.items()}}
    none = "no ProGAN checkpoint: none of the groups generator, generator_smooth: choose another layout"
    return read_all(groups, {"generator": _generator, "generator_smooth": _generator}, none)


def _generator(tensors: Tensors, group: str) -> Generator:
    lod = tensors.get("lod")
    if lod is not None and lod.numel() == 1 and lod.item() != 0:
        raise PixgraftError(f"group {group}: lod is {lod.item():g}, so it is not grown yet: choose a later file")
    layers = {name: tensor for name, tensor in tensors.items() if name != "lod"}
    stages = count(layers, r"output(\d+)\.")
    shapes = {renamed(name, _RENAMING): tensor.shape for name, tensor in layers.items()}
    first, last = shapes.get("layers.0.weight"), shapes.get(f"layers.{2 * stages - 1}.weight")
    if first is None or last is None or not len(first) == len(last) == 4:
        raise PixgraftError(f"group {group}: no ProGAN generator: its first or last layer is missing or no convolution")
    # Only halved widths determine the base; if all are equal, any larger base gives them too.
    size = 2 << stages
    network = Generator(image_size=size, z_dim=first[1], base_channels=last[0] * size, max_channels=first[0])
    return filled(network, layers, group, _RENAMING)
