"""The one place where images turn from bytes into tensors and back.

In memory an image is float32 (3, H, W), RGB, in [-1, 1], or uint8; on disk it has any of the formats in `SUFFIXES`.
Files are untrusted: any fault in them ends in a `PixgraftError` that names the file.
"""

import contextlib
import ctypes
import functools
import io
import logging
import re
import warnings
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, PngImagePlugin, _imaging
from torch import Tensor

from pixgraft.errors import PixgraftError, reason
from pixgraft.layers.resample import average_pool

MAX_PIXELS = 100_000_000
"""An image with more pixels is refused by its header, before anything is decoded."""

MAX_SCANS = 100
"""The most scans of a JPEG; programs write about ten."""

MAX_SCANNED = 2 * 10**9
"""The most pixels of all scans of a JPEG together, which take some seconds."""

_MAX_SLOW = 4_000_000
"""The most pixels of the kinds that Pillow decodes in Python, one after the other."""

_SLOW = {
    "bmp_rle": "BMP with run-length coding", "ppm": "PPM or PGM with an unusual largest value",
    "ppm_plain": "PPM or PGM in plain text",
}  # fmt: skip
"""These kinds, under Pillow's names."""

_MAX_READS = 1_000_000
"""The most parts of a file, which Pillow reads in Python; a PNG of MAX_PIXELS may have 100,000 of three reads each."""

_MAX_COMMENTS = 1000
"""The most comments in a PPM; each is cut out of a large block."""

_MAX_MARKERS, _MAX_PARSED = 10_000, 100
"""The most markers of a JPEG's header, and the most that are parsed in Python: tables, EXIF, resources of Photoshop."""

_MAX_PROFILES = 10
"""The most colour profiles of a PNG, which has one; each takes time to unpack."""

SUFFIXES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF",
    ".tiff": "TIFF", ".gif": "GIF", ".ppm": "PPM", ".pgm": "PPM", ".heic": "HEIF", ".heif": "HEIF",
}  # fmt: skip
"""The suffixes of image files (lower case), each with its format."""

WRITTEN = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF", ".jp2": "JPEG2000",
}  # fmt: skip
"""The suffixes of image files that are written, each with its format."""

_SETTINGS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}, "AVIF": {"quality": 90}, "JPEG2000": {},
}  # fmt: skip
"""How formats other than PNG are written; JPEG 2000 without loss."""

_SIGNATURES = {
    "PNG": rb"\x89PNG\r\n\x1a\n", "JPEG": rb"\xff\xd8\xff", "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]", "GIF": rb"GIF8[79]a", "PPM": rb"P[1-6f]\s", "BMP": rb"BM",
    "HEIF": rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)",
}  # fmt: skip


_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""A marker of a JPEG with its code; in coded data 0xff is followed by 0 or a restart marker."""

# What Pillow warns of are paths and metadata within files; faults in pixels are errors. Filters are of the whole
# process: `catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def image_format(data: bytes) -> str | None:
    """The format by its signature, one of the values of `SUFFIXES`; None if it is none of them."""
    return next((name for name, signature in _SIGNATURES.items() if re.match(signature, data, re.DOTALL)), None)


def decode(data: bytes, name: str) -> Image.Image:
    """The bytes of an image file as an upright 8-bit RGB image; errors begin with `name`.

    EXIF orientation is applied. Transparent pixels are composited over white. An animation gives its first frame.
    16-bit grey is scaled from 0..65535. Floats are scaled from the smallest of 0..1, 0..255 and 0..65535 that
    contains them. Integers and floats outside these ranges are scaled from their minimum to their maximum. CMYK is
    converted without its colour profile.

    Raises PixgraftError if the file is empty, not an image, cut short, damaged, of an unsupported kind, or
    has more than MAX_PIXELS pixels.
    """
    if not data:
        raise PixgraftError(f"{name}: the file is empty; replace or remove it")
    kind = image_format(data)
    if kind is None:
        raise PixgraftError(f"{name}: not an image of a known format ({', '.join(_SIGNATURES)}); convert or remove it")
    too_large = f"more than the {MAX_PIXELS:,} allowed; shrink or remove it"
    if kind == "HEIF":
        _register_heif(name)
    if kind == "TIFF":
        _silence_libtiff()
    if kind == "JPEG":
        _check_header(data, name)
    if kind == "PNG" and data.count(b"iCCP") > _MAX_PROFILES:
        raise PixgraftError(f"{name}: a PNG with several colour profiles; save it anew")
    stream = _Counted(data)
    try:
        # The plugin is called directly: Image.open warns about, or refuses, sizes by a limit that is global to the
        # process, and its error does not state the width and height.
        Image.init()
        image: Image.Image = Image.OPEN[kind][0](stream, "")
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PixgraftError(f"{name}: {width} x {height} pixels, {too_large}")
        _check_effort(data, kind, image, name)
        if kind == "PPM":  # some are read pixel by pixel
            stream.reads_left += width * height
        image.load()
        return _to_rgb(upright(image))
    except PixgraftError:
        raise
    except Image.DecompressionBombError:  # some plugins check a frame or a tile by Pillow's limit
        raise PixgraftError(f"{name}: has {too_large}") from None
    except Exception as error:  # on damaged bytes the plugins raise almost anything
        problem = f"{name}: cut short, damaged or an unsupported kind of {kind} ({reason(error)})"
        raise PixgraftError(f"{problem}; save it anew or remove it") from error


def _check_effort(data: bytes, kind: str, image: Image.Image, name: str) -> None:
    """Raise PixgraftError for an image that takes far more time to decode than its pixels do; `name` is its file's."""
    count = image.width * image.height
    if kind == "JPEG" and data.count(b"\xff\xda") > 1:
        scans = _scans(data)
        if scans > MAX_SCANS or (scans > 1 and scans * count > MAX_SCANNED):
            raise PixgraftError(f"{name}: a JPEG with {scans:,} scans, more than any program writes; save it anew")
    coding = next((tile[0] for tile in getattr(image, "tile", ())), "")
    if coding in _SLOW and count > _MAX_SLOW:
        raise PixgraftError(f"{name}: {count:,} pixels in a {_SLOW[coding]}; save it as PNG")
    if coding == "ppm_plain" and data.count(b"#") > _MAX_COMMENTS:
        raise PixgraftError(f"{name}: a PPM with more than {_MAX_COMMENTS:,} comments; save it anew")


