"""Files are written whole or not at all, and grids put images where they belong."""

import os
from pathlib import Path

import pytest
import torch

from pixgraft.data.grids import tiled
from pixgraft.errors import PixgraftError
from pixgraft.files import open_for_writing, read_bytes, read_json, remove_leftovers, temporary_name, write_bytes


def test_write_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + ".png")  # as long as a name may be
    write_bytes(path, b"first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.png"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PixgraftError, match=r"result\.png: No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for place in ("missing/x.png", "folder", "file/x.png"):
        with pytest.raises(PixgraftError, match=place):
            write_bytes(tmp_path / place, b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    own = temporary_name(tmp_path / "result.png")
    host = own.name[1:9]
    dead = [own, tmp_path / f".{child}.result.png.tmp", tmp_path / f".{host}-{child}-{'0' * 16}.out.tmp"]
    alive = [tmp_path / f".{host}-{os.getppid()}-{'0' * 16}.result.png.tmp"]
    elsewhere = [tmp_path / f".{'0' * 8}-{child}-{number}{'0' * 15}.result.png.tmp" for number in (1, 2)]
    kept = [tmp_path / name for name in ("result.png", ".000000000012.tmp", ".mine.tmp", "x.tmp")]
    for path in (*dead[:2], *alive, *elsewhere, *kept):
        path.write_bytes(b"half")
    (dead[2] / "within").mkdir(parents=True)
    dead.append(dead[2].with_name(dead[2].name.replace("out", "about")))
    dead[3].write_bytes(b"half")
    os.utime(elsewhere[0], (0, 0))
    write_bytes(tmp_path / "result.png", b"whole")
    remove_leftovers(tmp_path, "out")
    assert not dead[2].exists() and dead[1].exists() and dead[3].exists()
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*alive, elsewhere[1], *kept])
    remove_leftovers(tmp_path, alone=True)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"dear")
    (tmp_path / "link").symlink_to("theirs")
    with pytest.raises(PixgraftError, match="link: a link"):
        open_for_writing(tmp_path / "link", os.O_APPEND)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((PixgraftError, OSError)):
        open_for_writing(tmp_path / "pipe", os.O_APPEND)
    write_bytes(tmp_path / "link", b"own")
    assert ((tmp_path / "theirs").read_bytes(), (tmp_path / "link").read_bytes()) == (b"dear", b"own")
    assert temporary_name(tmp_path / "a") != temporary_name(tmp_path / "a")


def test_tiled_keeps_rows_and_columns() -> None:
    grid = torch.rand(2, 4, 3, 5, 6)
    sheet = tiled(grid, gap=1)
    assert sheet.shape == (3, 2 * 6 + 1, 4 * 7 + 1)
    assert torch.equal(sheet[:, 7:12, 15:21], grid[1, 2])
    assert bool((sheet[:, 6] == 1).all()) and bool((sheet[:, :, 14] == 1).all())


def test_only_regular_files_within_the_limit_are_read(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"12345")
    (tmp_path / "endless").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(20 * 2**30)
    assert read_bytes(tmp_path / "small", 5) == b"12345"
    for name, problem in (
        ("small", "5 bytes, more than the 4 allowed"), ("endless", "not a regular"), ("pipe", "not a regular"),
        ("sparse", "21,474,836,480 bytes, more than"), (".", "Is a directory"),
    ):  # fmt: skip
        with pytest.raises(PixgraftError, match=problem):
            read_bytes(tmp_path / name, 4)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "missing")


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"a": ', b"\xff", b"1" * 5_000], ids=["deep", "cut", "utf8", "number"]
)
def test_what_is_not_json_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "report.json").write_bytes(text)
    with pytest.raises(PixgraftError, match=r"report\.json: not JSON"):
        read_json(tmp_path / "report.json")
