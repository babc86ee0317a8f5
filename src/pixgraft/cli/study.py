"""The verbs of `pixgraft study`: ratings by people."""

from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from pixgraft.cli.app import study_app
from pixgraft.study.options import MakeOptions, PowerOptions, ReadOptions


@study_app.command
def make(*, options: OmitArgPrefixes[MakeOptions]) -> int:
    """Make a page on which people rate images of several methods from 1 to 5, without knowing whose they are.

    OUT/page is for raters: it works from a disk and on any web server. OUT/key.json, which names the pictures, is not.

    Args:
        options: What is rated, and how.
    """
    from pixgraft.cli.results import print_findings
    from pixgraft.engine.bars import Bars
    from pixgraft.study.make import PAGE, PICTURES
    from pixgraft.study.make import make as run

    with Bars() as bars:
        made = run(options, bars.counting("pictures"))
    key = made.key
    shown = f"{len(key.rows)} rows of {len(key.images)} images: {len(key.items)} pictures, {key.repeats} of them twice"
    place = options.out / PAGE
    where = str(place / "index.html") if made.embedded else f"{place}, index.html and {PICTURES} together"
    return print_findings(made.findings, f"{shown}: study {key.study}", f"for raters: {where}")


@study_app.command
def read(
    study: Annotated[Positional[Path], arg(metavar="STUDY")],
    ratings: Annotated[Positional[tuple[Path, ...]], arg(metavar="RATINGS.json")],
    /, *, options: OmitArgPrefixes[ReadOptions],
) -> int:  # fmt: skip
    """Mean opinion scores of what raters saved, tests of each pair, and raters who answer at random.

    Args:
        study: The folder that `pixgraft study make` made.
        ratings: The files that raters saved.
        options: How they are read.
    """
    from rich.table import Table

    from pixgraft.cli.results import print_findings, print_result
    from pixgraft.engine.terminal import wide
    from pixgraft.study.report import TEST_HEADS, TESTS, TESTS_MARKED, test_cells
    from pixgraft.study.report import read as run

    result, findings, written = run(study, ratings, options)
    status = print_findings(findings)
    if result is None:
        return 2
    table = Table("", title=TESTS, caption=TESTS_MARKED, box=None, pad_edge=False)
    for head in TEST_HEADS:
        table.add_column(head, justify="right")
    for test in result["tests"]:
        table.add_row(*test_cells(test))
    print_result(result, written)
    wide().print(table)
    return status


@study_app.command
def power(*, options: OmitArgPrefixes[PowerOptions]) -> int:
    """How many raters and images find a difference of two methods, by simulation.

    Args:
        options: What is to be found, and how ratings vary.
    """
    from rich.table import Table

    from pixgraft.engine.bars import Bars
    from pixgraft.engine.terminal import wide
    from pixgraft.study.power import ENOUGH, fewest
    from pixgraft.study.power import power as run

    with Bars() as bars:
        entries = run(options, bars.part("simulating", len(options.raters) * len(options.images)))
    console = wide()
    console.say(f"Studies that find a difference of {options.difference:g}, by U / by the interval")
    table = Table("raters", box=None, pad_edge=False)
    for images in options.images:
        table.add_column(f"{images} images", justify="right")
    for raters in options.raters:
        cells = (f"{each.by_test:.2f} / {each.by_interval:.2f}" for each in entries if each.raters == raters)
        table.add_row(str(raters), *cells)
    console.print(table)
    found = fewest(entries)
    enough = f"{found.raters} raters and {found.images} images of each row" if found else "more than these"
    console.say(f"{ENOUGH:.0%} of studies find it, both ways, with {enough}.")
    return 0
