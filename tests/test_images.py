"""Image files of every kind, whole and broken, become RGB tensors or a one-line error, and tensors files."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pixgraft.data import images
from pixgraft.errors import PixgraftError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(height: int = 24, width: int = 32, channels: int = 3) -> Image.Image:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def smooth(height: int = 24, width: int = 32) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    """A grey PNG that claims its size and holds next to nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def deep_png(values: NDArray[np.uint16], extra: bytes = b"") -> bytes:
    """A 16-bit PNG, grey (H, W) or RGB (H, W, 3), which Pillow itself cannot always write."""
    height, width = values.shape[:2]
    colour = 0 if values.ndim == 2 else 2
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    body = header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pixels(data: bytes) -> NDArray[np.uint8]:
    image = images.decode(data, "x")
    assert image.mode == "RGB"
    return np.asarray(image)


def refusal(data: bytes, name: str = "some file.png") -> str:
    with pytest.raises(PixgraftError) as caught:
        images.decode(data, name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    return message


# Kinds of images that must decode


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(noise(), format, **options)
    assert images.image_format(data) == format
    np.testing.assert_array_equal(pixels(data), np.asarray(noise()))


@pytest.mark.parametrize("format", ["JPEG", "GIF", "WEBP"])
def test_lossy_formats_come_close(format: str) -> None:
    options = {} if format == "GIF" else {"quality": 95}
    data = encode(smooth(), format, **options)
    assert images.image_format(data) == format
    assert np.abs(pixels(data).astype(int) - np.asarray(smooth())).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.asarray(noise())
    stored_as = {  # what a camera stored, so that the tag turns it upright again
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(stored_as[orientation](upright)))
    np.testing.assert_array_equal(pixels(encode(stored, exif=exif)), upright)


def test_damaged_exif_leaves_the_pixels_usable() -> None:
    data = encode(noise(), exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(pixels(data), np.asarray(noise()))


def test_grey_and_bilevel_become_three_equal_channels() -> None:
    grey = noise(channels=1)
    np.testing.assert_array_equal(pixels(encode(grey)), np.asarray(grey)[..., None].repeat(3, 2))
    assert set(np.unique(pixels(encode(grey.convert("1"))))) == {0, 255}


def test_transparency_is_laid_over_white() -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)])
    assert pixels(encode(image))[0].tolist() == [[255, 0, 0], [255, 255, 255], [204, 204, 204]]
    assert pixels(encode(Image.new("LA", (1, 1), (0, 0))))[0, 0].tolist() == [255, 255, 255]


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    assert pixels(encode(image))[0].tolist() == [list(RED), list(GREEN), list(BLUE)]
    for format in ("PNG", "GIF"):
        assert pixels(encode(image, format, transparency=1))[0, 1].tolist() == list(WHITE)
    half = pixels(encode(image, transparency=bytes([255, 0, 51])))[0]
    assert half.tolist() == [list(RED), list(WHITE), [204, 204, 255]]


def test_transparent_colour_of_an_rgb_png() -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    assert pixels(encode(image, transparency=BLUE))[0].tolist() == [list(RED), list(WHITE)]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(format: str) -> None:
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), format)  # no cyan, all magenta and yellow: red
    assert np.abs(pixels(data)[4, 4].astype(int) - RED).max() < 8


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 257, 128 * 257, 40000, 65535]], dtype=np.uint16)
    assert pixels(encode(Image.fromarray(values), format))[0, :, 0].tolist() == [0, 1, 128, 156, 255]
    dark = np.full((2, 2), 100, dtype=np.uint16)
    assert pixels(encode(Image.fromarray(dark), format)).max() == 0  # its own range does not brighten it


