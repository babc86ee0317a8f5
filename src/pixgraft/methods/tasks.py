"""The four tasks: what goes into a model and what comes out. A method does one of them by inheriting.

Everything that uses or measures a model asks for its task. Shape letters: N images, S side of an image, L side of a
low-resolution (LR) target, C channels of a target or condition, D numbers of a code, M codes of an image.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import ConditionSpec, fitted
from pixgraft.layers.noise import Noise
from pixgraft.layers.resample import average_pool, downscale, enlarge, upsample
from pixgraft.methods.base import Batch, Method, MethodConfig, Preview

SCALES = ("coarse", "middle", "fine")
"""The scales of features that codes may come from."""

# --- graft: source and target to image ---


class GraftConfig(MethodConfig):
    """The base of the configuration of a `Graft`."""

    lr_size: int
    """L, side of a target in pixels; it divides `image_size`."""

    @property
    def lr_channels(self) -> int:
        """C: 3, or 1 for grey targets."""
        return 3

    @property
    def input_summary(self) -> str:
        return f"{self.lr_size} {'grey' if self.lr_channels == 1 else 'color'}"


class Graft(Method):
    """Task "graft": the detail of a source image on an LR target."""

    task: ClassVar[str] = "graft"
    config: GraftConfig

    @abstractmethod
    def translate(self, source: Tensor, target: Tensor) -> Tensor:
        """Images (N, 3, S, S) of sources (N, 3, S, S) and LR targets (N, C, L, L), all in [-1, 1]; no gradient."""

    def downscale(self, images: Tensor) -> Tensor:
        """LR targets (N, C, L, L) of images (N, 3, S, S)."""
        return downscale(images, self.config.lr_size, self.config.lr_channels)

    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Outputs of the first half of `images` as sources (across) and of the second half as targets (down).

        The diversity is how far outputs for one target lie apart, as a share of how far the sources' details do (what
        remains of them beyond an LR target): 1 where all detail differs as the sources' does, 0 where the source no
        longer matters.
        """
        sources, targets = images.chunk(2)
        lr = self.downscale(targets)
        factor = self.config.image_size // self.config.lr_size
        rows = torch.stack([self.translate(sources, t.expand(len(sources), -1, -1, -1)) for t in lr.split(1)])
        shown_lr = upsample(lr, factor, align_corners=False)
        left = torch.stack([targets, shown_lr.expand(-1, 3, -1, -1)], dim=1)
        blank = torch.ones_like(left[:1])
        grid = torch.cat(
            [torch.cat([blank, sources.unsqueeze(0)], dim=1), torch.cat([left, rows], dim=1)], dim=0
        )
        details = sources - enlarge(average_pool(sources, self.config.lr_size), factor)
        diversity = torch.stack([_spread(row) for row in rows]).mean() / _spread(details).clamp_min(1e-8)
        return Preview(grid=grid, diversity=float(diversity))


def _spread(images: Tensor) -> Tensor:
    """Root mean square deviation of (N, ...) over N, a scalar."""
    return images.var(0, correction=0).mean().sqrt()


# --- synthesize: condition and style to samples ---


@dataclass(frozen=True)
class Synthesized:
    """Images of N conditions, and the parts that they are made of."""

    image: Tensor
    """(N, 3, S, S) in [-1, 1]."""
    components: dict[str, Tensor] = field(default_factory=dict)
    """By the names of `Synthesis.components`, (N, 3, S, S) in [-1, 1] each."""


