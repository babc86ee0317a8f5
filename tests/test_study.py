"""The rating study: a blind page, figures that agree with scipy on the same scores, and files that are refused."""

import base64
import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixgraft.cli import main
from pixgraft.data.images import decode, pixels
from pixgraft.study import make as making
from pixgraft.study import statistics
from pixgraft.study.key import Key, read_key
from pixgraft.study.make import nearest
from pixgraft.study.options import PowerOptions
from pixgraft.study.power import mean_score, opinion_of, power, simulated
from pixgraft.study.read import Ratings, read_ratings
from using import refusal

Captured = pytest.CaptureFixture[str]
ROWS, IMAGES, SIDE = ("good-one", "bad-one"), 6, 16
LEVELS = {"HR": 5, "good-one": 4, "bad-one": 2}
"""What sound raters think of a row."""
NAME = "<img src=x onerror=alert(1)>\x1b[2J"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of rows and `reference`, and `study`, made of them."""
    folder = tmp_path_factory.mktemp("study")
    random = np.random.default_rng(0)
    for row in (*ROWS, "reference"):
        (folder / row).mkdir()
        for image in range(IMAGES):
            levels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(levels).save(folder / row / f"face{image}.png")
    assert main(make_command(folder, folder / "study")) == 0
    return folder


def make_command(work: Path, out: Path, *more: object) -> list[str]:
    rows = [each for row in ROWS for each in ("--row", f"{row}={work / row}")]
    numbers = ("--images", 4, "--repeats", 4, "--examples", 4, "--factor", 4)
    return [
        str(each) for each in ("study", "make", *rows, "--reference", work / "reference", "--out", out, *numbers, *more)
    ]


def save(
    folder: Path, key: Key, rater: int, score: Callable[[str, int], int], *, name: str = "", **edited: Any
) -> Path:  # fmt: skip
    """The file of a rater who scores by the row's name and the showing, as the page saves it."""
    order = np.random.default_rng(rater).permutation(len(key.items)).tolist()
    shown = [*((item, 0) for item in order), *((item, 1) for item in order[: key.repeats])]
    given = tuple((item, score(key.rows[key.items[item][0]], time), 900) for item, time in shown)
    ratings = Ratings(1, key.study, rater, name, given, "")
    content = dataclasses.asdict(ratings) | {"checksum": ratings.expected()} | edited
    folder.mkdir(exist_ok=True)
    (folder / f"{rater}.json").write_text(json.dumps(content))
    return folder / f"{rater}.json"


def sound(seed: int) -> Callable[[str, int], int]:
    """A rater near `LEVELS`."""
    random = np.random.default_rng(seed)
    return lambda row, _: int(np.clip(LEVELS[row] + random.integers(-1, 2), 1, 5))