def test_sixteen_bit_colour_and_a_transparent_level() -> None:
    values = np.array([[[65535, 128 * 257, 0]]], dtype=np.uint16)
    assert pixels(deep_png(values))[0, 0].tolist() == [255, 128, 0]
    hole = chunk(b"tRNS", struct.pack(">H", 300))
    assert pixels(deep_png(np.array([[300, 301]], dtype=np.uint16), hole))[0, :, 0].tolist() == [255, 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([-7.0, -7.0, -7.0], [0, 0, 0]),
    ],
)
def test_float_tiff_is_scaled_by_the_range_that_holds_it(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert pixels(encode(image, "TIFF"))[0, :, 0].tolist() == expected


def test_integer_tiff_beyond_sixteen_bits_and_nan() -> None:
    image = Image.fromarray(np.array([[-100_000, 0, 100_000]], dtype=np.int32))
    assert pixels(encode(image, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    nan = Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32))
    assert "not finite" in refusal(encode(nan, "TIFF"))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_first_frame_of_an_animation(format: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert pixels(data)[0, 0].tolist() == list(RED)


def test_one_pixel() -> None:
    assert pixels(encode(Image.new("RGB", (1, 1), GREEN))).tolist() == [[list(GREEN)]]


# What must be refused


def test_what_is_no_image_says_so() -> None:
    assert "empty" in refusal(b"")
    for text in (b"hello, I am a text\n", b"Python", b"P", b"<svg/>", b"RIFF\0\0\0\0WAVE"):
        assert "not an image" in refusal(text)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_cut_short(format: str) -> None:
    data = encode(noise(), format)
    for share in (0.1, 0.5, 0.9):
        message = refusal(data[: int(len(data) * share)])
        assert "cut short" in message
        assert format in message


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (12_000, 10_000), (65_535, 65_535)])
def test_a_bomb_is_refused_by_its_header_in_our_words(width: int, height: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own warning must not come out either
        message = refusal(png_header(width, height))
    assert f"{width} x {height}" in message
    assert "bomb" not in message.lower()


def test_a_bomb_in_another_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 32 * 24 - 1)
    for format in ("JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"):
        assert "32 x 24" in refusal(encode(smooth(), format))
    monkeypatch.setattr(images, "MAX_PIXELS", 32 * 24)
    assert pixels(encode(smooth())).shape == (24, 32, 3)


def test_a_frame_larger_than_pillow_allows_is_told_in_our_words() -> None:
    data = bytearray(encode(Image.new("P", (4, 4)), "GIF"))
    start = data.index(b",\0\0\0\0\4\0\4\0")
    data[start + 5 : start + 9] = b"\xff\xff\xff\xff"  # the frame, not the screen
    assert "more than the" in refusal(bytes(data))


def test_large_images_within_the_limit_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "cut short" in refusal(png_header(9_500, 10_000))  # past the size at which Pillow would warn


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_damage_escapes_as_another_error(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]))
    whole = bytearray(encode(smooth(16, 16), format))
    for _ in range(data.draw(st.integers(1, 4))):
        # past the size in the header: a size of its own would only make the test slow
        whole[data.draw(st.integers(32, len(whole) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert images.decode(broken, "x").mode == "RGB"
        except PixgraftError as error:
            assert "\n" not in str(error)


# Tensors


def test_every_level_survives_the_way_to_floats_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    floats = images.from_uint8(levels)
    assert floats.dtype == torch.float32
    assert floats[0] == -1
    assert floats[255] == 1
    assert torch.equal(images.to_uint8(floats), levels)
    assert torch.equal(images.to_uint8(floats.double()), levels)


def test_to_uint8_clamps_and_rounds_to_nearest() -> None:
    values = torch.tensor([-3.0, 3.0, 100.4 / 127.5 - 1, 100.6 / 127.5 - 1])
    assert images.to_uint8(values).tolist() == [0, 255, 100, 101]


def test_to_tensor_is_channels_first() -> None:
    image = Image.new("RGB", (3, 2), RED)
    image.putpixel((2, 0), BLUE)
    tensor = images.to_tensor(image)
    assert tensor.shape == (3, 2, 3)
    assert tensor[:, 0, 2].tolist() == [-1, -1, 1]
    assert tensor[:, 1, 2].tolist() == [1, -1, -1]
    assert tensor.is_contiguous()
    assert images.to_tensor(noise(channels=1)).shape == (1, 24, 32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 24, 40])
def test_pixels_equal_the_way_through_floats_and_back(channels: int, size: int) -> None:
    image = images.fit(noise(channels=channels), size)
    levels = images.pixels(image)
    assert levels.dtype == torch.uint8 and levels.is_contiguous()
    assert torch.equal(levels, images.to_uint8(images.to_tensor(image)))
    assert images.to_picture(levels).tobytes() == image.tobytes()


def test_fit_takes_the_centre() -> None:
    image = Image.new("RGB", (30, 10), BLUE)
    image.paste(RED, (10, 0, 20, 10))
    for size in (4, 10, 25):
        fitted = images.fit(image, size)
        assert fitted.size == (size, size)
        assert (np.asarray(fitted) == RED).all()
    tall = images.fit(noise(40, 20), 20)
    np.testing.assert_array_equal(np.asarray(tall), np.asarray(noise(40, 20))[10:30])


def test_fit_shrinks_without_aliasing() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8)[:, None], (64, 32, 3)).reshape(64, 64, 3)
    assert np.abs(np.asarray(images.fit(Image.fromarray(stripes), 8)).astype(int) - 128).max() <= 8


