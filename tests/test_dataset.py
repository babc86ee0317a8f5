"""The data set, its stateless order and the loader: which image is seen when, from any start, on any rank."""

import itertools
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixgraft.data import dataset as module
from pixgraft.data.dataset import MAX_ENLARGEMENT, Dataset, Loader, SampleOrder
from pixgraft.data.images import decode, fit
from pixgraft.data.pairs import open_images
from pixgraft.errors import PixgraftError
from training import make_images


def _dataset(folder: Path, size: int = 32) -> Dataset:
    return Dataset(open_images(folder), size=size)


# --- the order ---


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 40), seed=st.integers(0, 2**31), passes=st.integers(1, 4))
def test_each_pass_is_a_permutation(count: int, seed: int, passes: int) -> None:
    order = SampleOrder(count, seed=seed, flip=True)
    for start in range(0, count * passes, count):
        assert sorted(order[n][0] for n in range(start, start + count)) == list(range(count))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 20), seed=st.integers(0, 2**31), numbers=st.lists(st.integers(0, 10_000), max_size=30))
def test_order_is_a_function_of_seed_and_number_alone(count: int, seed: int, numbers: list[int]) -> None:
    order = SampleOrder(count, seed=seed, flip=True)
    asked = [order[n] for n in numbers]  # in any sequence, back and forth
    assert asked == [SampleOrder(count, seed=seed, flip=True)[n] for n in numbers]


def test_passes_and_seeds_differ() -> None:
    def indices(seed: int, start: int) -> list[int]:
        order = SampleOrder(50, seed=seed, flip=False)
        return [order[n][0] for n in range(start, start + 50)]

    seen = [indices(seed, start) for seed, start in itertools.product((0, 1), (0, 50, 100))]
    assert len({tuple(each) for each in seen}) == 6


def test_half_are_mirrored_and_anew_in_each_pass() -> None:
    order = SampleOrder(100, seed=0, flip=True)
    mirrored = [order[n][1] for n in range(4000)]
    assert 1850 < sum(mirrored) < 2150  # five standard deviations
    first = {order[n] for n in range(100)}
    assert first != {order[n] for n in range(100, 200)}
    assert not any(SampleOrder(100, seed=0, flip=False)[n][1] for n in range(200))


# --- the data set ---


def test_images_are_the_centre_at_the_size_asked_for(tmp_path: Path) -> None:
    data = _dataset(make_images(tmp_path / "data"))
    assert len(data) == 6
    image, condition = data[2]
    assert condition is None
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.uint8
    name = data.source.names[2]
    expected = fit(decode(data.source.read_image(2), name), 32)
    assert bytes(image.permute(1, 2, 0).flatten().tolist()) == expected.tobytes()


def test_images_are_read_once_where_they_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_images(tmp_path / "data")
    reads: list[str] = []

    def counted(data: Dataset) -> Dataset:
        read = data.source.read_image

        def counting(index: int) -> bytes:
            reads.append(data.source.names[index])
            return read(index)

        monkeypatch.setattr(data.source, "read_image", counting)
        return data

    cached = counted(_dataset(folder))
    assert torch.equal(cached[1].image, cached[1].image)
    assert reads == ["01.png"]
    monkeypatch.setattr(module, "CACHE_BYTES", 6 * 3 * 32 * 32 - 1)
    uncached = counted(_dataset(folder))
    assert torch.equal(uncached[1].image, cached[1].image)
    assert torch.equal(uncached[1].image, cached[1].image)
    assert reads == ["01.png"] * 3


