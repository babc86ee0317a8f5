"""docs/index.html is what docs/gallery.py makes of the pages, and it shows in a browser without a network."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pixgraft.models import bundled, task_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gallery_is_up_to_date_and_whole(gallery: ModuleType) -> None:
    page = (DOCS / "index.html").read_text(encoding="utf-8")
    assert page == gallery.page(), "run: make gallery"
    assert "<script" not in page and not re.search(r"(src|@import|url\()\W*https?:", page)
    for link in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', page):
        assert (DOCS / link).exists(), link
    for image in re.findall(r"<img[^>]*>", page):
        assert re.search(r'alt="[^"]{10,}"', image), image
    for model in bundled():
        assert f">{model}</a>" in page and (task_of(model) == "sample" or f"gallery/{model}.jpg" in page)
    assert all(file.stat().st_size <= 300_000 for file in (DOCS / "gallery").iterdir())


def test_openings_sections_and_captions(gallery: ModuleType) -> None:
    head = "# T\n\nOne\ntwo.\n\n![a](b.png)\n\n*c*\n\n```bash\n\n## no\n```\n\n"
    text = f"{head}## X\n\n| a |\n\n### Y\n\nin\n\n## X 2\n\nz\n"
    assert gallery.opening(text) == ["One\ntwo.\n", "![a](b.png)\n", "*c*\n"]
    seen: set[str] = set()
    assert gallery.shown(f"{text}\n![d](e.png)\n", seen) == ["One\ntwo.\n", "![a](b.png)\n", "*c*\n", "![d](e.png)\n"]
    assert gallery.shown(text, seen) == ["One\ntwo.\n"] and len(seen) == 2
    assert gallery.section(text, "X").strip() == "| a |\n\n### Y\n\nin"
    assert gallery.section(text, "Y").strip() == "in" and gallery.section(text, "X 2").strip() == "z"
    with pytest.raises(KeyError):
        gallery.section(text, "Z")
    assert '<img loading="lazy" src="up/b.png"' in gallery.rendered("![a](b.png)", "up/")
    assert 'href="https://x"' in gallery.rendered("[a](https://x)", "up/")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_gallery_fits_its_window(browser: "Browser", width: int, scheme: Any) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((DOCS / "index.html").as_uri())
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
    assert all(url.startswith("file://") for url in asked)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(25, 25, 25)")
    page.close()
