"""The page of `pixgraft app` in a browser: one flow a task, hostile input, narrow and wide, light and dark.

It needs gradio, playwright and a Chromium, as Debian's package has it: `make browser`.
"""

import json
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cases import grit_method
from encoders import saved
from pixgraft.app import serve
from pixgraft.app.serve import Served, opened, served
from pixgraft.models import save_model
from training import make_images
from using import opened as pixels_of
from using import random_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, styled: Path) -> Iterator[Served]:
    pytest.importorskip("gradio")
    root = tmp_path_factory.mktemp("models")
    save_model(root / "grit", grit_method(), info={})
    models = random_model(root / "i2ilr"), root / "grit", saved(root / "ome", "ome"), styled
    with served(opened([str(each) for each in models], "cpu")) as place:
        yield place


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("photos") / "in", 2)


@pytest.fixture
def page(browser: "Browser", at: Served) -> Iterator["Page"]:
    yield from visit(browser, at)


def visit(browser: "Browser", at: Served, **options: Any) -> Iterator["Page"]:
    """The page, ready; afterwards: no error in a script, and nothing but this server was asked for anything."""
    context = browser.new_context(**options)
    context.set_default_timeout(120_000)
    shown = context.new_page()
    faults: list[str] = []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    context.on("request", lambda request: faults.append(request.url) if foreign(request.url, at) else None)
    shown.goto(at.local)
    shown.wait_for_selector("#graft_run")
    yield shown
    context.close()
    assert not faults


def foreign(url: str, at: Served) -> bool:
    return not url.startswith((at.local, "data:", "blob:"))


def tab(page: "Page", *titles: str) -> None:
    for title in titles:
        page.get_by_role("tab", name=title, exact=True).locator("visible=true").first.click()


def give(page: "Page", name: str, file: Path) -> None:
    page.set_input_files(f"#{name} input[type=file]", file)
    page.wait_for_selector(f"#{name} img, #{name} .file-preview")


def make(page: "Page", action: str) -> dict[str, Any]:
    """The report of what the button makes."""
    before = page.locator(f"#{action}_files a").evaluate_all("links => links.map(link => link.href)")
    page.click(f"#{action}_run")
    page.wait_for_function(
        "([id, old]) => { const now = [...document.querySelectorAll(id + ' a')].map(link => link.href);"
        " return now.length && now.join() !== old.join(); }",
        arg=[f"#{action}_files", before],
    )
    links = page.locator(f"#{action}_files a").evaluate_all("links => links.map(link => link.href)")
    reports = [each for each in links if each.endswith(".json")]
    report: dict[str, Any] = json.loads(fetch(reports[-1]))
    return report


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        data: bytes = answer.read()
    return data


def post(url: str, content: Any) -> bytes:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        data: bytes = answer.read()
    return data


def refused(page: "Page") -> str:
    """The line of the toast, which is closed."""
    toast = page.locator(".toast-body, [data-testid=toast-body]").first
    toast.wait_for()
    text = toast.inner_text()
    toast.get_by_role("button").first.click()
    return " ".join(text.split())


def downloads(page: "Page", action: str) -> list[str]:
    names = page.locator(f"#{action}_files a").evaluate_all("links => links.map(link => link.href.split('/').pop())")
    return sorted(set(names))


# --- one flow a task ---


def test_graft(page: "Page", photos: Path) -> None:
    give(page, "graft_source", photos / "00.png")
    give(page, "graft_target", photos / "01.png")
    report = make(page, "graft")
    assert report["task"] == "graft"
    assert f"{report['measures']['difference']['mean']:.2f}" in page.inner_text("#graft_figures")
    assert downloads(page, "graft") == ["00__01.json", "00__01.png"]
    assert page.locator("#graft_slider img").count() >= 2
    page.get_by_label("Project").check()
    assert make(page, "graft")["settings"]["projected"]


def test_synthesize_from_a_drawing(page: "Page", photos: Path) -> None:
    tab(page, "Synthesize")
    canvas = page.locator("#synthesize_canvas canvas").first
    canvas.wait_for()
    page.locator("#synthesize_canvas").get_by_role("button", name="Brush").first.click()
    box = canvas.bounding_box()
    assert box is not None
    for down in (0.4, 0.5, 0.6):
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * down)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * down, steps=5)
        page.mouse.up()
    page.wait_for_timeout(1000)
    page.locator("#synthesize_samples input[type=number]").fill("3")
    page.keyboard.press("Tab")
    report = make(page, "synthesize")
    assert report["settings"]["samples"] == 3
    assert {"drawing_mean.png", "drawing_deviation.png", "drawing_strip.png"} <= set(downloads(page, "synthesize"))


