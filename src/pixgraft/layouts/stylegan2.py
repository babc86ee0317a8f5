"""Layouts of StyleGAN2 (Karras et al. 2020), which give its networks alone.

"stylegan2-rosinality" (rosinality/stylegan2-pytorch): groups "g_ema" and "g" are generators, "d" is a discriminator;
"latent_avg", where it is there, is the mean code w, a tensor (D,) and no group.
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
            networks[name] = _generator(groups[name], name, groups.get("latent_avg"))
    if "d" in groups:
        networks["d"] = _discriminator(groups["d"], "d")
    if not networks:
        raise PixgraftError("no checkpoint of StyleGAN2: it has neither a group g_ema, g nor d")
    return networks


def _generator(tensors: Tensors, group: str, latent_avg: object) -> Generator:
    tensors = _plain(tensors, group)
    blocks = count(tensors, r"to_rgbs\.(\d+)\.")
    to_rgb = ["to_rgb1", *(f"to_rgbs.{i}" for i in range(blocks))]
    base, most = _channels(group, [_shape(tensors, f"{name}.conv.weight", 4, group)[1] for name in to_rgb])
    depth = count(tensors, r"style\.(\d+)\.")
    w_dim, z_dim = _shape(tensors, "style.1.weight", 2, group)
    with torch.device("meta"):  # no random weights that are thrown away
        network = Generator(
            image_size=4 << blocks,
            base_channels=base,
            max_channels=most,
            z_dim=z_dim,
            w_dim=w_dim,
            mapping_layers=depth,
        )
    network = network.to_empty(device="cpu")
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
    taps = torch.tensor(TAPS) / sum(TAPS)
    return kernel.shape == (4, 4) and torch.allclose(kernel.float() / kernel.float().sum(), torch.outer(taps, taps))


def _shape(tensors: Tensors, name: str, dimensions: int, group: str) -> torch.Size:
    if name not in tensors or tensors[name].ndim != dimensions or not tensors[name].numel():
        raise PixgraftError(f"group {group}, as of StyleGAN2: {name} is missing or of another shape")
    return tensors[name].shape


def _channels(group: str, channels: list[int]) -> tuple[int, int]:
    """The base and the most of widths given from side 4 up."""
    image_size = 2 << len(channels)
    base, most = channels[-1] * image_size, max(channels)
    if list(widths(image_size, base, most).values()) != channels:
        raise PixgraftError(f"group {group}: widths {channels} from 4 pixels up are not min(base / side, most)")
    return base, most
