"""What a result says to people: the chart of rows as points, the page on a phone and in the dark, lines on the way."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from pixgraft.engine.bars import EVERY, Bars
from pixgraft.evaluation import pages
from pixgraft.evaluation.options import EvaluationOptions
from pixgraft.evaluation.plots import SCATTER, plots
from pixgraft.evaluation.tables import folder_measurement
from training import make_images
from using import refusal

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def figure_of(value: float) -> dict[str, float]:
    return {"value": value, "low": value * 0.9, "high": value * 1.1, "units": 8}


def table1(distance: str = "FD-SqueezeNet", diversity: str = "PD-SqueezeNet diversity") -> dict[str, Any]:
    """A result of i2ilr-table1, whose columns are of these networks."""
    labels = {"fd": distance, "diversity": diversity, "psnr": "PSNR"}
    columns = [
        {"label": label, "heading": label, "metric": key, "better": "", "about": ""} for key, label in labels.items()
    ]
    rows = [
        {"name": name, "images": 80, "values": {distance: figure_of(fd), diversity: figure_of(diverse)}}
        for name, fd, diverse in (("mine <i>", 15.0, 0.3), ("reference: bicubic target", 700.0, 0.0))
    ]
    published = [{"name": "I2I-LR, 128", "values": {"fd": "15.52 FID", "diversity": "0.34 LPIPS"}}]
    return {
        "title": "mine: i2ilr-table1", "protocol": {"name": "i2ilr-table1", "sha256": "0" * 64}, "columns": columns,
        "rows": rows, "published": published, "notes": ["A note. " * 20],
        "made_by": {"pixgraft": "0", "code_sha256": "0" * 64},
    }  # fmt: skip


def test_rows_are_points_of_distance_and_diversity() -> None:
    """A paper's figures stand beside ours only where both are of one network, as in the table."""
    title, drawing = plots(table1())[SCATTER]
    assert title == "Distance and diversity" and drawing.count("<circle") == 2 and "paper" not in drawing
    assert "mine &lt;i&gt;" in drawing and "FD-SqueezeNet (lower is better), logarithmic" in drawing
    same = plots(table1("FID (torchvision)", "LPIPS (AlexNet) diversity"))[SCATTER][1]
    assert same.count("<circle") == 3 and "paper: I2I-LR, 128" in same
    page = pages.page(table1(), b"", [(title, drawing)])
    assert drawing in page and "<th>paper: FID</th>" in page and "PSNR</th>" not in page  # nor an empty column
    for distance in (1e-3, 9.99, 70.6, 1e5):  # axes of any size
        other = table1()
        other["rows"][1]["values"]["FD-SqueezeNet"] = figure_of(distance)
        other["rows"][0]["values"]["FD-SqueezeNet"] = figure_of(0.0)
        assert SCATTER in plots(other)
    alone = table1()
    alone["rows"] = alone["rows"][:1]
    assert SCATTER not in plots(alone)


def test_the_fields_names_are_answered_with_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_images(tmp_path / "a", 2)
    said = refusal(capsys, "evaluate", "--real", folder, "--fake", folder, "--metrics", "fid")
    assert said == (
        "--metrics fid: write fd, which is FD-SqueezeNet with the bundled network, or fd:inception, which is FID: its "
        "weights are fetched once, or read from --weights inception=FILE"
    )
    said = refusal(capsys, "evaluate", "--real", folder, "--fake", folder, "--metrics", "LPIPS")
    assert "perceptual:lpips-alex, which is LPIPS (AlexNet)" in said and "--weights alexnet=FILE" in said


def test_sets_of_other_sizes_are_told(tmp_path: Path) -> None:
    real, fake = make_images(tmp_path / "real", 3, side=32), make_images(tmp_path / "fake", 3, side=16)
    (note,) = folder_measurement(EvaluationOptions(real=real, fake=fake)).notes
    assert "real's are 32 x 36, fake's are 16 x 20" in note and "--size N" in note
    assert not folder_measurement(EvaluationOptions(real=real, fake=fake, size=16)).notes


def test_long_work_says_a_line_at_times_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Bars(clock=lambda: now) as bars:
        advance, update = bars.part("reals", 1000), bars.counting("files")
        for _ in range(10):
            now += EVERY / 3
            advance(100)
        now += EVERY
        update(1, 4)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "reals: 300 of 1,000, 0:01:10 left", "reals: 600 of 1,000, 0:00:40 left", "reals: 900 of 1,000, 0:00:10 left",
        "files: 1 of 4, 0:06:30 left",
    ]  # fmt: skip
    with Bars(quiet=True, clock=lambda: now) as bars:
        now += 2 * EVERY
        bars.part("reals", 4)(1)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 400])
def test_the_page_fits_and_can_be_read(browser: "Browser", tmp_path: Path, width: int, scheme: str) -> None:
    result = table1("FID (torchvision)", "LPIPS (AlexNet) diversity")
    Image.new("RGB", (900, 300), "gray").save(tmp_path / "sheet.png")
    (tmp_path / "page.html").write_text(
        pages.page(result, (tmp_path / "sheet.png").read_bytes(), plots(result).values())
    )
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = (
        [int(level) for level in page.evaluate(f"getComputedStyle(document.body).{name}")[4:-1].split(",")]
        for name in ("color", "backgroundColor")
    )
    assert (min(paper) > 200 and max(ink) < 60) if scheme == "light" else (max(paper) < 60 and min(ink) > 200)
    page.close()