def shown_page(study: Path) -> tuple[str, dict[str, Any]]:
    """The page, and the content that its script reads."""
    text = (study / "page" / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', text)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return text, content


def test_the_page_shows_the_rows_pixels_and_names_none_of_them(work: Path) -> None:
    text, content = shown_page(work / "study")
    key = read_key(work / "study")
    assert [len(content[name]) for name in ("pictures", "worst", "best")] == [12, 2, 2]
    assert not [name for name in (*ROWS, "HR", "reference", "face") if name in re.sub('base64,[^"]*', "", text)]
    folders = {"HR": "reference"}
    for (row, image), source in zip(key.items, content["pictures"], strict=True):
        data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        assert re.findall(rb"IHDR|IDAT|IEND|tEXt|iTXt|zTXt|eXIf|tIME", data) == [b"IHDR", b"IDAT", b"IEND"]
        name = key.rows[row]
        file = work / folders.get(name, name) / f"{key.images[image]}.png"
        assert (np.asarray(decode(data, "")) == np.asarray(Image.open(file))).all()
    worst = pixels(decode(base64.b64decode(content["worst"][0].partition(",")[2]), ""))
    assert (worst[:, ::4, ::4] == worst[:, 3::4, 3::4]).all()
    references = [pixels(Image.open(path)) for path in (work / "reference").iterdir()]
    assert sum(torch.equal(worst, nearest(each, 4)) for each in references) == 1
    assert "script-src 'sha256-" in text


def test_the_same_command_makes_the_same_bytes(work: Path, tmp_path: Path) -> None:
    assert main(make_command(work, tmp_path / "again")) == 0
    for name in ("page/index.html", "key.json", "images.png"):
        assert (tmp_path / "again" / name).read_bytes() == (work / "study" / name).read_bytes()
    assert main(make_command(work, tmp_path / "other", "--seed", 1)) == 0
    assert read_key(tmp_path / "other").items != read_key(work / "study").items


def test_a_large_study_has_its_pictures_beside_the_page(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(making, "EMBEDDED", 0)
    assert main(make_command(work, tmp_path / "large")) == 0
    files = sorted(path.name for path in (tmp_path / "large" / "page" / "pictures").iterdir())
    assert files == [f"{number:04d}.png" for number in range(16)]
    _, content = shown_page(tmp_path / "large")
    assert content["pictures"] == [f"{number:04d}" for number in range(12)]
    assert read_key(tmp_path / "large") == read_key(work / "study")


def test_what_is_missing_is_counted_and_other_sizes_are_refused(work: Path, tmp_path: Path, capsys: Captured) -> None:
    for row in (*ROWS, "reference"):
        (tmp_path / row).mkdir()
        for path in (work / row).iterdir():
            (tmp_path / row / path.name).write_bytes(path.read_bytes())
    (tmp_path / ROWS[0] / "face3.png").rename(tmp_path / ROWS[0] / "strip.png")
    assert main(make_command(tmp_path, tmp_path / "study", "--images", 0)) == 1
    said = capsys.readouterr().out
    assert "unusable  good-one: no image for 1 of 6 references, left out in all rows: face3" in said
    assert "note  good-one: 1 images without a reference: strip.png" in said
    assert "3 rows of 5 images: 15 pictures, 4 of them twice" in said

    small = tmp_path / ROWS[1] / "face2.png"
    Image.new("RGB", (8, SIDE)).save(small)
    refused = refusal(capsys, *make_command(tmp_path, tmp_path / "other", "--images", 0))
    assert refused == f"{small}: 8 x 16 pixels, but the first reference has 16 x 16: resize the images of bad-one"
    assert not (tmp_path / "other").exists()
    small.write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    assert refusal(capsys, *make_command(tmp_path, tmp_path / "other", "--images", 0)).startswith(f"{small}: ")
    for option, value in (("--images", -1), ("--examples", 3), ("--repeats", 5), ("--factor", 3)):
        assert refusal(capsys, *make_command(work, tmp_path / "other", option, value)).startswith(f"{option} {value}: ")
    assert "is there and not empty" in refusal(capsys, *make_command(work, tmp_path / "study"))
    assert "is inside" in refusal(capsys, *make_command(work, work / "reference" / "study"))


def test_figures_are_scipys_and_the_report_takes_names_for_text(work: Path, tmp_path: Path, capsys: Captured) -> None:
    stats = pytest.importorskip("scipy.stats")
    key = read_key(work / "study")
    files = [save(tmp_path, key, rater, sound(rater), name=NAME * (rater == 3)) for rater in range(1, 5)]
    out = tmp_path / "out"
    assert main(["study", "read", str(work / "study"), *map(str, files), "--bootstrap", "200", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    result = json.loads((out / "result.json").read_text())
    scores: dict[str, list[int]] = {row: [] for row in key.rows}
    for file in files:
        seen = set()
        for item, score, _ in json.loads(file.read_text())["ratings"]:
            if item not in seen:  # the first showing counts
                scores[key.rows[key.items[item][0]]].append(score)
            seen.add(item)
    for row in result["rows"]:
        figure = row["values"]["MOS"]
        assert figure["value"] == pytest.approx(np.mean(scores[row["name"]]))
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert row["scores"] == [scores[row["name"]].count(score) for score in range(1, 6)]
    assert len(result["tests"]) == 3
    for test in result["tests"]:
        expected = stats.mannwhitneyu(scores[test["second"]], scores[test["first"]])
        assert (test["u"], test["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert sorted(each["holm"] for each in result["tests"]) == sorted(
        statistics.holm([t["p"] for t in result["tests"]])
    )
    assert [each["name"] for each in result["published"]] == ["FSRNet", "PULSE", "pix2pixHD", "pSp", "HR"]
    assert "No rater answers as if at random." in result["notes"]
    page = (out / "report.html").read_text()
    assert "<img src=x" not in page
    assert "\x1b" not in page + said
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "3.70" in said
    assert "bad-one - good-one*" in said
    assert main(["compare", str(out / "result.json"), str(out / "result.json")]) == 0
    assert main(["study", "read", str(work / "study"), str(files[0]), "--out", str(out)]) == 0  # one alone
    assert main(["study", "read", str(work / "study"), str(files[0]), "--bootstrap", "0"]) == 0


def test_raters_who_answer_at_random_are_named(work: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    random = np.random.default_rng(3)
    levels = np.repeat([5.0, 4.0, 2.0], 30).reshape(3, 30)
    near = np.clip(levels + random.integers(-1, 2, (6, 3, 30)).astype(np.float64), 1, 5)
    twice = [(int(score), int(score)) for score in near[0].ravel()[:12]]
    guesses = random.integers(1, 6, (3, 30)).astype(np.float64)
    pairs = [(int(a), int(b)) for a, b in random.integers(1, 6, (12, 2))]

    def remark(own: Any, repeats: list[tuple[int, int]]) -> str:
        return statistics.check_rater(own, near[1:], repeats, seed=0).remark

    assert remark(near[0], twice) == ""
    assert remark(guesses, pairs).startswith("as if at random: agrees with the others no better than chance, nor")
    assert remark(guesses, []).endswith("too few repeats")
    varied = [(1, 1), (5, 5), (2, 2), (4, 4), (3, 3), (1, 1), (5, 5), (2, 2)]
    assert remark(guesses, varied) == "agrees with the own repeats, but with the others no better than chance"
    assert remark(np.full((3, 30), 3.0), [(3, 3)] * 12) == "always gives 3"
    assert statistics.check_rater(near[0], near[:0], twice, seed=0).correlation is None


def test_chance_is_found_among_raters_who_vary() -> None:
    pytest.importorskip("scipy")
    random = np.random.default_rng(0)
    for _ in range(3):
        first = simulated(PowerOptions(), 8, 120, random)
        second = np.clip(first + random.integers(-1, 2, first.shape), 1, 5)
        first[0], second[0] = random.integers(1, 6, (2, *first[0].shape))
        for rater, own in enumerate(first):
            places = random.permutation(own.size)[:12]
            repeats = [(int(own.ravel()[each]), int(second[rater].ravel()[each])) for each in places]
            found = statistics.check_rater(own, np.delete(first, rater, 0), repeats, seed=0)
            assert found.remark.startswith("as if at random") == (rater == 0)


def test_alpha_is_krippendorffs() -> None:
    """His example of four observers and twelve units: 0.815 for ordinal values (Krippendorff 2011, part E)."""
    none = math.nan
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, none, none, none],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, none, 3],
        [none, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, none],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, none],
    ]
    assert statistics.alpha(np.array(observers).reshape(4, 1, 12)) == pytest.approx(0.815, abs=5e-4)
    assert statistics.alpha(np.full((3, 2, 4), 2.0)) is None
    assert statistics.alpha(np.ones((1, 2, 4))) is None


def test_holm_and_the_bootstrap_are_as_written_out() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    scores = np.array([[[1.0, 2.0, 3.0]], [[5.0, math.nan, 4.0]]])
    of_raters, of_images = np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]])
    drawn = [[1, 2, 2, 1, 2, 2], [2, 3, 3, 4, 4]]
    assert statistics.resampled_means(scores, of_raters, of_images)[0] == pytest.approx(
        [np.mean(each) for each in drawn]
    )