def test_fit_of_the_smallest_images() -> None:
    assert (np.asarray(images.fit(Image.new("RGB", (1, 1), GREEN), 16)) == GREEN).all()
    assert images.fit(Image.new("RGB", (1, 500)), 1).size == (1, 1)


def test_lr_of_exactly_its_size_is_taken_as_it_is() -> None:
    image = noise(8, 8)
    assert torch.equal(images.read_lr(image, hr=32, lr=8), images.to_tensor(image))
    assert torch.equal(images.read_lr(image, hr=8, lr=8), images.to_tensor(image))


def test_lr_of_a_full_size_image_is_its_average() -> None:
    image = noise(32, 32)
    expected = images.to_tensor(image).reshape(3, 8, 4, 8, 4).mean(dim=(2, 4))
    torch.testing.assert_close(images.read_lr(image, hr=32, lr=8), expected)
    larger = noise(80, 64)
    pooled = images.to_tensor(images.fit(larger, 32)).reshape(3, 8, 4, 8, 4).mean(dim=(2, 4))
    torch.testing.assert_close(images.read_lr(larger, hr=32, lr=8), pooled)


def test_lr_of_a_size_between_is_a_box_average_of_the_centre() -> None:
    image = noise(16, 20)
    centre = images.to_tensor(image)[:, :, 2:18]
    expected = centre.reshape(3, 8, 2, 8, 2).mean(dim=(2, 4))
    torch.testing.assert_close(images.read_lr(image, hr=32, lr=8), expected, atol=1.1 / 127.5, rtol=0)


def test_lr_of_an_image_that_is_too_small() -> None:
    with pytest.raises(PixgraftError, match=r"100 x 7 .* at least 8 x 8"):
        images.read_lr(Image.new("RGB", (100, 7)), hr=32, lr=8)


# Files


@pytest.mark.parametrize("channels", [1, 3])
def test_png_holds_the_pixels_and_the_metadata(channels: int) -> None:
    tensor = torch.from_numpy(np.array(noise(channels=3))).permute(2, 0, 1)[:channels]
    metadata = {"Software": "pixgraft", "Title": "Bärenjagd 熊", "long": "x" * 5000}
    data = images.png_bytes(tensor, metadata)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.mode == ("RGB" if channels == 3 else "L")
        assert image.info == metadata
    np.testing.assert_array_equal(pixels(data)[..., :channels], tensor.permute(1, 2, 0).numpy())
    assert images.png_bytes(images.from_uint8(tensor), metadata) == data
    assert images.png_bytes(tensor, dict(reversed(metadata.items()))) == data
    assert images.png_bytes(tensor, {}) != data
