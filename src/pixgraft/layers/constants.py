"""Constant tensors such as filter taps, which each device gets once: an upload at each call would wait for a GPU."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def constant(make: Callable[..., Tensor], *arguments: object, like: Tensor) -> Tensor:
    """`make(*arguments)`, a function of them alone, on the device and in the dtype of `like`; it is not to be changed.

    `make` and the arguments are hashable.
    """
    if torch.compiler.is_compiling():  # a graph has its own constants
        return make(*arguments).to(like)
    return _constant(make, arguments, like.device, like.dtype)


@functools.lru_cache(maxsize=256)
def _constant(
    make: Callable[..., Tensor], arguments: tuple[object, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():  # training could not use what inference made
        return make(*arguments).to(device, dtype)


forget = _constant.cache_clear
"""Drop all constants, as where tensors without values were among them."""
