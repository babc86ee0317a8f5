"""The time from a click to the picture on the page of `pixgraft app`, measured in Chromium, for each bundled model.

    python benchmarks/app.py [--repeat 10]
    python benchmarks/app.py --repeat 1 --screenshots docs     # also app-TASK.png and app-TASK-narrow.png, of each task

Needs the extra `app`, playwright and a chromium. Each click has a seed of its own, so that nothing is cached.
"""

import argparse
import io
import shutil
import statistics
from importlib import resources
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pixgraft.app.serve import opened, served
from pixgraft.models import bundled, task_of

EXAMPLES = resources.files("pixgraft") / "assets" / "examples"
GIVEN = {
    "graft": {"source": "sources", "target": "targets"}, "encode": {"condition": "sources"},
}  # fmt: skip
"""By task, the folder of bundled examples of which the first is given for each picture; a drawing is drawn."""
LARGEST = 300_000
"""Bytes of the largest screenshot."""
CLICKED = """([action, seed]) => new Promise((done) => {
  const results = document.querySelector(`#${action}_results`);
  const sources = () => [...results.querySelectorAll("img")].map((image) => image.src).join();
  const before = sources(), start = performance.now();
  const look = () => {
    const images = [...results.querySelectorAll("img")];
    const ready = images.length && images.every((image) => image.complete && image.naturalWidth);
    if (ready && sources() !== before) requestAnimationFrame(() => done(performance.now() - start));
    else requestAnimationFrame(look);
  };
  document.querySelector(`#${action}_run`).click();
  look();
})"""


def clicks(page: Page, action: str, repeat: int) -> list[float]:
    """Milliseconds of each click, after two that do not count."""
    times = []
    for seed in range(repeat + 2):
        page.locator(f"#{action}_seed input").fill(str(seed))
        page.keyboard.press("Tab")
        page.wait_for_timeout(300)
        times.append(float(page.evaluate(CLICKED, [action, seed])))
    return times[2:]


def give(page: Page, action: str, task: str, examples: Path) -> None:
    """Put the first examples where the page asks for pictures, and ask for one image."""
    for name, folder in GIVEN.get(task, {}).items():
        page.set_input_files(f"#{action}_{name} input[type=file]", sorted((examples / folder).glob("*.*"))[0])
        page.wait_for_selector(f"#{action}_{name} img")
    if task == "synthesize":
        canvas = page.locator(f"#{action}_canvas canvas").first
        canvas.wait_for()
        page.locator(f"#{action}_canvas").get_by_role("button", name="Brush").first.click()
        box = canvas.bounding_box()
        assert box is not None
        for down in (0.3, 0.5, 0.7):  # two eyes' line, a nose's, a mouth's
            page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * down)
            page.mouse.down()
            page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * down, steps=5)
            page.mouse.up()
        page.wait_for_timeout(1000)
    align = page.locator(f"#{action}_align input")
    if align.count() and task != "synthesize":  # which aligns the style image alone
        align.check()
    if task == "sample":
        page.locator(f"#{action}_count input[type=number]").fill("1")
        page.keyboard.press("Tab")


def measured(browser: Browser, model: str, examples: Path, repeat: int, screenshots: Path | None) -> None:
    """Print the times of a model's first action, and take its pictures."""
    task = task_of(model)
    with served(opened([model], "cpu")) as at:
        for width, scheme in ((1200, "light"), (400, "dark")):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            page.set_default_timeout(120_000)
            page.goto(at.local)
            page.wait_for_selector("[id$=_run]")
            action = str(page.locator("[id$=_run]").first.get_attribute("id")).removesuffix("_run")
            give(page, action, task, examples)
            if width == 1200:
                show(model, clicks(page, action, repeat))
            else:
                clicks(page, action, 1)
            if screenshots is not None:
                name = f"app-{task}{'' if width == 1200 else '-narrow'}.png"
                (screenshots / name).write_bytes(small(page.screenshot(full_page=True)))
            context.close()
            if screenshots is None:
                break


def small(png: bytes) -> bytes:
    """A screenshot of at most `LARGEST` bytes, by fewer colours if need be."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for made in (image, image.quantize(256), image.quantize(64)):
        out = io.BytesIO()
        made.save(out, "PNG", optimize=True)
        if out.tell() <= LARGEST:
            return out.getvalue()
    raise SystemExit(f"a screenshot of {image.size} takes more than {LARGEST:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--screenshots", type=Path)
    options = parser.parse_args()
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "no chromium"
    if options.screenshots is not None:
        options.screenshots.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play, resources.as_file(EXAMPLES) as examples:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"], timeout=300_000)
        shown: set[str] = set()
        for model in bundled():
            first = task_of(model) not in shown  # a picture of each task
            shown.add(task_of(model))
            pictures = options.screenshots if first else None
            measured(browser, model, examples, options.repeat, pictures)
        browser.close()


def show(model: str, times: list[float]) -> None:
    low, high = min(times), max(times)
    print(f"{model}: median {statistics.median(times):.0f} ms ({low:.0f} to {high:.0f}, {len(times)} clicks)")


if __name__ == "__main__":
    main()
