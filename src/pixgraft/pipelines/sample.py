"""Task "sample" in use: images of codes alone, grids of mixed styles, walks between codes.

Sample i of a seed is a function of (seed, i): the same in any company. Mixed styles are those of Karras, Laine, Aila
2019, "A Style-Based Generator Architecture for Generative Adversarial Networks", Figure 3. Walks are straight in w, and
in z on great circles, off which its lengths are not those of random codes (White 2016, "Sampling Generative Networks",
section 2.1). Shape letters: N images, Z numbers of a z, D numbers of a code, L layers that take one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import safetensors.torch
import torch
from torch import Tensor

from pixgraft.data.grids import sheet, tiled
from pixgraft.data.images import MAX_PIXELS, from_uint8, to_uint8
from pixgraft.data.video import FILMS, FRAME_MS, check_film, film_bytes
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import average_pool
from pixgraft.methods.sampling import Sampling
from pixgraft.models import Model
from pixgraft.pipelines.base import (
    Finished,
    Job,
    Pipeline,
    Plan,
    Result,
    Summary,
    caption,
    passes,
    png,
)
from pixgraft.pipelines.codes import LATENTS, read_latents, tuned
from pixgraft.pipelines.inputs import batch_of_codes, tensor_entry
from pixgraft.pipelines.options import (
    IN_FLOAT32,
    Computing,
    MixOptions,
    SampleOptions,
    WalkOptions,
    at_least,
    layer_range,
    one_of,
)
from pixgraft.version import __version__

Noise = Literal["stored", "random", "none"]
COUNT = 16
"""Default number of samples."""
SHOWN, SHOWN_SIDE = 64, 256
"""Most samples of a grid, and their largest side in pixels."""
MOST_FRAMES = 100_000
"""More than an hour."""
NO_FILMS = (".png", ".apng", ".jpg", ".jpeg", ".webp", ".webm", ".mov", ".avi", ".mkv")
"""Video and image suffixes that `walk` rejects with a hint."""


@dataclass(kw_only=True)
class SampleResult(Result):
    """Samples and their codes."""

    codes: Tensor
    """w (N, D), W+ (N, L, D) or z (N, Z)."""


class SamplingPipeline(Pipeline):
    """A generative prior."""

    Options: ClassVar[type] = SampleOptions
    takes: ClassVar[str] = (
        "it makes images of codes alone: load({model!r})(count=16, seed=0), or pixgraft sample {model} --out OUT"
    )

    def __init__(self, model: Model, device: torch.device, computing: Computing = IN_FLOAT32) -> None:
        super().__init__(model, device, computing)
        assert isinstance(model.method, Sampling)
        self.method = model.method
        if device.type == "cpu":  # a quarter faster at 1024, see docs/results.md
            self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(
        self, count: int | None = None, *, seed: int = 0, truncation: float = 1.0, noise: Noise | None = None,
        latents: Tensor | None = None, codes: Tensor | None = None,
    ) -> SampleResult:  # fmt: skip
        """Draw `count` images (16), or make images of `latents` z (N, Z), or of `codes` as a result has them.

        `truncation` below 1 gives likelier and less varied images. `noise` is the maps stored with the weights, new
        ones for each image, or none.

        Raises PixgraftError for settings that the model cannot take, and latents or codes of another shape or type.
        """
        noise = self._noise(noise)
        given = latents if codes is None else codes
        inputs = [] if given is None else [tensor_entry("codes", given)]
        if codes is not None:
            if latents is not None or truncation != 1:
                raise PixgraftError("codes are taken as they are: leave latents and truncation out")
            codes = batch_of_codes(codes, self.method.code_shapes)
        elif latents is not None:
            z = batch_of_codes(latents, [(self.method.latent_size,)])
            codes = self.codes(z, truncation=truncation)
        else:
            drawn = COUNT if count is None else count
            at_least("count", drawn)
            codes = self.codes(self.latents(seed, range(drawn)), truncation=truncation)
        if given is not None and count is not None:
            raise PixgraftError(f"count {count}: the codes say how many: leave it out")
        numbers = range(len(codes))
        result = SampleResult(pixels=self.images(codes, noise=noise, seed=seed, numbers=numbers), codes=codes)
        settings = {"truncation": truncation, "noise": noise}
        reported: SampleResult = self.reported(result, seed=seed, settings=settings, inputs=inputs)
        return reported

    def _noise(self, noise: Noise | None) -> Noise:
        """The noise that the generator takes. Raises PixgraftError for a choice that it does not offer."""
        one_of("noise", noise or "stored", ("stored", "random", "none"))
        if self.method.has_noise:
            return noise or "stored"
        if noise not in (None, "none"):
            raise PixgraftError(f"noise {noise}: {self.method.name} models take no noise: leave it out")
        return "none"

    @property
    def code_size(self) -> int:
        """D, numbers of a code that images are made from."""
        return self.method.code_shapes[0][0]

    def styled(self) -> int:
        """L. Raises PixgraftError if the model's layers take no code each."""
        if not self.method.style_layers:
            raise PixgraftError(f"{self.model.name}: {self.method.name} models have no styles to mix: use a StyleGAN2")
        return self.method.style_layers

    def latents(self, seed: int, numbers: Sequence[int]) -> Tensor:
        """z (N, Z) of the seed's samples of these numbers."""
        return torch.cat([self.method.draw_latents(1, generator(seed, "z", number)) for number in numbers])

    def codes(self, z: Tensor, *, truncation: float = 1.0) -> Tensor:
        """The codes (N, D) that images are made from: w, moved to its mean by `truncation`, or z itself.

        Raises PixgraftError for a truncation that is no number from 0, or not 1 where there is no w.
        """
        if not isinstance(truncation, int | float) or not 0 <= truncation < math.inf:
            raise PixgraftError(f"truncation {truncation}: choose a number from 0; 1 leaves codes as they are")
        parts = [self.method.codes(z[part].to(self.device), truncation=truncation).cpu() for part in self._passes(z)]
        return torch.cat(parts)[: len(z)]

    def _passes(self, rows: Tensor) -> list[list[int]]:
        return list(passes(len(rows), self.pass_size))

    def images(self, codes: Tensor, *, noise: Noise = "stored", seed: int = 0, numbers: Sequence[int] = ()) -> Tensor:
        """Images uint8 (N, 3, S, S), on the CPU, of codes (N, D) or (N, L, D).

        Random noise is that of the seed's samples of these numbers.
        """
        images = []
        for part in self._passes(codes):
            maps: Any = noise if self.method.has_noise else "stored"
            if noise == "random":
                drawn = [self.method.draw_noise(1, generator(seed, "noise", numbers[place])) for place in part]
                maps = [torch.cat(layer).to(self.device) for layer in zip(*drawn, strict=True)]
            with self.autocast():
                images.append(to_uint8(self.computed.synthesize(codes[part].to(self.device), noise=maps)).cpu())
        return torch.cat(images)[: len(codes)]

    # --- samples in files ---

    def plan(self, options: SampleOptions) -> Plan:
        """000000.png and so on; grid.png and latents.safetensors of all, with samples.json.

        With latents the images are made of its z, or of its w if it has no z; settings that are not given are as it
        records. Raises PixgraftError if a setting does not fit or the latents cannot be used.
        """
        saved = read_latents(options.latents, self.method) if options.latents else None
        recorded = saved.metadata if saved else {}
        count = (len(saved.codes) if saved else COUNT) if options.count is None else options.count
        if count < 1 or (saved and count > len(saved.codes)):
            most = f" to {len(saved.codes)}, as many as {options.latents} has" if saved else ""
            raise PixgraftError(f"count {count}: choose a number from 1{most}")
        ready = saved.codes if saved and saved.tensor != "z" else None
        if ready is not None and options.truncation is not None:
            raise PixgraftError(
                f"truncation {options.truncation}: {options.latents} holds w, which are taken as they are: leave it out"
            )
        seed = _number(recorded.get("seed"), 0) if options.seed is None else options.seed
        truncation = _number(recorded.get("truncation"), 1.0) if options.truncation is None else options.truncation
        written: Any = recorded.get("noise") if recorded.get("noise") in ("random", "none") else None
        noise = self._noise(options.noise or (written if self.method.has_noise else None))

        def rows(numbers: Sequence[int]) -> tuple[Tensor | None, Tensor]:
            """z, if there is any, and the codes of some samples."""
            if ready is not None:
                return None, ready[list(numbers)]
            z = saved.codes[list(numbers)] if saved else self.latents(seed, numbers)
            return z, self.codes(z, truncation=truncation)

        rows([0])  # settings that do not fit are refused before anything is written

        def make(numbers: list[int]) -> Sequence[Result]:
            _, codes = rows(numbers)
            return self._split(self.images(codes, noise=noise, seed=seed, numbers=numbers), [*codes])

        def whole(finished: Finished) -> dict[str, bytes]:
            shown = torch.stack([finished.image(done) for done in finished.results if done.report][:SHOWN])
            grid = sheet(average_pool(shown, min(shown.shape[-1], SHOWN_SIDE)))
            parts = [rows([number]) for number in range(count)]
            tensors = {"z": torch.cat([z for z, _ in parts if z is not None])} if ready is None else {}
            if self.method.code_name == "w":
                tensors["w"] = torch.cat([codes for _, codes in parts])
            origin = {"method": self.method.name, "weights_sha256": self.model.weights_sha256, "version": __version__}
            settings = {"seed": seed, "truncation": truncation, "noise": noise}
            # All in one entry: several would be written in an order that changes from run to run.
            metadata = {"pixgraft": json.dumps({k: str(v) for k, v in (origin | settings).items()}, sort_keys=True)}
            return {"grid.png": png(grid, finished.head), LATENTS: safetensors.torch.save(tensors, metadata)}

        inputs = (saved.file,) if saved else ()
        jobs = [
            Job(f"{n:06d}", (f"{n:06d}.png",), partial(int, n), inputs, settings={"sample": n}) for n in range(count)
        ]
        about = {"count": count} | ({"latents_sha256": saved.sha256} if saved else {})
        summary = Summary("samples", ("grid.png", LATENTS), whole, about, owns_folder=True)
        paths = [options.latents] if options.latents else []
        settings = {"truncation": truncation, "noise": noise}
        return Plan(
            jobs, make, settings, seed, paths=paths, summary=summary, pass_size=self.pass_size,
            hint=lambda: tuned(saved, self.model.weights_sha256) if saved else "",
        )  # fmt: skip

    # --- mixed styles and walks ---

    def _of_codes(self, prepared: list[Tensor]) -> Sequence[Result]:
        return self._split(self.images(torch.stack(prepared)), prepared)

    @staticmethod
    def _split(images: Tensor, codes: Sequence[Tensor]) -> list[SampleResult]:
        """One result for each image."""
        pairs = zip(images.split(1), codes, strict=True)
        return [SampleResult(pixels=image, codes=code.unsqueeze(0)) for image, code in pairs]

    def mix(self, options: MixOptions, out: Path) -> Plan:
        """One PNG, `out`: each image is that of its row, but for its column's layers.

        The sources stand on the left and on top: the seed's samples 0 to rows - 1, and the next ones. The noise is
        that stored with the weights. Raises PixgraftError if a setting does not fit.
        """
        first, last = layer_range(options.layers, self.styled())
        rows, columns, side = options.rows, options.columns, self.method.image_size
        if min(rows, columns) < 1 or (rows + 1) * (columns + 1) * side**2 > MAX_PIXELS:
            most = f"up to {MAX_PIXELS:,} pixels in all, where an image has {side} x {side}"
            raise PixgraftError(f"rows {rows}, columns {columns}: choose numbers from 1, and {most}")
        _check_file(out, ".png")
        w = self.codes(self.latents(options.seed, range(rows + columns)), truncation=options.truncation)
        w_plus = self.method.spread(w)
        codes = [*w_plus]  # the sources, then row by row
        for row in range(rows):
            for column in range(columns):
                mixed = w_plus[row].clone()
                mixed[first : last + 1] = w_plus[rows + column, first : last + 1]
                codes.append(mixed)

        def whole(finished: Finished) -> dict[str, bytes]:
            images = [each[0] for each in finished.images]
            cells = [torch.full_like(images[0], 255), *images[rows : rows + columns]]
            for row in range(rows):
                begin = rows + columns + row * columns
                cells += [images[row], *images[begin : begin + columns]]
            grid = tiled(from_uint8(torch.stack(cells)).unflatten(0, (rows + 1, columns + 1)))
            return {out.name: png(grid, finished.head)}

        settings = {"rows": rows, "columns": columns, "layers": [first, last], "truncation": options.truncation}
        return self._whole(codes, settings, options.seed, Summary(out.stem, (out.name,), whole))

    def walk(self, options: WalkOptions, out: Path) -> Plan:
        """A walk past the seed's first samples, and back to sample 0 if it is to `loop`.

        `out` is a file that ends in .gif or .mp4, or a folder for 000000.png and so on, and walk.json. The noise is
        that stored with the weights, so that nothing flickers. Raises PixgraftError if a setting does not fit.
        """
        points, frames = options.points, options.frames
        if points < 2:
            raise PixgraftError(f"points {points}: choose a number from 2, to go from one to the other")
        if frames < 1 or points * frames > MOST_FRAMES:
            raise PixgraftError(f"frames {frames}: choose a number from 1, and at most {MOST_FRAMES:,} frames in all")
        if out.suffix.lower() in NO_FILMS:
            raise PixgraftError(
                f"{out}: a walk is written as a film or as PNG files: end the name in .gif or .mp4, or name a folder"
            )
        ends = self.codes(self.latents(options.seed, range(points)), truncation=options.truncation)
        straight = self.method.code_name == "w"
        codes = [*walk(ends, frames=frames, loop=options.loop, straight=straight)]
        settings = {"points": points, "frames": frames, "truncation": options.truncation, "loop": options.loop}

        def film(finished: Finished) -> dict[str, bytes]:
            images = (each[0] for each in finished.images)
            comment = caption(finished.head)
            data = film_bytes(images, out.suffix, milliseconds=FRAME_MS, loop=options.loop, comment=comment)
            return {out.name: data}

        if out.suffix.lower() in FILMS:
            check_film(out)
            return self._whole(codes, settings, options.seed, Summary(out.stem, (out.name,), film))
        jobs = [
            Job(f"{n:06d}", (f"{n:06d}.png",), partial(codes.__getitem__, n), settings={"frame": n})
            for n in range(len(codes))
        ]
        summary = Summary("walk", (), lambda finished: {}, owns_folder=True)
        return Plan(jobs, self._of_codes, settings, options.seed, summary=summary, pass_size=self.pass_size)

    def _whole(self, codes: list[Tensor], settings: Mapping[str, Any], seed: int, summary: Summary) -> Plan:
        """A plan whose images become one file."""
        jobs = [Job(str(n), (), partial(codes.__getitem__, n)) for n in range(len(codes))]
        return Plan(jobs, self._of_codes, dict(settings), seed, summary=summary, stored=False, pass_size=self.pass_size)


