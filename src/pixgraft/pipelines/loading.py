"""The pipelines by task, and `load`, which opens any model as its task's pipeline."""

from pathlib import Path
from typing import Any, get_args

from pixgraft import devices
from pixgraft.errors import PixgraftError
from pixgraft.inversion.settings import By, SearchSettings
from pixgraft.models import load_model
from pixgraft.pipelines.base import Pipeline
from pixgraft.pipelines.encode import EncodingPipeline
from pixgraft.pipelines.graft import GraftPipeline
from pixgraft.pipelines.invert import InversionPipeline
from pixgraft.pipelines.options import Computing, EngineName, Precision, one_of
from pixgraft.pipelines.sample import SamplingPipeline
from pixgraft.pipelines.synthesize import SynthesisPipeline
from pixgraft.records import from_dict

PIPELINES: dict[str, type[Pipeline]] = {
    "graft": GraftPipeline,
    "synthesize": SynthesisPipeline,
    "encode": EncodingPipeline,
    "sample": SamplingPipeline,
}
"""The pipelines by task."""


def load(
    model: str | Path, *, device: str = "auto", precision: Precision = "float32", engine: EngineName = "torch",
    local_rank: int = 0, by: By | None = None, **search: Any,
) -> Pipeline:  # fmt: skip
    """Open a bundled model, a run folder, a model folder or a Hugging Face repository id as its task's pipeline.

    `device` is auto, cpu, cuda, cuda:N or mps; of several GPUs a process takes that of its `local_rank`. Engines other
    than torch compute on the CPU, and are packages of their own. With `by` a prior becomes a pipeline of the task
    "encode" that searches for codes in this way; `search` are further fields of `SearchSettings`.

    Raises PixgraftError if it is none of these, its weights are damaged, or the engine is not installed.
    """
    one_of("precision", precision, get_args(Precision))
    one_of("engine", engine, get_args(EngineName))
    settings = None if by is None else from_dict(SearchSettings, {"by": by} | search, "load")
    if search and settings is None:
        raise PixgraftError(f"load: {', '.join(search)}: settings of searches: name one with by='wplus'")
    picked = devices.pick("cpu" if device == "auto" and engine != "torch" else device, local_rank)
    opened = load_model(model, device=picked)
    computing = Computing(precision, engine)
    if settings is not None:
        return InversionPipeline(opened, picked, settings, computing)
    return PIPELINES[opened.method.task](opened, picked, computing)
