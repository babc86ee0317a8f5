"""Pairs: which files belong together, the data set and its batches, and the check that names every fault."""

import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixgraft.data import dataset as dataset_module
from pixgraft.data.check import CheckReport, check
from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import Dataset, Loader, SampleOrder
from pixgraft.data.pairs import ItemSource, UnpairedFile, open_images, open_pairs
from test_conditions import class_map, encoded, refusal

LABELS = ConditionKind(kind="labels", classes=4, mirrored=((1, 2),))
SIZE = 16


def photo(seed: int, width: int = 24, height: int = 20) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), "PNG")


def mask(seed: int, width: int = 24, height: int = 20) -> bytes:
    return encoded(Image.fromarray(class_map(width, height, seed=seed)))


def tree(count: int = 5, image: str = "images", condition: str = "masks") -> dict[str, bytes]:
    """`count` pairs by their names."""
    pairs = [({f"{image}/{i}.png": photo(i)} | {f"{condition}/{i}.png": mask(i)}) for i in range(count)]
    return {name: data for pair in pairs for name, data in pair.items()}


def write(root: Path, files: dict[str, bytes], kind: str = "folder") -> Path:
    if kind == "zip":
        with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return root.with_suffix(".zip")
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def names(source: ItemSource) -> list[tuple[str, str]]:
    return list(zip(source.names, source.condition_names, strict=True))


def paired(root: Path, files: dict[str, bytes], *, kind: ConditionKind = LABELS, size: int = SIZE) -> Dataset:
    return Dataset(open_pairs(write(root, files)), size=size, kind=kind)


def both(item: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
    """An item or a batch that has a condition."""
    image, condition = item
    assert condition is not None
    return image, condition


# --- which files belong together ---


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("image", "condition", "under"),
    [
        ("images/a.jpg", "masks/a.png", ""),
        ("images/x/y/a.jpg", "masks/x/y/a.png", ""),
        ("set/train/images/x/a.jpg", "set/train/masks/x/a.png", "set/train"),
        ("train/images/a.jpg", "train/masks/a.png", "./train/"),
        ("images/train/a.jpg", "masks/train/a.png", "train"),
        ("train/images/masks/a.jpg", "train/masks/masks/a.png", ""),
        ("images/a.b.jpg", "masks/a.b.PNG", ""),
    ],
)
def test_layouts(tmp_path: Path, kind: str, image: str, condition: str, under: str) -> None:
    files = {image: b"image", condition: b"condition", "readme.txt": b"text"}
    if under:
        files |= {"test/images/b.jpg": b"", "test/masks/b.png": b"", "images/c.jpg": b""}
    source = open_pairs(write(tmp_path / "data", files, kind), under=under)
    assert names(source) == [(image, condition)]
    assert (source.read_image(0), source.read_condition(0)) == (b"image", b"condition")
    assert source.condition_names[0] == condition
    assert source.skipped == ["readme.txt"]
    source.close()


def test_folders_by_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "data", tree(2, "photos/rgb", "sketches"))
    assert len(open_pairs(path, images="photos/rgb", conditions="sketches").names) == 2
    message = refusal(lambda: open_pairs(path))
    assert message == (
        f"{path}: no images in a folder images/ (it has photos/rgb/, sketches/): put them there, "
        "or name their folder (data.images in training, else --images)"
    )
    message = refusal(lambda: open_pairs(path, images="photos/rgb", conditions="sketch"))
    assert "a folder sketch/" in message
    assert message.endswith("name their folder (data.conditions in training, else --conditions)")
    message = refusal(lambda: open_pairs(path, images="photos/rgb", conditions="sketches", under="test"))
    assert "with test/ above or below" in message
    assert message.endswith("; or another --split)")
    assert "two folders" in refusal(lambda: open_pairs(path, images="rgb", conditions="rgb/"))


# --- files without a counterpart ---