def test_encode(page: "Page", photos: Path) -> None:
    tab(page, "Encode")
    give(page, "encode_0_condition", photos / "00.png")
    page.locator("#encode_0_steps input[type=number]").fill("3")
    page.keyboard.press("Tab")
    report = make(page, "encode_0")
    assert report["settings"]["steps"] == 3 and len(report["measures"]["codes_changed_by"]) == 3
    assert downloads(page, "encode_0") == ["00.json", "00.png", "00_codes.safetensors", "00_strip.png"]


def test_sample_and_mix(page: "Page") -> None:
    tab(page, "Sample")
    page.locator("#sample_0_count input[type=number]").fill("2")
    page.locator("#sample_0_truncation input[type=number]").fill("0.5")
    page.keyboard.press("Tab")
    report = make(page, "sample_0")
    assert (report["settings"]["count"], report["settings"]["truncation"]) == (2, 0.5)
    tab(page, "Mix styles")
    for name in ("rows", "columns"):
        page.locator(f"#sample_1_{name} input[type=number]").fill("1")
        page.keyboard.press("Tab")
    assert make(page, "sample_1")["settings"]["rows"] == 1


# --- what a page should be ---


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_fits_and_can_be_read(
    browser: "Browser", at: Served, photos: Path, tmp_path: Path, scheme: Any, width: int
) -> None:
    for page in visit(browser, at, viewport={"width": width, "height": 900}, color_scheme=scheme):
        give(page, "graft_source", photos / "00.png")
        give(page, "graft_target", photos / "01.png")
        make(page, "graft")
        for title in ("Graft", "Synthesize", "Encode", "Sample"):
            tabs = page.get_by_role("tab", name=title, exact=True).locator("visible=true")
            if tabs.count():
                tabs.first.click()
                page.wait_for_timeout(700)
                page.screenshot(path=tmp_path / f"{title}-{width}-{scheme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("img:visible:not([alt])").count() == 0
        assert min(contrasts(page)) >= 4.5  # WCAG 2, level AA


def contrasts(page: "Page") -> list[float]:
    """Of the texts of help, labels and buttons in view, each against what is behind it."""
    found: list[float] = page.evaluate(
        """() => {
        const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
        const light = (colour) => parts(colour).slice(0, 3).map((level) => level / 255)
          .map((level) => level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4)
          .reduce((sum, level, place) => sum + level * [0.2126, 0.7152, 0.0722][place], 0);
        const ground = (each) => {
          for (; each; each = each.parentElement) {
            const colour = getComputedStyle(each).backgroundColor, alpha = parts(colour)[3];
            if (alpha === undefined || alpha > 0.9) return light(colour);
          }
          return 1;
        };
        const texts = [...document.querySelectorAll("button, .help p, [data-testid=block-info], label span, h1, td")];
        return texts.filter((each) => each.offsetParent && each.innerText.trim()).map((each) => {
          const ink = light(getComputedStyle(each).color), back = ground(each);
          return (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05);
        });
    }"""
    )
    return found


def test_keys_alone_make_an_image(page: "Page") -> None:
    tab(page, "Graft")
    page.get_by_role("tab", name="Graft", exact=True).focus()
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if seen[-1] == "graft_run":
            break
    assert "graft_run" in seen, seen
    page.keyboard.press("Enter")
    assert "Source: is empty: give a picture" in refused(page)


# --- hostile input ---


def large_png(side: int) -> bytes:
    """A PNG of side x side pixels, of one colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    head = side.to_bytes(4) + side.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_bad_files_are_a_line_and_run_nothing(page: "Page", at: Served, photos: Path, tmp_path: Path) -> None:
    bad = {
        "text.png": (b"no image at all", "text.png: not an image"),
        "large.png": (large_png(20_000), "20000 x 20000 pixels"),
        "picture.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "not an image"),
        "page.html": (b"<script>alert(1)</script><img src=x onerror=alert(2)>", "Only image/* allowed"),
        "<img src=x onerror=alert(3)>.png": (b"x", "not an image"),
    }
    give(page, "graft_target", photos / "01.png")
    for name, (data, line) in bad.items():
        (tmp_path / name).write_bytes(data)
        page.reload()
        page.wait_for_selector("#graft_run")
        give(page, "graft_target", photos / "01.png")
        page.set_input_files("#graft_source input[type=file]", tmp_path / name)
        if not name.endswith(".html"):  # the page itself refuses it
            page.wait_for_selector("#graft_source img")
            page.click("#graft_run")
        said = refused(page)
        assert line in said, (name, said)


def test_a_file_of_200_mb_is_refused(page: "Page", at: Served, tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(200 * 10**6)
    page.set_input_files("#graft_source input[type=file]", tmp_path / "huge.png")
    assert "size" in refused(page)
    assert sum(each.stat().st_size for each in at.folder.rglob("*") if each.is_file()) < 100 * 10**6
    boundary = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    request = urllib.request.Request(
        f"{at.local}gradio_api/upload", boundary + bytes(40 * 2**20) + b"\r\n--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )  # fmt: skip
    with pytest.raises((urllib.error.HTTPError, ConnectionError, urllib.error.URLError)):
        urllib.request.urlopen(request)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "/proc/self/environ", "http://127.0.0.1:1/x"],
)
def test_nothing_is_read_that_was_not_given(at: Served, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        fetch(f"{at.local}gradio_api/file={path}")
    assert refusal.value.code in (403, 404)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", str(Path(__file__).resolve())])
def test_a_path_in_place_of_a_file_is_refused(at: Served, path: str) -> None:
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    answer = ask(at, "graft_run", [file, file, False, 0])
    assert "error" in answer and "root:" not in answer and "Traceback" not in answer
    with pytest.raises(urllib.error.HTTPError):
        post(f"{at.local}gradio_api/call/graft_run", {"data": [file | {"path": "http://127.0.0.1/x"}, file, False, 0]})


def ask(at: Served, action: str, data: list[Any]) -> str:
    """The events that answer a request of the API."""
    event = json.loads(post(f"{at.local}gradio_api/call/{action}", {"data": data}))["event_id"]
    return fetch(f"{at.local}gradio_api/call/{action}/{event}").decode()


def uploaded(at: Served, file: Path) -> dict[str, Any]:
    """A file of the API's requests."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n\r\n'.encode()
    request = urllib.request.Request(
        f"{at.local}gradio_api/upload", head + file.read_bytes() + b"\r\n--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )  # fmt: skip
    with urllib.request.urlopen(request) as answer:
        return {"path": json.loads(answer.read())[0], "meta": {"_type": "gradio.FileData"}}


def result(at: Served, answer: str) -> bytes:
    """The bytes of the first picture of an answer."""
    data = json.loads(answer.rpartition("data: ")[2])
    return fetch(data[0][0]["image"]["url"])


def test_requests_at_once_give_what_each_alone_would(at: Served, photos: Path) -> None:
    one, other = (uploaded(at, photos / name) for name in ("00.png", "01.png"))
    pairs = [[one, other, False, 0], [other, one, True, 0]]
    alone = [result(at, ask(at, "graft_run", pair)) for pair in pairs]
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda number: ask(at, "graft_run", pairs[number % 2]), range(8)))
    assert [result(at, each) for each in together] == alone * 4
    assert pixels_of(alone[0]).shape == (32, 32, 3) and b"not a photograph" in alone[0]


