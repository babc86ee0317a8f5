"""The rating page in a browser: raters with known preferences click and type from `make` to the table.

It needs playwright and a Chromium, as Debian's package has it: `make browser`.
"""

import functools
import http.server
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pixgraft.cli import main
from pixgraft.study import make as making
from pixgraft.study.key import Key, read_key
from using import PHOTOGRAPHS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
BLUR = {"sharp": 0.8, "soft": 1.6, "vague": 3.0}
LEVELS = {"HR": 5, "sharp": 4, "soft": 3, "vague": 1}
"""What raters think of a row; each is stricter by their number's remainder of 2."""
IMAGES, REPEATS, SIDE = 6, 6, 128


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for place in range(IMAGES + 4):
        face = Image.open(PHOTOGRAPHS[place % len(PHOTOGRAPHS)]).resize((SIDE, SIDE))
        face = Image.fromarray(np.roll(np.asarray(face), 4 * (place // len(PHOTOGRAPHS)), 1))
        for row, blur in {"HR": 0.0, **BLUR}.items():
            (folder / row).mkdir(exist_ok=True)
            face.filter(ImageFilter.GaussianBlur(blur)).save(folder / row / f"{place}.png")
    assert main(command(folder, folder / "study")) == 0
    return folder / "study"


def command(folder: Path, out: Path) -> list[str]:
    rows = [each for row in BLUR for each in ("--row", f"{row}={folder / row}")]
    numbers = ("--images", str(IMAGES), "--repeats", str(REPEATS), "--examples", "4")
    return ["study", "make", *rows, "--reference", str(folder / "HR"), "--out", str(out), *numbers]


def opinion(row: str, image: int, number: int) -> int:
    """What a rater thinks of a row's image."""
    return max(1, min(5, LEVELS[row] - number % 2 + (image == 0)))


def score(key: Key, page: "Page", number: int) -> int:
    """What a rater gives the picture in view, which the key alone tells from the others."""
    place = int(page.inner_text("#place").split()[1]) - 1
    item = int(page.evaluate(f"order({number})[{place}]"))
    row, image = key.items[item]
    return opinion(key.rows[row], image, number)


def saved(page: "Page", button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def opened(browser: "Browser", study: Path, **options: Any) -> "Page":
    page = browser.new_context(**options).new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("request", lambda request: pytest.fail(request.url) if request.url.startswith("http") else None)
    page.goto((study / "page" / "index.html").as_uri())
    return page


def begin(page: "Page", number: int, name: str = "") -> None:
    page.fill("#number", str(number))
    page.fill("#name", name)
    page.keyboard.press("Enter")
    page.click("#go")


def test_three_raters_from_the_page_to_the_table(browser: "Browser", study: Path, tmp_path: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    key = read_key(study)
    files = []
    for number in (1, 2, 3):
        page = opened(browser, study)
        begin(page, number, "Zoë <b>" if number == 3 else "")
        total = len(key.items) + REPEATS
        for place in range(total):
            assert page.inner_text("#place") == f"Picture {place + 1} of {total}"
            assert page.get_attribute("#picture", "alt") == f"Picture {place + 1}"
            given = score(key, page, number)
            if number == 1:  # clicks; the others type
                page.click(f"#scores button[value='{given}']", click_count=1 + place % 2)
            else:
                page.keyboard.press(str(given))
            if place == 3:  # a slip, mended
                page.keyboard.press("ArrowLeft")
                assert page.get_attribute(f"#scores button[value='{given}']", "aria-pressed") == "true"
                page.keyboard.press(str(given % 5 + 1))
                page.click("#back")
                page.keyboard.press(str(given))
        page.wait_for_selector("#done:not([hidden])")
        files.append(saved(page, "#save", tmp_path))
        page.context.close()
    out = tmp_path / "out"
    assert main(["study", "read", str(study), *map(str, files), "--out", str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    expected = {
        name: [
            opinion(name, image, number) for number in (1, 2, 3) for image in range(IMAGES)
        ]
        for name in key.rows
    }  # fmt: skip
    for row in result["rows"]:
        assert row["values"]["MOS"]["value"] == pytest.approx(np.mean(expected[row["name"]]))
    for test in result["tests"]:
        found = stats.mannwhitneyu(expected[test["second"]], expected[test["first"]])
        assert (test["u"], test["p"]) == pytest.approx((found.statistic, found.pvalue))
    assert [(rater["apart"], rater["remark"]) for rater in result["raters"]] == [(0, "")] * 3
    assert result["raters"][2]["name"] == "Zoë <b>"
    assert "<b>" not in (out / "report.html").read_text()


def test_a_closed_tab_goes_on(browser: "Browser", study: Path, tmp_path: Path) -> None:
    page = opened(browser, study)
    context = page.context
    begin(page, 4, "Ada")
    for given in "4251":
        page.keyboard.press(given)
    page.close()
    page = context.new_page()
    page.goto((study / "page" / "index.html").as_uri())
    assert page.inner_text("#place").startswith("Picture 5 of ")
    assert page.inner_text("#rater") == "4, Ada"
    partial = json.loads(saved(page, "#pause", tmp_path).read_text())
    assert [each[1] for each in partial["ratings"]] == [4, 2, 5, 1]
    assert main(["study", "read", str(study), str(tmp_path / f"ratings-{read_key(study).study[:8]}-4.json")]) == 0
    page.goto((study / "page" / "index.html").as_uri() + "?rater=5")  # another rater's link
    assert page.input_value("#number") == "5"
    context.close()


def test_orders_are_balanced_and_repeats_far_apart(browser: "Browser", study: Path) -> None:
    page = opened(browser, study)
    count = len(read_key(study).items)
    orders = [page.evaluate(f"order({number})") for number in range(1, 13)]
    assert orders == [page.evaluate(f"order({number})") for number in range(1, 13)]
    assert len({tuple(each) for each in orders}) == 12
    for order in orders:
        assert sorted(set(order)) == list(range(count))
        assert len(order) == count + REPEATS
        twice = [item for item in range(count) if order.count(item) == 2]
        places = [[place for place, item in enumerate(order) if item == each] for each in twice]
        assert min(last - first for first, last in places) > count // 3
    for first, second in zip(orders[::2], orders[1::2], strict=True):
        assert first == second[::-1]
    page.context.close()


def test_the_page_works_from_a_server_with_its_pictures_beside_it(
    browser: "Browser", study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(making, "EMBEDDED", 0)
    assert main(command(study.parent, tmp_path / "large")) == 0
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "large" / "page"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for address in (f"http://127.0.0.1:{server.server_port}/", (tmp_path / "large/page/index.html").as_uri()):
            page = browser.new_page()
            page.goto(address)
            begin(page, 1)
            page.wait_for_function("at('picture').naturalWidth > 0")
            page.keyboard.press("3")
            page.wait_for_function("at('place').textContent.startsWith('Picture 2 ')")
            assert page.is_hidden("#warning")
            page.close()
        server.shutdown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 400])
def test_the_page_fits_and_can_be_read(
    browser: "Browser", study: Path, tmp_path: Path, scheme: str, width: int
) -> None:  # fmt: skip
    page = opened(browser, study, viewport={"width": width, "height": 800}, color_scheme=scheme)
    begin(page, 1)
    page.keyboard.press("4")
    page.keyboard.press("ArrowLeft")
    page.screenshot(path=tmp_path / f"rating-{width}-{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#pause").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 800  # all of it without scrolling
    contrasts = page.evaluate(
        """() => {
        const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((level) => level / 255)
          .map((level) => level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4)
          .reduce((sum, level, place) => sum + level * [0.2126, 0.7152, 0.0722][place], 0);
        const paper = light(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll("#rating p, #rating h1, #rating button")].map((each) => {
          const style = getComputedStyle(each), pressed = each.getAttribute("aria-pressed") === "true";
          const ground = pressed ? light(style.backgroundColor) : paper, ink = light(style.color);
          return (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
        });
    }"""
    )
    assert min(contrasts) >= 4.5  # WCAG 2, level AA
    page.context.close()
