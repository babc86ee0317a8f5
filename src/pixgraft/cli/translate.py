"""The verbs that turn images and conditions into images: what a model takes is a matter of its method."""

from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from pixgraft.cli.app import Model, app
from pixgraft.errors import PixgraftError

if TYPE_CHECKING:
    import torch

    from pixgraft.engine.distributed import World
    from pixgraft.models import Model as Opened


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to make images of, and how."""

    out: Path
    """The folder for outputs."""
    source: Path | None = None
    """i2ilr: sharp images: a file, a folder (searched) or a zip."""
    target: Path | None = None
    """i2ilr: coarse images, or full ones that are shrunk: a file, a folder or a zip."""
    pairs: Literal["all", "name", "order"] = "all"
    """i2ilr: every source with every target; or matched by file name; or by their order."""
    project: bool = False
    """i2ilr: move each output until it shrinks to its target within one grey level."""
    grid: bool = False
    """i2ilr: also write grid.png: sources across, targets down, up to 32 of each."""
    batch: int = 16
    """i2ilr: outputs made before they are written; it changes none of them."""
    condition: Path | None = None
    """grit, psp, ome: label maps, sketches or images, as the model takes them: a file, a folder or a zip."""
    palette: Path | None = None
    """grit, psp, ome: for label maps in colours, a text file with a line "NAME R G B" for each class."""
    style: Annotated[tuple[tuple[Path, ...], ...], UseAppendAction, arg(metavar="IMAGE [IMAGE]")] = ()
    """grit: an image whose style is taken, or two to go between; without it a style is drawn at random."""
    samples: int = 1
    """grit, psp, ome: images of each condition. Several of grit give also their mean and a map of their deviation;
    several of psp and ome differ in their fine layers' styles, which are drawn at random but for the first's."""
    vary: Literal["noise", "style"] = "noise"
    """grit: what differs between the samples: the noise, or the style where none is given."""
    components: bool = False
    """grit: also write each sample's reconstruction and residual."""
    steps: int | None = None
    """ome: how often the codes are refined: as often as in training without it. psp takes one step."""
    mix_from: int | None = None
    """psp, ome: the first layer in which samples differ: without it 8 of 18 layers, and the middle one of fewer."""
    factor: int = 1
    """psp, ome, of a model for low-resolution images: shrink the images by it first."""
    align: bool = False
    """psp, ome: cut the largest face out of each image first, upright; an image without one is left out."""
    codes: Path | None = None
    """psp, ome: in place of conditions, codes that were saved: they become an image again."""
    skip_bad: bool = False
    """grit, psp, ome: go on after an unusable condition and list it."""
    seed: int = 0
    """Of noise and random styles. i2ilr draws nothing at random, and records it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""


ALWAYS = ("out", "device")
ENCODING = ("condition", "palette", "samples", "steps", "mix_from", "factor", "align", "codes", "skip_bad", "seed")
TAKEN = {
    "i2ilr": ("source", "target", "pairs", "project", "grid", "batch", "seed"),
    "grit": ("condition", "palette", "style", "samples", "vary", "components", "skip_bad", "seed"),
    "psp": ENCODING,
    "ome": ENCODING,
}
"""The options that models of a method take beside `ALWAYS`."""


@app.command
def translate(model: Model, /, *, request: OmitArgPrefixes[Request]) -> int:
    """Make images: of sources and coarse targets (i2ilr), or of conditions such as label maps (grit, psp, ome).

    Each output is a PNG with a report (.json). i2ilr: a second run skips what is finished. psp, ome: a strip shows the
    condition, the starting image and that of each step, and the codes are saved beside each image.

    Args:
        model: A bundled model, a run folder, a model folder or a Hugging Face repository id.
        request: What to make images of, and how.
    """
    from pixgraft import devices
    from pixgraft.engine import distributed
    from pixgraft.models import load_model

    world = distributed.start("cpu")  # only reports travel between the processes
    try:
        device = devices.pick(request.device, world.local_rank)
        opened = load_model(model, device=device)
        _check(opened, request)
        uses = {"i2ilr": _translate, "grit": _synthesize, "psp": _encode, "ome": _encode}
        return uses[opened.method.name](opened, request, device, world)
    finally:
        distributed.stop()


@app.command
def edit(
    model: Model,
    first: Annotated[Positional[Path], arg(metavar="A_codes.safetensors")],
    second: Annotated[Positional[Path], arg(metavar="B_codes.safetensors")],
    /,
    *,
    out: Path,
    steps: int | None = None,
    layers: str | None = None,
    device: str = "auto",
) -> int:
    """Mix the codes of two images, or go from one to the other (psp, ome).

    OUT gets the images, their codes, a strip of them all and edit.json.

    Args:
        model: A run folder, a model folder or a Hugging Face repository id.
        first: A file NAME_codes.safetensors that `translate` wrote.
        second: Another one.
        out: The folder for the images.
        steps: Images from the first to the second, both among them: 8 without it.
        layers: Take the second's codes in these layers alone: coarse (layers 0-3), middle (4-7), fine (from 8) or a
            range such as 4-7. Without --steps that is one image.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from pixgraft import devices
    from pixgraft.cli.report import print_findings
    from pixgraft.data.check import Finding
    from pixgraft.engine.bars import Bars
    from pixgraft.models import load_model
    from pixgraft.pipelines.encoder import Encoder
    from pixgraft.pipelines.encoding import edit_files

    picked = devices.pick(device)
    encoder = Encoder(load_model(model, device=picked), picked)
    with Bars() as bars:
        progress = bars.counting("editing")
        made = edit_files(encoder, first, second, out, steps=steps, layers=layers, progress=progress)
    begin, end = made["layers"]
    files = (made["first"], made["second"])
    notes = [Finding(file["name"], file["note"], usable=True) for file in files if file["note"]]
    return print_findings(notes, f"{len(made['outputs']):,} images, the codes {begin} to {end} edited: {out}")


