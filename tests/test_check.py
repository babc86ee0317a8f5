"""The check names every file that training could not use, and the oddities of those it can."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixgraft.data import images
from pixgraft.data.check import CheckReport, Finding, check
from pixgraft.data.pairs import open_images


def picture(seed: int, size: tuple[int, int] = (16, 16), format: str = "PNG") -> bytes:
    array = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(array).save(file, format)
    return file.getvalue()


TREE = {
    "a.png": picture(1),
    "b copy.png": picture(1),
    "c same pixels.bmp": picture(1, format="BMP"),
    "d.png": picture(2, (40, 20)),
    "e small.png": picture(3, (3, 300)),
    "e smallish.png": picture(7, (4, 300)),
    "f text.png": b"just text",
    "g cut.jpg": picture(4, format="JPEG")[:200],
    "h empty.png": b"",
    "i really a jpeg.png": picture(5, format="JPEG"),
    "j turned.png": picture(2, (20, 40)),
    "k small jpeg.png": picture(6, (3, 3), format="JPEG"),
    "readme.txt": b"text",
}


def write(root: Path, tree: dict[str, bytes], kind: str) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(root / "x.zip", "w") as archive:
            for name, data in tree.items():
                archive.writestr(name, data)
        return root / "x.zip"
    for name, data in tree.items():
        (root / name).write_bytes(data)
    return root


def by_name(report: CheckReport) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in report.findings:
        found.setdefault(finding.name, []).append(finding)
        assert "\n" not in finding.problem
        assert f"{finding.name}: " not in finding.problem
    return found


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_every_fault_is_found(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, TREE, kind)
    calls: list[tuple[int, int]] = []
    report = check(open_images(path), size=16, progress=lambda done, total: calls.append((done, total)))
    found = by_name(report)

    assert report.path == path
    assert report.checked == 12
    assert calls == [(done, 12) for done in range(1, 13)]
    assert report.usable == 7
    assert report.sizes == (3, 20)
    assert report.duplicates == 2
    assert report.summary == "12 image files: 7 usable, 5 unusable, 2 duplicates; shorter sides of 3 to 20 pixels"
    assert "a.png" not in found
    assert "d.png" not in found
    assert "j turned.png" not in found  # the same bytes in another shape is another picture
    expected = {
        "b copy.png": ("same pixels as a.png", True),
        "c same pixels.bmp": ("same pixels as a.png", True),
        "e small.png": ("3 x 300", False),
        "e smallish.png": ("4 x 300, will be enlarged", True),
        "f text.png": ("not an image", False),
        "g cut.jpg": ("cut short", False),
        "h empty.png": ("empty", False),
        "i really a jpeg.png": ("JPEG", True),
        "readme.txt": ("passed over: its suffix", True),
    }
    for name, (words, usable) in expected.items():
        (finding,) = found.pop(name)
        assert words in finding.problem, name
        assert finding.usable is usable, name
    assert [finding.usable for finding in found.pop("k small jpeg.png")] == [False, False]
    assert not found


def test_sound_images_leave_nothing_to_say(tmp_path: Path) -> None:
    path = write(tmp_path, {f"{seed}.png": picture(seed) for seed in range(5)}, "folder")
    report = check(open_images(path), size=16)
    assert (report.usable, report.findings, report.sizes, report.duplicates) == (5, [], (16, 16), 0)


def test_nothing_that_decodes(tmp_path: Path) -> None:
    report = check(open_images(write(tmp_path, {"a.png": b"", "b.png": b"text"}, "folder")), size=16)
    assert (report.checked, report.usable, report.sizes) == (2, 0, None)
    assert report.summary == "2 image files: 0 usable, 2 unusable, 0 duplicates"


def test_a_bomb_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 16 * 16)
    path = write(tmp_path, {"a.png": picture(1), "b.png": picture(2, (17, 16))}, "folder")
    report = check(open_images(path), size=16)
    assert report.usable == 1
    assert "17 x 16" in by_name(report)["b.png"][0].problem


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.png": picture(1), "b.png": picture(2)}, "zip")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"IDAT") + 20] ^= 1  # zips store by default, so the picture of b.png itself
    path.write_bytes(data)
    report = check(open_images(path), size=16)
    assert report.usable == 1
    assert "damaged" in by_name(report)["b.png"][0].problem


def test_an_interrupt_stops_the_check(tmp_path: Path) -> None:
    path = write(tmp_path, {f"{seed}.png": picture(seed) for seed in range(5)}, "folder")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(open_images(path), size=16, progress=interrupt)
