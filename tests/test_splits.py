"""Parts of a data set: by a folder, by a list of names, CelebA-HQ's own; and LSUN's databases as files."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from pixgraft.data.celebahq import write_lists
from pixgraft.data.lsun import extract
from pixgraft.data.pairs import open_images, open_pairs
from pixgraft.data.splits import Split
from pixgraft.errors import PixgraftError
from test_data_verbs import said
from training import make_pairs
from using import refusal


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Images 00.png to 05.png and their masks, which bear other numbers of digits."""
    data = make_pairs(tmp_path / "data", 6)
    for path in (data / "images").iterdir():
        path.rename(path.with_name(f"000{path.name}"))
    for path in (data / "masks").iterdir():
        path.rename(path.with_name(f"000{path.name}"))
    return data


def listed(folder: Path, *lines: str) -> str:
    file = folder / "list.txt"
    file.write_text("\n".join(lines))
    return str(file)


@pytest.mark.parametrize("lines", [("# the test", "", "4.jpg", "1 # one"), ("images/0004", "00001.PNG"), ("4", "01")])
def test_a_list_chooses_by_name_without_suffix_and_leading_zeros(lines: tuple[str, ...], pairs: Path) -> None:
    chosen = open_images(pairs / "images", under=listed(pairs, *(line.removeprefix("images/") for line in lines)))
    assert chosen.names == ["00001.png", "00004.png"]
    source = open_images(pairs, under=listed(pairs, *lines))
    assert {"images/00001.png", "images/00004.png"} <= set(source.names)
    if "images/0004" not in lines:
        found = open_pairs(pairs, under=listed(pairs, *lines))
        assert list(zip(found.names, found.condition_names, strict=True)) == [
            (f"images/0000{number}.png", f"masks/0000{number}.png") for number in (1, 4)
        ]


