"""Layouts of StyleGAN2 (Karras et al. 2020), which give its networks alone.

"stylegan2-rosinality" (rosinality/stylegan2-pytorch): groups "g_ema" and "g" are generators, "d" is a discriminator;
"latent_avg", where it is there, is the mean code w of "g_ema", a tensor (D,) and no group.

"stylegan2-genforce" (genforce/genforce): groups "generator" and "generator_smooth", its average, are generators. Its
upsampling weights lie turned round, and its styles' biases do not have the 1 that they start from in them.
"""

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.filtered import TAPS
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, filled
from pixgraft.networks.stylegan2 import Discriminator, Generator, widths

_STYLED: Renaming = [
    (r"\.conv\.modulation\.", ".conv.affine."),
    (r"\.noise\.weight$", ".noise_strength"),
    (r"\.activate\.bias$", ".conv.bias"),
]
_SINGLE: Renaming = [(r"(to_rgb\.\d+\.)conv\.modulation\.", r"\1affine."), (r"(to_rgb\.\d+\.)conv\.", r"\1")]


def rosinality(groups: StateDicts) -> dict[str, nn.Module]:
    """The networks of the groups that there are; without "latent_avg" a generator's mean w is estimated."""
    networks: dict[str, nn.Module] = {}
    for name in ("g_ema", "g"):
        if name in groups:
            networks[name] = _generator(groups[name], name, groups.get("latent_avg") if name == "g_ema" else None)
    if "d" in groups:
        networks["d"] = _discriminator(groups["d"], "d")
    if not networks:
        raise PixgraftError("no checkpoint of StyleGAN2: it has neither a group g_ema, g nor d")
    return networks


def _generator(tensors: Tensors, group: str, latent_avg: object) -> Generator:
    tensors = _plain(tensors, group)
    blocks = count(tensors, r"to_rgbs\.(\d+)\.")
    to_rgb = ["to_rgb1", *(f"to_rgbs.{i}" for i in range(blocks))]
    depth = count(tensors, r"style\.(\d+)\.")
    network = _empty_generator(tensors, group, [f"{name}.conv.weight" for name in to_rgb], "style.1.weight", depth)
    w_dim = len(network.w_mean)
    mean = torch.zeros(w_dim) if latent_avg is None else latent_avg
    if not isinstance(mean, Tensor) or mean.shape.numel() != w_dim:
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
        *_SINGLE,
        *_STYLED,
    ]
    filled(network, {**tensors, "w_mean": mean.reshape(w_dim)}, group, renaming)
    if latent_avg is None:
        network.estimate_w_mean(random=torch.Generator().manual_seed(0))
    return network


def genforce(groups: StateDicts) -> dict[str, nn.Module]:
    """The generators that there are; a discriminator is passed over."""
    names = [name for name in ("generator", "generator_smooth") if name in groups]
    if not names:
        raise PixgraftError("no checkpoint of genforce's StyleGAN2: it has neither a group generator nor its average")
    return {name: _genforce_generator(groups[name], name) for name in names}


def _genforce_generator(tensors: Tensors, group: str) -> Generator:
    tensors = _plain(tensors, group)
    blocks = count(tensors, r"synthesis\.output(\d+)\.") - 1
    to_rgb = [f"synthesis.output{i}.weight" for i in range(blocks + 1)]
    depth = count(tensors, r"mapping\.dense(\d+)\.")
    network = _empty_generator(tensors, group, to_rgb, "mapping.dense0.weight", depth)
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
    filled(network, tensors, group, renaming)
    return network


def _empty_generator(tensors: Tensors, group: str, to_rgb: list[str], mapping: str, depth: int) -> Generator:
    """A generator with no values yet, its sizes read off the colours' weights, and the mapping's first and depth."""
    base, most = _channels(group, [_shape(tensors, name, 4, group)[1] for name in to_rgb])
    w_dim, z_dim = _shape(tensors, mapping, 2, group)
    with torch.device("meta"):  # no random weights that are thrown away
        network = Generator(
            image_size=2 << len(to_rgb),
            base_channels=base,
            max_channels=most,
            z_dim=z_dim,
            w_dim=w_dim,
            mapping_layers=depth,
        )
    return network.to_empty(device="cpu")


def _discriminator(tensors: Tensors, group: str) -> Discriminator:
    tensors = _plain(tensors, group)
    blocks = count(tensors, r"convs\.(\d+)\.") - 1
    first = ["final_conv.0", *(f"convs.{i + 1}.conv1.0" for i in reversed(range(blocks)))]
    base, most = _channels(group, [_shape(tensors, f"{name}.weight", 4, group)[0] for name in first])
    with torch.device("meta"):
        network = Discriminator(image_size=4 << blocks, base_channels=base, max_channels=most)
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
    network = network.to_empty(device="cpu")
    filled(network, tensors, group, renaming)
    return network


def _plain(tensors: Tensors, group: str) -> dict[str, Tensor]:
    """The tensors without the single dimensions that ours do not have, and without the filters, which ours know."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".kernel"):
            if not _is_filter(tensor):
                raise PixgraftError(f"group {group}: {name} is not the filter [1, 3, 3, 1], the only one there is here")
        elif tensor.ndim == 5 and len(tensor) == 1:
            kept[name] = tensor.squeeze(0)
        elif tensor.shape == (1, 3, 1, 1) and name.endswith(".bias"):
            kept[name] = tensor.flatten()
        else:
            kept[name] = tensor
    return kept


def _is_filter(kernel: Tensor) -> bool:
    """Of whatever sum: that of upsampling is 4."""
    taps, found = torch.tensor(TAPS) / sum(TAPS), kernel.float().squeeze()
    return found.shape == (4, 4) and torch.allclose(found / found.sum(), torch.outer(taps, taps))


def _shape(tensors: Tensors, name: str, dimensions: int, group: str) -> torch.Size:
    if name not in tensors or tensors[name].ndim != dimensions or not tensors[name].numel():
        raise PixgraftError(f"group {group}, as of StyleGAN2: {name} is missing or of another shape")
    return tensors[name].shape


def _channels(group: str, channels: list[int]) -> tuple[int, int]:
    """The base and the most of widths given from side 4 up."""
    image_size = 2 << len(channels)
    if not channels:
        raise PixgraftError(f"group {group}: no layer of StyleGAN2 that gives colours: choose another file or layout")
    base, most = channels[-1] * image_size, max(channels)
    if list(widths(image_size, base, most).values()) != channels:
        raise PixgraftError(f"group {group}: widths {channels} from 4 pixels up are not min(base / side, most)")
    return base, most
