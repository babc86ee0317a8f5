"""pixgraft: image-to-image translation that puts real detail on coarse pictures.

`pixgraft.load(MODEL).translate(...)` is the whole of everyday use; `pixgraft --help` lists the commands.
"""

from typing import TYPE_CHECKING, Any

from pixgraft.version import __version__

if TYPE_CHECKING:
    from pixgraft.pipelines.translator import Translator, load

__all__ = ["Translator", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; who only asks for the version need not wait for it.
    if name in ("load", "Translator"):
        from pixgraft.pipelines import translator

        return getattr(translator, name)
    if name == "convert":
        import importlib

        return importlib.import_module("pixgraft.convert")
    raise AttributeError(f"module 'pixgraft' has no attribute {name!r}")
