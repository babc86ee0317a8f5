"""Time and memory of precision, recall, density and coverage, compared with a textbook implementation.

The textbook implementation is that of the reference package, rewritten in NumPy: three full matrices of distances, and
a partial sort of two of them. Products are in float32, or in float64 as in scikit-learn's `pairwise_distances` for
float32 features. Features imitate a network's: a rectified linear function of fewer numbers. `--latent 0` makes them
independent normal numbers, the hardest case, because all distances are nearly equal.

    python benchmarks/prdc.py --threads 2                   # 10,000 images of 4,096 features: some minutes, 3 GB
    python benchmarks/prdc.py --images 2000 --features 512
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import torch
import tyro
from common import Timing

from pixgraft.errors import PixgraftError
from pixgraft.metrics.prdc import prdc

Figures = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Seconds and peak memory of precision, recall, density and coverage: pixgraft and the textbook implementation."""

    images: int = 10_000
    """Images in each of the two sets."""
    features: int = 4_096
    """Features per image."""
    latent: int = 64
    """Normal numbers per image that determine the features; 0: the features are independent normal numbers."""
    neighbours: int = 5
    """k: radii are distances to the k-th nearest neighbour."""
    repeats: int = 1
    """Timed runs of each implementation, after a small warm-up run."""
    threads: int = 0
    """CPU threads; 0: the libraries' defaults."""
    json: Path | None = None
    """Also write all figures to this file."""
    markdown: bool = False
    """Print the table as Markdown."""


@dataclass(frozen=True)
class Row:
    """One row's figures."""

    label: str
    timing: Timing
    cpu_seconds: float
    """CPU time per run, over all threads; less affected by other programs than `timing`."""
    peak_mib: float
    """Peak memory above that of the process with its two sets of features."""
    figures: Figures
    """Precision, recall, density, coverage."""


def features(generator: np.random.Generator, options: Options) -> np.ndarray:
    """One set (images, features) float32; all sets with the same latent dimension share a rectified layer."""
    if not options.latent:
        return generator.standard_normal((options.images, options.features), np.float32)
    layer = np.random.default_rng(2).standard_normal((options.latent, options.features), np.float32)
    output: np.ndarray = generator.standard_normal((options.images, options.latent), np.float32) @ layer
    np.maximum(output, 0, out=output)
    return output


def distances(x: np.ndarray, y: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """All distances (N, M) float32, from one product of matrices in `dtype`."""
    x, y = x.astype(dtype), y.astype(dtype)
    squares = x @ y.T
    squares *= -2
    squares += np.square(x).sum(1)[:, None]
    squares += np.square(y).sum(1)
    roots: np.ndarray = np.sqrt(np.maximum(squares, 0, out=squares), out=squares).astype(np.float32, copy=False)
    return roots


def radii(images: np.ndarray, k: int, dtype: type[np.floating]) -> np.ndarray:
    """Distance (N,) of each image to its k-th neighbour: the (k + 1)-th smallest of its row, which includes itself."""
    matrix = distances(images, images, dtype)
    np.fill_diagonal(matrix, 0)
    nearest = np.argpartition(matrix, k + 1, axis=1)[:, : k + 1]
    largest: np.ndarray = np.take_along_axis(matrix, nearest, axis=1).max(1)
    return largest


def textbook(real: np.ndarray, fake: np.ndarray, k: int, dtype: type[np.floating]) -> Figures:
    """The metrics as computed by the reference package."""
    real_radii, fake_radii = radii(real, k, dtype), radii(fake, k, dtype)
    matrix = distances(real, fake, dtype)
    in_real = matrix < real_radii[:, None]
    return (
        float(in_real.any(0).mean()),
        float((matrix < fake_radii).any(1).mean()),
        float(in_real.sum(0).mean() / k),
        float((matrix.min(1) < real_radii).mean()),
    )


def ours(real: np.ndarray, fake: np.ndarray, k: int) -> Figures:
    """The metrics as computed by pixgraft."""
    result = prdc(torch.from_numpy(real), torch.from_numpy(fake), k=k)
    precision, recall, density, coverage = (
        float(values.mean()) for values in (result.precision, result.recall, result.density, result.coverage)
    )
    return precision, recall, density, coverage


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, int], Figures]] = {
    "textbook, float64": lambda real, fake, k: textbook(real, fake, k, np.float64),
    "textbook, float32": lambda real, fake, k: textbook(real, fake, k, np.float32),
    "pixgraft": ours,
}


def measure(label: str, options: Options) -> Row:
    """Measure one row; call it in a new process."""
    device = common.prepared("cpu", options.threads)
    run = WAYS[label]
    few = np.random.default_rng(1).standard_normal((64, 64), np.float32)
    run(few, few, options.neighbours)
    generator = np.random.default_rng(0)
    real, fake = features(generator, options), features(generator, options)
    before = common.peak_memory(device)
    figures: list[Figures] = []
    began = time.process_time()
    seconds = [
        common.clocked(lambda: figures.append(run(real, fake, options.neighbours)), device)
        for _ in range(options.repeats)
    ]
    cpu_seconds = (time.process_time() - began) / options.repeats
    return Row(label, Timing(tuple(seconds)), cpu_seconds, common.peak_memory(device) - before, figures[0])


COLUMNS = ("way", "seconds", "spread", "× ours", "CPU s", "× ours", "peak MiB", "P", "R", "D", "C")


def lines(rows: list[Row]) -> list[list[str]]:
    """The table's cells."""
    last = rows[-1]
    return [
        [
            row.label,
            f"{row.timing.median:.1f}",
            f"{100 * row.timing.spread:.0f} %",
            f"{row.timing.median / last.timing.median:.2f}",
            f"{row.cpu_seconds:.1f}",
            f"{row.cpu_seconds / last.cpu_seconds:.2f}",
            f"{row.peak_mib:,.0f}",
            *(f"{figure:.3f}" for figure in row.figures),
        ]
        for row in rows
    ]


def main() -> None:
    """Measure and print."""
    options = tyro.cli(Options)
    common.check_counts(features=options.features, neighbours=options.neighbours, repeats=options.repeats)
    if options.images < options.neighbours + 2:
        raise PixgraftError(f"--images {options.images}: choose {options.neighbours + 2} or more")
    if options.threads:  # NumPy reads these variables only when it is imported
        for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ[name] = str(options.threads)
    facts = common.in_fresh_process(common.machine, "cpu", options.threads)
    facts["numpy"] = np.__version__
    rows = [common.in_fresh_process(measure, label, options) for label in common.tracked(list(WAYS))]
    common.report(
        f"Precision, recall, density and coverage (P, R, D, C), k = {options.neighbours}, "
        f"2 x {options.images:,} images of {options.features:,} features",
        COLUMNS,
        lines(rows),
        facts,
        markdown=options.markdown,
    )
    if options.json is not None:
        common.write_json(options.json, options, facts, rows)


if __name__ == "__main__":
    common.run_main(main)
