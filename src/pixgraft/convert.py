"""Published checkpoints into ours: a safe reader, and a map of key names for each layout.

A layout names its groups of tensors as its publisher did; `from_state_dicts` gives networks under those same names.
Sizes are read off the tensors, never asked for. Nothing that a file holds is run: only tensors and plain values load.
"""

import copy
import dataclasses
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.methods.base import Method
from pixgraft.methods.i2ilr import I2ILR, I2ILRConfig, published
from pixgraft.models import check_free, save_model

StateDicts = Mapping[str, Mapping[str, Tensor]]
Renaming = list[tuple[str, str]]


def from_state_dicts(layout: str, groups: StateDicts) -> dict[str, nn.Module]:
    """Networks of a published layout, in eval mode, under the names of its groups.

    "i2ilr" (Medabid1/I2I-LR): "Gen" and "AverageG" are generators, called (source, lr); "Dis" is a discriminator,
    called (image, lr_difference). Groups that hold no network are passed over.

    Raises PixgraftError for an unknown layout, and for tensors that are missing, unknown or misshapen.
    """
    if layout not in LAYOUTS:
        raise PixgraftError(f"no layout named {layout}: choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[layout](groups)[1]


def convert(layout: str, file: str | Path, out: str | Path) -> Path:
    """Read a published checkpoint and write a model folder that `pixgraft.load` opens; returns the folder.

    Raises PixgraftError if the file is no such checkpoint, or `out` is there and not empty.
    """
    if layout not in LAYOUTS:
        raise PixgraftError(f"no layout named {layout}: choose one of {', '.join(LAYOUTS)}")
    check_free(Path(out))
    groups = read_checkpoint(Path(file))
    try:
        method, networks = LAYOUTS[layout](groups)
    except PixgraftError as error:
        raise PixgraftError(f"{file}: {error}") from None
    read = set(networks.values())
    kept = tuple(name for name, network in method.named_children() if network in read)
    save_model(Path(out), method, info={"source": Path(file).name, "layout": layout}, networks=kept)
    return Path(out)


def read_checkpoint(file: Path) -> dict[str, dict[str, Tensor]]:
    """The groups of tensors in a PyTorch file, by name; everything else in it is passed over.

    Raises PixgraftError if the file is missing, is not of PyTorch, was cut short, or asks for code to be run.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
        if head.lstrip()[:1] == b"<":
            raise PixgraftError(f"{file}: a web page, not a checkpoint: download the file behind the link")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, which are what is asked for
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise PixgraftError(f"{file}: cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
        names = f" ({asked[1]})" if asked else ""
        raise PixgraftError(
            f"{file}: not a checkpoint of tensors alone{names}, or damaged: nothing of it was run; get another copy"
        ) from None
    except PixgraftError:
        raise
    except Exception as error:  # on damaged bytes PyTorch's readers raise almost anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise PixgraftError(f"{file}: cut short or not a PyTorch file ({reason}): get it again") from None
    if not isinstance(content, dict):
        raise PixgraftError(f"{file}: holds a {type(content).__name__}, not named groups of tensors")
    return {
        str(name): dict(group)
        for name, group in content.items()
        if isinstance(group, Mapping) and group and all(map(_is_named_tensor, group.items()))
    }


def _is_named_tensor(item: tuple[object, object]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided


# --- i2ilr: Medabid1/I2I-LR ---

_SPECTRAL: Renaming = [(r"weight_orig$", "weight"), (r"weight_u$", "u"), (r"weight_v$", "v")]
_BLOCK: Renaming = [(r"\.conv1x1\.conv\.", ".skip."), (r"\.conv([12])\.conv\.", r".conv\1.")]
_GENERATOR: Renaming = [
    (r"^from_rgb\.0\.conv\.", "from_rgb."),
    (r"^down_block\.", "encoder."),
    (r"^block\.", "decoder."),
    (r"\.norm([12])\.conv_weight\.", r".norm\1.gamma."),
    (r"\.norm([12])\.conv_bias\.", r".norm\1.beta."),
    (r"\.ms([12])\.conv\.conv\.", r".shortcut\1.conv."),
    (r"^to_rgb\.0\.", "to_rgb_norm."),
    (r"^to_rgb\.2\.conv\.", "to_rgb."),
    *_BLOCK,
    *_SPECTRAL,
]


def _renamed(tensors: Mapping[str, Tensor], renaming: Renaming) -> dict[str, Tensor]:
    result = {}
    for name, tensor in tensors.items():
        for pattern, replacement in renaming:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def _discriminator_renaming(tensors: Mapping[str, Tensor]) -> Renaming:
    """The last block is one sequence, numbered with its activations: residual blocks, then (., final, ., logits)."""
    places = [int(match[1]) for match in (re.match(r"last_block\.(\d+)\.", name) for name in tensors) if match]
    logits = max(places, default=-1)
    main: Renaming = [(rf"^main\.{i + 1}\.", f"blocks.{i}.") for i in range(_count(tensors, r"main\.(\d+)\.") - 1)]
    return [
        (r"^main\.0\.conv\.", "from_rgb."),
        *main,
        (rf"^last_block\.{logits}\.conv\.", "to_logits."),
        (rf"^last_block\.{logits - 2}\.conv\.", "final."),
        (r"^last_block\.", "joint."),
        *_BLOCK,
        *_SPECTRAL,
    ]


def _count(names: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for match in (re.match(pattern, name) for name in names) if match})


def _width(tensors: Mapping[str, Tensor], name: str) -> int:
    if name not in tensors or tensors[name].ndim != 4 or not tensors[name].numel():
        raise PixgraftError(f"no I2I-LR checkpoint: {name} is missing or no convolution")
    return tensors[name].shape[0]


def _i2ilr_config(groups: StateDicts) -> I2ILRConfig:
    """The published code's configuration, its sizes read off the tensors.

    The discriminator's first width is 2^14 / S; a generator by itself tells only S / L, and gets the code's L of 8.
    """
    generator = groups.get("AverageG") or groups.get("Gen")
    if generator is None:
        raise PixgraftError("no I2I-LR checkpoint: it has neither a group Gen nor AverageG")
    levels = _count(generator, r"down_block\.(\d+)\.") - 1
    if levels < 1:
        raise PixgraftError("no I2I-LR checkpoint: its generator has no down_block")
    settings: dict[str, Any] = {
        "generator_channels": _width(generator, "from_rgb.0.conv.weight_orig"),
        "generator_max_channels": _width(generator, f"down_block.{levels}.conv1.conv.weight_orig"),
        "lr_size": 8,
        "image_size": 8 << levels,
    }
    gamma = generator.get("block.0.norm1.conv_weight.weight")
    settings["target"] = "grey" if gamma is not None and gamma.shape[1:2] == (1,) else "color"
    if "Dis" in groups:
        first = _width(groups["Dis"], "main.0.conv.weight_orig")
        settings["image_size"] = 2**14 // first
        settings["lr_size"] = settings["image_size"] >> levels
        settings["discriminator_channels"] = first
        settings["discriminator_max_channels"] = _width(groups["Dis"], "last_block.0.conv1.conv.weight_orig")
    return dataclasses.replace(published(settings["image_size"]), **settings)


def _i2ilr_method(groups: StateDicts) -> tuple[Method, dict[str, nn.Module]]:
    """The method with the published networks in it, the average as its generator; and those by their groups."""
    method = I2ILR(_i2ilr_config(groups))
    networks: dict[str, nn.Module] = {}
    for name in ("Gen", "AverageG"):
        if name in groups:
            generator = copy.deepcopy(method.generator)
            networks[name] = _filled(generator, _renamed(groups[name], _GENERATOR), name)
            method.generator = generator
    if "Dis" in groups:
        renaming = _discriminator_renaming(groups["Dis"])
        networks["Dis"] = _filled(method.discriminator, _renamed(groups["Dis"], renaming), "Dis")
    return method, networks


def _filled(network: nn.Module, tensors: dict[str, Tensor], group: str) -> nn.Module:
    own = network.state_dict()
    for problem, names in (("lacks", own.keys() - tensors.keys()), ("has an unknown", tensors.keys() - own.keys())):
        if names:
            raise PixgraftError(f"group {group} {problem} {min(names)} (in our naming; {len(names)} such)")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise PixgraftError(f"group {group}: {name} is {tuple(tensor.shape)}, expected {tuple(own[name].shape)}")
    network.load_state_dict(tensors)
    return network.eval()


LAYOUTS: dict[str, Callable[[StateDicts], tuple[Method, dict[str, nn.Module]]]] = {
    "i2ilr": _i2ilr_method,
}
"""From a layout's tensors: our method with its networks in it, and those networks under the names of their groups."""
