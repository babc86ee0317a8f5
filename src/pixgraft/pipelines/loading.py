"""The pipelines by task, and `load`, which opens any model as its task's pipeline."""

from pathlib import Path

from pixgraft import devices
from pixgraft.models import load_model
from pixgraft.pipelines.base import Pipeline
from pixgraft.pipelines.encode import EncodingPipeline
from pixgraft.pipelines.graft import GraftPipeline
from pixgraft.pipelines.sample import SamplingPipeline
from pixgraft.pipelines.synthesize import SynthesisPipeline

PIPELINES: dict[str, type[Pipeline]] = {
    "graft": GraftPipeline,
    "synthesize": SynthesisPipeline,
    "encode": EncodingPipeline,
    "sample": SamplingPipeline,
}
"""The pipelines by task."""


def load(model: str | Path, *, device: str = "auto", local_rank: int = 0) -> Pipeline:
    """Open a bundled model, a run folder, a model folder or a Hugging Face repository id as its task's pipeline.

    `device` is auto, cpu, cuda, cuda:N or mps; of several GPUs a process takes that of its `local_rank`.

    Raises PixgraftError if it is none of these or its weights are damaged.
    """
    picked = devices.pick(device, local_rank)
    opened = load_model(model, device=picked)
    return PIPELINES[opened.method.task](opened, picked)