def test_fingerprint_is_of_the_names(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data")
    fingerprint = _dataset(folder).fingerprint()
    # Checkpoints hold such values: another one would keep every former run from being resumed.
    assert fingerprint == "3ebb0cc1fe73b2fa48a020c81eaeeb779190280fbb99419a1455185fa10332ef"
    assert fingerprint == _dataset(folder, 64).fingerprint()
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.write(path, path.name)
    assert _dataset(tmp_path / "data.zip").fingerprint() == fingerprint
    (folder / "05.png").rename(folder / "06.png")
    assert _dataset(folder).fingerprint() != fingerprint


def test_one_image_is_too_few(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 1)
    with pytest.raises(PixgraftError, match=r"data: training needs at least 2 images, found 1"):
        _dataset(folder)


def test_an_unusable_file_is_named(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 3)
    (folder / "01.png").write_bytes((folder / "01.png").read_bytes()[:200])
    data = _dataset(folder)
    assert data[0].image.shape == data[2].image.shape
    with pytest.raises(PixgraftError, match=r"^01\.png: cut short"):
        data[1]
    loader = Loader(data, SampleOrder(3, seed=0, flip=False))
    with pytest.raises(PixgraftError, match=r"^01\.png: cut short"):
        next(loader.batches(0, 4))
    loader.close()


def test_an_image_that_would_be_enlarged_too_much_is_named(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 2, side=32 // MAX_ENLARGEMENT)
    data = _dataset(folder)
    assert data[0].image.shape == (3, 32, 32)  # just large enough
    Image.new("RGB", (100, 7)).save(folder / "00.png")
    with pytest.raises(PixgraftError, match=r"^00\.png: 100 x 7 pixels are too few to train at 32: .* at least 8"):
        _dataset(folder)[0]


# --- the loader ---


def test_batches_are_what_the_order_says(tmp_path: Path) -> None:
    data, order = _dataset(make_images(tmp_path / "data", 5)), SampleOrder(5, seed=1, flip=True)
    loader = Loader(data, order)
    batches = list(itertools.islice(loader.batches(0, 4), 4))
    loader.close()
    mirrored = 0
    assert all(condition is None for _, condition in batches)
    for number, image in enumerate(torch.cat([images for images, _ in batches])):
        index, flip = order[number]
        expected = data[index].image.flip(-1) if flip else data[index].image
        assert torch.equal(image, expected.float() / 127.5 - 1)
        mirrored += flip
    assert 0 < mirrored < 16
    assert all(images.shape == (4, 3, 32, 32) and images.dtype == torch.float32 for images, _ in batches)


@pytest.mark.parametrize("start", [4, 12, 20])
def test_any_start_continues_the_same_sequence(tmp_path: Path, start: int) -> None:
    data = _dataset(make_images(tmp_path / "data", 5))
    loader = Loader(data, SampleOrder(5, seed=1, flip=True))
    whole = torch.cat([images for images, _ in itertools.islice(loader.batches(0, 4), 8)])
    late = torch.cat([images for images, _ in itertools.islice(loader.batches(start, 4), 8 - start // 4)])
    loader.close()
    assert torch.equal(late, whole[start:])


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_out_the_one_process_batch(tmp_path: Path, ranks: int) -> None:
    folder = make_images(tmp_path / "data", 5)
    loaders = [Loader(_dataset(folder), SampleOrder(5, seed=1, flip=True)) for _ in range(ranks + 1)]
    alone = loaders[ranks].batches(6, 12)
    shares = [loaders[rank].batches(6, 12, rank=rank, ranks=ranks) for rank in range(ranks)]
    for _ in range(3):
        parts = [next(share)[0] for share in shares]
        assert {len(part) for part in parts} == {12 // ranks}
        assert torch.equal(torch.cat(parts), next(alone)[0])
    for loader in loaders:
        loader.close()


# --- before a run ---


def test_every_unusable_image_is_found_at_once(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "data", 4)
    dataset = _dataset(folder)
    dataset.check()
    for path in folder.iterdir():
        path.unlink()
    assert dataset[3].image.shape == (3, 32, 32)  # decoded already

    folder = make_images(tmp_path / "bad", 4)
    (folder / "01.png").write_bytes(b"text")
    (folder / "03.png").write_bytes(b"")
    told = r"^01\.png: not an image .* \(and 1 more: pixgraft data check lists them\)$"
    with pytest.raises(PixgraftError, match=told):
        _dataset(folder).check()


def test_a_set_that_memory_cannot_hold_is_not_read_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 10)
    folder = make_images(tmp_path / "data", 4)
    dataset = _dataset(folder)
    (folder / "01.png").write_bytes(b"text")
    dataset.check()
    with pytest.raises(PixgraftError, match=r"01\.png"):
        dataset[1]
