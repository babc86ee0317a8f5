"""Layouts of StyleGAN2 (Karras et al. 2020): its networks alone.

"stylegan2-rosinality" (rosinality/stylegan2-pytorch): groups "g_ema" and "g" are generators, "d" is a discriminator. A
tensor "latent_avg" (D,) beside the groups may give the mean code w of "g_ema".

"stylegan2-genforce" (genforce/genforce): groups "generator" and "generator_smooth", its average, are generators,
"discriminator" is a discriminator. Weights of upsampling convolutions are flipped, and the biases of styles lack the 1
that they are initialised with.
"""

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.filtered import TAPS
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, empty, filled, lone_tensor, read_all, shape_of
from pixgraft.networks.stylegan2 import Discriminator, Generator, widths


def rosinality(groups: StateDicts) -> dict[str, nn.Module]:
    """The networks of the groups that there are; without "latent_avg" the mean w of a generator is estimated."""
    readers = {
        "g_ema": lambda tensors, name: rosinality_generator(tensors, name, lone_tensor(groups, "latent_avg")),
        "g": rosinality_generator,
        "d": _discriminator,
    }
    none = "no checkpoint of StyleGAN2: it has neither a group g_ema, g nor d: choose another file or layout"
    return read_all(groups, readers, none)


def rosinality_generator(tensors: Tensors, group: str, w_mean: Tensor | None = None) -> Generator:
    """The generator of a group, with `w_mean` (D,); None estimates it from 4096 codes.

    Raises PixgraftError for tensors that are missing, unknown or misshapen, and for a mean of another shape.
    """
    tensors = _plain(tensors, group)
    blocks = count(tensors, r"to_rgbs\.(\d+)\.")
    to_rgb = ["to_rgb1", *(f"to_rgbs.{i}" for i in range(blocks))]
    depth = count(tensors, r"style\.(\d+)\.")
    network = empty_generator(tensors, group, [f"{name}.conv.weight" for name in to_rgb], "style.1.weight", depth)
    w_dim = len(network.w_mean)
    mean = torch.zeros(w_dim) if w_mean is None else w_mean
    if mean.numel() != w_dim:
        raise PixgraftError(f"latent_avg is no tensor ({w_dim},), as group {group} asks for")
    renaming: Renaming = [
        *((rf"^style\.{i + 1}\.", f"mapping.layers.{i}.") for i in range(depth)),
        (r"^input\.input$", "synthesis.const"),
        (r"^noises\.", "synthesis."),
        (r"^to_rgb1\.", "synthesis.to_rgb.0."),
        *((rf"^to_rgbs\.{i}\.", f"synthesis.to_rgb.{i + 1}.") for i in range(blocks)),
        (r"^conv1\.", "synthesis.first."),
        *((rf"^convs\.{2 * i}\.", f"synthesis.blocks.{i}.up.") for i in range(blocks)),
        *((rf"^convs\.{2 * i + 1}\.", f"synthesis.blocks.{i}.conv.") for i in range(blocks)),
        (r"(to_rgb\.\d+\.)conv\.modulation\.", r"\1affine."),
        (r"(to_rgb\.\d+\.)conv\.", r"\1"),
        (r"\.conv\.modulation\.", ".conv.affine."),
        (r"\.noise\.weight$", ".noise_strength"),
        (r"\.activate\.bias$", ".conv.bias"),
    ]
    filled(network, {**tensors, "w_mean": mean.reshape(w_dim)}, group, renaming)
    if w_mean is None:
        network.estimate_w_mean(random=torch.Generator().manual_seed(0))
    return network


def genforce(groups: StateDicts) -> dict[str, nn.Module]:
    """The networks of the groups that there are, one of which must be a generator."""
    none = "no checkpoint of genforce's StyleGAN2: it has neither a group generator nor its average"
    networks = read_all(groups, dict.fromkeys(("generator", "generator_smooth"), _genforce_generator), none)
    if "discriminator" in groups:
        networks["discriminator"] = _genforce_discriminator(groups["discriminator"], "discriminator")
    return networks


def _genforce_generator(tensors: Tensors, group: str) -> Generator:
    tensors = _plain(tensors, group)
    blocks = count(tensors, r"synthesis\.output(\d+)\.") - 1
    to_rgb = [f"synthesis.output{i}.weight" for i in range(blocks + 1)]
    depth = count(tensors, r"mapping\.dense(\d+)\.")
    network = empty_generator(tensors, group, to_rgb, "mapping.dense0.weight", depth)
    for name in tensors:
        if name.endswith(".style.bias"):
            tensors[name] = tensors[name] + 1
        elif name.endswith(".noise_strength"):
            tensors[name] = tensors[name].reshape(-1)
        elif name in {f"synthesis.layer{2 * i + 1}.weight" for i in range(blocks)}:
            tensors[name] = tensors[name].flip(-2, -1)
    renaming: Renaming = [
        (r"^truncation\.w_avg$", "w_mean"),
        (r"^mapping\.dense", "mapping.layers."),
        (r"^synthesis\.early_layer\.", "synthesis."),
        (r"^synthesis\.output(\d+)\.style\.", r"synthesis.to_rgb.\1.affine."),
        (r"^synthesis\.output(\d+)\.", r"synthesis.to_rgb.\1."),
        (r"^synthesis\.layer(\d+)\.noise$", r"synthesis.noise_\1"),
        (r"^(synthesis\.layer\d+\.)style\.", r"\1conv.affine."),
        (r"^(synthesis\.layer\d+\.)(weight|bias)$", r"\1conv.\2"),
        (r"^synthesis\.layer0\.", "synthesis.first."),
        *((rf"^synthesis\.layer{2 * i + 1}\.", f"synthesis.blocks.{i}.up.") for i in range(blocks)),
        *((rf"^synthesis\.layer{2 * i + 2}\.", f"synthesis.blocks.{i}.conv.") for i in range(blocks)),
    ]
    return filled(network, tensors, group, renaming)


