"""The verbs of `pixgraft data`, which look at images or make data sets of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from pixgraft.cli.app import Data, Out, data_app
from pixgraft.errors import PixgraftError

if TYPE_CHECKING:
    from pixgraft.data.alignment import Placement
    from pixgraft.data.conditions import ConditionKind
    from pixgraft.data.pairs import ItemSource

Mapping = Annotated[Positional[Path], arg(metavar="MAPPING")]
Partition = Annotated[Positional[Path], arg(metavar="PARTITION")]


@data_app.command
def check(
    path: Data, /, *, size: int = 64, split: str = "",
    pairs: Literal["no", "labels", "color", "sketch", "image"] = "no",
    images: str = "images", conditions: str = "masks", classes: int = 0, palette: Path | None = None,
) -> int:  # fmt: skip
    """Say which files training would use, and what is wrong with the others.

    Args:
        path: A folder (searched) or a zip of images, or of images and conditions; or a packed file, which says itself
            what it holds.
        size: The side in pixels that training will use; smaller images are named.
        split: The folder within the data to look at, such as "train", or a text file that lists names.
        pairs: What the conditions are: index images, colour images with a palette, drawings or pictures.
        images: With pairs: the images' folder.
        conditions: With pairs: the conditions' folder; files are matched by their stems.
        classes: Of labels: how many there are, 2 to 256.
        palette: Of color: a text file with a line "NAME R G B" for each class.
    """
    from pixgraft.cli.results import print_findings
    from pixgraft.data.check import check as look
    from pixgraft.data.packed import is_packed, open_packed

    if is_packed(path):
        packed = open_packed(path, under=split, images=images)
        report = look(packed, size=packed.index.size)
        return print_findings(report.findings, report.summary)
    source, kind = _opened(path, size, split, pairs, images, conditions, classes, palette, skip_bad=True)
    report = look(source, size=size, kind=kind)
    return print_findings(report.findings, report.summary)


@data_app.command
def pack(
    path: Data, out: Out, /, *, size: int = 256, split: str = "",
    pairs: Literal["no", "labels", "color", "sketch", "image"] = "no",
    images: str = "images", conditions: str = "masks", classes: int = 0, palette: Path | None = None,
    skip_bad: bool = False,
) -> int:  # fmt: skip
    """Decode images once into one file that training maps into memory, in the order and bits of the folder.

    Args:
        path: A folder (searched) or a zip of images, or of images and conditions.
        out: The file to write; its name ends in .pack. Give it to `train --data`.
        size: The side in pixels of the training.
        split: The folder within the data to take, such as "train", or a text file that lists names.
        pairs: What the conditions are: index images, colour images with a palette, drawings or pictures.
        images: With pairs: the images' folder.
        conditions: With pairs: the conditions' folder; files are matched by their stems.
        classes: Of labels: how many there are, 2 to 256.
        palette: Of color: a text file with a line "NAME R G B" for each class.
        skip_bad: Leave unusable images and pairs out, and list them.
    """
    from pixgraft.cli.results import print_findings
    from pixgraft.data.packing import write_pack
    from pixgraft.engine.bars import Bars

    source, kind = _opened(path, size, split, pairs, images, conditions, classes, palette, skip_bad=skip_bad)
    with Bars() as bars:
        made = write_pack(source, out, size=size, kind=kind, skip_bad=skip_bad, progress=bars.counting("packing"))
    return print_findings(made.findings, f"{made.count:,} items of {size} pixels, {made.bytes:,} bytes: {out}")


def _opened(
    path: Path, size: int, split: str, pairs: Literal["no", "labels", "color", "sketch", "image"],
    images: str, conditions: str, classes: int, palette: Path | None, *, skip_bad: bool,
) -> "tuple[ItemSource, ConditionKind | None]":  # fmt: skip
    """The images or pairs that the options name, and how the conditions are read."""
    from pixgraft.data.conditions import MAX_CLASSES, ConditionKind, read_palette
    from pixgraft.data.pairs import open_images, open_pairs

    if size < 1:
        raise PixgraftError(f"--size {size}: choose a number of pixels from 1")
    kinds = ("labels", "color", "sketch", "image")
    for option, value, default, fitting in (
        ("images", images, "images", kinds), ("conditions", conditions, "masks", kinds),
        ("classes", classes, 0, ("labels",)), ("palette", palette, None, ("color",)),
    ):  # fmt: skip
        if value != default and pairs not in fitting:
            raise PixgraftError(f"--{option} {value}: leave it out, or give --pairs {' or '.join(fitting)}")
    if pairs == "no":
        return open_images(path, under=split), None
    if pairs == "labels" and not 2 <= classes <= MAX_CLASSES:
        raise PixgraftError(f"--pairs labels: needs the number of classes: give --classes N, from 2 to {MAX_CLASSES}")
    if pairs == "color" and palette is None:
        raise PixgraftError("--pairs color: needs the classes' colours: give --palette FILE")
    colors = read_palette(palette).colors if palette else ()
    kind = ConditionKind(kind=pairs, classes=len(colors) or classes, colors=colors)
    return open_pairs(path, images=images, conditions=conditions, under=split, skip_bad=skip_bad), kind


@data_app.command
def sketch(path: Data, out: Out, /, *, size: int = 0, split: str = "") -> int:
    """Draw a line drawing of each image, to train on as its condition.

    Args:
        path: A folder (searched) or a zip of images.
        out: The folder for the drawings, named as the images.
        size: Draw each image's centred square at this side; 0: at its own size.
        split: The folder within the data to take, such as "train", or a text file that lists names.
    """
    from pixgraft.cli.results import print_findings
    from pixgraft.data.sketch import make_sketches
    from pixgraft.data.sources import open_source
    from pixgraft.engine.bars import Bars

    with Bars() as bars:
        progress = bars.counting("sketching")
        made = make_sketches(open_source(path, under=split), out, size=size or None, progress=progress)
    return print_findings(made.findings, f"{made.count:,} sketch{'es' * (made.count != 1)}: {out}")


@data_app.command
def masks(path: Data, out: Out, /, *, order: Literal["celebamask-hq", "face-parsing"] = "celebamask-hq") -> int:
    """Merge CelebAMask-HQ's one file for each part into one label map for each face.

    Args:
        path: The folder or zip of parts, such as 00000_skin.png.
        out: The folder for the label maps.
        order: Which of the two circulating orders the 19 classes get.
    """
    from pixgraft.cli.results import print_findings
    from pixgraft.data.celebamask import merge_parts
    from pixgraft.engine.bars import Bars

    with Bars() as bars:
        merged = merge_parts(path, out, order=order, progress=bars.counting("merging"))
    parts = ", ".join(f"{name} {count:,}" for name, count in merged.parts.items())
    return print_findings(
        merged.findings, f"{merged.written:,} label maps in the order {order}: {out}", f"parts: {parts}"
    )


@data_app.command
def celebahq(mapping: Mapping, partition: Partition, out: Out, /) -> int:
    """Write CelebA-HQ's split as lists for --split: train.txt, val.txt and test.txt.

    Args:
        mapping: CelebAMask-HQ's CelebA-HQ-to-CelebA-mapping.txt.
        partition: CelebA's list_eval_partition.txt.
        out: The folder for the lists.
    """
    from pixgraft.data.celebahq import write_lists
    from pixgraft.engine.terminal import Terminal

    counts = write_lists(mapping, partition, out)
    Terminal().say(f"{', '.join(f'{part} {count:,}' for part, count in counts.items())}: {out}")
    return 0


@data_app.command
def lsun(path: Data, out: Out, /, *, size: int = 256, limit: int = 0) -> int:
    """Write the images of one of LSUN's LMDB databases as files, each one's centred square.

    Args:
        path: The database's folder, such as church_outdoor_train_lmdb; open only what you trust.
        out: The folder for the images.
        size: Their side in pixels.
        limit: Take the first ones alone; 0: all.
    """
    from pixgraft.cli.results import print_findings
    from pixgraft.data.lsun import extract
    from pixgraft.engine.bars import Bars

    with Bars() as bars:
        made = extract(path, out, size=size, limit=limit, progress=bars.counting("extracting"))
    return print_findings(made.findings, f"{made.count:,} image{'s' * (made.count != 1)}: {out}")


@data_app.command
def align(
    path: Data, out: Out, /, *, size: int = 256, template: Literal["ffhq", "arcface"] = "ffhq", like: str = ""
) -> int:
    """Find the largest face of each image and cut it out upright.

    Args:
        path: A folder (searched), a zip or an image.
        out: The folder for the faces, named as the images.
        size: Their side in pixels.
        template: ffhq: the whole head, as FFHQ's pictures show it; arcface: the face alone, for identity networks.
        like: In place of the template a model: cut as its training images are, as --align does.
    """
    from pixgraft.cli.results import print_findings
    from pixgraft.engine.bars import Bars
    from pixgraft.faces import align_files

    to: Placement | None = template
    if like:
        from pixgraft.models import load_model
        from pixgraft.pipelines.photographs import alignment_for

        to = alignment_for(load_model(like), True)
    with Bars() as bars:
        made = align_files(path, out, size=size, template=to or template, progress=bars.counting("aligning"))
    return print_findings([*made.skipped, *made.notes], f"{made.written:,} face{'s' * (made.written != 1)}: {out}")


@data_app.command
def order(path: Data, /, *, split: str = "") -> int:
    """Tell which of the two circulating orders of CelebAMask-HQ's 19 classes label maps have.

    Args:
        path: A folder (searched) or a zip of label maps.
        split: The folder within the data to look at, such as "masks", or a text file that lists names.
    """
    from pixgraft.data.celebamask import detect_order
    from pixgraft.data.conditions import ConditionKind
    from pixgraft.data.sources import open_source
    from pixgraft.engine.terminal import Terminal

    source = open_source(path, under=split)
    kind = ConditionKind(kind="labels", classes=19)
    found = detect_order(kind.read(source.read(name), name, 256) for name in source.names[:200])
    votes = ", ".join(f"{name} {count}" for name, count in found.votes.items())
    Terminal().say(f"{found.order or 'cannot be told: look at a mask'} (signs: {votes})")
    return 0 if found.order else 1
