"""Export of a trained model's programs as ONNX files, each checked against PyTorch on the spot."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixgraft.engine.extras import packages
from pixgraft.errors import PixgraftError
from pixgraft.files import file_sha256, new_folder, write_bytes
from pixgraft.layers.ready import make_ready
from pixgraft.methods.base import Method
from pixgraft.models import Model
from pixgraft.pipelines.programs import Program, Traced, programs
from pixgraft.version import __version__

DESCRIPTION = "onnx.json"
FORMAT = 1
OPSET = 20
LARGEST = 2**31 - 2**20
"""Bytes of the largest file: ONNX is a protocol buffer."""
CHECKED = (1, 3)
"""Numbers of images with which an exported program is compared; it is traced with 2."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks, which are for its developers."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@torch.no_grad()
def onnx_bytes(method: Method, program: Program, metadata: dict[str, str] | None = None) -> bytes:
    """A program of a method that is ready, on the CPU, as an ONNX file for any number of images.

    Raises PixgraftError if it is too large for one file, or if this PyTorch cannot export it.
    """
    weights = sum(each.numel() * each.element_size() for each in [*method.parameters(), *method.buffers()])
    if weights > LARGEST:
        raise PixgraftError(f"{weights:,} bytes of weights: an ONNX file holds {LARGEST:,}: use --engine torch")
    batch = torch.export.Dim.DYNAMIC
    inputs = tuple(program.draw(2, torch.Generator().manual_seed(0)))
    try:
        with _quiet():
            exported = torch.onnx.export(
                Traced(method, program).eval(), inputs, dynamo=True, verbose=False, external_data=False,
                optimize=False,  # the optimiser drops an epsilon of 1e-8 as if it were nothing
                opset_version=OPSET, dynamic_shapes={"inputs": tuple({0: batch} for _ in inputs)},
                input_names=list(program.inputs), output_names=list(program.outputs),
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise PixgraftError(f"{method.name}: PyTorch {torch.__version__} cannot export it: {reason}") from None
    assert exported is not None
    proto = exported.model_proto
    for key, value in (metadata or {}).items():
        proto.metadata_props.add(key=key, value=value)
    data: bytes = proto.SerializeToString()
    return data


def exported(method: Method, program: Program, file: Path) -> Path:
    """`file`, to which the program is exported unless it is there."""
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, onnx_bytes(method, program))
        except OSError as error:
            mend = "set PIXGRAFT_CACHE to another folder"
            raise PixgraftError(f"{file}: cannot be written ({error.strerror or error}): {mend}") from None
    return file


@torch.no_grad()
def difference(program: Program, run: Callable[..., list[Tensor]]) -> float:
    """The largest difference of any output between a program and `run`, over `CHECKED` random inputs, or nan."""
    largest = torch.zeros(())
    for count in CHECKED:
        inputs = program.draw(count, torch.Generator().manual_seed(count))
        for ours, theirs in zip(program.function(*inputs), run(*inputs), strict=True):
            largest = torch.maximum(largest, (ours - theirs).abs().max())
    return float(largest)


def export_onnx(model: Model, folder: Path) -> dict[str, float]:
    """Write a model's programs as ONNX files with onnx.json, which says what goes in and comes out.

    Returns the largest difference of each program between PyTorch and ONNX Runtime. The folder is complete or absent.
    Raises PixgraftError if it is there and not empty, or packages are missing.
    """
    from pixgraft.pipelines.engines import OnnxRuntimeSession

    packages("export", "--onnx")
    make_ready(model.method)
    head: dict[str, Any] = {
        "format": FORMAT, "pixgraft": __version__, "task": model.method.task, "method": model.method.name,
        "model": model.name, "weights_sha256": model.weights_sha256, "image_size": model.method.config.image_size,
    }  # fmt: skip
    described: dict[str, Any] = {}
    with new_folder(folder) as place:
        for name, program in programs(model.method).items():
            entry = {"inputs": program.inputs, "outputs": program.outputs}
            metadata = {"pixgraft": json.dumps(head | {"program": name} | entry)}
            file = place / f"{name}.onnx"
            write_bytes(file, onnx_bytes(model.method, program, metadata))
            described[name] = {
                "file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file, LARGEST), **entry,
                "largest_difference": difference(program, OnnxRuntimeSession(file, "float32")),
            }  # fmt: skip
        write_bytes(place / DESCRIPTION, (json.dumps(head | {"programs": described}, indent=1) + "\n").encode())
    return {name: each["largest_difference"] for name, each in described.items()}
