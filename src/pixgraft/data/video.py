"""Films of images: GIF, and MP4 with the extra `video`."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pixgraft.data.images import gif_bytes
from pixgraft.engine.extras import packages
from pixgraft.errors import PixgraftError

FILMS = (".gif", ".mp4")
"""The suffixes of films."""
FRAME_MS = 40
"""Duration of a frame in milliseconds where images pass into each other: 25 a second."""
BT709 = 1
"""The number of the colour space of HDTV in H.264, which players take for granted where none is written."""
QUALITY = {"crf": "16"}
"""x264's constant rate factor: at 16 one sees no difference."""


def check_film(out: Path) -> None:
    """Raise PixgraftError if `out` is no name for a film, is a folder, or needs a package that is missing."""
    if out.suffix.lower() not in FILMS:
        raise PixgraftError(f"{out}: a film is written: end the name in {' or '.join(FILMS)}")
    if out.is_dir():
        raise PixgraftError(f"{out}: is a folder: choose another name for the file")
    if out.suffix.lower() == ".mp4":
        packages("video", str(out))


def film_bytes(frames: Iterable[Tensor], suffix: str, *, milliseconds: int, loop: bool, comment: str) -> bytes:
    """A film of frames, uint8 (3, H, W), each shown for `milliseconds`, in the format of one of `FILMS`.

    `loop` repeats a GIF for ever; an MP4 has no such mark.
    """
    if suffix.lower() == ".gif":
        return gif_bytes(frames, milliseconds=milliseconds, loop=loop, comment=comment)
    return mp4_bytes(frames, milliseconds=milliseconds, comment=comment)


def mp4_bytes(frames: Iterable[Tensor], *, milliseconds: int, comment: str) -> bytes:
    """An MP4 of H.264. Sides become even by repeating the last row or column. Needs the package av.

    Raises PixgraftError if its encoder fails, or is left out of this build.
    """
    import av

    rest = iter(frames)
    first = next(rest)
    try:
        return _encoded(first, rest, Fraction(1000, milliseconds), comment)
    except (av.FFmpegError, ValueError) as error:
        raise PixgraftError(f"no MP4 was made ({error}): write a .gif") from error


def _encoded(first: Tensor, rest: Iterator[Tensor], rate: Fraction, comment: str) -> bytes:
    import av

    height, width = (side + side % 2 for side in first.shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        # The index is moved to the front, where a browser looks for it.
        with av.open(str(file), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as film:
            film.metadata["comment"] = comment
            stream: Any = film.add_stream("libx264", rate=rate, options=QUALITY)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.metadata["handler_name"] = "pixgraft"  # near the file's beginning, where `is_output` looks
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = context.color_range = BT709
            for image in itertools.chain([first], rest):
                pixels = np.pad(
                    image.permute(1, 2, 0).numpy(),
                    [(0, height - image.shape[1]), (0, width - image.shape[2]), (0, 0)],
                    "edge",
                )
                film.mux(stream.encode(av.VideoFrame.from_ndarray(_yuv420(pixels), "yuv420p")))
            film.mux(stream.encode())
        return file.read_bytes()


def _yuv420(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RGB (H, W, 3) as the planes of YUV 4:2:0 by BT.709, below each other (3 H / 2, W); H and W are even.

    FFmpeg's own conversion does not give the same bytes each time.
    """
    colours = image.astype(np.float32) / 255
    luma = colours @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    blue, red = ((colours[..., band] - luma) / scale for band, scale in ((2, 1.8556), (0, 1.5748)))
    height, width = luma.shape
    small = [each.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) * 224 + 128 for each in (blue, red)]
    planes = np.concatenate([(luma * 219 + 16).ravel(), *(each.ravel() for each in small)])
    rounded: npt.NDArray[np.uint8] = np.rint(planes).astype(np.uint8).reshape(height * 3 // 2, width)
    return rounded