def _number(recorded: str | None, otherwise: Any) -> Any:
    """A recorded text as a number of the type of `otherwise`, which stands in where that cannot be read."""
    try:
        number = type(otherwise)(otherwise if recorded is None else recorded)
    except ValueError:
        return otherwise
    return number if number - number == 0 else otherwise  # neither nan nor infinity


def _check_file(out: Path, suffix: str) -> None:
    """Raise PixgraftError if the file `out` is a folder, or has another suffix."""
    if out.suffix.lower() != suffix:
        raise PixgraftError(f"{out}: a {suffix[1:].upper()} file is written: end the name in {suffix}")
    if out.is_dir():
        raise PixgraftError(f"{out}: is a folder: choose another name for the file")


def walk(points: Tensor, *, frames: int, loop: bool, straight: bool) -> Tensor:
    """Codes (F, D) from point to point of (P, D), the points among them, with `frames` steps between two.

    F is P * frames of a loop, which does not repeat its first code, else (P - 1) * frames + 1. The way is straight, or
    along the great circle between two points' directions while the length changes evenly.
    """
    follow = points.roll(-1, 0) if loop else points[1:]
    between = torch.lerp if straight else _slerp
    shares = torch.arange(frames) / frames
    legs = [
        between(start.expand(frames, -1), end.expand(frames, -1), shares.unsqueeze(1))
        for start, end in zip(points, follow, strict=loop)
    ]
    return torch.cat(legs if loop else [*legs, points[-1:]])


def _slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """(N, D) between `start` and `end` (N, D) by the shares (N, 1)."""
    a, b, t = start.double(), end.double(), share.double()
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    angle = ((a * b).sum(1, keepdim=True) / (lengths[0] * lengths[1])).clamp(-1, 1).acos()
    direction = (torch.sin((1 - t) * angle) * a / lengths[0] + torch.sin(t * angle) * b / lengths[1]) / angle.sin()
    around = direction * torch.lerp(*lengths, t)
    # Between the same direction and between opposite ones there is no one circle.
    return torch.where(angle.sin() > 1e-6, around, torch.lerp(a, b, t)).to(start.dtype)
