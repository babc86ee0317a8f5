"""Results of whole photographs: one output for each face, or the photograph with all of them in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from pixgraft.data.images import decode, pixels
from pixgraft.faces import Patch, paste
from pixgraft.pipelines.base import Result, gathered, png
from pixgraft.pipelines.options import CodesOptions, GraftOptions
from pixgraft.pipelines.photographs import Alignable, Cut


@dataclass(kw_only=True)
class FacesResult(Result):
    """The results of each face of a photograph; `pixels` are those of all, face by face."""

    parts: list[Result]
    """In the order of the faces' sizes, the largest first."""

    def files(self, label: str, head: Mapping[str, Any]) -> dict[str, bytes]:
        """The files of each face's result, of which the names begin with LABEL-1, LABEL-2 and so on."""
        return {
            name: data
            for number, part in enumerate(self.parts, start=1)
            for name, data in part.files(f"{label}-{number}", head).items()
        }


@dataclass(kw_only=True)
class PastedResult(FacesResult):
    """A photograph with the outputs pasted into it, one whole picture for each sample."""

    cuts: list[Cut]
    """What was cut from the photograph for each of `parts`."""

    @property
    def images(self) -> list[Image.Image]:
        """The whole pictures."""
        photograph = decode(self.cuts[0].photograph, self.cuts[0].name)
        pictures = []
        for number in range(len(self.parts[0].pixels)):
            parts = [part.images[number] for part in self.parts]
            matrices = [cut.matrix for cut in self.cuts]
            pictures.append(paste(photograph, [Patch(*each) for each in zip(parts, matrices, strict=True)]))
        return pictures

    def files(self, label: str, head: Mapping[str, Any]) -> dict[str, bytes]:
        """LABEL.png; of several samples LABEL_0.png and so on."""
        pictures = self.images
        names = [label] if len(pictures) == 1 else [f"{label}_{number}" for number in range(len(pictures))]
        return {f"{name}.png": png(pixels(picture), head) for name, picture in zip(names, pictures, strict=True)}


def whole_settings(options: GraftOptions | CodesOptions) -> dict[str, Any]:
    """What the settings of a report say of whole photographs; nothing where neither option is given."""
    return ({"faces": "all"} if options.faces == "all" else {}) | ({"pasted": True} if options.paste_back else {})


def together(parts: Sequence[Result], inputs: Sequence[Alignable], options: GraftOptions | CodesOptions) -> Result:
    """The results of one photograph's faces as one, as the options ask; `inputs` are what the faces were cut out as."""
    if options.faces != "all" and not options.paste_back:
        return parts[0]
    merged: dict[str, Any] = {
        "pixels": torch.cat([each.pixels for each in parts]), "parts": list(parts), **gathered(parts, "face"),
    }  # fmt: skip
    if not options.paste_back:
        return FacesResult(**merged)
    cuts = [each.cut for each in inputs if each.cut is not None]
    return PastedResult(**merged, cuts=cuts)
