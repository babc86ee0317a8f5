"""Folders, zips and single files list the same names and give the same bytes; faults are told in one line."""

import os
import pickle
import threading
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixgraft.data import sources
from pixgraft.data.sources import open_source
from pixgraft.errors import PixgraftError

TREE = {
    "b.PNG": b"b",
    "a b/ünï 熊.jpeg": b"unicode",
    "train/x.webp": b"x",
    "train/deep/er/y.tif": b"y",
    "trainer/z.gif": b"z",
    "notes.txt": b"text",
    "train/labels": b"text",
    ".hidden.png": b"no",
    ".git/c.png": b"no",
    "__MACOSX/._b.png": b"no",
    "train/__MACOSX/q.png": b"no",
}
NAMES = ["a b/ünï 熊.jpeg", "b.PNG", "train/deep/er/y.tif", "train/x.webp", "trainer/z.gif"]


def make_folder(root: Path, tree: dict[str, bytes]) -> Path:
    folder = root / "images"
    folder.mkdir()
    for name, data in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make_zip(root: Path, tree: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = root / "images.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("train/", b"")
        archive.writestr(zipfile.ZipInfo(""), b"")  # a damaged zip can hold a nameless file
        for name, data in tree.items():
            archive.writestr(name, data)
    return path


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(PixgraftError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_lists_and_reads_images_only(tmp_path: Path, make: Callable[..., Path]) -> None:
    path = make(tmp_path, TREE)
    source = open_source(str(path))
    assert source.path == path
    assert source.names == NAMES
    assert source.skipped == ["notes.txt", "train/labels"]
    assert {name: source.read(name) for name in source.names} == {name: TREE[name] for name in NAMES}
    assert "gone.png" in refusal(lambda: source.read("gone.png"))
    source.close()


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_under_keeps_one_folder_and_the_full_names(tmp_path: Path, make: Callable[..., Path]) -> None:
    path = make(tmp_path, TREE)
    for under in ("train", "train/", "/train/", "./train"):
        source = open_source(path, under=under)
        assert source.names == ["train/deep/er/y.tif", "train/x.webp"]
        assert source.skipped == ["train/labels"]
        assert source.read("train/x.webp") == b"x"
    assert open_source(path, under=".").names == NAMES
    message = refusal(lambda: open_source(path, under="test"))
    assert "test/" in message
    assert "train/" in message  # what it has instead


@pytest.mark.parametrize("make", [make_folder, make_zip])
@pytest.mark.parametrize("tree", [{}, {"readme.txt": b"text", ".a.png": b""}])
def test_empty(tmp_path: Path, make: Callable[..., Path], tree: dict[str, bytes]) -> None:
    path = make(tmp_path, tree)
    message = refusal(lambda: open_source(path))
    assert "no images" in message
    assert str(path) in message


def test_single_image(tmp_path: Path) -> None:
    path = tmp_path / "my photo.JPG"
    path.write_bytes(b"data")
    source = open_source(path)
    assert (source.path, source.names, source.read("my photo.JPG")) == (path, ["my photo.JPG"], b"data")


def test_a_zip_by_another_name(tmp_path: Path) -> None:
    path = make_zip(tmp_path, TREE).rename(tmp_path / "images.data")
    assert open_source(path).names == NAMES


def test_what_is_none_of_the_three(tmp_path: Path) -> None:
    other = tmp_path / "model.bin"
    other.write_bytes(b"123")
    assert "neither" in refusal(lambda: open_source(other))
    assert "no such file" in refusal(lambda: open_source(tmp_path / "missing"))
    assert "model.bin" in refusal(lambda: open_source(other / "below"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "neither" in refusal(lambda: open_source(pipe))


def test_folder_follows_links_to_files_only(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"a.png": b"a"})
    (tmp_path / "outside.png").write_bytes(b"outside")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "dead.png").symlink_to(tmp_path / "nothing")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    source = open_source(folder)
    assert source.names == ["a.png", "dead.png", "link.png", "pipe.png"]
    assert source.read("link.png") == b"outside"
    assert "dead.png" in refusal(lambda: source.read("dead.png"))
    assert "pipe.png" in refusal(lambda: source.read("pipe.png"))  # and does not wait for a writer


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_a_file_of_absurd_length_is_not_read(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(make(tmp_path, {"a.png": b"0" * 1000}))
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 999)
    assert "a.png: 1,000 bytes" in refusal(lambda: source.read("a.png"))


# Zips in trouble


def test_zip_that_is_none_or_cut_short(tmp_path: Path) -> None:
    path = make_zip(tmp_path, TREE)
    data = path.read_bytes()
    for wrong in (b"", b"not a zip at all", data[: len(data) // 2], data[:-5]):
        path.write_bytes(wrong)
        message = refusal(lambda: open_source(path))
        assert "images.zip" in message
        assert "cut short" in message


def test_zip_with_a_damaged_file(tmp_path: Path) -> None:
    path = make_zip(tmp_path, {"a.png": b"a" * 100, "b.png": b"b" * 100}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"b" * 100, b"b" * 99 + b"c"))
    source = open_source(path)
    assert source.read("a.png") == b"a" * 100
    message = refusal(lambda: source.read("b.png"))
    assert "b.png" in message
    assert "damaged" in message


OUTSIDE = ("/tmp/x.png", "//x.png", "C:/x.png", "c:x.png", "../x.png", "a/../../x.png", "a\\x.png", "..\\x.png")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_zip_that_names_a_place_outside_is_refused(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path, {"a.png": b"a", name: b"x"})
    message = refusal(lambda: open_source(path))
    assert message.startswith(f"{path}: holds {name}: ")
    assert message.endswith("; make the zip anew")


def test_names_in_a_zip_that_are_odd_but_stay_inside(tmp_path: Path) -> None:
    names = ["a b:c.png", "a//b.png", "a..b/c..d.png", "ab/C:.png"]
    tree = dict.fromkeys([*names, "/notes.txt"], b"x")
    assert open_source(make_zip(tmp_path, tree)).names == sorted(names)
    path = make_zip(tmp_path, {"a.pngQ/../../x.png": b"x"})
    path.write_bytes(path.read_bytes().replace(b"Q", b"\0"))
    assert open_source(path).names == ["a.png"]  # a name ends at its NUL


def test_encrypted_zip(tmp_path: Path) -> None:
    path = make_zip(tmp_path, {"a.png": b"a"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    for at in range(len(data)):
        if data[at : at + 4] == b"PK\x01\x02":
            data[at + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in refusal(lambda: open_source(path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_escapes_as_another_error(tmp_path: Path, data: st.DataObject) -> None:
    path = make_zip(tmp_path, {"a.png": b"a" * 50, "b/ü.png": b"b" * 50})
    broken = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(broken)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            source = open_source(path)
            for name in source.names:
                source.read(name)
        except PixgraftError as error:
            assert "\n" not in str(error)


def test_one_zip_from_many_threads(tmp_path: Path) -> None:
    tree = {f"{index:03}.png": bytes([index]) * (1000 + 37 * index) for index in range(100)}
    source = open_source(make_zip(tmp_path, tree))
    barrier = threading.Barrier(8)

    def read_all(start: int) -> bool:
        barrier.wait()
        names = source.names[start * 11 :] + source.names[: start * 11]
        return all(source.read(name) == tree[name] for name in names * 3)

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(read_all, range(8)))


def test_a_zip_read_after_a_fork_and_after_pickling(tmp_path: Path) -> None:
    tree = {f"{index}.png": bytes([index]) * 50_000 for index in range(50)}  # longer than a read buffer
    source = open_source(make_zip(tmp_path, tree, zipfile.ZIP_STORED))
    copy = pickle.loads(pickle.dumps(source))
    assert copy.names == source.names
    assert copy.read("7.png") == tree["7.png"]

    def sound() -> bool:
        return all(source.read(name) == tree[name] for name in source.names * 20)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that threads run: none of them is inside the source
        child = os.fork()
    if child == 0:  # reads at the same time as the parent
        status = 1
        try:
            status = 0 if sound() else 1
        finally:
            os._exit(status)
    assert sound()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
