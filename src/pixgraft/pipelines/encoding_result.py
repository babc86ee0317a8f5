"""Results of task "encode": images of codes, the codes, and a strip of the steps that led to them.

Shape letters: N images, M codes of an image, D numbers of a code, H side of a picture of a strip.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pixgraft.data.grids import tiled
from pixgraft.layers.conditions import fitted
from pixgraft.pipelines.base import Result, gathered, png, provenance
from pixgraft.pipelines.codes import CODES

SHOWN_SIDE = 256
"""Largest side of a strip's tiles in pixels."""


@dataclass(kw_only=True)
class EncodingResult(Result):
    """Images of codes, the codes, and the strip of the steps that led to them."""

    codes: Tensor
    """(N, M, D) float32, one for each image."""
    strip: list[Tensor] = field(default_factory=list)
    """Pictures (3, H, H) in [-1, 1]: the condition, the starting image and that of each step; empty for several."""
    strip_side: int = SHOWN_SIDE
    write_codes: bool = True
    """Whether `save` writes the codes beside the images."""

    def files(self, label: str, head: Mapping[str, Any]) -> dict[str, bytes]:
        """LABEL.png, or LABEL_0.png and so on; the codes of each, ending in `_codes.safetensors`; LABEL_strip.png."""
        files: dict[str, bytes] = {}
        metadata = {"pixgraft": json.dumps(provenance(head), sort_keys=True)}
        for (name, image), codes in zip(super().files(label, head).items(), self.codes, strict=True):
            files[name] = image
            if self.write_codes:
                data = safetensors.torch.save({"codes": codes.contiguous()}, metadata)
                files[f"{name.removesuffix('.png')}{CODES}"] = data
        if self.strip:
            files[f"{label}_strip.png"] = png(in_a_row(self.strip, self.strip_side), head)
        return files


def in_a_row(pictures: Sequence[Tensor], side: int) -> Tensor:
    """Pictures (3, H, H) in [-1, 1], of any sides, beside each other."""
    return tiled(torch.cat([fitted(each.cpu().unsqueeze(0), side) for each in pictures]).unsqueeze(0))


def joined(results: Sequence[EncodingResult]) -> EncodingResult:
    """The results of a call as one, with what is known of each image; a single one as it is.

    The noise maps and the tuned generators of searches are kept in single ones alone.
    """
    if len(results) == 1:
        return results[0]
    return EncodingResult(
        pixels=torch.cat([each.pixels for each in results]),
        codes=torch.cat([each.codes for each in results]),
        **gathered(results, "image"),
    )
