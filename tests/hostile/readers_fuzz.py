"""Seeded fuzzing of what is read of strangers' files: images, zips, checkpoints and safetensors.

`python tests/hostile/readers_fuzz.py SECONDS [SEED]` goes on for so long, and stops at the first defect.
"""

import io
import pickle
import random
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save as safetensors_bytes

from pixgraft.data.images import SUFFIXES, decode
from pixgraft.data.sources import open_source
from pixgraft.errors import PixgraftError
from pixgraft.layouts import identify
from pixgraft.layouts.reading import read_content, read_tensors

Read = Callable[[Path], object]

_NUMBERS = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\1\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
)


def mutated(data: bytes, random_: random.Random) -> bytes:
    """The bytes with one to eight changes: bits, bytes, extreme numbers, pieces left out, repeated or moved, or cut."""
    content = bytearray(data)
    for _ in range(random_.randint(1, 8)):
        if not content:
            break
        at, length = random_.randrange(len(content)), random_.randint(1, 64)
        match random_.randrange(7):
            case 0:
                content[at] ^= 1 << random_.randrange(8)
            case 1:
                content[at] = random_.randrange(256)
            case 2:
                number = random_.choice(_NUMBERS)
                content[at : at + len(number)] = number
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[at : at + length] * random_.choice((1, 2, 50))
            case 5:
                to = random_.randrange(len(content))
                content[to : to + length] = content[at : at + length]
            case 6 if random_.random() < 0.3:
                del content[at:]
    return bytes(content)


def picture_files() -> dict[str, bytes]:
    """A small image of every format that is read, in several kinds."""
    picture = Image.effect_noise((40, 30), 90).convert("RGB")
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "I;16", {}), ("PNG", "LA", {}), ("PNG", "1", {}),
        ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "CMYK", {}), ("JPEG", "L", {}),
        ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}), ("BMP", "RGB", {}),
        ("BMP", "P", {}), ("PPM", "RGB", {}), ("PPM", "L", {}), ("PPM", "1", {}), ("TIFF", "RGB", {}),
        ("TIFF", "F", {}),
        *(("TIFF", "RGB", {"compression": each}) for each in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        *((each, "RGB", {"save_all": True, "append_images": [picture.rotate(90), picture]})
          for each in ("PNG", "GIF", "WEBP", "TIFF")),
    ]  # fmt: skip
    suffixes = {name: suffix for suffix, name in reversed(SUFFIXES.items())}
    files = {}
    for number, (name, mode, options) in enumerate(kinds):
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x112], exif[0x10E] = 6, "a description"
        if name in ("PNG", "JPEG", "WEBP"):
            options = {**options, "exif": exif}
        image = picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
        image.save(stream, name, **options)
        files[f"{number}{suffixes[name]}"] = stream.getvalue()
    return files


def zip_files() -> dict[str, bytes]:
    """Zips of images, stored and deflated."""
    pictures = picture_files()
    files = {}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name in ("0.png", "5.jpg"):
                archive.writestr(f"train/ü{name}", pictures[name])
                archive.writestr(f"./masks/{name}", pictures[name])
        files[f"{method}.zip"] = stream.getvalue()
    return files


def tensor_files() -> dict[str, bytes]:
    """Checkpoints of PyTorch in both formats, a plain pickle, and a safetensors file."""
    shared = torch.arange(12.0)
    content = {
        "g_ema": {"a.weight": torch.nn.Parameter(shared.view(3, 4)), "b": shared[2:6], "c": torch.ones(2).half()},
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "on": True}]},
        "latent_avg": torch.zeros(4), "opts": {"size": 64, "name": "x", "none": None},
    }  # fmt: skip
    files = {"x.pickle": pickle.dumps({"G": {"w": 1}, "x": (1, 2.0, "text", {3: [4]})}, 4)}
    for legacy in (False, True):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
        files[f"legacy{legacy:d}.pt"] = stream.getvalue()
    files["x.safetensors"] = safetensors_bytes({"a": shared, "b": torch.ones(2, 3).bfloat16()}, {"pixgraft": "{}"})
    return files


def read_picture(path: Path) -> object:
    return decode(path.read_bytes(), path.name).tobytes()


def read_zip(path: Path) -> object:
    source = open_source(path)
    try:
        return [source.read(name) for name in source.names]
    finally:
        source.close()


def read_checkpoint(path: Path) -> object:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    for read in (identify, read_tensors):
        try:
            read(path)
        except PixgraftError as error:
            _check_line(error)
    return read_content(path)


KINDS: dict[str, tuple[Callable[[], dict[str, bytes]], Read]] = {
    "images": (picture_files, read_picture), "zips": (zip_files, read_zip), "tensors": (tensor_files, read_checkpoint),
}  # fmt: skip


def _check_line(error: PixgraftError) -> None:
    assert "\n" not in str(error), str(error)
    assert len(str(error)) < 2000, str(error)[:2000]


def fuzz(kind: str, seed: int, folder: Path) -> Iterator[float]:
    """Endless mutated files of one of `KINDS`; each is read, and gives the seconds that it took.

    Whatever is raised that is no PixgraftError of one line is a defect; the file is then left in `folder`.
    """
    make, read = KINDS[kind]
    whole, random_ = make(), random.Random(f"{kind} {seed}")
    while True:
        name = random_.choice(list(whole))
        path = folder / name
        path.write_bytes(mutated(whole[name], random_))
        start = time.monotonic()
        try:
            read(path)
        except PixgraftError as error:
            _check_line(error)
        yield time.monotonic() - start


def main(seconds: float, seed: int = 0) -> None:
    """Fuzz all kinds in turn; a file that takes more than ten seconds is a defect too."""
    folder = Path(tempfile.mkdtemp(prefix="readers_fuzz"))
    files = {kind: fuzz(kind, seed, folder) for kind in KINDS}
    print(f"seed {seed}, in {folder}")
    counts = dict.fromkeys(KINDS, 0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for kind, each in files.items():
            took = next(each)
            assert took < 10, f"{kind}: {took:.1f} s"
            counts[kind] += 1
    print(counts)


if __name__ == "__main__":
    warnings.simplefilter("error", ResourceWarning)
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