def _check(model: "Opened", request: Request) -> None:
    """PixgraftError, naming it, for an option that the model does not take, or lacks."""
    name = model.method.name
    if name not in TAKEN:
        raise PixgraftError(f"{model.name}: a model of {name}, which makes images of codes alone: use pixgraft sample")
    given = [field.name for field in fields(Request) if getattr(request, field.name) != field.default]
    for each in given:
        if each not in (*ALWAYS, *TAKEN[name]):
            raise PixgraftError(f"{model.name}: a model of {name}, which takes no {_option(each)}: leave it out")
    if name == "i2ilr" and not (request.source and request.target):
        raise PixgraftError(f"{model.name}: a model of {name}: say what to translate: --source and --target")
    if name != "i2ilr" and not (request.condition or request.codes):
        raise PixgraftError(f"{model.name}: a model of {name}: say what to make images of: --condition")
    if request.codes:
        for each in given:
            if each not in (*ALWAYS, "codes"):
                raise PixgraftError(f"--codes does not go with {_option(each)}: leave one of them out")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _translate(model: "Opened", request: Request, device: "torch.device", world: "World") -> int:
    from pixgraft.cli.report import Terminal
    from pixgraft.engine import distributed
    from pixgraft.pipelines.translate import figure, translate_files
    from pixgraft.pipelines.translator import Translator

    assert request.source and request.target
    translator = Translator(model, device)
    with Terminal(quiet=world.rank > 0) as terminal:
        own = translate_files(
            translator, request.source, request.target, request.out, pairing=request.pairs,
            projected=request.project, batch=request.batch, seed=request.seed, world=world,
            on_plan=terminal.start, on_done=terminal.done,
        )  # fmt: skip
    results = [done for each in distributed.gather_objects(own, world) for done in each]
    if world.rank > 0:
        return 0
    grid = request.grid and any(done.report for done in results)
    made = figure(translator, request.source, request.target, request.out, results) if grid else None
    return terminal.summary(results, request.out, made)


def _synthesize(model: "Opened", request: Request, device: "torch.device", world: "World") -> int:
    from pixgraft.cli.report import print_samples
    from pixgraft.engine import distributed
    from pixgraft.pipelines.synthesis import Synthesizer, synthesize_files

    assert request.condition
    synthesizer = Synthesizer(model, device, palette=request.palette)
    own = synthesize_files(
        synthesizer, request.condition, request.out, styles=tuple(chain(*request.style)),
        samples=request.samples, seed=request.seed, vary=request.vary, components=request.components,
        skip_bad=request.skip_bad, world=world,
    )  # fmt: skip
    shares = distributed.gather_to_first(own, world)
    return print_samples([made for each in shares for made in each], request.out) if world.rank == 0 else 0


def _encode(model: "Opened", request: Request, device: "torch.device", world: "World") -> int:
    from pixgraft.cli.report import print_encoded, print_findings
    from pixgraft.data.check import Finding
    from pixgraft.engine import distributed
    from pixgraft.engine.bars import Bars
    from pixgraft.pipelines.encoder import Encoder
    from pixgraft.pipelines.encoding import decode_file, encode_files

    encoder = Encoder(model, device, palette=request.palette, factor=request.factor, align=request.align)
    if request.codes:
        if world.rank > 0:
            return 0
        file, note = decode_file(encoder, request.codes, request.out)
        return print_findings([Finding(request.codes.name, note, usable=True)] if note else [], str(file))
    assert request.condition
    with Bars(quiet=world.rank > 0) as bars:
        own = encode_files(
            encoder, request.condition, request.out, steps=request.steps, samples=request.samples,
            mix_from=request.mix_from, seed=request.seed, skip_bad=request.skip_bad, world=world,
            progress=bars.counting("encoding"),
        )  # fmt: skip
    shares = distributed.gather_to_first(own, world)
    return print_encoded([made for each in shares for made in each], request.out) if world.rank == 0 else 0