def test_folders_in_a_list_tell_files_of_one_name_apart(pairs: Path) -> None:
    (pairs / "images").rename(pairs / "train")
    (pairs / "masks").rename(pairs / "test")
    assert open_images(pairs, under=listed(pairs, "train/3")).names == ["train/00003.png"]
    assert open_images(pairs, under=listed(pairs, "3")).names == ["test/00003.png", "train/00003.png"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"3\n9\n12\x1b.png",
            "names 9, which {data} lacks (and 1 more): give the whole data, or remove it from the list",
        ),
        (b"\n# none\n", "names no files: write a name a line"),
        (b"\n" * 2_000_001, "a list of more than 2,000,000 lines: name a folder in the data"),
        (b"\xff\xfe\0", "no list of names, a line each: it is no text in UTF-8"),
        (None, "no such list of names: check the path, or name a folder in the data"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(content: bytes | None, told: str, pairs: Path, tmp_path: Path) -> None:
    file = tmp_path / "l.txt"
    if content is not None:
        file.write_bytes(content)
    for open_data in (open_images, open_pairs):
        with pytest.raises(PixgraftError) as caught:
            open_data(pairs, under=str(file))
        assert str(caught.value) == f"{file}: {told.format(data=pairs)}"


def test_a_run_within_the_data_is_refused_with_a_list_too(pairs: Path) -> None:
    assert Split(listed(pairs, "1")).folder(pairs) == pairs
    assert Split("train").folder(pairs) == pairs / "train"


# --- CelebA-HQ ---


def official(folder: Path) -> tuple[Path, Path]:
    """Four images in the form of the two official files."""
    folder.mkdir(exist_ok=True)
    mapping, partition = folder / "mapping.txt", folder / "partition.txt"
    rows = "0 119613 119614.jpg\n1 99094 099095.jpg\n2 200121 200122.jpg\n3 170000 170001.jpg\n"
    mapping.write_text(f"idx          orig_idx   orig_file\n{rows}")
    partition.write_text("099095.jpg 0\n119614.jpg 0\n170001.jpg 1\n200122.jpg 2\n000001.jpg 0\n")
    return mapping, partition


def test_celebahq_is_split_as_celeba(tmp_path: Path, capsys: pytest.CaptureFixture[str], pairs: Path) -> None:
    files, out = official(tmp_path / "celeba"), tmp_path / "lists"
    assert said(capsys, "celebahq", *files, out) == f"train 2, val 1, test 1: {out}\n"
    assert write_lists(*files, out) == {"train": 2, "val": 1, "test": 1}  # again, over our own
    assert open_images(pairs / "images", under=str(out / "train.txt")).names == ["00000.png", "00001.png"]
    assert open_pairs(pairs, under=str(out / "test.txt")).names == ["images/00002.png"]
    assert "2 usable" in said(capsys, "check", pairs / "images", "--size", 32, "--split", out / "train.txt")


def test_other_files_than_the_official_ones_are_refused(tmp_path: Path) -> None:
    mapping, partition = official(tmp_path)
    with pytest.raises(PixgraftError, match=r"partition.txt: not CelebA-HQ-to-CelebA-mapping.txt of CelebAMask-HQ"):
        write_lists(partition, partition, tmp_path / "out")
    for text, told in (
        ("0 1 1.jpg\n", "image '0' comes of '1.jpg', which has no part in"),
        (2 * "5 7 099095.jpg\n", "'5' twice"),
    ):
        mapping.write_text(text)
        with pytest.raises(PixgraftError, match=told):
            write_lists(mapping, partition, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    official(tmp_path)
    (tmp_path / "train.txt").write_text("mine")
    with pytest.raises(PixgraftError, match=r"no earlier run wrote it|is there, beside"):
        write_lists(mapping, partition, tmp_path)
    assert (tmp_path / "train.txt").read_text() == "mine"


# --- LSUN ---


def database(folder: Path, images: dict[bytes, bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb")
    folder.mkdir()
    with lmdb.open(str(folder), map_size=2**24) as opened, opened.begin(write=True) as writing:
        for key, value in images.items():
            writing.put(key, value)
    (folder / "lock.mdb").unlink()
    return folder


def picture(folder: Path, suffix: str, color: str) -> bytes:
    file = folder / f"picture{suffix}"
    Image.new("RGB", (80, 64), color).save(file)
    return file.read_bytes()


def test_lsun_becomes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = enumerate(((".webp", "red"), (".jpg", "green"), (".png", "blue")))
    images = {b"%040x" % n: picture(tmp_path, *kind) for n, kind in kinds}
    hostile = {b"../../evil": images[b"%040x" % 0], b"f" * 40: b"no picture", b"e" * 40: b""}
    path, out = database(tmp_path / "church_train_lmdb", images | hostile), tmp_path / "out"
    told = said(capsys, "lsun", path, out, "--size", 48, status=1)
    assert f"3 images: {out}" in told and "unusable" in told
    assert sorted(each.name for each in out.iterdir()) == [f"{n:040x}.png" for n in range(3)]
    for n in range(3):
        with Image.open(out / f"{n:040x}.png") as image:
            assert image.size == (48, 48)
    before = {each: each.read_bytes() for each in out.iterdir()}
    extract(path, out, size=48, limit=2)  # again, over our own
    assert {each: each.read_bytes() for each in out.iterdir()} == before
    assert [each.name for each in path.iterdir()] == ["data.mdb"]  # nothing is written there
    assert "is inside" in refusal(capsys, "data", "lsun", path, path / "out")
    assert [extract(path, tmp_path / "two", size=8, limit=limit).count for limit in (2, 0)] == [1, 3]  # by key
    with pytest.raises(PixgraftError, match="--size must be"):
        extract(path, out, size=0)


def test_what_is_no_database_of_lsun_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = database(tmp_path / "lmdb", {b"%040x" % n: b"x" * 3000 for n in range(20)})
    out, file = tmp_path / "out", path / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "cut short" in refusal(capsys, "data", "lsun", path, out)
    file.write_bytes(b"x" * 9000)
    assert "no LSUN database" in refusal(capsys, "data", "lsun", path, out)
    file.unlink()
    assert "none there" in refusal(capsys, "data", "lsun", path, out)
    assert not out.exists()


def test_without_lmdb_the_line_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert refusal(capsys, "data", "lsun", tmp_path, tmp_path / "out").endswith("pip install 'pixgraft[lsun]'")