FAULTS = {
    "images/a.jpg": "image without condition; add the condition or remove the image",
    "images/b.jpg": "the same stem as images/b.png; remove or rename all but one",
    "images/b.png": "the same stem as images/b.jpg; remove or rename all but one",
    "masks/b.png": ("condition with 2 images of its stem (images/b.jpg, images/b.png); remove or rename all but one"),
    "masks/c.png": "condition without image; add the image or remove the condition",
}


def test_what_belongs_to_no_pair_is_named_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "data", tree(2) | dict.fromkeys(FAULTS, b""))
    message = refusal(lambda: open_pairs(path))
    assert message.startswith(f"{path}: images/a.jpg: {FAULTS['images/a.jpg']} (and 4 more: ")
    source = open_pairs(path, skip_bad=True)
    assert source.unpaired == [UnpairedFile(*each) for each in FAULTS.items()]
    assert len(source.names) == 2


def test_one_alone_is_not_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "data", tree(2) | {"masks/c.png": b""})
    assert refusal(lambda: open_pairs(path)).endswith(f"masks/c.png: {FAULTS['masks/c.png']}")


def test_no_pair_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "data", {"images/a.jpg": b"", "masks/a_mask.png": b""})
    assert "images/a.jpg: rename" in refusal(lambda: open_pairs(path, skip_bad=True))


# --- the data set ---


def test_items_are_what_the_files_hold(tmp_path: Path) -> None:
    files = tree()
    data = paired(tmp_path / "data", files)
    assert len(data) == 5
    image, condition = both(data[3])
    assert torch.equal(image, Dataset(open_images(tmp_path / "data" / "images"), size=SIZE)[3].image)
    assert torch.equal(condition, LABELS.read(files["masks/3.png"], "3.png", SIZE))
    assert (image.dtype, condition.dtype, condition.shape) == (torch.uint8, torch.uint8, (1, SIZE, SIZE))
    plain = {"masks/0.png": encoded(Image.new("L", (24, 20), 255))}  # an empty sketch is one
    assert both(paired(tmp_path / "data", files | plain, kind=ConditionKind(kind="sketch"))[0])[1].amin() == 255
    assert both(paired(tmp_path / "data", files, kind=ConditionKind(kind="image"))[0])[1].shape == (3, SIZE, SIZE)


def test_image_and_condition_stay_aligned(tmp_path: Path) -> None:
    values = np.zeros((60, 96), dtype=np.uint8)
    values[10:40, 30:50] = 1
    values[20:50, 60:70] = 2
    values[50:, :40] = 3
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    half = encoded(Image.fromarray(values[::2, ::2].copy()))  # a mask at half the size
    files = {f"images/{i}.png": encoded(Image.fromarray(colors[values])) for i in range(2)}
    files |= {f"masks/{i}.png": half for i in range(2)}
    data = paired(tmp_path / "data", files, size=30, kind=ConditionKind(kind="labels", classes=4))
    for mirrored in (False, True):
        image, condition = both(data.sample(0, number=0, mirrored=mirrored))
        expected = torch.from_numpy(colors)[condition[0].long()].permute(2, 0, 1)
        alike = (image.int() - expected.int()).abs().amax(0) < 64
        assert alike.float().mean() > 0.9  # all but the classes' edges
        assert len(condition.unique()) == 4


def test_a_sample_flips_both_or_neither(tmp_path: Path) -> None:
    data = paired(tmp_path / "data", tree())
    image, condition = both(data[2])
    same = both(data.sample(2, number=7, mirrored=False))
    assert torch.equal(same[0], image)
    assert torch.equal(same[1], condition)
    flipped = both(data.sample(2, number=7, mirrored=True))
    assert torch.equal(flipped[0], image.flip(-1))
    assert torch.equal(flipped[1], LABELS.mirror(condition))
    assert not torch.equal(flipped[1], condition.flip(-1))


