"""CelebAMask-HQ: parts are merged as the two published scripts paint them, and an order is known by its geometry."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.celebamask import ORDERS, ClassOrder, detect_order, merge_parts, mirrored
from pixgraft.data.conditions import ConditionKind
from pixgraft.errors import PixgraftError
from test_conditions import encoded, refusal

BOTH: tuple[ClassOrder, ...] = ("celebamask-hq", "face-parsing")


def part(top: int, left: int, bottom: int, right: int, side: int = 32) -> bytes:
    """A white rectangle on black, as RGB."""
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    pixels[top:bottom, left:right] = 255
    return encoded(Image.fromarray(pixels))


FACE = {
    "skin": part(8, 8, 28, 24),
    "l_brow": part(10, 10, 11, 14),
    "r_brow": part(10, 18, 11, 22),
    "l_eye": part(12, 10, 14, 14),
    "r_eye": part(12, 18, 14, 22),
    "nose": part(14, 15, 20, 17),
    "u_lip": part(21, 13, 22, 19),
    "l_lip": part(22, 13, 23, 19),
    "hair": part(0, 4, 9, 28),
    "neck": part(26, 12, 32, 20),
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def read(path: Path) -> Tensor:
    kind = ConditionKind(kind="labels", classes=19)
    return kind.read(path.read_bytes(), path.name, 32)


def labels(order: ClassOrder, *, shift: int = 0, without: tuple[str, ...] = ()) -> Tensor:
    """The face's label map (1, 32, 32), as the tests know it, moved down."""
    values = torch.zeros(1, 32, 32, dtype=torch.uint8)
    for index, name in enumerate(ORDERS[order]):
        if name in FACE and name not in without:
            white = ConditionKind(kind="sketch").read(FACE[name], name, 32) > 0
            values[white] = index
    return values.roll(shift, 1)


# --- the orders ---


def test_the_orders_are_the_published_ones() -> None:
    assert all(len(names) == len(set(names)) == 19 for names in ORDERS.values())
    assert set(ORDERS["celebamask-hq"]) == set(ORDERS["face-parsing"])
    known: dict[ClassOrder, dict[int, str]] = {
        "celebamask-hq": {0: "background", 1: "skin", 2: "nose", 3: "eye_g", 10: "mouth", 13: "hair", 18: "cloth"},
        "face-parsing": {0: "background", 1: "skin", 6: "eye_g", 10: "nose", 11: "mouth", 17: "hair", 18: "hat"},
    }
    for order, names in known.items():
        assert {index: ORDERS[order][index] for index in names} == names


def test_mirrored_classes() -> None:
    assert mirrored("celebamask-hq") == ((4, 5), (6, 7), (8, 9))
    assert mirrored("face-parsing") == ((4, 5), (2, 3), (7, 8))
    for order in BOTH:
        ConditionKind(kind="labels", classes=19, mirrored=mirrored(order))


# --- merging ---


@pytest.mark.parametrize("order", BOTH)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_parts_are_painted_in_the_order_of_their_numbers(tmp_path: Path, order: ClassOrder, kind: str) -> None:
    files = {f"0/00000_{name}.png": data for name, data in FACE.items()}
    files |= {f"14/28123_{name}.png": data for name, data in FACE.items() if name != "hair"}
    files |= {"readme.txt": b"", "0/other.png": b""}
    path = write(tmp_path / "parts", files)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "parts.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        path = tmp_path / "parts.zip"
    calls: list[tuple[int, int]] = []
    out = tmp_path / "new" / "masks"
    made = merge_parts(path, out, order=order, progress=lambda done, total: calls.append((done, total)))
    assert (made.written, made.findings, calls) == (2, [], [(1, 2), (2, 2)])
    assert made.parts == {name: (name in FACE) + (name in FACE and name != "hair") for name in ORDERS[order][1:]}
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "28123.png"]
    with Image.open(out / "0.png") as image:
        assert (image.mode, image.size) == ("L", (32, 32))
    assert torch.equal(read(out / "0.png"), labels(order))
    assert torch.equal(read(out / "28123.png"), labels(order, without=("hair",)))


