"""Faces: found where they are, with points that stay put, and cut out upright, one by one and in files.

Most run on the bundled photographs. The rest is in `../shared/data` beside the repository,
or $PIXGRAFT_DATA, and the published weights in `../shared/weights`, or $PIXGRAFT_WEIGHTS; without them it skips.
"""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import pixgraft
from pixgraft.errors import PixgraftError
from pixgraft.faces import Face, align, align_files, detect
from pixgraft.faces.detection import networks, shifted, squares, suppress
from pixgraft.layouts.reading import read_tensors
from pixgraft.networks.mtcnn import CELL, STRIDE, ONet, PNet, RNet
from training import make_images
from using import PHOTOGRAPHS

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
ASSETS = Path(pixgraft.__file__).parent / "assets" / "features"


def example(number: int = 1) -> Image.Image:
    return Image.open(PHOTOGRAPHS[number - 1])


def eye_distance(face: Face) -> float:
    return float(np.hypot(*(face.landmarks[1] - face.landmarks[0])))


# --- boxes ---

BOXES = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [2, 2, 6, 6], [30, 30, 40, 40]], dtype=np.float64)


def test_the_best_of_overlapping_boxes_remains() -> None:
    scores = np.array([0.8, 0.9, 0.7, 0.6])
    # the first two share 90 of 110; the third lies within both
    assert suppress(BOXES, scores, 0.5) == [1, 2, 3]
    assert suppress(BOXES, scores, 0.9) == [1, 0, 2, 3]
    assert suppress(BOXES, scores, 0.5, over="smaller") == [1, 3]
    assert suppress(BOXES[:0], scores[:0], 0.5) == []
    # a box that was removed removes none
    chain = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    assert suppress(chain, np.array([0.9, 0.8, 0.7]), 0.4) == [0, 2]


def test_boxes_move_by_shares_of_their_sides() -> None:
    box = np.array([[10.0, 20.0, 30.0, 60.0]])
    np.testing.assert_allclose(shifted(box, np.array([[0.1, 0.1, -0.5, 0.25]])), [[12, 24, 20, 70]])


def test_boxes_become_squares_about_their_centres() -> None:
    np.testing.assert_allclose(squares(np.array([[10.0, 20.0, 30.0, 60.0]])), [[0, 20, 40, 60]])
    np.testing.assert_allclose(squares(np.array([[5.0, 5.0, 3.0, 4.0]])), [[3.5, 4, 4.5, 5]])


# --- the networks ---