class _Counted(io.BytesIO):
    """A file that is read in at most `_MAX_READS` parts."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads_left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ValueError("far more parts than any program writes")
        return super().read(size)


def _check_header(data: bytes, name: str) -> None:
    """Raise PixgraftError for a JPEG whose header takes far longer than its pixels; `name` is its file's."""
    place, parsed = 2, 0
    for _ in range(_MAX_MARKERS):
        marker = _MARKER.search(data, place)
        if marker is None or marker[1][0] == _SCAN:
            return
        code, place = marker[1][0], marker.end()
        if JpegImagePlugin.MARKER.get(0xFF00 + code, ("", "", None))[2] is None:  # without a length
            continue
        quick = 0xE0 <= code <= 0xFE and not data.startswith((b"Exif", b"Photoshop"), place + 2)
        parsed += not quick
        if parsed > _MAX_PARSED:
            break
        place += max(2, int.from_bytes(data[place : place + 2]))
    raise PixgraftError(f"{name}: a JPEG with far more parts than any program writes; save it anew")


def _scans(data: bytes) -> int:
    """The number of scans in a JPEG; counting ends with the image, and soon after `MAX_SCANS`."""
    scans = place = 0
    for _ in range(2 * _MAX_MARKERS):
        marker = _MARKER.search(data, place)
        if marker is None or marker[1][0] == _END or scans > MAX_SCANS:
            return scans
        code, place = marker[1][0], marker.end()
        scans += code == _SCAN
        if code > 1 and code != 0xD8:  # those without a length
            place += int.from_bytes(data[place : place + 2])
    raise ValueError("far more markers than any program writes")