def test_where_the_orders_paint_differently(tmp_path: Path) -> None:
    parts = {"neck": part(0, 0, 20, 32), "hair": part(10, 0, 32, 32), "hat": part(0, 0, 32, 4), "skin": FACE["skin"]}
    path = write(tmp_path / "parts", {f"00001_{name}.png": data for name, data in parts.items()})
    above = {}
    for order in BOTH:
        merge_parts(path, tmp_path / order, order=order)
        value = read(tmp_path / order / "1.png")[0]
        above[order] = (ORDERS[order][value[15, 16]], ORDERS[order][value[15, 0]], ORDERS[order][value[25, 0]])
    assert above == {"celebamask-hq": ("neck", "neck", "hat"), "face-parsing": ("hair", "hat", "hat")}


def test_faces_in_trouble_are_told_of_and_not_written(tmp_path: Path) -> None:
    files = {f"0/0000{i}_{name}.png": data for i in range(6) for name, data in FACE.items()}
    files["0/00001_nose.png"] = b"text"
    files["0/00002_hair.png"] = part(0, 0, 5, 5, side=16)
    files["1/00003_hair.png"] = FACE["hair"]
    del files["0/00004_skin.png"]
    made = merge_parts(write(tmp_path / "parts", files), tmp_path / "out", order="face-parsing")
    found = {finding.name: finding for finding in made.findings}
    assert found["0/00001_nose.png"].problem.startswith("not an image")
    assert found["0/00002_hair.png"].problem == "16 x 16 pixels, another size than the parts before it"
    assert found["1/00003_hair.png"].problem == "the same part as 0/00003_hair.png"
    assert (found["4.png"].problem, found["4.png"].usable) == ("no skin", True)
    assert [finding.usable for finding in found.values()].count(False) == 3
    assert made.written == 3
    assert (made.parts["skin"], made.parts["nose"], made.parts["hat"]) == (2, 3, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "4.png", "5.png"]


def test_what_holds_no_parts(tmp_path: Path) -> None:
    path = write(tmp_path / "parts", {"00000.png": FACE["skin"], "x_skins.png": b""})
    assert "no parts of faces" in refusal(lambda: merge_parts(path, tmp_path / "out", order="face-parsing"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    path = write(tmp_path / "parts", {"00000_skin.png": FACE["skin"]})
    (tmp_path / "out").write_text("a file")
    with pytest.raises(PixgraftError, match="out: cannot be made"):
        merge_parts(path, tmp_path / "out", order="face-parsing")


def test_names_that_are_no_numbers_stay(tmp_path: Path) -> None:
    files = {"ann_l_2_l_ear.png": FACE["skin"], "ann_l_2_ear_r.png": FACE["nose"]}
    made = merge_parts(write(tmp_path / "parts", files), tmp_path / "out", order="face-parsing")
    assert (made.written, made.parts["l_ear"], made.parts["ear_r"]) == (1, 1, 1)
    assert (tmp_path / "out" / "ann_l_2.png").is_file()


# --- which order it is ---


@pytest.mark.parametrize("order", BOTH)
def test_an_order_is_known_from_a_few_faces(order: ClassOrder) -> None:
    faces = [labels(order, shift=shift) for shift in (0, 2, 4)]
    faces += [face.transpose(1, 2) for face in faces]  # lying on their side
    found = detect_order(faces)
    assert found.order == order
    assert found.votes[order] == 12
    assert detect_order([faces[0][0]]).order == order


@pytest.mark.parametrize("order", BOTH)
def test_an_order_is_known_where_parts_are_missing(order: ClassOrder) -> None:
    for without in (("hair",), ("nose",), ("l_brow",), ("l_eye",), ("l_brow", "r_brow", "hair")):
        faces = [labels(order, without=without)] * 3
        assert detect_order(faces).order in (order, None)
        assert detect_order(faces + [labels(order)] * 3).order == order


def test_what_cannot_be_told_is_not_guessed() -> None:
    assert detect_order([]).order is None
    assert detect_order([torch.zeros(1, 8, 8, dtype=torch.uint8)] * 9).order is None
    assert detect_order([labels("face-parsing", without=("u_lip",))] * 9).order is None
    mixed = detect_order([labels(order) for order in BOTH] * 4)
    assert mixed.order is None
    assert mixed.votes == {"celebamask-hq": 8, "face-parsing": 8}
    other = torch.full((1, 8, 8), 200, dtype=torch.uint8)  # classes that neither has
    assert detect_order([other] * 9).order is None
