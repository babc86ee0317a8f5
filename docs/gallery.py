"""docs/index.html: what each system makes and how it measures, in one page that needs no network.

    python docs/gallery.py                # the page, from the Markdown pages, the bundled models' cards and results.md
    python docs/gallery.py --pictures     # draws the bundled models' pictures anew, too, by `pixgraft demo`

Texts, pictures and tables are those of the pages beside it; nothing is written twice.
"""

import html
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from PIL import Image

from pixgraft.cli import main as pixgraft
from pixgraft.evaluation.pages import STYLE
from pixgraft.models import bundled, task_of

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGE, PICTURES = DOCS / "index.html", DOCS / "gallery"
ASSETS = "src/pixgraft/assets"
WIDEST = 1200
"""Pixels of a picture of a bundled model; a wider one is cut at the right."""


@dataclass(frozen=True)
class System:
    """A part of the page."""

    title: str
    task: str
    """Bundled models of this task are shown in it."""
    pages: tuple[str, ...]
    """Pages whose openings and pictures are shown."""
    measured: tuple[str, ...] = ()
    """Headings of results.md whose tables are shown."""


SYSTEMS = (
    System("Fine detail on a coarse picture", "graft", ("i2ilr", "starganv2"), ("The bundled model", "Evaluation")),
    System("Pictures of label maps and sketches", "synthesize", ("grit", "baselines"), ("GRIT",)),
    System("Images as codes of a generator", "encode", ("psp", "ome", "invert"), ("Encoders",)),
    System("The generators", "sample", ("priors", "editing"), ("Generators",)),
    System("Runs and ratings", "", ("watching", "study")),
)
MORE = """
nav a{margin-right:1.2rem;white-space:nowrap}figure{margin:1.5rem 0}figcaption,summary{color:var(--soft)}
pre{overflow-x:auto;padding:.6rem;border:1px solid var(--line)}a{color:inherit}section{margin-top:3rem}
img{height:auto}img[src$=".svg"]{background:#fff;width:100%;max-width:60rem}summary{cursor:pointer;padding:.5rem 0}
""".strip()


def blocks(text: str) -> list[str]:
    """The blocks of a Markdown text, without a card's YAML; a fenced one is whole."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return re.findall(r"```.*?\n```|(?:(?!```)\S[^\n]*\n?)+", text, flags=re.DOTALL)


def opening(text: str) -> list[str]:
    """What stands before the first command, table or second heading, without the title."""
    found: list[str] = []
    for block in blocks(text)[1:]:
        if block.startswith(("```", "#", "|")):
            break
        found.append(block)
    return found


def shown(text: str, seen: set[str]) -> list[str]:
    """The opening of a page and its other pictures with their captions, but for pictures that were `seen` before."""
    found, every, first = [], blocks(text)[1:], opening(text)
    for number, block in enumerate(every):
        caption = number > 0 and every[number - 1].startswith("![") and block.startswith("*")
        picture = every[number - 1] if caption else block
        if picture.startswith("![") and picture not in seen and not caption:
            found += [block, *(each for each in every[number + 1 : number + 2] if each.startswith("*"))]
            seen.add(picture)
        elif number < len(first) and not caption and not picture.startswith("!["):
            found.append(block)
    return found


def section(text: str, heading: str) -> str:
    """The part of a text under a heading, up to the next one of its level. Raises KeyError if there is none."""
    match = re.search(rf"^(##+) {re.escape(heading)}$", text, re.MULTILINE)
    if match is None:
        raise KeyError(heading)
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rendered(markdown: str, base: str = "") -> str:
    """Markdown as HTML, with links and pictures relative to the folder `base` from docs/."""
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    text = re.sub(r'(src|href)="(?!#|[a-z]+:)(?:\./)?([^"]*)"', rf'\1="{base}\2"', text)
    text = text.replace("<img ", '<img loading="lazy" ').replace("<table>", '<div class="wide"><table>')
    return text.replace("</table>", "</table></div>")


def body() -> Iterator[str]:
    """The parts of the page."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    about = next(each for each in blocks(readme) if each.startswith("pixgraft "))
    links = "".join(f'<a href="#part-{n}">{html.escape(each.title)}</a>' for n, each in enumerate(SYSTEMS))
    yield f"<h1>pixgraft</h1>{rendered(about)}<nav>{links}</nav>"
    seen: set[str] = set()
    for number, system in enumerate(SYSTEMS):
        yield f'<section id="part-{number}"><h2>{html.escape(system.title)}</h2>'
        for name in system.pages:
            text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
            title = blocks(text)[0].removeprefix("# ").strip()
            yield rendered("\n\n".join((f"### [{title}]({name}.md)", *shown(text, seen))))
        for model in bundled():
            if task_of(model) == system.task:
                yield shown_model(model, drawn=not any(f"gallery/{model}.jpg" in each for each in seen))
        for heading in system.measured:
            tables = rendered(section(results, heading))
            yield f"<details><summary>Measured: {html.escape(heading)}</summary>{tables}</details>"
        yield "</section>"


def shown_model(model: str, *, drawn: bool) -> str:
    """A bundled model: the opening of its card, and if `drawn` what it made of photographs."""
    base = f"../{ASSETS}/{model}/"
    card = (ROOT / ASSETS / model / "README.md").read_text(encoding="utf-8")
    picture = f"![Made by {model} from photographs that it did not see](gallery/{model}.jpg)"
    text = rendered("\n\n".join((f"### [{model}](README.md)", *opening(card))), base)
    return text + (rendered(picture) if drawn and task_of(model) != "sample" else "")


def page() -> str:
    """The page."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>pixgraft: what it makes</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}\n{MORE}</style>\n'
        + "\n".join(body())
        + "\n</html>\n"
    )


def draw() -> None:
    """The pictures of the bundled models that make images of photographs."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if pixgraft(["demo", folder]):
            raise SystemExit("pixgraft demo failed: see above")
        for model in bundled():
            if task_of(model) != "sample":
                with Image.open(Path(folder) / model / "grid.png") as grid:
                    part = grid.convert("RGB").crop((0, 0, min(grid.width, WIDEST), grid.height))
                    part.save(PICTURES / f"{model}.jpg", quality=90, subsampling=0, optimize=True)


if __name__ == "__main__":
    if "--pictures" in sys.argv[1:]:
        draw()
    PAGE.write_text(page(), encoding="utf-8")
