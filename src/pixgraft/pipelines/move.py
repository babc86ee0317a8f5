"""Codes moved along a direction, as the options of what finds codes ask for it."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.pipelines.codes import read_direction
from pixgraft.pipelines.options import CodesOptions, check_direction

AMOUNT = 2.0
"""Default way along a direction."""


@dataclass(frozen=True)
class Move:
    """A way along a direction."""

    by: Tensor
    """(M, D), which is added to the codes."""
    settings: dict[str, Any]
    """What a report says of it."""

    def __call__(self, codes: Tensor) -> Tensor:
        """The codes moved."""
        return codes + self.by


def read_move(options: CodesOptions, shape: tuple[int, ...]) -> Move | None:
    """The way that codes of this shape are to be moved. Raises PixgraftError if no such direction fits them."""
    check_direction(options.direction, name=options.name, amount=options.amount)
    if options.direction is None:
        return None
    amount = AMOUNT if options.amount is None else options.amount
    if not -1000 <= amount <= 1000:
        raise PixgraftError(f"amount {amount}: choose a number such as 2 or -2")
    found = read_direction(options.direction, options.name, shape)
    settings = {"direction": found.tensor, "direction_sha256": found.sha256, "amount": amount}
    return Move(amount * found.codes, settings)
