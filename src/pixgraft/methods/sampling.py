"""The task "sample": images from codes, by a generative prior.

Shape letters: N images, S side of an image, D numbers of a code, M codes of an image.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layers.noise import Noise
from pixgraft.layers.resample import enlarge
from pixgraft.methods.base import Batch, Method, Preview


class Sampling(Method):
    """Task "sample": images from codes, by a generative prior."""

    task: ClassVar[str] = "sample"
    takes_inputs: ClassVar[bool] = False
    batch_multiple: ClassVar[int] = 2
    """The minibatch deviation needs at least two images."""
    code_name: ClassVar[Literal["z", "w"]] = "z"
    """The space of the codes: z, or w if a mapping network maps z to w."""
    has_noise: ClassVar[bool] = False
    """Whether the generator takes noise maps."""

    @property
    def image_size(self) -> int:
        """Side of generated images in pixels; below the final S while the generator is growing."""
        size: int = self.config.image_size
        return size

    @property
    @abstractmethod
    def latent_size(self) -> int:
        """Dimension of a code z."""

    @property
    def style_layers(self) -> int:
        """L, number of layers that take a code w; 0 if the generator has no such layers."""
        return 0

    @property
    def code_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of one image's code that `synthesize` accepts."""
        return [(self.latent_size,)]

    def draw_latents(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """`count` codes z (N, Z) from a unit normal distribution, drawn one by one.

        `random` is a CPU generator; None is torch's default generator.
        """
        latents = torch.empty(count, self.latent_size)
        for row in latents:
            row.normal_(generator=random)
        return latents

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        """Noise maps for `count` images, as `synthesize` takes them; empty if the generator has no noise."""
        return []

    def stored_noise(self, count: int) -> list[Tensor]:
        """The maps stored with the weights for `count` images, in the shapes of `draw_noise`."""
        return []

    def codes(self, z: Tensor, *, truncation: float = 1.0) -> Tensor:
        """Codes (N, D) of z (N, Z); `truncation` below 1 moves w towards its mean.

        Raises PixgraftError for a truncation other than 1 if the generator has no w.
        """
        if truncation != 1:
            raise PixgraftError(f"truncation {truncation}: {self.name} models have no w to truncate: leave it at 1")
        return z

    @abstractmethod
    def synthesize(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        """Images (N, 3, S, S), clamped to [-1, 1], of codes (N, *shape), shape one of `code_shapes`; no gradient.

        `noise` selects the stored maps, new maps, none, or the maps of `draw_noise`.
        """

    # --- what searches take, with gradients ---

    def start_code(self) -> Tensor:
        """The code (D,) that encoders and searches begin from, the mean w or, without w, one z drawn with a fixed seed:
        the mean z is zero, which has no direction."""
        return self.draw_latents(1, torch.Generator().manual_seed(0))[0]

    def mapped(self, z: Tensor) -> Tensor:
        """Codes (N, D) of z (N, Z), with gradients."""
        return z

    def generated(self, codes: Tensor, *, noise: Noise = "stored") -> Tensor:
        """Images (N, 3, S, S) of codes as `synthesize` takes them, not clamped, with gradients.

        Raises PixgraftError if the method does not offer them.
        """
        raise PixgraftError(f"{self.name} models cannot be searched: choose another prior")

    def code_weights(self) -> list[Tensor]:
        """For each of the codes that an image has, one or L, the weights (C, D) of the first layer that takes it."""
        raise PixgraftError(f"{self.name} models do not tell how codes act: choose another prior")

    def fused_channels(self, side: int) -> int:
        """C, channels of the feature maps of that side that `fused` composes.

        Raises PixgraftError if there are none, or layers do not follow them.
        """
        raise PixgraftError(f"{self.name} models have no feature maps to compose: choose another prior")

    def fused(self, codes: Tensor, weights: Tensor, side: int) -> Tensor:
        """Images (N, 3, S, S) of M codes (N, M, D) each, not clamped, with gradients.

        Feature maps of all codes up to that side are multiplied by weights (N, M, C) and added up; the remaining layers
        make one image of the sum.
        """
        raise PixgraftError(f"{self.name} models have no feature maps to compose: choose another prior")

    def is_same(self, other: "Sampling") -> bool:
        """Whether another prior has the same weights in its generator."""
        if self.averaged != other.averaged:
            return False
        for each in (self, other):
            each.start_code()  # some estimate it the first time
        for name in self.averaged:
            own, others = (each.get_submodule(name).state_dict() for each in (self, other))
            if own.keys() != others.keys() or not all(torch.equal(own[key], others[key]) for key in own):
                return False
        return True

    def spread(self, codes: Tensor) -> Tensor:
        """W+ (N, L, D) from w (N, D), the same code for each layer."""
        return codes.unsqueeze(1).expand(-1, self.style_layers, -1)

    def sample(self, z: Tensor, *, truncation: float = 1.0, noise: Noise = "stored") -> Tensor:
        """Images (N, 3, S, S), clamped to [-1, 1], of codes z (N, Z)."""
        return self.synthesize(self.codes(z, truncation=truncation), noise=noise)

    def outputs(self, batch: Batch, others: Tensor, randoms: Sequence[torch.Generator]) -> Tensor:
        """A sample of each generator, without truncation, at the side of the final images."""
        z = torch.cat([self.draw_latents(1, random) for random in randoms]).to(batch.images.device)
        images = self.sample(z)
        return enlarge(images, self.config.image_size // images.shape[-1])

    def preview(self, images: Tensor, condition: Tensor | None = None) -> Preview:
        """Rows: real images, three of samples and, if there is a w, one of samples with truncation 0.7.

        The diversity is the deviation over all samples, a mean over all pixels.
        """
        random = torch.Generator().manual_seed(0)
        latents = [self.draw_latents(len(images), random).to(images.device) for _ in range(3)]
        samples = [self.sample(z) for z in latents]
        diversity = torch.cat(samples).std(0, correction=0).mean()
        if self.code_name == "w":
            samples.append(self.sample(latents[0], truncation=0.7))
        rows = [enlarge(row, images.shape[-1] // row.shape[-1]) for row in (self.shrink(images), *samples)]
        return Preview(grid=torch.stack(rows), diversity=float(diversity))

    def shrink(self, images: Tensor) -> Tensor:
        """Real images (N, 3, S, S) at the current `image_size`."""
        return images
