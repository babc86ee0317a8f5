"""Other engines than PyTorch for trained models: ONNX Runtime and OpenVINO, which run a model's programs on the CPU.

The programs are exported from the checked weights into the cache at first use. ONNX files of others are never opened.
"""

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixgraft.engine.extras import packages
from pixgraft.errors import PixgraftError
from pixgraft.features.weights import cache_folder
from pixgraft.files import write_bytes
from pixgraft.layers.noise import Noise
from pixgraft.methods.sampling import Sampling
from pixgraft.methods.tasks import Encoded, Encoding, Synthesis, Synthesized
from pixgraft.models import Model
from pixgraft.pipelines.onnx import difference, exported
from pixgraft.pipelines.options import Computing, Precision
from pixgraft.pipelines.programs import Program, programs
from pixgraft.version import __version__

Arrays = Sequence[NDArray[Any]]


class Session(ABC):
    """One exported program, ready to run."""

    @abstractmethod
    def __init__(self, file: Path, precision: Precision) -> None:
        """Open the file of an ONNX model, for as many threads as PyTorch uses."""

    @abstractmethod
    def run(self, inputs: Arrays) -> Arrays:
        """The outputs, in their order, of inputs in theirs."""

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """As `run`, for tensors."""
        return [torch.from_numpy(np.array(each)) for each in self.run([each.contiguous().numpy() for each in inputs])]


class OnnxRuntimeSession(Session):
    """ONNX Runtime, in float32."""

    def __init__(self, file: Path, precision: Precision) -> None:
        import onnxruntime

        if precision != "float32":
            raise PixgraftError(
                f"--precision {precision}: ONNX Runtime's kernels for CPUs take float32: choose openvino"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_inputs()]

    def run(self, inputs: Arrays) -> Arrays:
        outputs: Arrays = self._session.run(None, dict(zip(self._names, inputs, strict=True)))
        return outputs


class OpenVinoSession(Session):
    """OpenVINO, in either precision."""

    def __init__(self, file: Path, precision: Precision) -> None:
        import openvino

        core = openvino.Core()
        # Without a hint it takes bfloat16 wherever the processor has it.
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._model = core.compile_model(core.read_model(str(file)), "CPU", settings)

    def run(self, inputs: Arrays) -> Arrays:
        outputs = self._model(list(inputs))
        return [outputs[index] for index in range(len(outputs))]


TOLERANCE = 1e-3
"""The largest difference to PyTorch in float32 that is rounding; a grey level is 8e-3."""
SESSIONS: dict[str, type[Session]] = {"onnxruntime": OnnxRuntimeSession, "openvino": OpenVinoSession}


class OnEngine:
    """The functions of a method's task that pipelines call, computed by sessions in place of PyTorch."""

    def __init__(self, model: Model, sessions: Mapping[str, Session]) -> None:
        self.method, self._sessions = model.method, sessions

    def translate(self, source: Tensor, target: Tensor) -> Tensor:
        """As `Graft.translate`."""
        return self._sessions["translate"](source, target)[0]

    def translate_into(self, source: Tensor, target: Tensor, domain: Tensor) -> Tensor:
        """As `Graft.translate_into`."""
        return self._sessions["translate"](source, target, domain)[0]

    def encode_style(self, images: Tensor) -> Tensor:
        """As `Synthesis.encode_style`."""
        return self._sessions["style"](images)[0]

    def samples(self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]) -> list[Synthesized]:
        """As `Synthesis.samples`."""
        assert isinstance(self.method, Synthesis)
        self.method.condition.check(condition)
        made = []
        for noise in noises:
            maps = (
                [torch.zeros_like(each) for each in self.method.draw_noise(len(condition))] if noise is None else noise
            )
            given = [style, *maps] if self.method.style_dim else maps
            image, *parts = self._sessions["sample"](condition, *given)
            made.append(Synthesized(image, dict(zip(self.method.components, parts, strict=True))))
        return made

    def encode(self, condition: Tensor, *, steps: int | None = None) -> Encoded:
        """As `Encoding.encode`, for the model's own number of steps alone."""
        assert isinstance(self.method, Encoding)
        if steps not in (None, self.method.steps):
            raise PixgraftError(
                f"--steps {steps}: other engines take the model's {self.method.steps}: use --engine torch"
            )
        self.method.condition.check(condition)
        codes, images = self._sessions["encode"](condition)
        return Encoded(list(codes.unbind(1)), list(images.unbind(1)))

    def decode(self, codes: Tensor) -> Tensor:
        """As `Encoding.decode`."""
        return self._sessions["decode"](codes)[0]

    def synthesize(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        """As `Sampling.synthesize`."""
        method = self.method
        assert isinstance(method, Sampling)
        if method.style_layers and codes.ndim == 2:
            codes = method.spread(codes)
        maps: Sequence[Tensor]
        if isinstance(noise, str):
            maps = method.draw_noise(len(codes)) if noise == "random" else method.stored_noise(len(codes))
            maps = [torch.zeros_like(each) for each in maps] if noise == "none" else maps
        else:
            maps = noise
        return self._sessions["synthesize"](codes, *maps)[0]


def on_engine(model: Model, device: torch.device, computing: Computing) -> OnEngine:
    """The model on another engine, exported at first use.

    Raises PixgraftError if the engine is not installed, or for another device than the CPU.
    """
    engine = computing.engine
    if device.type != "cpu":
        raise PixgraftError(f"--engine {engine}: computes on the CPU, not on {device}: --device cpu, or --engine torch")
    packages("openvino" if engine == "openvino" else "export", f"--engine {engine}")
    folder = cache_folder() / "onnx" / f"{model.weights_sha256[:16]}-pixgraft-{__version__}-torch-{torch.__version__}"
    sessions = {}
    for name, program in programs(model.method).items():
        file = exported(model.method, program, folder / f"{name}.onnx")
        _check(engine, name, program, file)
        sessions[name] = SESSIONS[engine](file, computing.precision)
    return OnEngine(model, sessions)


def _check(engine: str, name: str, program: Program, file: Path) -> None:
    """Compare an engine with PyTorch, once for each exported file and version of the engine.

    Raises PixgraftError if it computes something else: compilers of networks have faults.
    """
    checked = file.with_name(f"{file.stem}-{engine}-{importlib.metadata.version(engine)}.checked")
    if checked.is_file():
        return
    largest = difference(program, SESSIONS[engine](file, "float32"))
    if not largest < TOLERANCE:  # nan is no agreement either
        found = f"its {name} differs from PyTorch's by {largest:.2g} of [-1, 1]"
        raise PixgraftError(f"--engine {engine}: {found}: choose another engine, or another version of it")
    write_bytes(checked, f"{largest}\n".encode())
