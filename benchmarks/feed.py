"""Images a second that the data deliver to the training step, by the form in which they lie on the disk.

Random smooth images with noise are written as PNG, JPEG and a zip of the PNGs at `--source` pixels, and packed at each
size. A row's first pass decodes each image once, as a run does whose data exceed the memory at every pass; the later
passes come from memory if the decoded images fit, and of a packed file from the mapped pages. Packing itself is a row.

    python benchmarks/feed.py                          # 128 and 256 from 1024 pixels: some minutes
    python benchmarks/feed.py --images 64 --source 256
    PYTHONPATH=OLD/src python benchmarks/feed.py --no-packed --decoders 2      # a version before packed files
"""

import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import tyro
from PIL import Image

from pixgraft.data.dataset import Dataset, Loader, SampleOrder
from pixgraft.data.pairs import ItemSource, open_images

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Options(common.CommonOptions):
    """Images a second of the feed from PNG, JPEG, zip and packed."""

    images: int = 256
    """Images in each form, at least 64."""
    source: int = 1024
    """Side of the image files in pixels."""
    sizes: tuple[int, ...] = (128, 256)
    """Sides of the training images."""
    decoders: int = 0
    """Threads that decode; 0: the cores. The version before packed files used 2."""
    packed: bool = True
    """Measure packed files too."""
    seconds: float = 5.0
    """Least duration of the later passes in each row."""


@dataclass(frozen=True)
class Row:
    """One row's figures, in images a second."""

    form: str
    size: int
    first: float
    """In the first pass."""
    later: float
    """In the passes after it; 0 where there are none."""


def write_files(folder: Path, options: Options) -> dict[str, Path]:
    """The images in each form, by its name."""
    forms = {"PNG": folder / "png", "JPEG": folder / "jpeg", "zip": folder / "images.zip"}
    forms["PNG"].mkdir()
    forms["JPEG"].mkdir()
    with zipfile.ZipFile(forms["zip"], "w") as archive:
        for number in range(options.images):
            random = np.random.default_rng(number)
            coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((options.source,) * 2, Image.Resampling.BICUBIC)).astype(np.int16)
            pixels += random.integers(-6, 7, pixels.shape, dtype=np.int16)
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            name = f"{number:06d}"
            picture.save(forms["PNG"] / f"{name}.png")
            picture.save(forms["JPEG"] / f"{name}.jpg", quality=95)
            archive.write(forms["PNG"] / f"{name}.png", f"{name}.png")
    return forms


def packing(path: Path, out: Path, size: int) -> Row:
    """The time of packing; call it in a new process."""
    from pixgraft.data.packing import write_pack

    began = time.perf_counter()
    made = write_pack(open_images(path), out, size=size)
    return Row("packing", size, made.count / (time.perf_counter() - began), 0.0)


def measure(form: str, path: Path, size: int, options: Options) -> Row:
    """Measure one row; call it in a new process."""
    device = common.prepared(options.device, options.threads)
    if form == "packed":
        from pixgraft.data.packed import open_packed

        source: ItemSource = open_packed(path)
    else:
        source = open_images(path)
    dataset = Dataset(source, size=size)
    loader = Loader(
        dataset,
        SampleOrder(len(dataset), seed=0, flip=True),
        **({"threads": options.decoders} if options.decoders else {}),
    )
    on: dict[str, Any] = {} if device.type == "cpu" else {"device": device}
    batches = loader.batches(0, BATCH, **on)
    passed = len(dataset) // BATCH

    def take(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            images, _ = next(batches)
        torch.ones(1, device=device).add_(images[0, 0, 0, 0]).item()  # it has arrived
        return time.perf_counter() - began

    first = passed * BATCH / take(passed)
    seconds, count = 0.0, 0
    take(passed)  # what was loaded ahead
    while seconds < options.seconds:
        seconds += take(passed)
        count += passed * BATCH
    loader.close()
    return Row(form, size, first, count / seconds)


def main() -> None:
    """Measure and print."""
    options = tyro.cli(Options)
    common.check_counts(source=options.source, images=options.images // 64)
    facts = common.in_fresh_process(common.machine, options.device, options.threads)
    facts["decoders"] = str(options.decoders or "as many as cores")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        forms = write_files(Path(folder), options)
        for size in options.sizes:
            for form, path in common.tracked(tuple(forms.items())):
                rows.append(common.in_fresh_process(measure, form, path, size, options))
            if not options.packed:
                continue
            out = Path(folder) / f"{size}.pack"
            rows.append(common.in_fresh_process(packing, forms["PNG"], out, size))
            rows.append(common.in_fresh_process(measure, "packed", out, size, options))
    common.report(
        f"The feed, {options.images} images of {options.source} pixels, batches of {BATCH}",
        ("form", "size", "images/s, first pass", "images/s, later"),
        [[row.form, str(row.size), f"{row.first:,.0f}", f"{row.later:,.0f}" if row.later else ""] for row in rows],
        facts,
        markdown=options.markdown,
    )
    if options.json is not None:
        common.write_json(options.json, options, facts, rows)


if __name__ == "__main__":
    common.run_main(main)