SAVED = '{"format":1,"study":"STUDY","rater":7,"name":"Zoë","ratings":[[3,4,812],[0,1,95]],"checksum":"CRC"}\n'


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda each: each | {"ratings": [[0, 2, 9], *each["ratings"][1:]]}, "its checksum differs: it was edited"),
        (lambda each: each | {"name": "someone else"}, "its checksum differs: it was edited"),
        (lambda each: each | {"study": "0" * 16}, "of another study, '0000000000000000'"),
        (lambda each: each | {"ratings": [[0, 6, 9]]}, "picture 0 has a 6, and scores are 1 to 5"),
        (lambda each: each | {"ratings": [[0, 0, 9]]}, "picture 0 has a 0, and scores are 1 to 5"),
        (lambda each: each | {"ratings": [[0, 3.5, 9]]}, "expected int, found 3.5"),
        (lambda each: each | {"ratings": [[12, 3, 9]]}, "rates picture 12 of 12"),
        (lambda each: each | {"ratings": [[-1, 3, 9]]}, "rates picture -1 of 12"),
        (lambda each: each | {"ratings": [[0, 3, 9]] * 3}, "rates more pictures twice than were shown twice"),
        (lambda each: each | {"rater": 0}, "rater 0: numbers are 1 to 9999"),
        (lambda each: each | {"name": "x" * 10_000}, "a name of 10,000 characters"),
        (lambda each: each | {"format": 2}, "ratings in format 2: update pixgraft"),
        (lambda each: each | {"more": 1}, "no such field: more"),
        (lambda each: [each], "expected a table"),
        (lambda each: each | {"rater": 10**30}, "is beyond 64 bits"),
    ],
)  # fmt: skip
def test_edited_ratings_are_refused(
    work: Path, tmp_path: Path, capsys: Captured, edit: Callable[[dict[str, Any]], Any], named: str
) -> None:  # fmt: skip
    file = save(tmp_path, read_key(work / "study"), 1, sound(1))
    file.write_text(json.dumps(edit(json.loads(file.read_text()))))
    refused = refusal(capsys, "study", "read", work / "study", file)
    assert refused.startswith(f"{file}: ")
    assert named in refused


