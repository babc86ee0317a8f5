"""`python -m pixgraft`, which is also how torchrun starts it."""

from pixgraft.cli import script

script()
