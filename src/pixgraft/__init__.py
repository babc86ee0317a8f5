"""pixgraft: image-to-image translation that puts real detail on coarse pictures.

`pixgraft.load(MODEL)` opens any model as a pipeline, which is called; `pixgraft --help` lists the commands.
"""

from typing import TYPE_CHECKING, Any

from pixgraft.version import __version__

if TYPE_CHECKING:
    from pixgraft.pipelines.base import Pipeline, Result
    from pixgraft.pipelines.loading import load

__all__ = ["Pipeline", "Result", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; who only asks for the version need not wait for it.
    if name in ("Pipeline", "Result", "convert", "load"):
        from importlib import import_module

        homes = {"load": "pixgraft.pipelines.loading", "convert": "pixgraft.convert"}
        module = import_module(homes.get(name, "pixgraft.pipelines.base"))
        return module if name == "convert" else getattr(module, name)
    raise AttributeError(f"module 'pixgraft' has no attribute {name!r}")
