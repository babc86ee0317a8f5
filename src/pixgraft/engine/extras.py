"""The packages that only some commands need, by the extra that installs them."""

import importlib.util

from pixgraft.errors import PixgraftError

EXTRAS = {
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "log": ("tensorboard",),
    "video": ("av",),
}


def packages(extra: str, option: str) -> None:
    """Raise PixgraftError, which says how to install them, if packages of an extra that an option needs are missing."""
    if missing := [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]:
        raise PixgraftError(f"{option}: needs {', '.join(missing)}: pip install 'pixgraft[{extra}]'")
