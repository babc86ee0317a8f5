"""The training images that are nearest to a model's images: whether it has learnt them by heart.

Distances are 1 - the cosine of two images' features, 0..2. Held-out images tell what is near: those of a model that
copies lie nearer to the training images than these do. Shape letters: N images, M training images, D features.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.data.grids import tiled
from pixgraft.data.images import from_uint8, png_bytes
from pixgraft.data.outputs import write_together
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.command import check_out
from pixgraft.evaluation.options import NearestOptions
from pixgraft.evaluation.result import PENDING, made_by
from pixgraft.evaluation.subjects import Pictures
from pixgraft.features import PASS, in_passes, open_feature, parse_weights
from pixgraft.layers.resample import average_pool

SHEET, RESULT = "nearest.png", "nearest.json"
PAIRS = 6
"""Pairs in a row of the sheet."""
SIDE = 128
"""Largest side of a picture of the sheet."""
CLOSE = 0.01
"""The share of held-out images that are closer than what is called close."""
Progress = Callable[[int, int], None]


def nearest(images: Path, options: NearestOptions, device: torch.device, progress: Progress) -> dict[str, Any]:
    """Write the nearest pairs and all distances; returns what the result says.

    Raises PixgraftError for unusable images and settings, before anything is written.
    """
    if options.show < 1:
        raise PixgraftError(f"--show {options.show}: choose a number of pairs from 1")
    given = parse_weights(options.weights)
    check_out(options.out, (SHEET, RESULT), (images, options.data), given.values())
    feature = open_feature(options.features, given, device)
    side = options.size or Pictures(images)[0].shape[-1]
    sets = {"images": Pictures(images, size=side), "training": Pictures(options.data, split=options.split, size=side)}
    if options.held_out:
        sets["held_out"] = Pictures(options.data, split=options.held_out, size=side)
    total, done, found = sum(map(len, sets.values())), 0, {}
    for name, pictures in sets.items():
        parts = []
        for start in range(0, len(pictures), PASS):
            batch = torch.stack([pictures[place] for place in range(start, min(start + PASS, len(pictures)))])
            parts.append(torch.cat(list(in_passes(feature.network, batch, device))))
            done += len(batch)
            progress(done, total)
        found[name] = torch.cat(parts)
    distances, places = distances_to_nearest(found["images"], found["training"])
    order = distances.argsort().tolist()
    names = {name: pictures.names for name, pictures in sets.items()}
    result: dict[str, Any] = {
        "made_by": made_by(device), "network": feature.name, "side": side,
        "sets": {name: pictures.description() for name, pictures in sets.items()},
        "distances": {"images": _summary(distances)},
        "pairs": [
            {
                "image": names["images"][place], "training": names["training"][int(places[place])],
                "distance": round(float(distances[place]), 6),
            }
            for place in order
        ],
    }  # fmt: skip
    if options.held_out:
        others = distances_to_nearest(found["held_out"], found["training"])[0]
        result["distances"]["held_out"] = _summary(others)
        close = others.quantile(CLOSE)  # not the smallest: data sets hold the same photograph twice
        result["closer"] = round(float((distances < close).double().mean()), 6)
    shown = [
        torch.stack([from_uint8(sets["images"][place]), from_uint8(sets["training"][int(places[place])])])
        for place in order[: options.show]
    ]
    files = {SHEET: png_bytes(_sheet(shown), {}), RESULT: _text(result)}
    write_together(options.out, files, pending=_text(PENDING))
    return result


def distances_to_nearest(features: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """The distance (N,) of features (N, D) to the nearest of the training images' (M, D), and its index (N,)."""
    towards = F.normalize(training.double(), dim=1).mT
    rows = [(F.normalize(part.double(), dim=1) @ towards).max(1) for part in features.split(256)]
    return torch.cat([1 - row.values for row in rows]).clamp_min(0), torch.cat([row.indices for row in rows])


def _summary(distances: Tensor) -> dict[str, float]:
    quantiles = {"smallest": 0.0, "1 %": 0.01, "10 %": 0.1, "median": 0.5}
    return {name: round(float(distances.quantile(share)), 6) for name, share in quantiles.items()}


def _sheet(pairs: list[Tensor]) -> Tensor:
    """Pairs (2, 3, S, S) in [-1, 1], the image left of its nearest training image."""
    side = pairs[0].shape[-1]
    small = [average_pool(pair, SIDE) if side > SIDE and side % SIDE == 0 else pair for pair in pairs]
    columns = min(PAIRS, len(small))
    white = torch.ones_like(small[0])
    rows = torch.stack([*small, *[white] * (-len(small) % columns)])
    return tiled(rows.flatten(0, 1).unflatten(0, (-1, 2 * columns)))


def _text(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