BAD: dict[str, tuple[dict[str, bytes], str]] = {
    "a value": ({"masks/1.png": encoded(Image.fromarray(class_map(24, 20, 5)))}, "masks/1.png: value 4 at (4, 0)"),
    "a shape": (
        {"masks/1.png": mask(1, 24, 21)},
        "masks/1.png: 24 x 21 pixels, but images/1.png has 24 x 20",
    ),
    "turned": ({"masks/1.png": mask(1, 20, 24)}, "masks/1.png: 20 x 24 pixels, but images/1.png has 24 x 20"),
    "one class": ({"masks/1.png": encoded(Image.new("L", (24, 20), 2))}, "masks/1.png: class 2 alone"),
    "text": ({"masks/1.png": b"text"}, "masks/1.png: not an image"),
    "image": ({"images/1.png": b""}, "images/1.png: the file is empty"),
}


@pytest.mark.parametrize("fault", BAD)
def test_an_unusable_pair_is_named(tmp_path: Path, fault: str) -> None:
    files, words = BAD[fault]
    data = paired(tmp_path / "data", tree() | files)
    assert refusal(lambda: data[1]).startswith(words)
    message = refusal(data.check)
    assert message.startswith(words)
    assert "more" not in message
    assert data[0][0].shape == (3, SIZE, SIZE)


def test_what_is_too_small_is_named(tmp_path: Path) -> None:
    files = tree() | {"masks/1.png": mask(1, 6, 5), "images/1.png": photo(1, 6 * 9, 5 * 9)}
    assert both(paired(tmp_path / "data", files)[1])[1].shape == (1, SIZE, SIZE)
    data = paired(tmp_path / "data", files, size=40)
    assert refusal(lambda: data[1]).startswith("masks/1.png: 6 x 5 pixels are too few to train at 40")
    report = checked(tmp_path / "data", size=40)
    assert [finding.name for finding in report.findings if not finding.usable] == ["masks/1.png"]
    data = paired(tmp_path / "data", files | {"images/1.png": photo(1, 6, 5)}, size=40)
    assert refusal(lambda: data[1]).startswith("images/1.png: 6 x 5 pixels are too few to train at 40")
    lr = ConditionKind(kind="lr")
    assert both(paired(tmp_path / "lr", files, kind=lr, size=40)[1])[1].shape == (3, 40, 40)  # small is what it is


def test_all_bad_pairs_are_counted(tmp_path: Path) -> None:
    data = paired(tmp_path / "data", tree() | {"masks/1.png": b"", "images/3.png": b""})
    assert refusal(data.check).endswith("(and 1 more: pixgraft data check lists them)")


def test_pairs_are_read_once_where_they_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    data = paired(folder, tree())
    data.check()
    for path in folder.rglob("*.png"):
        path.unlink()
    assert both(data[4])[1].shape == (1, SIZE, SIZE)
    monkeypatch.setattr(dataset_module, "CACHE_BYTES", 5 * 4 * SIZE * SIZE - 1)
    data = paired(folder, tree())
    data.check()  # reads nothing
    (folder / "masks" / "4.png").unlink()
    assert "4.png" in refusal(lambda: data[4])


FINGERPRINT = "5f5817bc6872c04583089f018ca10f9e1630f0e5f5a276fa4b7ebfe1605a8284"
"""Checkpoints hold such values: another one would keep every former run from being resumed."""


def test_fingerprint_is_of_both_names(tmp_path: Path) -> None:
    first = paired(tmp_path / "a", tree(3)).fingerprint()
    assert first == paired(tmp_path / "b", tree(3)).fingerprint() == FINGERPRINT
    assert first != paired(tmp_path / "c", tree(4)).fingerprint()
    renamed = {name.replace("masks/2.png", "masks/2.PNG"): data for name, data in tree(3).items()}
    assert first != paired(tmp_path / "d", renamed).fingerprint()


