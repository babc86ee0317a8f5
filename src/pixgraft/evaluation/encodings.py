"""Encoders as rows of a table: what pSp and OME make of images, shrunk or as they are, against these very images."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pixgraft.data.degrade import Degradation
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.subjects import Group, Pictures
from pixgraft.layers.conditions import fitted
from pixgraft.methods.encoding import Encoding
from pixgraft.methods.ome import OME
from pixgraft.models import Model
from pixgraft.networks import ome

UNMEASURED = 2
"""Images that an encoder makes before its time is taken."""
SCALES = ("coarse", "middle", "fine")
"""Of OME's codes, in the order of its encoder's `scales`."""


@dataclass(frozen=True)
class Made:
    """What became of one input."""

    image: Tensor
    """uint8 (1, 3, s, s)."""
    seconds: float | None = None
    changes: dict[str, Tensor] | None = None
    """By scale, (1,): the mean absolute change of its codes in the last step (OME, eq. 16, of one image)."""


Make = Callable[[Tensor], Made]
"""From an input, uint8 (1, 3, s, s)."""


class Encoder:
    """A model of pSp or OME, one image at a time."""

    def __init__(self, model: Model, device: torch.device, protocol: Protocol) -> None:
        """Raises PixgraftError for a model of a method or of conditions that the protocol cannot measure."""
        method = model.method
        if not isinstance(method, Encoding) or method.name not in protocol.kinds:
            named = " or ".join(protocol.kinds)
            raise PixgraftError(f"{model.name}: a model of {method.name}: {protocol.name} measures models of {named}")
        inversion = protocol.factors == (1,)
        # To a model of small images enlarged, an image itself is one that was shrunk by 1.
        kinds = ("self", "lr") if inversion else ("lr",)
        if method.config.condition not in kinds:
            needed = "of the image itself (self) or of small ones (lr)" if inversion else "of small images (lr)"
            raise PixgraftError(
                f"{model.name}: makes images from conditions of kind {method.config.condition}: "
                f"{protocol.name} measures a model {needed}"
            )
        self.method, self.device = method, device
        self.size: int = method.config.input_size
        self.steps = method.steps if isinstance(method, OME) else 1
        self.scales: tuple[str, ...] = ()
        """That the codes of a model of OME come from, the coarsest first."""
        if isinstance(method.encoder, ome.Encoder):
            self._scale_of = torch.tensor(method.encoder.scales)
            self.scales = tuple(SCALES[number] for number in sorted(set(method.encoder.scales)))
        self.about = {
            "weights_sha256": model.weights_sha256,
            "method": method.name,
            "condition": method.config.condition,
            "steps": self.steps,
        }
        self._warm = False

    def make(self, condition: Tensor) -> Made:
        """The model's image, at the side s, and the time that it took."""
        if not self._warm:
            for _ in range(UNMEASURED):
                self.method.encode(condition)
            self._warm = True
        self._wait()
        began = time.perf_counter()
        image = self.method.encode(condition).images[-1]
        self._wait()
        seconds = time.perf_counter() - began
        return Made(self._pixels(image), seconds)

    def step(self, condition: Tensor, number: int) -> Made:
        """The same after step `number` of a model of OME, from 0, the image of the starting codes."""
        encoded = self.method.encode(condition, steps=max(number, 1))
        image = self._pixels(encoded.images[number])
        if not number:
            return Made(image)
        moved = (encoded.codes[number] - encoded.codes[number - 1])[0].double().abs().mean(1).cpu()
        changes = {name: moved[self._scale_of == SCALES.index(name)].mean().unsqueeze(0) for name in self.scales}
        return Made(image, changes=changes)

    def start(self, condition: Tensor) -> Made:
        """The floor that knows nothing of the input: the image of the starting codes."""
        return Made(self._pixels(self.method.decode(self.method.start.codes.unsqueeze(0))))

    def _pixels(self, image: Tensor) -> Tensor:
        return to_uint8(fitted(image, self.size)).cpu()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    @property
    def machine(self) -> str:
        """What its time depends on."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"a CPU with {threads} thread{'s' * (threads > 1)}" if self.device.type == "cpu" else self.device.type


def as_it_is(condition: Tensor) -> Made:
    """The floor that knows only the input: a small image's bicubic enlargement."""
    return Made(condition)


class Encodings:
    """What is made of each image of a set, once it is shrunk and enlarged again, against the image."""

    def __init__(
        self, name: str, pictures: Pictures, make: Make, *,
        factor: int = 1, given: tuple[str, ...] = (), about: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`given`: what `make` gives beside an image, in the words of `Metric.needs`."""
        self.name, self._pictures, self._make, self._factor = name, pictures, make, factor
        self.given = frozenset({"reference", *given})
        self.about, self.images = about or {}, len(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def condition(self, unit: int) -> Tensor:
        """What image `unit` is made from, uint8 (1, 3, s, s); shrunk and enlarged as in training."""
        image = self._pictures[unit].unsqueeze(0)
        if self._factor == 1:
            return image
        return to_uint8(Degradation(factors=(self._factor,))(from_uint8(image), self._factor))

    def __getitem__(self, unit: int) -> Group:
        made = self._make(self.condition(unit))
        seconds = None if made.seconds is None else torch.tensor([made.seconds], dtype=torch.float64)
        reference = self._pictures[unit].unsqueeze(0)
        return Group(unit, made.image, reference=reference, seconds=seconds, changes=made.changes)
