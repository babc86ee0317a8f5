"""The experiments of the papers and of this library: one function each, one file per method.

A `paper` preset follows the paper's text, an `official` preset the published code.
"""

from collections.abc import Callable

from pixgraft.errors import unknown
from pixgraft.presets import grit, i2ilr, ome, pix2pixhd, progan, psp, spade, starganv2, stylegan2
from pixgraft.training.experiment import Experiment

PRESETS: dict[str, Callable[[], Experiment]] = {
    "i2ilr-paper-128": i2ilr.paper_128,
    "i2ilr-paper-256": i2ilr.paper_256,
    "i2ilr-official-128": i2ilr.official_128,
    "i2ilr-celebahq-256": i2ilr.celebahq_256,
    "i2ilr-afhq-256": i2ilr.afhq_256,
    "i2ilr-portraits-128": i2ilr.portraits_128,
    "i2ilr-faces-64": i2ilr.faces_64,
    "i2ilr-small-64": i2ilr.small_64,
    "i2ilr-tiny-32": i2ilr.tiny_32,
    "starganv2-paper-256": starganv2.paper_256,
    "starganv2-small-64": starganv2.small_64,
    "starganv2-tiny-32": starganv2.tiny_32,
    "grit-paper-256": grit.paper_256,
    "grit-paper-512": grit.paper_512,
    "grit-celebamask-256": grit.celebamask_256,
    "grit-faces-128": grit.faces_128,
    "grit-small-64": grit.small_64,
    "grit-sketch-faces-64": grit.sketch_faces_64,
    "grit-tiny-32": grit.tiny_32,
    "pix2pixhd-paper-256": pix2pixhd.paper_256,
    "pix2pixhd-small-64": pix2pixhd.small_64,
    "pix2pixhd-sketch-faces-64": pix2pixhd.sketch_faces_64,
    "pix2pixhd-tiny-32": pix2pixhd.tiny_32,
    "spade-paper-256": spade.paper_256,
    "spade-small-64": spade.small_64,
    "spade-sketch-faces-64": spade.sketch_faces_64,
    "spade-tiny-32": spade.tiny_32,
    "stylegan2-paper-1024": stylegan2.paper_1024,
    "stylegan2-paper-256": stylegan2.paper_256,
    "stylegan2-ffhq-256": stylegan2.ffhq_256,
    "stylegan2-portraits-128": stylegan2.portraits_128,
    "stylegan2-faces-64": stylegan2.faces_64,
    "stylegan2-small-32": stylegan2.small_32,
    "stylegan2-tiny-32": stylegan2.tiny_32,
    "progan-paper-1024": progan.paper_1024,
    "progan-paper-256": progan.paper_256,
    "progan-lsun-256": progan.lsun_256,
    "progan-small-32": progan.small_32,
    "progan-tiny-32": progan.tiny_32,
    "psp-paper-1024": psp.paper_1024,
    "psp-official-1024": psp.official_1024,
    "psp-ffhq-256": psp.ffhq_256,
    "psp-inversion-ffhq-256": psp.inversion_ffhq_256,
    "psp-labels-ffhq-256": psp.labels_ffhq_256,
    "psp-sketch-ffhq-256": psp.sketch_ffhq_256,
    "psp-portraits-128": psp.portraits_128,
    "psp-faces-64": psp.faces_64,
    "psp-small-32": psp.small_32,
    "psp-tiny-32": psp.tiny_32,
    "ome-paper-stylegan2-1024": ome.paper_stylegan2_1024,
    "ome-paper-progan-1024": ome.paper_progan_1024,
    "ome-ffhq-256": ome.ffhq_256,
    "ome-inversion-ffhq-256": ome.inversion_ffhq_256,
    "ome-labels-ffhq-256": ome.labels_ffhq_256,
    "ome-sketch-ffhq-256": ome.sketch_ffhq_256,
    "ome-lsun-progan-256": ome.lsun_progan_256,
    "ome-portraits-128": ome.portraits_128,
    "ome-faces-64": ome.faces_64,
    "ome-sketch-faces-64": ome.sketch_faces_64,
    "ome-small-32": ome.small_32,
    "ome-tiny-32": ome.tiny_32,
}

REMARKS = dict.fromkeys(
    ("i2ilr-paper-128", "i2ilr-paper-256"),
    "after the text, whose divided LR difference showed no faces here: rather train i2ilr-celebahq-256",
) | dict.fromkeys(
    ("grit-paper-256", "grit-paper-512"),
    "after the text, whose discriminator stayed at chance here: rather train grit-celebamask-256",
)
"""What is to be known before one trains a preset, a line each."""
MEMORY = {
    "i2ilr-celebahq-256": (10.6, 2.0),
    "i2ilr-afhq-256": (10.6, 2.0),
    "grit-celebamask-256": (4.7, 0.8),
    "stylegan2-ffhq-256": (11.0, 3.3),
    "progan-lsun-256": (14.2, 4.2),
    "psp-ffhq-256": (7.2, 6.4),
    "psp-inversion-ffhq-256": (7.2, 6.4),
    "psp-labels-ffhq-256": (6.8, 6.0),
    "psp-sketch-ffhq-256": (6.8, 6.0),
    "ome-ffhq-256": (5.1, 4.6),
    "ome-inversion-ffhq-256": (5.1, 4.6),
    "ome-labels-ffhq-256": (5.1, 4.6),
    "ome-sketch-ffhq-256": (5.1, 4.6),
    "ome-lsun-progan-256": (6.3, 5.6),
}
"""GiB on each GPU if there are one and if there are eight, as `training.memory` computes them, which takes too long for
a list."""


def preset(name: str) -> Experiment:
    """The experiment of the preset `name`. Raises PixgraftError, which suggests similar names, if there is none."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS, f"`pixgraft presets` lists all {len(PRESETS)}")
    return PRESETS[name]()
