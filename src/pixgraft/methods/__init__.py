"""Methods by name. A new method needs its file, a line here, a preset and a row in the parametrised tests."""

from pixgraft.methods.base import Method
from pixgraft.methods.grit import GRIT
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.methods.ome import OME
from pixgraft.methods.pix2pixhd import Pix2PixHD
from pixgraft.methods.progan import ProGAN
from pixgraft.methods.psp import PSP
from pixgraft.methods.spade import SPADE
from pixgraft.methods.starganv2 import StarGANv2
from pixgraft.methods.stylegan2 import StyleGAN2

METHODS: dict[str, type[Method]] = {
    "i2ilr": I2ILR,
    "starganv2": StarGANv2,
    "grit": GRIT,
    "pix2pixhd": Pix2PixHD,
    "spade": SPADE,
    "stylegan2": StyleGAN2,
    "progan": ProGAN,
    "psp": PSP,
    "ome": OME,
}

__all__ = ["METHODS", "Method"]
