"""The methods by name. To add one: its file, a line here, a preset, a row in the parametrised tests."""

from pixgraft.methods.base import Method
from pixgraft.methods.grit import GRIT
from pixgraft.methods.i2ilr import I2ILR

METHODS: dict[str, type[Method]] = {
    "i2ilr": I2ILR,
    "grit": GRIT,
}

__all__ = ["METHODS", "Method"]
