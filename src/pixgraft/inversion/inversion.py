"""A prior as a model of the task "encode": searches find the codes of images.

It has no weights but the prior's, and is not trained. Shape letters: N images, S side of an image, s side of a target,
which is S or S divided by a factor; M codes of an image, D numbers of a code.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from pixgraft.errors import PixgraftError
from pixgraft.inversion.mganprior import Composition
from pixgraft.inversion.objective import Objective
from pixgraft.inversion.pti import tune
from pixgraft.inversion.pulse import Pulse
from pixgraft.inversion.search import Drive, Found, Search
from pixgraft.inversion.settings import STEPS, TUNING, SearchSettings, Space
from pixgraft.inversion.wplus import Projection
from pixgraft.layers.conditions import ConditionSpec, from_levels
from pixgraft.methods.base import MethodConfig, Phase
from pixgraft.methods.sampling import Sampling
from pixgraft.methods.tasks import Encoded, Encoding

STYLED: dict[str, tuple[Space, ...]] = {
    "wplus": ("w+",),
    "pti": ("w", "w+"),
    "single": ("w", "z"),
    "pulse": ("w", "z"),
    "mganprior": ("w",),
}
PLAIN: dict[str, tuple[Space, ...]] = {"single": ("z",), "pulse": ("z",), "mganprior": ("z",)}
"""The spaces of each search in a prior whose layers take codes, and in one that takes a z alone; the default first."""
WITH_MAPS = ("wplus", "single", "pulse")
"""Searches that can search the noise maps too."""


@dataclass(frozen=True, kw_only=True)
class InversionConfig(MethodConfig):
    """The prior's size, and the search."""

    image_size: int
    search: SearchSettings

    @property
    def condition_spec(self) -> ConditionSpec:
        return ConditionSpec("lr", self.image_size)


class Inversion(Encoding):
    """Searches in one prior. `name` is that of the search."""

    config: InversionConfig

    def __init__(self, prior: Sampling, settings: SearchSettings) -> None:
        """Raises PixgraftError for settings that do not fit the prior or each other."""
        super().__init__(InversionConfig(image_size=prior.image_size, search=settings))
        self.name = by = settings.by  # type: ignore[misc]
        spaces = (STYLED if prior.style_layers else PLAIN).get(by)
        if spaces is None:
            raise PixgraftError(f"by {by}: {prior.name} models take no codes by layer: choose {', '.join(PLAIN)}")
        self.space = settings.space or spaces[0]
        if self.space not in spaces:
            raise PixgraftError(f"space {self.space}: {by} searches a {prior.name} in {' or '.join(spaces)}")
        self.searches_maps = settings.noise == "searched"
        if self.searches_maps and (by not in WITH_MAPS or not prior.has_noise):
            raise PixgraftError(f"noise searched: not by {by} in a {prior.name}: leave it out")
        for name in ("starts", "many", "batch"):
            if getattr(settings, name) < 1:
                raise PixgraftError(f"{name} {getattr(settings, name)}: choose a number from 1")
        if settings.perceptual_weight < 0:
            raise PixgraftError(f"perceptual-weight {settings.perceptual_weight}: choose a number from 0")
        default = SearchSettings(by=by)
        for name in ("many", "side", "optimizer") if by != "mganprior" else ():
            if getattr(settings, name) != getattr(default, name):
                raise PixgraftError(f"{name}: a setting of mganprior, not of {by}: leave it out")
        self.generator = prior
        # Tuning needs the weights as they were loaded; pipelines make the registered ones ready for use.
        self._untouched = [copy.deepcopy(prior)] if by == "pti" else []
        self.side = settings.side or min(32, prior.image_size // 4)
        self.composing = self._composing() if by == "mganprior" else None

    def _composing(self) -> Composition:
        settings = self.config.search
        return Composition(self.generator, many=settings.many, side=self.side, optimizer=settings.optimizer)

    # --- the task ---

    @property
    def start_codes(self) -> Tensor:
        """The codes from which most searches begin, of the shape (M, D) that all find."""
        if self.composing is not None:
            codes, weights = self.composing.begin(0, 0)
            return torch.cat([codes, weights.to(codes)], dim=2)[0]
        code = self.generator.start_code().unsqueeze(0)
        return self.generator.spread(code)[0] if self.generator.style_layers else code

    @property
    def steps(self) -> int:
        return STEPS[self.config.search.by]

    @property
    def tuning(self) -> int:
        """Default number of steps of tuning the generator."""
        return TUNING if self.config.search.by == "pti" else 0

    @property
    def max_steps(self) -> int | None:
        return None

    @property
    def layer_styles(self) -> bool:
        return self.generator.style_layers > 0 and self.composing is None

    @torch.no_grad()
    def decode(self, codes: Tensor, maps: Sequence[Tensor] = (), *, by: Sampling | None = None) -> Tensor:
        """Images of codes with noise maps (N, 1, s, s) of the first layers; the others' are the stored ones. They are
        made `by` another generator, such as a tuned one, if it is given."""
        return (self.composing or Projection(by or self.generator, "w")).images(codes, maps).clamp(-1, 1)

    def random_codes(self, count: int, random: torch.Generator | None = None) -> Tensor:
        with torch.no_grad():
            return self.generator.mapped(self.generator.draw_latents(count, random).to(self.start_codes.device))

    def encode(self, condition: Tensor, *, steps: int | None = None) -> Encoded:
        """The best codes and images so far at some of `steps` steps of a search, the last among them; with PTI the
        images are the tuned generators'."""
        self.condition.check(condition)
        drive = Drive(steps=self.steps if steps is None else steps, tuning=self.tuning)
        found = self.search(from_levels(condition), drive)
        rows = list(zip(*(each.snapshots for each in found), strict=True))[1:]
        device = condition.device
        return Encoded(
            [torch.stack([each.codes for each in row]).to(device) for row in rows],
            [torch.stack([each.image for each in row]).to(device) for row in rows],
        )

    # --- the search ---

    def objective(self, targets: Tensor) -> Objective:
        """The loss of images whose targets are (N, 3, s, s) in [-1, 1]."""
        settings, network = self.config.search, self._features.get("perceptual")
        return Objective(
            targets, self.config.image_size, pixels=settings.pixels, network=network, weight=settings.perceptual_weight
        )

    def search(self, targets: Tensor, drive: Drive, start: Tensor | None = None) -> list[Found]:
        """What is found for targets (N, 3, s, s) in [-1, 1], which an image shrinks to.

        `start` (N, L, D) are codes in W+ to go on from.
        """
        device = next(self.generator.parameters()).device
        objective = self.objective(targets.to(device))
        found = self._searching(start).run(objective, drive, starts=self.config.search.starts)
        if self._untouched:
            for number, each in enumerate(found):
                tune(self._untouched[0], each, objective.part(number), drive)
        return found

    def _searching(self, start: Tensor | None) -> Search:
        if self.composing is not None:
            return self._composing()
        if self.config.search.by == "pulse":
            return Pulse(self.generator, self.space, maps=self.searches_maps)
        return Projection(self.generator, self.space, maps=self.searches_maps, start=start)

    # --- not trained ---

    def phases(self) -> list[Phase]:
        return []

    def optimizers(self) -> dict[str, Optimizer]:
        return {}
