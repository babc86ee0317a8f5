"""How large the largest tensor is that a computation makes: counted, so that it does not depend on the machine."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class _Largest(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in tree_iter(made):
            if isinstance(each, Tensor):
                self.bytes = max(self.bytes, each.numel() * each.element_size())
        return made


def largest_tensor(run: Callable[[], object]) -> int:
    """Bytes of the largest tensor that any operation of PyTorch gives while `run` runs, views among them."""
    largest = _Largest()
    with torch.no_grad(), largest:
        run()
    return largest.bytes