@functools.cache
def _silence_libtiff() -> None:
    """Stop libtiff from writing its errors to the terminal; Pillow raises them too."""
    with contextlib.suppress(OSError, AttributeError):  # where Pillow does not link to it as a library
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _register_heif(name: str) -> None:
    """Let Pillow open HEIC files. Raises PixgraftError, which begins with `name`, without the package for it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise PixgraftError(f"{name}: a HEIC image: pip install 'pixgraft[heic]', or save it as JPEG or PNG") from None
    register_heif_opener()


def upright(image: Image.Image) -> Image.Image:
    """The image itself, turned in place by its EXIF orientation."""
    with contextlib.suppress(Exception):  # metadata that cannot be read is no reason to refuse sound pixels
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        image = _deep_grey(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits as 8 bits; Pillow's conversion clips at 255."""
    values = np.asarray(image).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise ValueError("pixels that are not finite numbers")
    scales = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    fitting = [scale for scale in scales if low >= 0 and high <= scale]
    start, span = (0.0, fitting[0]) if fitting else (low, high - low)
    grey = np.rint((values - start) * (255 / (span or 1))).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # one of the 65536 levels is transparent
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _centre_square(image: Image.Image) -> Image.Image:
    # Cropped before resizing: with resize's `box` the filter reads the pixels around it.
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def fit(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square, resized to `size` x `size`: Lanczos if it shrinks, bicubic if it grows."""
    square = _centre_square(image)
    method = Image.Resampling.LANCZOS if square.width > size else Image.Resampling.BICUBIC
    return square if square.width == size else square.resize((size, size), method)


def pixels(image: Image.Image) -> Tensor:
    """An 8-bit RGB or grey image as uint8 (3, H, W) or (1, H, W)."""
    array = np.array(image)  # a copy: Pillow's array is read-only
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()


def to_tensor(image: Image.Image) -> Tensor:
    """An 8-bit RGB or grey image as float32 (3, H, W) or (1, H, W) in [-1, 1]."""
    return from_uint8(pixels(image))


def to_picture(image: Tensor) -> Image.Image:
    """The inverse of `pixels`: uint8 (3, H, W) or (1, H, W) as an RGB or grey image."""
    array = image.detach().cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1], any shape, as uint8: clamped and rounded to the nearest level."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """uint8, any shape, as float32 in [-1, 1]; the inverse of `to_uint8`."""
    return (images.float() / 127.5).sub_(1)


def png_bytes(image: Tensor, metadata: dict[str, str]) -> bytes:
    """A PNG file of one image, (3, H, W) or (1, H, W), uint8 or float in [-1, 1], with text chunks.

    Equal pixels and equal metadata, in any order, give equal bytes. Keys have 1 to 79 Latin-1 characters.
    """
    text = PngImagePlugin.PngInfo()
    for key, value in sorted(metadata.items()):
        text.add_text(key, value)
    file = io.BytesIO()
    picture = to_picture(image if image.dtype == torch.uint8 else to_uint8(image))
    picture.save(file, "PNG", pnginfo=text, compress_level=6)
    return file.getvalue()


def check_written(name: str) -> None:
    """Raise PixgraftError unless a file of that name can be written: its suffix is of `WRITTEN`, and Pillow has it."""
    kind = WRITTEN.get(PurePath(name).suffix.lower())
    if kind is None:
        raise PixgraftError(f"{name}: no image that is written: end the name in one of {' '.join(WRITTEN)}")
    Image.init()
    if kind not in Image.SAVE:
        raise PixgraftError(f"{name}: this build of Pillow writes no {kind}: end the name in .png")


def reencoded(png: bytes, name: str) -> bytes:
    """A PNG of ours in the format of the suffix of `name`, which `check_written` accepted, with the PNG's texts.

    They stand in EXIF, and of JPEG 2000 in a comment. Raises PixgraftError, which names it, if the format cannot hold
    the image.
    """
    kind = WRITTEN[PurePath(name).suffix.lower()]
    if kind == "PNG":
        return png
    Image.init()
    picture = Image.OPEN["PNG"][0](io.BytesIO(png), "")
    picture.load()
    texts = {key: value for key, value in picture.info.items() if isinstance(value, str)}
    if kind == "JPEG2000":
        holding: dict[str, Any] = {"comment": "\n".join(texts.values()).encode()[:60_000]}
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.Software] = texts.get("Software", "")
        exif[ExifTags.Base.ImageDescription] = texts.get("Description", "")
        comment = b"ASCII\0\0\0" + texts.get("pixgraft", "").encode()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
        holding = {"exif": exif}
    file = io.BytesIO()
    try:
        picture.save(file, kind, **_SETTINGS[kind], **holding)
    except (OSError, ValueError) as error:
        problem = f"{name}: {picture.width} x {picture.height} pixels cannot be written as {kind} ({reason(error)})"
        raise PixgraftError(f"{problem}: end the name in .png") from error
    return file.getvalue()


def gif_bytes(frames: Iterable[Tensor], *, milliseconds: int, loop: bool, comment: str) -> bytes:
    """A GIF of frames, uint8 (3, H, W), each shown for `milliseconds`, a multiple of 10; `loop` repeats it for ever.

    A GIF has 256 colours a frame. They are chosen for each frame, without dithering, which would flicker. A frame that
    equals the one before it prolongs that one.
    """
    pictures = (to_picture(frame).quantize(256) for frame in frames)
    first = next(pictures)
    file = io.BytesIO()
    options = {"duration": milliseconds, "comment": comment.encode(), **({"loop": 0} if loop else {})}
    first.save(file, "GIF", save_all=True, append_images=pictures, **options)
    return file.getvalue()


def read_lr(image: Image.Image, *, hr: int, lr: int) -> Tensor:
    """The low-resolution target of an RGB image, float32 (3, lr, lr) in [-1, 1].

    `hr` is a multiple of `lr`. An image of exactly lr x lr is used as it is. If its shorter side has at least `hr`
    pixels, it is fitted to hr x hr and average-pooled, as in training. Otherwise its centred square is shrunk by a
    box filter, which is average pooling by any factor.

    Raises PixgraftError, without the file's name, if the shorter side has fewer than `lr` pixels.
    """
    side = min(image.size)
    if side < lr:
        shape = f"{image.width} x {image.height}"
        raise PixgraftError(f"{shape} pixels are too few for a target; it needs at least {lr} x {lr}")
    if image.size == (lr, lr):
        return to_tensor(image)
    if side >= hr:
        return average_pool(to_tensor(fit(image, hr)).unsqueeze(0), lr).squeeze(0)
    return to_tensor(_centre_square(image).resize((lr, lr), Image.Resampling.BOX))
