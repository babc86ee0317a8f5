"""The tasks graft, synthesize and encode, each defined by input and output; `sampling.py` has the fourth. A method
inherits the class of its task.

Code that uses or measures a model depends on its task alone. Shape letters: N images, S side of an image, L side of a
low-resolution (LR) target, C channels of a target or condition, D numbers of a code, M codes of an image.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import Condition, ConditionSpec, condition_channels, encoded, fitted
from pixgraft.layers.resample import average_pool, downscale, enlarge, upsample
from pixgraft.methods.base import Batch, Method, MethodConfig, Preview
from pixgraft.methods.sampling import Sampling

SCALES = ("coarse", "middle", "fine")
"""Names of the feature scales of an encoder, lowest resolution first."""

# --- graft: source and target to image ---


class GraftConfig(MethodConfig):
    """The base of the configurations of `Graft` methods."""

    lr_size: int
    """L, side of an LR target in pixels; a divisor of `image_size`."""

    @property
    def lr_channels(self) -> int:
        """C, channels of an LR target: 3, or 1 for grey."""
        return 3

    @property
    def input_summary(self) -> str:
        return f"{self.lr_size} {'grey' if self.lr_channels == 1 else 'color'}"


class Graft(Method):
    """Task "graft": an image with the detail of a source that shrinks to an LR target."""

    task: ClassVar[str] = "graft"
    config: GraftConfig

    @abstractmethod
    def translate(self, source: Tensor, target: Tensor) -> Tensor:
        """Images (N, 3, S, S) from sources (N, 3, S, S) and LR targets (N, C, L, L), all in [-1, 1]; no gradient."""

    def translate_into(self, source: Tensor, target: Tensor, domain: Tensor) -> Tensor:
        """As `translate`, for targets of the domains (N,), int64 indices into `config.domains`, where there are any."""
        return self.translate(source, target)

    def downscale(self, images: Tensor) -> Tensor:
        """LR targets (N, C, L, L) of images (N, 3, S, S)."""
        return downscale(images, self.config.lr_size, self.config.lr_channels)

    def outputs(self, batch: Batch, others: Tensor, randoms: Sequence[torch.Generator]) -> Tensor:
        """The other images grafted onto the batch's, shrunk to targets."""
        target = self.downscale(batch.images)
        if batch.condition is None:
            return self.translate(others, target)
        return self.translate_into(others, target, batch.condition.flatten().long())

    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Outputs for each pair of a source (columns, first half of `images`) and a target (rows, second half).

        The diversity is the deviation of the outputs for one target, divided by the deviation of the sources' detail
        (source minus its LR image; the source itself where targets are not smaller): 1 if outputs differ as much as the
        sources, 0 if they do not depend on the source.
        """
        sources, targets = images.chunk(2)
        lr = self.downscale(targets)
        factor = self.config.image_size // self.config.lr_size
        repeated = [each.expand(len(sources), -1, -1, -1) for each in lr.split(1)]
        if condition is None:
            made = [self.translate(sources, target) for target in repeated]
        else:
            domains = condition.chunk(2)[1].flatten(1).long().expand(-1, len(sources))
            made = [self.translate_into(sources, *each) for each in zip(repeated, domains, strict=True)]
        rows = torch.stack(made)
        shown_lr = upsample(lr, factor, align_corners=False)
        left = torch.stack([targets, shown_lr.expand(-1, 3, -1, -1)], dim=1)
        blank = torch.ones_like(left[:1])
        grid = torch.cat([torch.cat([blank, sources.unsqueeze(0)], dim=1), torch.cat([left, rows], dim=1)])
        details = sources - enlarge(average_pool(sources, self.config.lr_size), factor) if factor > 1 else sources
        diversity = torch.stack([_deviation(row) for row in rows]).mean() / _deviation(details).clamp_min(1e-8)
        return Preview(grid=grid, diversity=float(diversity))


def _deviation(images: Tensor) -> Tensor:
    """Root mean square deviation over N of images (N, ...), a scalar."""
    return images.var(0, correction=0).mean().sqrt()


# --- the condition of synthesize and encode ---


class ConditionalMethod(Method):
    """The base of the two tasks with a condition, a label map, sketch or image."""

    @property
    def condition(self) -> ConditionSpec:
        """Specification of the condition."""
        spec: ConditionSpec | None = self.config.condition_spec
        assert spec is not None
        return spec

    def condition_of(self, batch: Batch) -> Tensor:
        """The conditions of a batch, uint8 (N, C, s, s). Raises PixgraftError if it has none."""
        if self.condition.inversion:
            return ((batch.images + 1) * 127.5).round().to(torch.uint8)
        if batch.condition is None:
            raise PixgraftError(f"{self.name}: images without conditions: train on pairs of both")
        return batch.condition


# --- synthesize: condition and style to samples ---


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig(MethodConfig):
    """What the configurations of methods that synthesize share."""

    image_size: int = 256
    """S, a power of two from 32 to 512."""
    condition: Condition = "labels"
    """A map of class indices, a grey drawing, a colour image, or a small image enlarged to S."""
    classes: int = 19
    """Number of classes of label maps."""

    def __post_init__(self) -> None:
        if self.image_size not in (32, 64, 128, 256, 512):
            raise PixgraftError(f"image_size is {self.image_size}: choose 32, 64, 128, 256 or 512")
        if self.condition == "labels" and not 2 <= self.classes <= 256:
            raise PixgraftError(f"classes is {self.classes}: choose 2 to 256")

    @property
    def condition_spec(self) -> ConditionSpec:
        return ConditionSpec(self.condition, self.image_size, self.classes if self.condition == "labels" else 0)

    @property
    def condition_channels(self) -> int:
        """K, channels of an encoded condition: one for each class, or those of the image."""
        return condition_channels(self.condition, self.classes)


@dataclass(frozen=True)
class Synthesized:
    """Images for N conditions, and their components."""

    image: Tensor
    """(N, 3, S, S) in [-1, 1]."""
    components: dict[str, Tensor] = field(default_factory=dict)
    """Images (N, 3, S, S) in [-1, 1] by the names of `Synthesis.components`."""


class Synthesis(ConditionalMethod):
    """Task "synthesize": samples for a condition, and for a style if the method takes one."""

    task: ClassVar[str] = "synthesize"

    def encode(self, condition: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Encode stored conditions, uint8 (N, C, S, S), as network inputs, floats (N, K, S, S)."""
        return encoded(condition, self.condition.kind, self.condition.classes, dtype)

    def inputs(self, batch: Batch) -> Tensor:
        """The encoded conditions (N, K, S, S) of a batch. Raises PixgraftError if it has none."""
        return self.encode(self.condition_of(batch), batch.images.dtype)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the component images of an output."""
        return ()

    @property
    def style_dim(self) -> int:
        """D, dimension of a style code; 0 if the method takes no style."""
        return 0

    def encode_style(self, images: Tensor) -> Tensor:
        """Style codes (N, D) of images (N, 3, H, W) in [-1, 1]; no gradient."""
        return images.new_zeros(len(images), 0)

    def random_style(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """`count` style codes (count, D) from the CPU generator `random`; None is torch's default generator."""
        return torch.zeros(count, 0)

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        """Noise maps for `count` images, as `samples` takes them; empty if the generator has no noise."""
        return []

    @abstractmethod
    def samples(self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]) -> list[Synthesized]:
        """One output for each of `noises`, which come from `draw_noise`; None is zero noise. No gradient.

        `condition` is uint8 (N, C, S, S), `style` images (N, 3, H, W) in [-1, 1] or codes (N, D).

        Raises PixgraftError for conditions, styles or noise of a wrong shape, or a class index out of range.
        """

    def checked_styles(
        self,
        condition: Tensor,
        style: Tensor,
        noises: Sequence[Sequence[Tensor] | None],
        shapes: Sequence[tuple[int, ...]] = (),
    ) -> Tensor:
        """The style codes (N, D) of what `samples` gets. `shapes` are those of the noise of an image, without N.

        Raises PixgraftError as `samples`.
        """
        self.condition.check(condition)
        count = len(condition)
        expected = [(count, *shape) for shape in shapes]
        if any(noise is not None and [tuple(each.shape) for each in noise] != expected for noise in noises):
            raise PixgraftError("the noise is for other images or another generator: take what draw_noise gives")
        codes = self.encode_style(style) if style.ndim == 4 else style
        if codes.shape != (count, self.style_dim):
            raise PixgraftError(
                f"styles are {tuple(style.shape)} for {count} conditions: "
                f"give as many images, or codes ({count}, {self.style_dim})"
            )
        return codes

    def translate(self, condition: Tensor, style: Tensor, noise: Sequence[Tensor] | None = None) -> Synthesized:
        """One output for conditions, styles and noise, as `samples` takes them."""
        return self.samples(condition, style, [noise])[0]

    def outputs(self, batch: Batch, others: Tensor, randoms: Sequence[torch.Generator]) -> Tensor:
        """A sample for each condition, in the style of its own image."""
        maps = [self.draw_noise(1, random) for random in randoms]
        noise = [torch.cat(layer).to(batch.images.device) for layer in zip(*maps, strict=True)]
        return self.translate(self.condition_of(batch), self.encode_style(batch.images), noise).image

    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Rows: conditions, images, the components of one output, two outputs in the image's style with different
        noise, and one in a random style.

        The diversity is the deviation over four outputs with different noise, a mean over all pixels.
        """
        condition = self.condition_of(Batch(images, {}, condition))
        random = torch.Generator().manual_seed(0)
        outputs = self.samples(
            condition, self.encode_style(images), [self.draw_noise(len(images), random) for _ in range(4)]
        )
        rows = [self.condition.pictured(condition), images, *outputs[0].components.values()]
        rows += [output.image for output in outputs[:2]]
        style = self.random_style(len(images), random).to(images.device)
        rows += [output.image for output in self.samples(condition, style, [self.draw_noise(len(images), random)])]
        diversity = torch.stack([output.image for output in outputs]).std(0, correction=0).mean()
        return Preview(grid=torch.stack(rows), diversity=float(diversity))


# --- encode: condition or image to codes of a generator ---


@dataclass(frozen=True)
class Encoded:
    """Codes and images for N conditions after each step."""

    codes: list[Tensor]
    """Codes (N, M, D) of each step."""
    images: list[Tensor]
    """Images (N, 3, S, S) of each step, clamped to [-1, 1]."""


class Encoding(ConditionalMethod):
    """Task "encode": codes of a generator for a condition, and their images."""

    task: ClassVar[str] = "encode"
    several_outputs: ClassVar[bool] = False

    @property
    @abstractmethod
    def start_codes(self) -> Tensor:
        """Codes (M, D) to which the encoder adds offsets."""

    @property
    def steps(self) -> int:
        """Default number of steps of `encode`."""
        return 1

    @property
    def max_steps(self) -> int | None:
        """Largest number of steps of `encode`; None for no limit."""
        return 1

    @property
    def layer_styles(self) -> bool:
        """Whether code m is the style of layer m of the generator, so that codes can be mixed by layer."""
        return False

    @property
    def scales(self) -> tuple[str, ...]:
        """The scale of each of the M codes, from `SCALES`; empty if the method has no scales."""
        return ()

    @abstractmethod
    def encode(self, condition: Tensor, *, steps: int | None = None) -> Encoded:
        """Codes and images for conditions, uint8 (N, C, s, s), after each of `steps` steps; None is `self.steps`.

        Raises PixgraftError for conditions of a wrong shape or type, a class index out of range, and a number of steps
        that the method does not support.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Images (N, 3, S, S), clamped to [-1, 1], of codes (N, M, D); no gradient."""

    @abstractmethod
    def random_codes(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """`count` codes (count, D) from the CPU generator `random`; None is torch's default generator."""

    def embedded_prior(self) -> Sampling:
        """The prior that its generator is; both share the weights. Raises PixgraftError if it has no such generator."""
        raise PixgraftError(f"{self.name} models hold no prior to search: name the prior")

    def outputs(self, batch: Batch, others: Tensor, randoms: Sequence[torch.Generator]) -> Tensor:
        """The image of each condition after the last step, at the condition's size."""
        return fitted(self.encode(self.condition_of(batch)).images[-1], self.condition.size)

    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Rows: conditions, the image of the start codes, the images after each step, the targets.

        The diversity is the deviation over the last images, a mean over all pixels: 0 if all inputs give one image.
        """
        conditions = self.condition_of(Batch(images, {}, condition))
        start = self.decode(self.start_codes.unsqueeze(0)).expand(len(images), -1, -1, -1)
        outputs = [fitted(each, self.condition.size) for each in (start, *self.encode(conditions).images)]
        diversity = outputs[-1].std(0, correction=0).mean()
        grid = torch.stack([self.condition.pictured(conditions), *outputs, images])
        return Preview(grid=grid, diversity=float(diversity))
