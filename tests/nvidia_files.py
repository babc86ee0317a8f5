"""Files as NVIDIA's stylegan2-ada-pytorch pickles them, made by a stand-in for its torch_utils.persistence."""

import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.nvidia_pickle import read_nvidia_pickle


class EasyDict(dict[str, Any]):
    """Named like NVIDIA's, which is a dict with attributes."""


EasyDict.__module__ = "dnnlib.util"


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    raise AssertionError("the reader called it")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent(nn.Module):
    """Pickled as the published decorator does it: one call with the class's source and the object's attributes."""

    class_name = "Generator"
    source = "raise SystemExit('the source was run')"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__()
        self._init_args = arguments
        self._init_kwargs = keywords

    def __reduce__(self) -> Any:
        meta = {
            "type": "class", "version": 6, "module_src": self.source, "class_name": self.class_name,
            "state": self.__dict__,
        }  # fmt: skip
        return _reconstruct_persistent_obj, (meta,), None


class Layer(Persistent):
    class_name = "SynthesisLayer"

    def __init__(self, width: int, **keywords: Any) -> None:
        super().__init__(width, **keywords)
        self.weight = nn.Parameter(torch.randn(width, 2, 3, 3).to(memory_format=torch.channels_last))
        self.bias = None
        self.register_parameter("none", None)
        self.register_buffer("resample_filter", torch.arange(4.0).outer(torch.arange(4.0)))
        self.register_buffer("steps", torch.tensor(7), persistent=False)
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.weight_gain = 1 / np.sqrt(width)
        self.size = np.broadcast_to(np.asarray(4), [2])


class Network(Persistent):
    w_avg: Tensor

    def __init__(self, width: int = 3, **keywords: Any) -> None:
        super().__init__(width=width, **keywords)
        self.c_dim = keywords.get("c_dim", 0)
        self.b4 = Layer(width, up=2)
        self.b8 = Layer(width)
        self.register_buffer("w_avg", torch.randn(5).half())


def saved(content: object, protocol: int = 4) -> bytes:
    """The content's pickle, written while NVIDIA's modules exist; they are gone again when a file is read."""
    modules = {name: types.ModuleType(name) for name in ("torch_utils", "torch_utils.persistence", "dnnlib.util")}
    modules["dnnlib"] = types.ModuleType("dnnlib")
    modules["torch_utils.persistence"].__dict__["_reconstruct_persistent_obj"] = _reconstruct_persistent_obj
    modules["dnnlib.util"].__dict__["EasyDict"] = EasyDict
    sys.modules.update(modules)
    try:
        return pickle.dumps(content, protocol)
    finally:
        for name in modules:
            del sys.modules[name]


def written(folder: Path, content: object, protocol: int = 4) -> Path:
    file = folder / "network.pkl"
    file.write_bytes(content if isinstance(content, bytes) else saved(content, protocol))
    return file


def refusal(folder: Path, content: object) -> str:
    """What the reader says of a file with this content, without the file's name."""
    file = written(folder, content)
    with pytest.raises(PixgraftError) as caught:
        read_nvidia_pickle(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    assert len(text) < 400
    return text.removeprefix(f"{file}: ")


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


def same(found: dict[str, Tensor], network: nn.Module) -> bool:
    expected = tensors_of(network)
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in expected.items()
    )


def storage_bytes(tensor: Tensor) -> bytes:
    """A storage as PyTorch pickles it."""
    data: bytes = tensor._typed_storage().__reduce__()[1][0]
    return data


class Claims:
    """A tensor of any claimed size over a storage's bytes."""

    def __init__(self, data: bytes, size: object, stride: object, offset: object = 0) -> None:
        self.data = data
        hooks: OrderedDict[str, Any] = OrderedDict()
        self.layout = (offset, size, stride, False, hooks)

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (Stored(self.data), *self.layout)


class Stored:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.data,)
