"""StyleGAN2 as NVIDIA's stylegan2-ada-pytorch has it: its tensors by their names, its pickles, and a plain forward.

The forward is written from what the published operations are said to compute, in float64 and with nothing of
pixgraft's: each image gets weights of its own, upsampling puts zeros between the pixels, filters, and then convolves in
the mathematical sense (kernels turned round), where layers that keep the size correlate.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvidia_files import EasyDict, Persistent, written

FILTER = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
LR_MULTIPLIER = 0.01


class _Random:
    """Tensors by name, each drawn with a deviation around a mean, so that none is as it was before training."""

    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, name: str, *shape: int, deviation: float = 1.0, mean: float = 0.0) -> None:
        self.tensors[name] = mean + deviation * torch.randn(shape, generator=self._generator)

    def filter(self, name: str) -> None:
        self.tensors[f"{name}.resample_filter"] = FILTER.clone()

    def modulated(self, name: str, c_in: int, c_out: int, kernel: int, w_dim: int) -> None:
        self.add(f"{name}.weight", c_out, c_in, kernel, kernel)
        self.add(f"{name}.bias", c_out, deviation=0.3)
        self.add(f"{name}.affine.weight", c_in, w_dim)
        self.add(f"{name}.affine.bias", c_in, mean=1.0, deviation=0.3)

    def synthesis(self, name: str, c_in: int, c_out: int, w_dim: int, side: int) -> None:
        self.modulated(name, c_in, c_out, 3, w_dim)
        self.filter(name)
        self.add(f"{name}.noise_const", side, side)
        self.add(f"{name}.noise_strength", deviation=0.4)

    def convolution(self, name: str, c_in: int, c_out: int, kernel: int, *, bias: bool = True) -> None:
        self.add(f"{name}.weight", c_out, c_in, kernel, kernel)
        self.filter(name)
        if bias:
            self.add(f"{name}.bias", c_out, deviation=0.3)


def sides_of(size: int) -> list[int]:
    return [4 << level for level in range(int(math.log2(size)) - 1)]


def generator_tensors(
    size: int, *, base: int, most: int, z_dim: int = 8, w_dim: int = 12, depth: int = 3, seed: int = 0
) -> dict[str, Tensor]:
    random = _Random(seed)
    for i in range(depth):
        random.add(f"mapping.fc{i}.weight", w_dim, w_dim if i else z_dim, deviation=1 / LR_MULTIPLIER)
        random.add(f"mapping.fc{i}.bias", w_dim, deviation=0.3 / LR_MULTIPLIER)
    random.add("mapping.w_avg", w_dim)
    c_in = 0
    for side in sides_of(size):
        block, c_out = f"synthesis.b{side}", min(base // side, most)
        random.filter(block)
        if side == 4:
            random.add(f"{block}.const", c_out, 4, 4)
        else:
            random.synthesis(f"{block}.conv0", c_in, c_out, w_dim, side)
        random.synthesis(f"{block}.conv1", c_out, c_out, w_dim, side)
        random.modulated(f"{block}.torgb", c_out, 3, 1, w_dim)
        c_in = c_out
    return random.tensors


def discriminator_tensors(size: int, *, base: int, most: int, seed: int = 5) -> dict[str, Tensor]:
    random = _Random(seed)
    random.convolution(f"b{size}.fromrgb", 3, min(base // size, most), 1)
    for side in sides_of(size)[:0:-1]:
        width, below = min(base // side, most), min(base // (side // 2), most)
        random.filter(f"b{side}")
        random.convolution(f"b{side}.conv0", width, width, 3)
        random.convolution(f"b{side}.conv1", width, below, 3)
        random.convolution(f"b{side}.skip", width, below, 1, bias=False)
    width = min(base // 4, most)
    random.convolution("b4.conv", width + 1, width, 3)
    random.add("b4.fc.weight", width, 16 * width)
    random.add("b4.fc.bias", width, deviation=0.3)
    random.add("b4.out.weight", 1, width)
    random.add("b4.out.bias", 1)
    return random.tensors


# --- files ---


def module(class_name: str, tensors: Mapping[str, Tensor], **arguments: Any) -> Persistent:
    """A module with these tensors under their dotted names, as its pickle has it: buffers and parameters alike."""
    made = Persistent(**arguments)
    made.class_name = class_name
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = tensor
        elif first in ("resample_filter", "noise_const", "w_avg"):
            made.register_buffer(first, tensor)
        else:
            made.register_parameter(first, nn.Parameter(tensor))
    for name, own in parts.items():
        made.add_module(name, module("Part", own))
    return made


def generator_module(tensors: Mapping[str, Tensor], **arguments: Any) -> Persistent:
    """With the arguments that training gives; those in the call replace or join them."""
    sides = [int(name.split(".")[1][1:]) for name in tensors if name.endswith(".torgb.bias")]
    first, channels = tensors["mapping.fc0.weight"].shape, tensors[f"synthesis.b{max(sides)}.torgb.weight"].shape[1]
    depth = sum(name.startswith("mapping.fc") for name in tensors) // 2
    known = {
        "z_dim": first[1], "w_dim": first[0], "c_dim": 0, "img_resolution": max(sides), "img_channels": 3,
        "mapping_kwargs": EasyDict(num_layers=depth),
        "synthesis_kwargs": EasyDict(
            channel_base=channels * max(sides), channel_max=tensors["synthesis.b4.const"].shape[0], num_fp16_res=4,
            conv_clamp=256,
        ),
    }  # fmt: skip
    return module("Generator", tensors, **{**known, **arguments})


def discriminator_module(tensors: Mapping[str, Tensor], **arguments: Any) -> Persistent:
    size = next(int(name.split(".")[0][1:]) for name in tensors if name.endswith(".fromrgb.bias"))
    known = {
        "c_dim": 0, "img_resolution": size, "img_channels": 3,
        "channel_base": len(tensors[f"b{size}.fromrgb.bias"]) * size, "channel_max": len(tensors["b4.fc.bias"]),
        "num_fp16_res": 4, "conv_clamp": 256, "block_kwargs": EasyDict(freeze_layers=0), "mapping_kwargs": EasyDict(),
        "epilogue_kwargs": EasyDict(mbstd_group_size=4),
    }  # fmt: skip
    return module("Discriminator", tensors, **{**known, **arguments})


def nvidia_file(folder: Path, **networks: Any) -> Path:
    """`network.pkl` with these networks beside what else training saves."""
    return written(folder, {"training_set_kwargs": EasyDict(path="x.zip"), "augment_pipe": None, **networks})


# --- the plain forward ---


def resampled(x: Tensor, *, up: int = 1, padding: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Zeros between the pixels, zeros around the image (before, after), then the filter."""
    n, channels, height, width = x.shape
    wide = x.new_zeros(n, channels, height * up, width * up)
    wide[..., ::up, ::up] = x
    wide = F.pad(wide, (*padding, *padding))
    return F.conv2d(wide, gain * FILTER.to(x).expand(channels, 1, 4, 4), groups=channels)