def test_one_pair_is_too_few(tmp_path: Path) -> None:
    assert "at least 2 images, found 1" in refusal(lambda: paired(tmp_path / "data", tree(1)))


# --- batches ---


def test_batches_are_what_the_order_says(tmp_path: Path) -> None:
    data, order = paired(tmp_path / "data", tree()), SampleOrder(5, seed=1, flip=True)
    loader = Loader(data, order)
    batches = list(itertools.islice(loader.batches(0, 4), 4))
    loader.close()
    images, conditions = (torch.cat(parts) for parts in zip(*map(both, batches), strict=True))
    for number in range(16):
        index, mirrored = order[number]
        image, condition = both(data.sample(index, number=number, mirrored=mirrored))
        assert torch.equal(images[number], image.float() / 127.5 - 1)
        assert torch.equal(conditions[number], condition)
    assert 0 < sum(order[number][1] for number in range(16)) < 16


def test_starts_and_ranks_share_one_sequence(tmp_path: Path) -> None:
    data = paired(tmp_path / "data", tree())
    loaders = [Loader(data, SampleOrder(5, seed=1, flip=True)) for _ in range(3)]
    whole = list(itertools.islice(loaders[0].batches(0, 4), 4))
    shares = [loaders[rank + 1].batches(8, 4, rank=rank, ranks=2) for rank in range(2)]
    for step in (2, 3):
        parts = [both(next(share)) for share in shares]
        for which in range(2):
            assert torch.equal(torch.cat([part[which] for part in parts]), both(whole[step])[which])
    for loader in loaders:
        loader.close()


# --- the check ---


def checked(path: Path, size: int = SIZE, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    return check(open_pairs(path, skip_bad=True), size=size, kind=LABELS, progress=progress)


@pytest.mark.parametrize("fault", BAD)
def test_the_check_names_what_training_would(tmp_path: Path, fault: str) -> None:
    files, words = BAD[fault]
    report = checked(write(tmp_path / "data", tree() | files))
    assert (report.checked, report.usable) == (5, 4)
    unusable = [f"{finding.name}: {finding.problem}" for finding in report.findings if not finding.usable]
    assert len(unusable) == len(report.findings) == 1
    assert unusable[0].startswith(words)


def test_an_oddity_of_an_image_whose_mask_is_bad_makes_it_no_better(tmp_path: Path) -> None:
    jpeg = encoded(Image.new("RGB", (24, 20)), "JPEG")
    report = checked(write(tmp_path / "data", tree() | {"images/1.png": jpeg, "masks/1.png": b""}))
    assert [(finding.name, finding.usable) for finding in report.findings] == [
        ("images/1.png", False),
        ("masks/1.png", False),
    ]
    assert checked(write(tmp_path / "good", tree() | {"images/1.png": jpeg})).findings[0].usable


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_check_of_sound_pairs_and_strays(tmp_path: Path, kind: str) -> None:
    files = tree()
    files |= {"images/5.png": files["images/0.png"], "masks/5.png": files["masks/1.png"], "notes.txt": b""}
    calls: list[tuple[int, int]] = []
    report = checked(
        write(tmp_path / "data", files | dict.fromkeys(FAULTS, b""), kind),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert (report.checked, report.usable, report.duplicates, report.sizes) == (6, 6, 1, (20, 20))
    assert report.summary == (
        "6 pairs: 6 usable, 0 unusable, 5 unusable files in no pair, 1 duplicates; shorter sides of 20 to 20 pixels"
    )
    assert calls == [(done, 6) for done in range(1, 7)]
    found = {finding.name: finding for finding in report.findings}
    assert len(found) == len(report.findings) == len(FAULTS) + 2
    assert (found["images/5.png"].problem, found["images/5.png"].usable) == ("the same pixels as images/0.png", True)
    assert found["notes.txt"].usable
    for name, problem in FAULTS.items():
        assert (found[name].problem, found[name].usable) == (problem, False)