class Synthesis(Method):
    """Task "synthesize": samples of a condition, in a style if the method takes one."""

    task: ClassVar[str] = "synthesize"

    @property
    def condition(self) -> ConditionSpec:
        """The condition that the method takes."""
        spec: ConditionSpec | None = self.config.condition_spec
        assert spec is not None
        return spec

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the parts that come with an image."""
        return ()

    @property
    def style_dim(self) -> int:
        """D, numbers of a style code; 0 if the method takes no style."""
        return 0

    def encode_style(self, images: Tensor) -> Tensor:
        """Style codes (N, D) of images (N, 3, S, S) in [-1, 1]; no gradient."""
        return images.new_zeros(len(images), 0)

    def random_style(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """`count` style codes (count, D), drawn by a CPU generator; None takes torch's default one."""
        return torch.zeros(count, 0)

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        """Noise maps for `count` images, as `samples` takes them; none where the generator has no noise."""
        return []

    @abstractmethod
    def samples(
        self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]
    ) -> list[Synthesized]:
        """One output for each of `noises`, which `draw_noise` gives; None is noise of zeros. No gradient.

        `condition` is uint8 (N, C, S, S), `style` images (N, 3, H, W) in [-1, 1] or codes (N, D).

        Raises PixgraftError for conditions, styles or noise of another shape, or a class beyond the configuration's.
        """

    def translate(self, condition: Tensor, style: Tensor, noise: Sequence[Tensor] | None = None) -> Synthesized:
        """One output for conditions (N, C, S, S) and styles, as `samples` takes them; None is noise of zeros."""
        return self.samples(condition, style, [noise])[0]

    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Conditions, images, the components of one output, two outputs in the image's style with different noise, and
        one in a random style, one a row.

        The diversity is what noise alone changes: the deviation over four outputs, a mean over all pixels.
        """
        if condition is None:
            raise PixgraftError(f"{self.name}: images without conditions: preview pairs of both")
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
    """Codes and images of N conditions after each step."""

    codes: list[Tensor]
    """(N, M, D) each."""
    images: list[Tensor]
    """(N, 3, S, S) each, clamped to [-1, 1]."""


class Encoding(Method):
    """Task "encode": codes of a generator for a condition, and their images."""

    task: ClassVar[str] = "encode"

    @property
    def condition(self) -> ConditionSpec:
        """The condition that the method takes."""
        spec: ConditionSpec | None = self.config.condition_spec
        assert spec is not None
        return spec

    @property
    @abstractmethod
    def start_codes(self) -> Tensor:
        """The codes (M, D) that all others are offsets from."""

    @property
    def steps(self) -> int:
        """Steps that `encode` takes unless told otherwise."""
        return 1

    @property
    def max_steps(self) -> int | None:
        """The largest number of steps that `encode` takes; None: any."""
        return 1

    @property
    def layer_styles(self) -> bool:
        """Whether code m is the style of the generator's layer m, so that codes can be mixed layer by layer."""
        return False

    @property
    def scales(self) -> tuple[str, ...]:
        """For each of the M codes, which of `SCALES` it comes from; empty where the method has no scales."""
        return ()

    @abstractmethod
    def encode(self, condition: Tensor, *, steps: int | None = None) -> Encoded:
        """Codes and images of conditions, uint8 (N, C, s, s), after each of `steps` steps; None: `self.steps`.

        Raises PixgraftError for conditions of another shape or type, a class beyond the configuration's, and a number
        of steps that the method cannot take.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Images (N, 3, S, S), clamped to [-1, 1], of codes (N, M, D); no gradient."""

    @abstractmethod
    def random_codes(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """`count` random codes (count, D) of the generator, drawn by a CPU generator; None takes torch's default."""

    def condition_of(self, batch: Batch) -> Tensor:
        """The conditions of a batch, uint8 (N, C, s, s). Raises PixgraftError if it has none."""
        if self.condition.inversion:
            return ((batch.images + 1) * 127.5).round().to(torch.uint8)
        if batch.condition is None:
            raise PixgraftError(f"{self.name}: images without conditions: train on pairs of both")
        return batch.condition

    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Conditions, the starting image, the images after each step, the targets, one a row.

        The diversity is a pixel's deviation over the outputs, by which an encoder shows that gives one face for all.
        """
        conditions = self.condition_of(Batch(images, {}, condition))
        start = self.decode(self.start_codes.unsqueeze(0)).expand(len(images), -1, -1, -1)
        outputs = [fitted(each, self.condition.size) for each in (start, *self.encode(conditions).images)]
        diversity = outputs[-1].std(0, correction=0).mean()
        return Preview(
            grid=torch.stack([self.condition.pictured(conditions), *outputs, images]), diversity=float(diversity)
        )


# --- sample: codes to images ---


class Sampling(Method):
    """Task "sample": images of codes alone, by a generative prior."""

    task: ClassVar[str] = "sample"
    batch_multiple: ClassVar[int] = 2
    """A single image has no minibatch deviation."""
    code_name: ClassVar[Literal["z", "w"]] = "z"
    """What images are made from: z itself, or w, which a mapping network makes of z."""
    has_noise: ClassVar[bool] = False
    """Whether the generator takes noise maps."""

    @property
    def image_size(self) -> int:
        """S of the images that the generator makes now; one that is still growing makes smaller ones."""
        size: int = self.config.image_size
        return size

    @property
    @abstractmethod
    def latent_size(self) -> int:
        """Numbers of a code z."""

    @property
    def style_layers(self) -> int:
        """L, the number of layers that take a code w each; 0 of a generator without such layers."""
        return 0

    @property
    def code_shapes(self) -> list[tuple[int, ...]]:
        """The shapes that one image's code may have for `synthesize`."""
        return [(self.latent_size,)]

    def draw_latents(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """`count` codes z (N, Z) of a unit normal distribution, drawn on the CPU one after the other.

        `random` is a CPU generator; None takes torch's default one.
        """
        latents = torch.empty(count, self.latent_size)
        for row in latents:
            row.normal_(generator=random)
        return latents

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        """Noise maps for `count` images, as `synthesize` takes them; none where the generator has no noise."""
        return []

    def codes(self, z: Tensor, *, truncation: float = 1.0) -> Tensor:
        """The codes (N, D) that images are made from, of z (N, Z); `truncation` below 1 moves w to its mean.

        Raises PixgraftError for a truncation other than 1 where there is no w.
        """
        if truncation != 1:
            raise PixgraftError(f"truncation {truncation}: {self.name} models have no w to truncate: leave it at 1")
        return z

    @abstractmethod
    def synthesize(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        """Images (N, 3, S, S), clamped to [-1, 1], of codes of one of `code_shapes` each; no gradient.

        `noise` is the stored maps, new ones, none, or what `draw_noise` gives.
        """

    def spread(self, codes: Tensor) -> Tensor:
        """W+ (N, L, D) of w (N, D): each layer takes the same code."""
        return codes.unsqueeze(1).expand(-1, self.style_layers, -1)

    def sample(self, z: Tensor, *, truncation: float = 1.0, noise: Noise = "stored") -> Tensor:
        """Images (N, 3, S, S), clamped to [-1, 1], of codes z (N, Z)."""
        return self.synthesize(self.codes(z, truncation=truncation), noise=noise)

    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Real images, three rows of samples and, of w, one truncated by 0.7; the diversity is a pixel's deviation over
        the samples."""
        random = torch.Generator().manual_seed(0)
        rows = [self.draw_latents(len(images), random).to(images.device) for _ in range(3)]
        samples = [self.sample(z) for z in rows]
        diversity = torch.cat(samples).std(0, correction=0).mean()
        if self.code_name == "w":
            samples.append(self.sample(rows[0], truncation=0.7))
        rows = [enlarge(row, images.shape[-1] // row.shape[-1]) for row in (self.shrink(images), *samples)]
        return Preview(grid=torch.stack(rows), diversity=float(diversity))

    def shrink(self, images: Tensor) -> Tensor:
        """Real images (N, 3, S, S) as the generator would make them now; a growing one's are smaller."""
        return images