def _leaky(x: Tensor) -> Tensor:
    return math.sqrt(2) * torch.where(x > 0, x, 0.2 * x)


def _fully(x: Tensor, weight: Tensor, bias: Tensor, multiplier: float = 1.0) -> Tensor:
    return x @ weight.T * (multiplier / math.sqrt(weight.shape[1])) + bias * multiplier


def _doubles(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in tensors.items()}


def mapped(tensors: Mapping[str, Tensor], z: Tensor) -> Tensor:
    t, x = _doubles(tensors), z.double()
    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(sum(name.startswith("mapping.fc") for name in t) // 2):
        x = _leaky(_fully(x, t[f"mapping.fc{i}.weight"], t[f"mapping.fc{i}.bias"], LR_MULTIPLIER))
    return x


def _modulated(t: Mapping[str, Tensor], name: str, x: Tensor, w: Tensor, *, up: bool = False) -> Tensor:
    weight = t[f"{name}.weight"]
    style = _fully(w, t[f"{name}.affine.weight"], t[f"{name}.affine.bias"])
    if weight.shape[-1] == 1:
        style = style / math.sqrt(weight.shape[1])
    outs = []
    for image, own in zip(x, style, strict=True):
        kernels = weight * own[None, :, None, None]
        if weight.shape[-1] == 3:
            kernels = kernels / (kernels.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            enlarged = resampled(image[None], up=2, padding=(3, 2), gain=4.0)
            outs.append(F.conv2d(enlarged, kernels.flip(2, 3)))
        else:
            outs.append(F.conv2d(image[None], kernels, padding=weight.shape[-1] // 2))
    return torch.cat(outs)


def synthesized(tensors: Mapping[str, Tensor], w_plus: Tensor) -> Tensor:
    """Images (N, 3, S, S) of codes (N, L, D), float64, by the noise maps that are kept with the weights."""
    t, codes = _doubles(tensors), list(w_plus.double().unbind(1))
    sides = sorted(int(name.split(".")[1][1:]) for name in t if name.endswith(".torgb.bias"))
    x, image, place = t["synthesis.b4.const"].expand(len(w_plus), -1, -1, -1), None, 0
    for side in sides:
        block = f"synthesis.b{side}"
        for conv in ("conv1",) if side == 4 else ("conv0", "conv1"):
            name = f"{block}.{conv}"
            x = _modulated(t, name, x, codes[place], up=conv == "conv0")
            x = x + t[f"{name}.noise_const"] * t[f"{name}.noise_strength"]
            x = _leaky(x + t[f"{name}.bias"].view(-1, 1, 1))
            place += 1
        colours = _modulated(t, f"{block}.torgb", x, codes[place]) + t[f"{block}.torgb.bias"].view(-1, 1, 1)
        image = colours if image is None else resampled(image, up=2, padding=(2, 1), gain=4.0) + colours
    assert image is not None
    return image


def generated(tensors: Mapping[str, Tensor], z: Tensor) -> Tensor:
    layers = 2 * sum(name.endswith(".torgb.bias") for name in tensors)
    return synthesized(tensors, mapped(tensors, z).unsqueeze(1).expand(-1, layers, -1))


def _convolved(t: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    weight = t[f"{name}.weight"]
    x = F.conv2d(x, weight / math.sqrt(weight[0].numel()), stride=stride, padding=padding)
    return x + t[f"{name}.bias"].view(-1, 1, 1) if f"{name}.bias" in t else x


def judged(tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Logits (N, 1) of images (N, 3, S, S), N a multiple of 4, in groups of 4; float64."""
    t, size = _doubles(tensors), images.shape[-1]
    x = _leaky(_convolved(t, f"b{size}.fromrgb", images.double()))
    for side in sides_of(size)[:0:-1]:
        skip = _convolved(t, f"b{side}.skip", resampled(x, padding=(1, 1))[..., ::2, ::2])
        x = _leaky(_convolved(t, f"b{side}.conv0", x, padding=1))
        x = _leaky(_convolved(t, f"b{side}.conv1", resampled(x, padding=(2, 2)), stride=2))
        x = (x + skip) / math.sqrt(2)
    groups = len(x) // 4
    deviations = [(x[first::groups].var(0, correction=0) + 1e-8).sqrt().mean() for first in range(groups)]
    channel = torch.stack([deviations[image % groups] for image in range(len(x))])
    x = torch.cat((x, channel.view(-1, 1, 1, 1).expand(-1, 1, 4, 4)), 1)
    x = _leaky(_convolved(t, "b4.conv", x, padding=1))
    x = _leaky(_fully(x.flatten(1), t["b4.fc.weight"], t["b4.fc.bias"]))
    return _fully(x, t["b4.out.weight"], t["b4.out.bias"])