def test_fifty_requests_at_once_are_made_or_refused(at: Served) -> None:
    def sample(seed: int) -> str:
        try:
            return ask(at, "sample_0_run", [2, seed, 1, "stored", None])
        except urllib.error.HTTPError as error:
            return f"error {error.code}"

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(sample, range(50)))
    made = [each for each in answers if "event: complete" in each]
    assert len(made) >= 10
    assert all("error" in each for each in answers if each not in made)
    assert "event: complete" in sample(0)


def test_another_name_of_this_address_is_refused(at: Served) -> None:
    request = urllib.request.Request(at.local, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="421"):
        urllib.request.urlopen(request)


def test_nothing_stays(tmp_path: Path, styled: Path) -> None:
    pytest.importorskip("gradio")
    with served(opened([str(styled)], "cpu")) as place:
        answer = ask(place, "sample_0_run", [1, 0, 1, "stored", None])
        assert "event: complete" in answer
        assert list(place.folder.rglob("*.png"))
        assert not list(place.folder.glob("request-*"))
    assert not place.folder.exists()


def test_old_files_are_deleted(styled: Path, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setattr(serve, "SWEPT", 1)
    monkeypatch.setattr(serve, "LIFETIME", 1)
    with served(opened([str(styled), str(model)], "cpu")) as place:
        file = uploaded(place, photos / "00.png")
        ask(place, "graft_run", [file, file, False, 0])
        ask(place, "sample_0_run", [1, 0, 1, "stored", None])
        for _ in range(60):
            if not (left := [each for each in place.folder.rglob("*") if each.is_file()]):
                break
            time.sleep(0.5)
        assert not left