@torch.inference_mode()
def test_pnet_says_of_each_square_what_it_says_of_it_alone() -> None:
    network = networks().pnet
    images = torch.rand(2, 3, 40, 31, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores, offsets = network(images)
    assert scores.shape == (2, 15, 11)  # the last column, of 31, is about half a step more
    assert offsets.shape == (2, 4, 15, 11)
    for row, column in ((0, 0), (3, 7), (14, 9)):
        top, left = STRIDE * row, STRIDE * column
        alone, moves = network(images[..., top : top + CELL, left : left + CELL])
        assert alone.shape == (2, 1, 1)
        torch.testing.assert_close(scores[:, row, column], alone[:, 0, 0])
        torch.testing.assert_close(offsets[:, :, row, column], moves[:, :, 0, 0])


def test_the_shapes_of_what_the_others_say() -> None:
    for scores, offsets in (RNet()(torch.zeros(3, 3, 24, 24)), ONet()(torch.zeros(3, 3, 48, 48))[:2]):
        assert scores.shape == (3,)
        assert offsets.shape == (3, 4)
        assert ((scores > 0) & (scores < 1)).all()
    assert ONet()(torch.zeros(3, 3, 48, 48))[2].shape == (3, 5, 2)
    assert sum(each.numel() for each in PNet().parameters()) == 6632


def test_the_bundled_weights_have_their_licence() -> None:
    assert (ASSETS / "mtcnn.safetensors").stat().st_size < 2_000_000
    assert "Permission is hereby granted, free of charge" in (ASSETS / "mtcnn-LICENSE.txt").read_text()
    assert not any(each.requires_grad for each in networks().parameters())


def test_the_bundled_weights_are_the_published_ones() -> None:
    folder = Path(os.environ.get("PIXGRAFT_WEIGHTS") or SHARED / "weights")
    if not (folder / "pnet.pt").is_file():
        pytest.skip(f"no published weights in {folder}: set PIXGRAFT_WEIGHTS to their folder")
    bundled = networks().state_dict()
    for name in ("pnet", "rnet", "onet"):
        for key, tensor in read_tensors(folder / f"{name}.pt").items():
            assert torch.equal(bundled.pop(f"{name}.{key}"), tensor)
    assert not bundled


# --- faces of the bundled photographs ---


@pytest.mark.parametrize("number", range(1, 9))
def test_one_face_in_each_example(number: int) -> None:
    (face,) = detect(example(number))
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert face.score > 0.9
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (face.box[:2] < face.landmarks.min(0)).all()
    assert (face.box[2:] > face.landmarks.max(0)).all()


def on_grey(*faces: tuple[Image.Image, int, tuple[int, int]], side: int = 320) -> Image.Image:
    canvas = Image.new("RGB", (side, side), (110, 120, 130))
    for image, size, place in faces:
        canvas.paste(image.resize((size, size), Image.Resampling.BICUBIC), place)
    return canvas


def test_of_several_the_largest_is_taken_and_the_others_are_told_of() -> None:
    picture = on_grey((example(1), 64, (10, 10)), (example(2), 160, (120, 120)), (example(3), 90, (10, 180)))
    aligned = align(picture, 64)
    assert [each.box[0] > 120 for each in (aligned.face, *aligned.others)] == [True, False, False]
    assert len(aligned.others) == 2
    assert aligned.others[0].box[1] > 180
    assert aligned.image.size == (64, 64)


def test_the_same_picture_gives_the_same_face() -> None:
    first, second = align(example(), 48), align(example(), 48)
    assert first.image.tobytes() == second.image.tobytes()
    assert (first.face.landmarks == second.face.landmarks).all()


def test_a_turned_face_comes_out_upright() -> None:
    upright = on_grey((example(1), 160, (80, 80)))
    turned_picture = upright.rotate(-25, Image.Resampling.BICUBIC, fillcolor=(110, 120, 130))
    a, b = (np.asarray(align(each, 64).image).astype(float) for each in (upright, turned_picture))
    inner = slice(12, 52)
    assert np.abs(a - b)[inner, inner].mean() < 12
    assert np.abs(a - np.asarray(align(ImageOps.mirror(turned_picture), 64).image))[inner, inner].mean() > 15


def test_points_turn_with_the_picture() -> None:
    """Without the second, upright look it is 6 % of the eyes' distance in the median."""
    errors = []
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    for number in range(1, 6):
        upright = on_grey((example(number), 160, (80, 80)))
        (face,) = detect(upright)
        (again,) = detect(upright.rotate(-30, Image.Resampling.BICUBIC, fillcolor=(110, 120, 130)))  # clockwise
        expected = (face.landmarks - 160) @ np.array([[c, s], [-s, c]]) + 160
        errors.append(np.hypot(*(again.landmarks - expected).T).mean() / eye_distance(face))
    assert np.median(errors) < 0.03


def test_a_large_picture_gives_the_places_in_its_own_pixels() -> None:
    small = on_grey((example(1), 160, (80, 80)))
    (one,), (other,) = detect(small), detect(small.resize((1600, 1600), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(other.landmarks / 5, one.landmarks, atol=0.04 * eye_distance(one))
    np.testing.assert_allclose(other.box / 5, one.box, atol=0.2 * eye_distance(one))


# --- no face ---


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (1, 5000), (12, 40), (19, 19)])
def test_a_flat_picture_is_refused_by_its_name(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (128, 128, 128))
    assert detect(image) == []
    with pytest.raises(PixgraftError, match=r"^holiday\.jpg: no face found"):
        align(image, 64, name="holiday.jpg")


def test_noise_is_no_face() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    assert detect(image) == []


def test_settings_that_are_refused() -> None:
    with pytest.raises(PixgraftError, match="a size of 0"):
        align(example(), 0)
    with pytest.raises(PixgraftError, match="no template named oval: choose one of ffhq, arcface"):
        align(example(), 64, template="oval")  # type: ignore[arg-type]


# --- files ---


def test_no_folder_is_left_where_no_face_was_found(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 1)
    (tmp_path / "own").mkdir()
    for out in ("out", "own"):
        assert align_files(folder, tmp_path / out, size=32).written == 0
    assert not (tmp_path / "out").exists() and (tmp_path / "own").is_dir()


def test_files_are_aligned_and_the_others_are_told_of(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 1)  # 00.png shows no face
    (folder / "people").mkdir()
    example(1).save(folder / "people" / "a.png")
    example(1).save(folder / "people" / "a.webp")
    on_grey((example(1), 100, (10, 10)), (example(2), 160, (120, 120))).save(folder / "people" / "b.bmp")
    (folder / "c.jpg").write_bytes(b"\xff\xd8\xff but no more")
    seen: list[tuple[int, int]] = []
    result = align_files(folder, tmp_path / "out", size=32, template="arcface", progress=lambda *at: seen.append(at))

    assert result.written == 2
    files = {str(each.relative_to(tmp_path / "out")) for each in (tmp_path / "out").rglob("*") if each.is_file()}
    assert files == {"people/a.png", "people/b.png", "frame.json"}
    assert Image.open(tmp_path / "out" / "people" / "b.png").size == (32, 32)
    whys = {each.name: each.problem for each in result.skipped}
    assert whys.keys() == {"00.png", "c.jpg", "people/a.webp"}
    assert whys["00.png"].startswith("no face found")
    assert whys["people/a.webp"] == "the same stem as people/a.png"
    assert [(each.name, each.problem) for each in result.notes if "faces" in each.problem] == [
        ("people/b.bmp", "2 faces: the largest was taken")
    ]
    assert seen == [(done, 5) for done in range(1, 6)]
    written = np.asarray(Image.open(tmp_path / "out" / "people" / "a.png"))
    assert (written == np.asarray(align(example(1), 32, template="arcface").image)).all()


def test_a_crop_that_leaves_its_picture_is_told_of(tmp_path: Path) -> None:
    example(1).save(tmp_path / "a.png")
    (note,) = align_files(tmp_path / "a.png", tmp_path / "out", size=32).notes
    assert "of the crop lies beyond the picture" in note.problem


def test_outputs_never_go_among_the_inputs(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 1)
    with pytest.raises(PixgraftError, match="is inside"):
        align_files(folder, folder / "out")


# --- photographs ---


def photographs(name: str, count: int) -> list[Image.Image]:
    """The first test pictures of a set."""
    file = Path(os.environ.get("PIXGRAFT_DATA") or SHARED / "data") / f"{name}.zip"
    if not file.is_file():
        pytest.skip(f"no {file}: set PIXGRAFT_DATA to its folder")
    with zipfile.ZipFile(file) as archive:
        names = sorted(each for each in archive.namelist() if each.startswith("test/"))[:count]
        return [Image.open(io.BytesIO(archive.read(each))).convert("RGB") for each in names]


@pytest.mark.parametrize(("name", "least"), [("portraits-128", 16), ("faces-128", 15)])
def test_photographs_have_one_face_whose_points_stay_put(name: str, least: int) -> None:
    """Of 100 portraits each has one; a shift moves the points by 0.7 % of the eyes' distance, enlarging by 0.6 %."""
    single = 0
    shifts: list[float] = []
    enlargements: list[float] = []
    for image in photographs(name, 16):
        faces = detect(image)
        single += len(faces) == 1
        if len(faces) != 1:
            continue
        (face,) = faces
        pixels = np.pad(np.asarray(image), ((5, 0), (7, 0), (0, 0)), mode="symmetric")
        for changed, (factor, right, down), errors in (
            (Image.fromarray(pixels), (1, 7, 5), shifts),
            (image.resize((256, 256), Image.Resampling.BICUBIC), (2, 0, 0), enlargements),
        ):
            again = detect(changed)
            assert again
            distances = np.hypot(*((again[0].landmarks - (right, down)) / factor - face.landmarks).T)
            errors.append(np.median(distances) / eye_distance(face))
    assert single >= least
    assert np.median(shifts) < 0.015
    assert np.median(enlargements) < 0.015


def test_eyes_are_where_they_were_marked() -> None:
    """The centres of hand-marked eyes; the points were 2 % of the eyes' distance away (100 faces)."""
    file = Path(os.environ.get("PIXGRAFT_DATA") or SHARED / "data") / "face-masks-128.zip"
    if not file.is_file():
        pytest.skip(f"no {file}: set PIXGRAFT_DATA to its folder")
    errors = []
    with zipfile.ZipFile(file) as archive:
        for name in sorted(each for each in archive.namelist() if each.startswith("test/images/"))[:16]:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            mask = np.asarray(
                Image.open(io.BytesIO(archive.read(name.replace("images", "masks").replace("jpg", "png"))))
            )
            centres = [np.argwhere(mask == label).mean(0)[::-1] + 0.5 for label in (4, 5)]
            eyes = np.array(sorted(centres, key=lambda centre: float(centre[0])))
            (face, *_) = detect(image)
            errors.append(np.hypot(*(face.landmarks[:2] - eyes).T).mean() / np.hypot(*(eyes[1] - eyes[0])))
    assert np.median(errors) < 0.03
