"""Conditions read from files: class indices whatever the mode, colours by a palette, pictures; and what is refused."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixgraft.data.conditions import ConditionKind, Palette, condition_kind, read_palette
from pixgraft.data.images import decode, fit, to_tensor, to_uint8
from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import ConditionSpec

Array = npt.NDArray[np.uint8]

COLORS = ((0, 0, 0), (255, 0, 0), (0, 128, 255), (7, 7, 7))
LABELS = ConditionKind(kind="labels", classes=4, mirrored=((1, 2),))
COLOR = ConditionKind(kind="color", classes=4, colors=COLORS)
SKETCH = ConditionKind(kind="sketch")
IMAGE = ConditionKind(kind="image")
LR = ConditionKind(kind="lr")


def class_map(width: int = 12, height: int = 12, classes: int = 4, seed: int = 0) -> Array:
    """Random class indices (height, width), every class among them."""
    values = np.random.default_rng(seed).integers(0, classes, (height, width), dtype=np.uint8)
    values.flat[:classes] = np.arange(classes)
    return values


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def packed_grey(values: Array, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel, which Pillow reads but does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    spread = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(spread.reshape(len(values), -1), axis=1)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def with_palette(values: Array) -> Image.Image:
    image = Image.fromarray(values).convert("P")
    image.putdata(values.flatten().tolist())
    image.putpalette([200, 0, 0, 200, 0, 0, 1, 1, 1, 0, 0, 0])  # two alike, and dark ones with high indices
    return image


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(PixgraftError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- class indices ---


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda v: encoded(Image.fromarray(v)), id="grey"),
        pytest.param(lambda v: encoded(with_palette(v)), id="palette"),
        pytest.param(lambda v: encoded(with_palette(v), bits=2), id="palette-2-bit"),
        pytest.param(lambda v: encoded(with_palette(v), "GIF"), id="gif"),
        pytest.param(lambda v: packed_grey(v, 2), id="grey-2-bit"),
        pytest.param(lambda v: packed_grey(v, 4), id="grey-4-bit"),
        pytest.param(lambda v: encoded(Image.fromarray(v.astype(np.uint16))), id="grey-16-bit"),
        pytest.param(lambda v: encoded(Image.fromarray(v.astype(np.int32)), "TIFF"), id="grey-32-bit"),
    ],
)
def test_indices_are_read_whatever_the_mode(make: Callable[[Array], bytes]) -> None:
    values = class_map()
    condition = LABELS.read(make(values), "a.png", 12)
    assert condition.dtype == torch.uint8
    assert torch.equal(condition, torch.from_numpy(values).unsqueeze(0))


def test_one_bit_has_classes_0_and_1() -> None:
    values = class_map(classes=2)
    two = ConditionKind(kind="labels", classes=2)
    for data in (encoded(Image.fromarray(values.astype(bool))), packed_grey(values, 1)):
        assert torch.equal(two.read(data, "a.png", 12), torch.from_numpy(values).unsqueeze(0))


def test_a_value_beyond_the_classes_is_named_with_its_place() -> None:
    values = class_map(12, 10)
    values[7, 3] = 255
    message = refusal(lambda: LABELS.read(encoded(Image.fromarray(values)), "m/a.png", 8))
    assert message.startswith("m/a.png: value 255 at (3, 7), but there are 4 classes, 0 to 3")
    values[7, 3] = 4
    assert "value 4 at" in refusal(lambda: LABELS.read(encoded(Image.fromarray(values)), "a.png", 8))
    deep = values.astype(np.uint16) + 256  # would be class 0 to 4 in eight bits
    assert "value 25" in refusal(lambda: LABELS.read(encoded(Image.fromarray(deep)), "a.png", 8))


def test_pictures_are_no_class_indices() -> None:
    values = class_map()
    rgb = Image.fromarray(values).convert("RGB")
    message = refusal(lambda: LABELS.read(encoded(rgb), "a.png", 8))
    assert message.startswith("a.png: an image of mode RGB, not of class indices")
    assert "data.palette" in message and "--palette" in message
    message = refusal(lambda: LABELS.read(encoded(Image.fromarray(values), "JPEG"), "a.png", 8))
    assert message.startswith("a.png: a JPEG")
    assert "empty" in refusal(lambda: LABELS.read(b"", "a.png", 8))


def test_classes_take_the_nearest_pixel_of_the_same_square_as_images() -> None:
    values = class_map(30, 20)
    shrunk = LABELS.read(encoded(Image.fromarray(values)), "a.png", 10)
    centre = values[:, 5:25]
    assert torch.equal(shrunk[0], torch.from_numpy(centre[1::2, 1::2].copy()))
    grown = LABELS.read(encoded(Image.fromarray(values)), "a.png", 40)
    assert torch.equal(grown[0], torch.from_numpy(centre.repeat(2, 0).repeat(2, 1)))
    picture = Image.fromarray(np.stack([values * 80] * 3, axis=2))
    assert np.array_equal(np.asarray(fit(picture, 20))[..., 0], centre * 80)


# --- colours ---


def test_colours_become_classes() -> None:
    values = class_map()
    picture = Image.fromarray(np.array(COLORS, dtype=np.uint8)[values])
    expected = torch.from_numpy(values).unsqueeze(0)
    assert torch.equal(COLOR.read(encoded(picture), "a.png", 12), expected)
    assert torch.equal(COLOR.read(encoded(picture.convert("RGBA")), "a.png", 12), expected)
    assert torch.equal(COLOR.read(encoded(picture.convert("P", palette=Image.Palette.ADAPTIVE)), "a.png", 12), expected)


def test_a_colour_without_a_class_is_named_with_its_first_place() -> None:
    pixels = np.array(COLORS, dtype=np.uint8)[class_map()]
    pixels[2, 5] = pixels[9, 9] = (0, 128, 254)
    message = refusal(lambda: COLOR.read(encoded(Image.fromarray(pixels)), "a.png", 12))
    assert message.startswith("a.png: colour 0 128 254 at (5, 2) is not in the palette")
    pixels[2, 5] = (255, 255, 255)  # beyond the largest known
    assert "colour 255 255 255 at (5, 2)" in refusal(lambda: COLOR.read(encoded(Image.fromarray(pixels)), "a.png", 12))


def test_a_palette_file(tmp_path: Path) -> None:
    file = tmp_path / "palette.txt"
    lines = ["\ufeff# the classes", "", "background 0 0 0", "left brow  255 0\t0  # its own left", "sky 0 128 255"]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert read_palette(file) == Palette(("background", "left brow", "sky"), COLORS[:3])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 0 0 0\nb 0 0 256\n", "line 2: 'b 0 0 256' is not"),
        ("a 0 0 0\n0 0 1\n", "line 2: '0 0 1' is not"),
        ("a 0 0 0\n\nb 0 0 -1\n", "line 3"),
        ("a 0 0 0\nb 0 0 0\n", "line 2: 'b 0 0 0' repeats"),
        ("a 0 0 0\na 0 0 1\n", "line 2: 'a 0 0 1' repeats"),
        (f"a 0 0 0\nb 0 0 {'1' * 5000}\n", "line 2"),
        ("a 0 0 0\n", "1 classes"),
        ("".join(f"c{i} {i // 256} {i % 256} 0\n" for i in range(257)), "257 classes"),
    ],
)
def test_a_palette_file_in_trouble(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "palette.txt"
    file.write_text(text)
    message = refusal(lambda: read_palette(file))
    assert message.startswith(str(file))
    assert words in message


def test_a_palette_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    assert "not text" in refusal(lambda: read_palette(tmp_path / "bytes.txt"))
    assert "No such file" in refusal(lambda: read_palette(tmp_path / "missing.txt"))
    assert "cannot be read" in refusal(lambda: read_palette(tmp_path))


@pytest.mark.parametrize("classes", [3, 5, 0])
def test_a_palette_file_of_another_number_of_colours(tmp_path: Path, classes: int) -> None:
    file = tmp_path / "palette.txt"
    file.write_text("".join(f"class{i} {r} {g} {b}\n" for i, (r, g, b) in enumerate(COLORS)))
    assert condition_kind(ConditionSpec("labels", 8, 4), file) == COLOR
    assert condition_kind(ConditionSpec("labels", 8, 4), file, mirrored=((1, 2),)).mirrored == ((1, 2),)
    message = refusal(lambda: condition_kind(ConditionSpec("labels", 8, classes), file))
    assert message.startswith(f"{file}: 4 different colours for {classes} classes: ")
    assert all(each in message for each in ("data.palette", "--palette", "method.classes=4"))


# --- pictures ---


def test_pictures_are_fitted_as_images_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels))
    for size in (8, 20, 24):
        expected = to_uint8(to_tensor(fit(decode(data, "a.png"), size)))
        assert torch.equal(IMAGE.read(data, "a.png", size), expected)
    grey = encoded(Image.fromarray(pixels[..., 0]))
    three = IMAGE.read(grey, "a.png", 8)
    one = SKETCH.read(grey, "a.png", 8)
    assert one.shape == (1, 8, 8)
    assert torch.equal(one.expand(3, -1, -1), three)


def test_a_transparent_sketch_lies_on_white_paper() -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[1, 2, 3] = 255
    condition = SKETCH.read(encoded(Image.fromarray(pixels)), "a.png", 4)
    assert condition[0, 1, 2] == 0
    assert condition.long().sum() == 15 * 255


def test_a_small_lr_image_is_enlarged_and_a_large_one_fitted() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels))
    nearest = ConditionKind(kind="lr", enlarging="nearest").read(data, "a.png", 24)
    blocks = np.ascontiguousarray(pixels[:, 1:7].repeat(4, 0).repeat(4, 1).transpose(2, 0, 1))
    assert torch.equal(nearest, torch.from_numpy(blocks))
    assert torch.equal(LR.read(data, "a.png", 4), IMAGE.read(data, "a.png", 4))


# --- mirrored ---


def test_mirroring_swaps_left_and_right_classes() -> None:
    condition = torch.tensor([[[0, 1, 2, 3]]], dtype=torch.uint8)
    assert LABELS.mirror(condition).tolist() == [[[3, 1, 2, 0]]]
    assert LABELS.mirror(condition).dtype == torch.uint8
    assert torch.equal(LABELS.mirror(LABELS.mirror(condition)), condition)
    batch = torch.from_numpy(class_map()).expand(2, 1, -1, -1)
    assert torch.equal(LABELS.mirror(batch)[1], LABELS.mirror(batch[1]))
    assert COLOR.mirror(condition).tolist() == [[[3, 2, 1, 0]]]  # names no pairs
    assert SKETCH.mirror(condition).tolist() == [[[3, 2, 1, 0]]]


def test_channels_as_kept() -> None:
    assert [kind.stored_channels for kind in (LABELS, COLOR, SKETCH, IMAGE, LR)] == [1, 1, 1, 3, 3]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConditionKind(kind="labels"), "2 to 256 classes, not 0"),
        (lambda: ConditionKind(kind="labels", classes=257), "not 257"),
        (lambda: ConditionKind(kind="color", classes=3, colors=COLORS), "4 different colours for 3 classes: give"),
        (lambda: ConditionKind(kind="color", classes=2, colors=COLORS[:1] * 2), "1 different colours"),
        (lambda: ConditionKind(kind="labels", classes=4, mirrored=((1, 4),)), "data.mirrored"),
        (lambda: ConditionKind(kind="labels", classes=4, mirrored=((1, 2), (2, 3))), "once"),
        (lambda: ConditionKind(kind="labels", classes=4, mirrored=((1, 1),)), "once"),
        (lambda: ConditionKind(kind="sketch", mirrored=((0, 1),)), "mirrored"),
    ],
)
def test_kinds_that_make_no_sense(make: Callable[[], object], words: str) -> None:
    assert words in refusal(make)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow's, on what is damaged
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_escapes_as_another_error(data: st.DataObject) -> None:
    values = class_map()
    files = [
        encoded(with_palette(values)),
        encoded(with_palette(values), "GIF"),
        encoded(Image.fromarray(values), "TIFF"),
        encoded(Image.fromarray(values.astype(np.uint16))),
        encoded(Image.fromarray(np.array(COLORS, dtype=np.uint8)[values])),
    ]
    broken = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    for kind in (LABELS, COLOR, SKETCH):
        try:
            condition = kind.read(bytes(broken), "a.png", 8)
            assert condition.shape == (1, 8, 8)
            assert not kind.has_classes or condition.max() < 4
        except PixgraftError as error:
            assert str(error).startswith("a.png: ")
            assert "\n" not in str(error)
