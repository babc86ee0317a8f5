"""The verbs that make images of codes alone, by generative priors."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pixgraft.cli.app import Model, app

if TYPE_CHECKING:
    from pixgraft.pipelines.sampler import Sampler


@app.command
def sample(
    model: Model,
    /,
    *,
    out: Path,
    count: int | None = None,
    seed: int | None = None,
    truncation: float | None = None,
    noise: Literal["stored", "random", "none"] | None = None,
    latents: Path | None = None,
    device: str = "auto",
) -> int:
    """Draw images from a generative prior (stylegan2, progan).

    OUT gets 000000.png and so on, grid.png, latents.safetensors and samples.json. Image i depends on the seed and i.

    Args:
        model: A run folder, a model folder or a Hugging Face repository id.
        out: The folder for the images.
        count: How many: 16, or as many as the latents, without it.
        seed: Of codes and random noise: 0 without it.
        truncation: stylegan2: below 1 likelier and less varied images: 1 without it.
        noise: stylegan2: kept with the weights, new for each image, or none: stored without it.
        latents: A latents.safetensors, to make images of its z, or of its w if it has no z; what is not given is then
            as it records.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from pixgraft.cli.report import print_findings
    from pixgraft.engine.bars import Bars
    from pixgraft.pipelines.sampling import sample_files

    sampler = _opened(model, device)
    with Bars() as bars:
        made = sample_files(
            sampler, out, count=count, seed=seed, truncation=truncation, noise=noise, latents=latents,
            progress=bars.counting("sampling"),
        )  # fmt: skip
    return print_findings([], f"{made['count']:,} images: {out}\n{_line(made, 'seed', 'truncation', 'noise')}")


@app.command
def mix(
    model: Model,
    /,
    *,
    out: Path,
    rows: int = 4,
    columns: int = 4,
    layers: str = "coarse",
    seed: int = 0,
    truncation: float = 1.0,
    device: str = "auto",
) -> int:
    """Mix the styles of samples: a grid of each row's image with some layers of each column's (stylegan2).

    Args:
        model: A run folder, a model folder or a Hugging Face repository id.
        out: The PNG to write: the sources on the left and on top.
        rows: Sources on the left: the samples of the seed from 0 on.
        columns: Sources on top: the next samples.
        layers: What comes from the column: coarse (layers 0-3), middle (4-7), fine (from 8) or a range such as 4-7.
        seed: Of the samples, as `pixgraft sample` draws them.
        truncation: Below 1 likelier and less varied images.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from pixgraft.cli.report import print_findings
    from pixgraft.engine.bars import Bars
    from pixgraft.pipelines.sampling import mix_file

    sampler = _opened(model, device)
    with Bars() as bars:
        made = mix_file(
            sampler, out, rows=rows, columns=columns, layers=layers, seed=seed, truncation=truncation,
            progress=bars.counting("mixing"),
        )  # fmt: skip
    first, last = made["layers"]
    about = _line(made, "seed", "truncation")
    return print_findings([], f"{rows} x {columns} mixed, layers {first} to {last} of the columns: {out}\n{about}")


@app.command
def walk(
    model: Model,
    /,
    *,
    out: Path,
    points: int = 4,
    frames: int = 25,
    seed: int = 0,
    truncation: float = 1.0,
    loop: bool = True,
    device: str = "auto",
) -> int:
    """Walk from sample to sample, as a film of 25 frames a second (stylegan2, progan).

    Args:
        model: A run folder, a model folder or a Hugging Face repository id.
        out: A name that ends in .gif, which has 256 colours a frame, or a folder for PNG frames, which have them all.
        points: Samples to pass: those of the seed from 0 on.
        frames: From each sample to the next.
        seed: Of the samples, as `pixgraft sample` draws them.
        truncation: stylegan2: below 1 likelier and less varied images.
        loop: Back to the first sample at the end.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from pixgraft.cli.report import print_findings
    from pixgraft.engine.bars import Bars
    from pixgraft.pipelines.sampling import walk_files

    sampler = _opened(model, device)
    with Bars() as bars:
        made = walk_files(
            sampler, out, points=points, frames=frames, seed=seed, truncation=truncation, loop=loop,
            progress=bars.counting("walking"),
        )  # fmt: skip
    return print_findings(
        [], f"{points} points, {frames} frames between two: {out}\n{_line(made, 'seed', 'truncation')}"
    )


def _opened(model: str, device: str) -> "Sampler":
    from pixgraft import devices
    from pixgraft.models import load_model
    from pixgraft.pipelines.sampler import Sampler

    picked = devices.pick(device)
    return Sampler(load_model(model, device=picked), picked)


def _line(made: dict[str, object], *keys: str) -> str:
    """The settings named and the model, on one line."""
    settings = ", ".join(f"{key} {made[key]}" for key in keys)
    return f"{settings}; {made['method']}, weights {made['weights_sha256']}"