def test_bad_files_are_named_and_the_others_count(work: Path, tmp_path: Path, capsys: Captured) -> None:
    key = read_key(work / "study")
    first, second = (save(tmp_path, key, rater, sound(rater)) for rater in (1, 2))
    bad = {name: tmp_path / name for name in ("huge", "torn", "none", "deep", "again", "table")}
    with bad["huge"].open("wb") as file:
        file.truncate(200 * 2**20)
    bad["torn"].write_text(first.read_text()[:-20])
    bad["deep"].write_text("[" * 100_000)
    bad["again"].write_text(second.read_text())
    bad["table"].write_text("[<script>\x1b[2J")
    command = [
        "study",
        "read",
        str(work / "study"),
        str(first),
        str(second),
        *map(str, bad.values()),
        "--bootstrap",
        "0",
    ]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert said.count("unusable") == len(bad)
    for name, problem in {
        "huge": "209,715,200 bytes, more than the 1,048,576 allowed", "torn": "not JSON", "none": "no such file",
        "deep": "not JSON", "again": f"of rater 2, as {second} is: keep the right one", "table": "not JSON",
    }.items():  # fmt: skip
        assert f"unusable  {bad[name]}: {problem}" in said
    assert "2 raters, 32 ratings." in said
    assert "\x1b" not in said
    assert main(["study", "read", str(work / "study"), str(bad["torn"]), str(bad["none"])]) == 2
    assert capsys.readouterr().out.count("unusable") == 2
    assert "no key.json in it" in refusal(capsys, "study", "read", tmp_path, first)
    (tmp_path / "key.json").write_text((work / "study" / "key.json").read_text().replace("[0, 0]", "[0, 1]"))
    assert "key.json: edited" in refusal(capsys, "study", "read", tmp_path, first)
    assert refusal(capsys, "study", "read", work / "study", first, "--bootstrap", 1).startswith("--bootstrap 1: ")


def test_a_file_as_the_page_saves_it_is_read(tmp_path: Path) -> None:
    key = Key("28c98704f9ce555c", "", ("a", "HR"), ("x", "y"), ((0, 0), (1, 1), (0, 1), (1, 0)), 0, 8, 0)
    file = tmp_path / "saved.json"
    file.write_text(SAVED.replace("STUDY", key.study).replace("CRC", "eaa6ef02"))
    assert read_ratings(file, key).ratings == ((3, 4, 812), (0, 1, 95))


def test_a_simulation_has_the_means_that_are_asked_for() -> None:
    pytest.importorskip("scipy")
    assert mean_score(opinion_of(3.7, 1.1), 1.1) == pytest.approx(3.7)
    assert mean_score(3, 1e-3) == pytest.approx(3)
    scores = simulated(PowerOptions(rater_sd=0.1, image_sd=0.1), 100, 100, np.random.default_rng(0))
    assert set(np.unique(scores)) <= {1, 2, 3, 4, 5}
    assert scores.mean((0, 2)) == pytest.approx([3.5, 3.7], abs=0.08)
    few = power(PowerOptions(raters=(4, 30), images=(6,), difference=0.8, studies=20))
    assert few[0].by_test <= few[1].by_test
    assert few[1].by_interval > 0.5


def test_what_power_and_scipy_refuse(capsys: Captured, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for option, value in (
        ("--difference", 3),
        ("--raters", 1),
        ("--images", 1001),
        ("--noise-sd", 0),
        ("--studies", 2),
    ):
        assert refusal(capsys, "study", "power", option, value).startswith(f"{option} {value}: ")
    monkeypatch.setitem(__import__("sys").modules, "scipy.stats", None)
    missing = refusal(capsys, "study", "read", work / "study", "x.json")
    assert missing == "pixgraft study: needs scipy: pip install 'pixgraft[study]'"
