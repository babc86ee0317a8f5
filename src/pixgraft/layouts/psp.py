"""The layout of eladrich/pixel2style2pixel, the published code of pSp (Richardson et al. 2021).

A file holds "state_dict", whose names begin with "encoder." or "decoder." (a generator of StyleGAN2 as in
stylegan2-rosinality). If the run began from the average code, the file also holds "latent_avg", (D,), (1, D) or (L, D),
which is added to the codes (N, L, D) of the encoder. "opts" are the options of the run. Sizes are read from the
tensors, and the options may not contradict them.
"""

from collections.abc import Mapping
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


def model(content: Content) -> tuple[PSP, dict[str, nn.Module]]:
    """The model of a file as a method, and its networks; images are `generator.synthesis(encoder(conditions) + start)`.

    Its tensors are in "state_dict", or in groups "encoder" and "decoder". "latent_avg" gives the start codes, and their
    mean over the styles the decoder's `w_mean`; without it they are zeros, and `w_mean` is estimated. The options may
    be missing. They give the kind of the conditions; without them the number of channels does: 1 is a sketch, 3 an
    image to be inverted, and any other number one channel for each label.

    Raises PixgraftError for tensors that are missing, unknown or misshapen, for networks that do not fit each other,
    and for an option that contradicts them.
    """
    opts, read = content.values.get("opts", {}), networks(content.groups)
    encoder, decoder = read.get("encoder"), read.get("decoder")
    if not isinstance(encoder, Encoder) or not isinstance(decoder, Generator):
        missing = "decoder" if encoder else "encoder"
        raise PixgraftError(f"no whole model of pSp: it has no tensors of the {missing}: choose another file")
    latent_avg = lone_tensor(content.groups, "latent_avg")
    _check_opts(opts, encoder, decoder, latent_avg)
    channels = encoder.condition_channels
    condition: Kind
    if channels == 1:
        condition = "sketch"  # the published options have a label_nc of 1 for it
    elif opts.get("label_nc") or channels != 3:
        condition = "labels"
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
        enlarging="bilinear",  # of super-resolution; other conditions are not enlarged
        classes=channels if condition == "labels" else PSPConfig.classes,
        sketches="unit",
        space="w+" if isinstance(encoder, StyleEncoder) else "w",
        stages=encoder.stages,
    )
    with torch.device("meta"):
        method = PSP(config)
    method.encoder, method.generator, method.start = encoder, decoder, Start(encoder.layers, encoder.code_dim)
    if latent_avg is not None:
        method.start.codes.copy_(latent_avg)
    return method, dict(method.named_children())


def networks(groups: StateDicts) -> dict[str, nn.Module]:
    """The encoder and the decoder, each if it is in the groups; PixgraftError as from `model`.

    An encoder of one code needs a decoder, which gives the number of styles.
    """
    groups = _split(groups)
    decoder = _decoder(groups) if "decoder" in groups else None
    encoder = _encoder(groups["encoder"], decoder) if "encoder" in groups else None
    read: dict[str, nn.Module | None] = {"encoder": encoder, "decoder": decoder}
    if encoder and decoder and (encoder.layers, encoder.code_dim) != (decoder.synthesis.layers, len(decoder.w_mean)):
        raise PixgraftError(
            f"group encoder gives {encoder.layers} codes of {encoder.code_dim}, and group decoder takes "
            f"{decoder.synthesis.layers} of {len(decoder.w_mean)}: they are not of one model"
        )
    if not encoder and not decoder:
        raise PixgraftError("no checkpoint of pSp: it has neither encoder nor decoder: choose another file or layout")
    return {name: network for name, network in read.items() if network}


def _split(groups: StateDicts) -> StateDicts:
    """The groups, with those inside "state_dict" as groups of their own names."""
    split: dict[str, Tensors] = {name: tensors for name, tensors in groups.items() if name != "state_dict"}
    for name in ("encoder", "decoder"):
        whole = groups.get("state_dict", {}).items()
        if tensors := {key.partition(".")[2]: x for key, x in whole if key.startswith(f"{name}.")}:
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
    layers = styles or (decoder.synthesis.layers if decoder else 0)
    if not layers:
        raise PixgraftError("group encoder, of one code: how many styles it is for is the group decoder's to say")
    kind: type[Encoder] = StyleEncoder if styles else SingleStyleEncoder
    code_dim = shape_of(tensors, "styles.0.linear.weight" if styles else "linear.weight", 2, "encoder", "pSp")[0]
    size = 16 << count(tensors, r"styles\.0\.convs\.(\d+)\.") if styles else PSPConfig.input_size
    return filled(
        empty(
            lambda: kind(condition_channels=channels, styles=layers, code_dim=code_dim, input_size=size, stages=stages)
        ),
        tensors,
        "encoder",
    )


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
            raise PixgraftError(f"opts: {name} is {opts[name]!r:.60}, and {said} {allowed[-1]!r}: choose another file")
