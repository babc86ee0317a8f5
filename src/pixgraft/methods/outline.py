"""The outline of a method: its networks without their memory, as a configuration from anywhere makes them.

They are built on PyTorch's meta device, uninitialised, and the building ends where they become too large.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from pixgraft.errors import PixgraftError, printable
from pixgraft.methods import METHODS
from pixgraft.methods.base import Method

MAX_NUMBER = 65_536
"""The largest width, depth or side in a configuration. Numbers of images, which need no memory, are exempt."""
MAX_ELEMENTS = 2**29
"""The elements of all tensors of a method: 2 GiB in float32. The largest preset has 300 million."""
MAX_TENSORS = 5_000
"""The largest preset has 800."""

INITIAL = {"normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "normalize", "div", "mul"}
"""Functions by which networks draw and scale their initial values."""
CREATING = {"empty", "zeros", "ones", "full", "tensor", "rand", "randn", "eye", "arange"}


class _Uninitialised(TorchFunctionMode):
    """Counts the tensors that are made, and skips initialisation: on the meta device it computes nothing, but imports
    torch._dynamo, which takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors = self.elements = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        if function.__name__ in INITIAL:
            return next(each for each in (*args, *(kwargs or {}).values()) if isinstance(each, torch.Tensor))
        made = (torch.empty if function is torch.randn else function)(*args, **(kwargs or {}))
        if function.__name__ in CREATING:
            self.tensors, self.elements = self.tensors + 1, self.elements + made.numel()
            if self.tensors > MAX_TENSORS or self.elements > MAX_ELEMENTS:
                raise PixgraftError(
                    f"the configuration makes networks of more than {MAX_ELEMENTS:,} elements or {MAX_TENSORS:,} "
                    "tensors: choose smaller ones"
                )
        return made


def outline(kind: str, config: Any) -> Method:
    """A method on the meta device, for its tensors' names, shapes and types; it can neither run nor be moved.

    Raises PixgraftError for a configuration that makes no networks, or unreasonably large ones; it then has needed
    little memory and time.
    """
    _check_numbers(vars(config))
    try:
        with torch.device("meta"), _Uninitialised(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about empty tensors, which are refused below
            method = METHODS[kind](config)
    except PixgraftError:
        raise
    except Exception as error:  # the networks' constructors raise anything for sizes that cannot be
        reason = printable(" ".join(str(error).split()))[:120]
        raise PixgraftError(f"the configuration makes no networks ({type(error).__name__}: {reason})") from None
    for name, tensor in method.state_dict().items():
        if not tensor.numel():
            raise PixgraftError(f"the configuration makes networks of no channels: {name} is empty")
    return method


def _check_numbers(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        for number in _numbers(value):
            if abs(number) > MAX_NUMBER and not name.endswith("_images"):
                raise PixgraftError(f"{name} is {number:,}: the networks would be too large; at most {MAX_NUMBER:,}")


def _numbers(value: Any) -> list[int]:
    """The whole numbers in a field, which may be a tuple."""
    if isinstance(value, tuple):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int) else []
