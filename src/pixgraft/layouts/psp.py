"""The layout of eladrich/pixel2style2pixel, the published code of pSp (Richardson et al. 2021).

A file holds "state_dict", whose names begin with "encoder." or "decoder." (a generator of StyleGAN2 as in
stylegan2-rosinality). If the run began from the average code, the file also holds "latent_avg", (D,), (1, D) or (L, D),
which is added to the codes (N, L, D) of the encoder. "opts" are the options of the run. Sizes are read from the
tensors, and the options may not contradict them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import StateDicts, Tensors, count, empty, filled, lone_tensor, shape_of, width
from pixgraft.layouts.reading import Content, Plain
from pixgraft.layouts.stylegan2 import channel_limits, rosinality_generator
from pixgraft.methods.encoding import Kind, Start
from pixgraft.methods.psp import PSP, PSPConfig
from pixgraft.networks.psp import SingleStyleEncoder, StyleEncoder
from pixgraft.networks.stylegan2 import Generator

Encoder = StyleEncoder | SingleStyleEncoder


@dataclass(frozen=True)
class Parts:
    """A published model: its images are `decoder.synthesis(encoder(conditions) + average)`.

    `average` is (L, D), zeros if the run did not begin from the average code. The decoder's `w_mean` is the mean of
    `latent_avg` over the styles, or estimated if the file has none.
    """

    encoder: Encoder
    decoder: Generator
    average: Tensor


def model(content: Content) -> tuple[PSP, dict[str, nn.Module]]:
    """The model of a file as a method, and its networks; PixgraftError as `psp_parts` raises it."""
    opts = content.values.get("opts", {})
    method = psp_method(psp_parts(content.groups, opts), opts)
    return method, dict(method.named_children())


def psp_parts(groups: StateDicts, opts: Mapping[str, Plain]) -> Parts:
    """The model of the groups "state_dict", or "encoder" and "decoder", with "latent_avg" if there is one.

    Raises PixgraftError for tensors that are missing, unknown or misshapen, for networks that do not fit each other,
    and for an option that contradicts them. Options may be missing.
    """
    read = networks(groups)
    encoder, decoder = read.get("encoder"), read.get("decoder")
    if not isinstance(encoder, Encoder) or not isinstance(decoder, Generator):
        missing = "decoder" if encoder else "encoder"
        raise PixgraftError(f"no whole model of pSp: it has no tensors of the {missing}: choose another file")
    latent_avg = lone_tensor(groups, "latent_avg")
    _check_opts(opts, encoder, decoder, latent_avg)
    shape = (encoder.layers, encoder.code_dim)
    average = torch.zeros(shape) if latent_avg is None else latent_avg.float().expand(shape).clone()
    return Parts(encoder, decoder, average)


def psp_method(parts: Parts, opts: Mapping[str, Plain]) -> PSP:
    """The model as a method.

    The options give the kind of its conditions. Without them the number of channels does: 1 is a sketch, 3 an image to
    be inverted, and any other number one channel for each label.
    """
    encoder, decoder = parts.encoder, parts.decoder
    channels = encoder.condition_channels
    condition: Kind
    if opts.get("label_nc") or channels not in (1, 3):
        condition = "labels"
    elif channels == 1:
        condition = "sketch"
    else:
        condition = "lr" if "super_resolution" in str(opts.get("dataset_type")) else "self"
    base, most = channel_limits("of the decoder", [width(layer, 1) for layer in decoder.synthesis.to_rgb])
    config = PSPConfig(
        image_size=2 << decoder.synthesis.layers // 2,
        base_channels=base,
        max_channels=most,
        z_dim=decoder.z_dim,
        w_dim=len(decoder.w_mean),
        mapping_layers=len(decoder.mapping.layers),
        input_size=encoder.input_size,
        condition=condition,
        classes=channels if condition == "labels" else PSPConfig.classes,
        space="w+" if isinstance(encoder, StyleEncoder) else "w",
        stages=encoder.stages,
    )
    with torch.device("meta"):
        method = PSP(config)
    method.encoder, method.generator = encoder, decoder
    method.start = Start(encoder.layers, encoder.code_dim)
    method.start.codes.copy_(parts.average)
    return method


def networks(groups: StateDicts) -> dict[str, nn.Module]:
    """The encoder and the decoder, each if it is in the groups.

    Raises PixgraftError as `psp_parts` does. An encoder of one code needs a decoder, which gives the number of styles.
    """
    groups = _split(groups)
    read: dict[str, nn.Module] = {}
    decoder = _decoder(groups) if "decoder" in groups else None
    if "encoder" in groups:
        read["encoder"] = encoder = _encoder(groups["encoder"], decoder)
        if decoder and (encoder.layers, encoder.code_dim) != (decoder.synthesis.layers, len(decoder.w_mean)):
            raise PixgraftError(
                f"group encoder gives {encoder.layers} codes of {encoder.code_dim}, and group decoder takes "
                f"{decoder.synthesis.layers} of {len(decoder.w_mean)}: they are not of one model"
            )
    if decoder:
        read["decoder"] = decoder
    if not read:
        raise PixgraftError("no checkpoint of pSp: it has neither encoder nor decoder: choose another file or layout")
    return read


def _split(groups: StateDicts) -> StateDicts:
    """The groups, with those inside "state_dict" as groups of their own names."""
    split: dict[str, Tensors] = {name: tensors for name, tensors in groups.items() if name != "state_dict"}
    for name in ("encoder", "decoder"):
        begin = f"{name}."
        tensors = {key[len(begin) :]: x for key, x in groups.get("state_dict", {}).items() if key.startswith(begin)}
        if tensors:
            split[name] = tensors
    return split


def _decoder(groups: StateDicts) -> Generator:
    tensors, mean = groups["decoder"], lone_tensor(groups, "latent_avg")
    if mean is None:
        return rosinality_generator(tensors, "decoder", None)
    layers, w_dim = 2 * count(tensors, r"to_rgbs\.(\d+)\.") + 2, shape_of(tensors, "style.1.weight", 2, "decoder")[0]
    if mean.shape not in ((w_dim,), (1, w_dim), (layers, w_dim)):
        expected = f"({w_dim},), (1, {w_dim}) or ({layers}, {w_dim})"
        raise PixgraftError(f"latent_avg is {tuple(mean.shape)}, expected {expected}, as group decoder asks for")
    # In published files the rows are equal; in float64 so is their mean.
    return rosinality_generator(tensors, "decoder", mean.double().reshape(-1, w_dim).mean(0))


def _encoder(tensors: Tensors, decoder: Generator | None) -> Encoder:
    channels = shape_of(tensors, "input_layer.0.weight", 4, "encoder", "pSp")[1]
    blocks = range(count(tensors, r"body\.(\d+)\."))
    widths = [shape_of(tensors, f"body.{i}.res_layer.1.weight", 4, "encoder", "pSp")[0] for i in blocks]
    stages = [(width, len(list(group))) for width, group in groupby(widths)]
    if len(stages) != 4:
        raise PixgraftError(f"group encoder, as of pSp: widths {widths} of its blocks are not of four stages")
    styles = count(tensors, r"styles\.(\d+)\.")
    encoder: Encoder
    if styles:
        code_dim = shape_of(tensors, "styles.0.linear.weight", 2, "encoder", "pSp")[0]
        size = 16 << count(tensors, r"styles\.0\.convs\.(\d+)\.")
        encoder = empty(
            lambda: StyleEncoder(
                condition_channels=channels, styles=styles, code_dim=code_dim, input_size=size, stages=stages
            )
        )
    elif decoder:
        code_dim, layers = shape_of(tensors, "linear.weight", 2, "encoder", "pSp")[0], decoder.synthesis.layers
        encoder = empty(
            lambda: SingleStyleEncoder(condition_channels=channels, styles=layers, code_dim=code_dim, stages=stages)
        )
    else:
        raise PixgraftError("group encoder, of one code: how many styles it is for is the group decoder's to say")
    return filled(encoder, tensors, "encoder")


def _check_opts(opts: Mapping[str, Plain], encoder: Encoder, decoder: Generator, latent_avg: Tensor | None) -> None:
    into_w, channels = isinstance(encoder, SingleStyleEncoder), encoder.condition_channels
    expected: dict[str, tuple[Plain, ...]] = {
        "input_nc": (channels,),
        "label_nc": (0, channels),  # 0 for conditions that are images
        "output_size": (2 << decoder.synthesis.layers // 2,),
        "n_styles": (encoder.layers,),
        "encoder_type": ("BackboneEncoderUsingLastLayerIntoW" if into_w else "GradualStyleEncoder",),
        "learn_in_w": (into_w,),
        "start_from_latent_avg": (latent_avg is not None,),
    }
    for name, allowed in expected.items():
        if name in opts and opts[name] not in allowed:
            said = "latent_avg says" if name == "start_from_latent_avg" else "the tensors say"
            raise PixgraftError(f"opts: {name} is {opts[name]!r}, and {said} {allowed[-1]!r}: choose another file")