def empty_generator(tensors: Tensors, group: str, to_rgb: list[str], mapping: str, depth: int) -> Generator:
    """A generator without values, sized by the RGB layers `to_rgb`, and by the mapping's first layer and depth."""
    base, most = channel_limits(group, [shape_of(tensors, name, 4, group)[1] for name in to_rgb])
    w_dim, z_dim = shape_of(tensors, mapping, 2, group)
    sizes = {"base_channels": base, "max_channels": most, "z_dim": z_dim, "w_dim": w_dim}
    return empty(lambda: Generator(image_size=2 << len(to_rgb), mapping_layers=depth, **sizes))


def empty_discriminator(group: str, channels: list[int]) -> Discriminator:
    """A discriminator without values; `channels` are its widths at the sides 4, 8, and so on."""
    base, most = channel_limits(group, channels)
    return empty(lambda: Discriminator(image_size=2 << len(channels), base_channels=base, max_channels=most))


def _discriminator(tensors: Tensors, group: str) -> Discriminator:
    tensors = _plain(tensors, group)
    blocks = count(tensors, r"convs\.(\d+)\.") - 1
    first = ["final_conv.0", *(f"convs.{i + 1}.conv1.0" for i in reversed(range(blocks)))]
    network = empty_discriminator(group, [shape_of(tensors, f"{name}.weight", 4, group)[0] for name in first])
    renaming: Renaming = [
        (r"^convs\.0\.0\.", "from_rgb."),
        (r"^convs\.0\.1\.", "from_rgb."),
        *((rf"^convs\.{i + 1}\.", f"blocks.{i}.") for i in range(blocks)),
        (r"\.conv1\.[01]\.", ".conv1."),
        (r"\.conv2\.[12]\.", ".conv2."),
        (r"\.skip\.1\.", ".skip."),
        (r"^final_conv\.[01]\.", "final."),
        (r"^final_linear\.0\.", "linear."),
        (r"^final_linear\.1\.", "to_logits."),
    ]
    return filled(network, tensors, group, renaming)


def _genforce_discriminator(tensors: Tensors, group: str) -> Discriminator:
    tensors = _plain(tensors, group)
    blocks = count(tensors, r"skip_layer(\d+)\.")
    first = [f"layer{2 * i}.weight" for i in reversed(range(blocks + 1))]
    network = empty_discriminator(group, [shape_of(tensors, name, 4, group)[0] for name in first])
    renaming: Renaming = [
        (r"^input0\.", "from_rgb."),
        *((rf"^layer{2 * i}\.", f"blocks.{i}.conv1.") for i in range(blocks)),
        *((rf"^layer{2 * i + 1}\.", f"blocks.{i}.conv2.") for i in range(blocks)),
        (r"^skip_layer(\d+)\.", r"blocks.\1.skip."),
        (rf"^layer{2 * blocks}\.", "final."),
        (rf"^layer{2 * blocks + 1}\.", "linear."),
        (rf"^layer{2 * blocks + 2}\.", "to_logits."),
    ]
    return filled(network, tensors, group, renaming)


def _plain(tensors: Tensors, group: str) -> dict[str, Tensor]:
    """The tensors without filters, and without the single dimensions that our tensors lack."""
    plain: dict[str, Tensor] = {}
    taps = torch.tensor(TAPS) / sum(TAPS)
    for name, tensor in tensors.items():
        if name.endswith(".kernel"):
            kernel = tensor.float().squeeze()  # its sum does not count; for upsampling it is 4
            if kernel.shape != (4, 4) or not torch.allclose(kernel / kernel.sum(), torch.outer(taps, taps)):
                raise PixgraftError(f"group {group}: {name} is not the filter [1, 3, 3, 1], the only one there is here")
        elif tensor.ndim == 5 and len(tensor) == 1:
            plain[name] = tensor.squeeze(0)
        elif tensor.shape == (1, 3, 1, 1) and name.endswith(".bias"):
            plain[name] = tensor.flatten()
        else:
            plain[name] = tensor
    return plain


def channel_limits(group: str, channels: list[int]) -> tuple[int, int]:
    """`base_channels` and `max_channels` of a network with these widths at the sides 4, 8, and so on."""
    image_size = 2 << len(channels)
    if not channels:
        raise PixgraftError(f"group {group}: no layer of StyleGAN2 that gives colours: choose another file or layout")
    base, most = channels[-1] * image_size, max(channels)
    if list(widths(image_size, base, most).values()) != channels:
        raise PixgraftError(f"group {group}: widths {channels} from 4 pixels up are not min(base / side, most)")
    return base, most
