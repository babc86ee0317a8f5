"""The time from a click to the picture on the page of `pixgraft app`, measured in Chromium, for each bundled model.

    python benchmarks/app.py [--repeat 10]

Needs the extra `app`, playwright and a chromium. Each click has a seed of its own, so that nothing is cached.
"""

import argparse
import shutil
import statistics
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from pixgraft.app.serve import opened, served

EXAMPLES = Path(__file__).parents[1] / "examples"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=10)
    repeat = parser.parse_args().repeat
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "no chromium"
    with served(opened([], "cpu")) as at, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"], timeout=300_000)
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(at.local)
        page.wait_for_selector("#graft_run")
        for name, file in (("source", "sources/face1.png"), ("target", "targets/coarse1.png")):
            page.set_input_files(f"#graft_{name} input[type=file]", EXAMPLES / file)
            page.wait_for_selector(f"#graft_{name} img")
        show("i2ilr-portraits-64", "one image", clicks(page, "graft", repeat))
        page.get_by_role("tab", name="Sample", exact=True).click()
        page.wait_for_selector("#sample_0_count")
        page.locator("#sample_0_count input[type=number]").fill("1")
        page.keyboard.press("Tab")
        show("stylegan2-portraits-32", "one image and the grid", clicks(page, "sample_0", repeat))
        browser.close()


def show(model: str, what: str, times: list[float]) -> None:
    low, high = min(times), max(times)
    print(f"{model}: {what}: median {statistics.median(times):.0f} ms ({low:.0f} to {high:.0f}, {len(times)} clicks)")


if __name__ == "__main__":
    main()
