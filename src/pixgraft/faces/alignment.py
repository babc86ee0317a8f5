"""Faces cut out of pictures upright, for single images and for folders."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from PIL import Image

from pixgraft.data.alignment import TEMPLATES, Floats, Placement, applied, crop_matrix, share_beyond, warp
from pixgraft.data.check import Finding, without_name
from pixgraft.data.frame import Frame, frame_bytes, read_frame
from pixgraft.data.images import decode, to_tensor
from pixgraft.data.outputs import check_made, output_folder, write_image
from pixgraft.data.sources import FRAME_FILE, open_source
from pixgraft.errors import PixgraftError
from pixgraft.faces.detection import Face, detect
from pixgraft.files import removed_if_empty, write_bytes

MUCH_BEYOND = 0.1
"""The share of a crop beyond its picture from which a note tells of it."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """A face cut out upright."""

    image: Image.Image
    matrix: Floats
    """The similarity (2, 3) from the picture's pixels to those of `image`."""
    face: Face
    """The face in the original picture."""
    others: list[Face]
    """The other faces of the picture, from the largest to the smallest."""
    beyond: float
    """The share of `image`, 0..1, that is beyond the picture and is filled from it."""

    @property
    def notes(self) -> list[str]:
        """Warnings about the crop, one sentence each."""
        notes = []
        if self.others:
            notes.append(f"{len(self.others) + 1} faces: the largest was taken")
        if self.beyond > MUCH_BEYOND:
            notes.append(f"{self.beyond:.0%} of the crop lies beyond the picture and is filled from it")
        return notes


@dataclass(frozen=True)
class AlignedFiles:
    """The result of `align_files`."""

    written: int
    skipped: list[Finding]
    """The images without a crop, each with the reason."""
    notes: list[Finding]
    """Warnings about crops that were written."""
    frame: Frame | None
    """The medians of the landmarks in the crops; None if there are none, or they are no face's seen from the front."""


def align(image: Image.Image, size: int, *, template: Placement = "ffhq", name: str = "the picture") -> Aligned:
    """The largest face of an RGB image as an upright crop of `size` x `size` pixels; errors begin with `name`.

    `template`: "ffhq" shows the whole head, as FFHQ's pictures do; "arcface" the face alone, for identity networks; a
    frame has its landmarks at its points, as near as rotation, scale and shift bring them.

    Raises PixgraftError if there is no face, or for a size below 1 or an unknown template.
    """
    first, *others = align_all(image, size, template=template, name=name)
    return replace(first, others=[each.face for each in others])


def align_all(
    image: Image.Image, size: int, *, template: Placement = "ffhq", name: str = "the picture"
) -> list[Aligned]:
    """As `align`, but every face of the image, from the largest to the smallest."""
    _check(size, template)
    faces = detect(image)
    if not faces:
        raise PixgraftError(f"{name}: no face found: choose a picture that shows one larger or from the front")
    found = []
    for face in faces:
        try:
            matrix = crop_matrix(face.landmarks, size, template)
        except PixgraftError as error:
            raise PixgraftError(f"{name}: {error}") from None
        found.append(Aligned(warp(image, matrix, size), matrix, face, [], share_beyond(image, matrix, size)))
    return found


def align_files(
    source: str | Path,
    out: str | Path,
    *,
    size: int = 256,
    template: Placement = "ffhq",
    progress: Callable[[int, int], None] | None = None,
) -> AlignedFiles:
    """Write the aligned face of every image in a folder, a zip or a file to `out`, as a PNG of the image's name, and
    their frame.

    `progress` is called with (images done, all images). The result lists the images that cannot be read, show no face,
    or differ from another only in the suffix, and warns of those with several faces or with a face cut off.
    Raises PixgraftError if `source` holds no images, if `out` cannot be written to or has a FRAME_FILE that is none,
    and as `align` for its settings.
    """
    _check(size, template)
    images = open_source(source)
    skipped: list[Finding] = []
    notes: list[Finding] = []
    origins: dict[Path, str] = {}
    landmarks: list[Floats] = []
    frame: Frame | None = None
    with contextlib.closing(images), removed_if_empty(Path(out)):
        paths = [Path(out) / PurePosixPath(name).with_suffix(".png") for name in images.names]
        check_made(Path(out), images.path, paths)
        output_folder(Path(out))
        if (Path(out) / FRAME_FILE).exists():
            read_frame(Path(out) / FRAME_FILE)  # anything else is not ours to replace
        for done, (name, path) in enumerate(zip(images.names, paths, strict=True), start=1):
            try:
                if path in origins:
                    raise PixgraftError(f"{name}: the same stem as {origins[path]}")
                aligned = align(decode(images.read(name), name), size, template=template, name=name)
            except PixgraftError as error:
                skipped.append(Finding(name, without_name(name, error), usable=False))
            else:
                write_image(path, to_tensor(aligned.image))
                origins[path] = name
                landmarks.append(applied(aligned.matrix, aligned.face.landmarks) / size)
                notes += [Finding(name, note, usable=True) for note in aligned.notes]
            if progress is not None:
                progress(done, len(images.names))
        if landmarks:
            try:
                frame = Frame.median(landmarks)
            except PixgraftError as error:
                notes.append(Finding(FRAME_FILE, f"not written: {error}", usable=True))
            else:
                write_bytes(Path(out) / FRAME_FILE, frame_bytes(frame))
    return AlignedFiles(len(origins), skipped, notes, frame)


def _check(size: int, template: Placement) -> None:
    if size < 1:
        raise PixgraftError(f"a size of {size}: choose a number of pixels from 1")
    if not isinstance(template, Frame) and template not in TEMPLATES:
        raise PixgraftError(f"no template named {template}: choose one of {', '.join(TEMPLATES)}")
