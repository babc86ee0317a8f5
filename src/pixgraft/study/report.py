"""`pixgraft study read`: the table of mean opinion scores, tests of its pairs and its raters, as JSON and a page."""

import json
import statistics as plain_statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixgraft.data.charts import figure
from pixgraft.data.check import Finding
from pixgraft.data.drawing import GREY, INK, Drawing, escaped
from pixgraft.data.images import decode, pixels, png_bytes
from pixgraft.data.outputs import write_together
from pixgraft.evaluation.command import check_out
from pixgraft.evaluation.pages import page, pair_name
from pixgraft.evaluation.protocols import Published
from pixgraft.evaluation.result import FORMAT, PENDING, RESULT, Row, figure_entry, made_by
from pixgraft.files import json_sha256, read_bytes
from pixgraft.metrics.estimate import Estimate
from pixgraft.study.key import KEY, REFERENCE, SHEET, Key, read_key
from pixgraft.study.options import ReadOptions
from pixgraft.study.read import SCORES, Ratings, read_all, scores_of
from pixgraft.study.statistics import LEVEL, Array, alpha, check_rater, opinions, pairs, scipy_stats

REPORT = "report.html"
_SHEET_LIMIT = 2**30
MOS = "MOS"
PUBLISHED = tuple(
    Published(name, {"mos": score})
    for name, score in (("FSRNet", "2.92"), ("PULSE", "3.60"), ("pix2pixHD", "3.67"), ("pSp", "3.70"), ("HR", "3.74"))
)
"""Table 1 of pSp; HR's score is in the text."""
COLOURS = ("#b2472f", "#e3a27c", "#cfcfcf", "#86b4d4", "#1b6ca8")
"""Of the scores 1 to 5."""
ENDS = {1: " worst", 5: " best"}


def read(
    study: Path, files: Sequence[Path], options: ReadOptions
) -> tuple[dict[str, Any] | None, list[Finding], list[Path]]:
    """The result of a study as plain values, remarks on files that are left out, and the files written.

    Without a usable file there is no result. Raises PixgraftError as `read_key` and `read_all`, without scipy, and for
    a folder that holds something else.
    """
    options.check()
    key = read_key(study)
    if options.out:
        check_out(options.out, (REPORT, RESULT), (), (study / KEY, study / SHEET, *files))
    scipy_stats()
    raters, findings = read_all(files, key)
    if not raters:
        return None, findings, []
    result = _result(key, raters, options, [f"{each.name} is left out: {each.problem}" for each in findings])
    if not options.out:
        return result, findings, []
    # Drawn anew: what stands in the page are the pixels of a picture, whatever the file holds beside them.
    sheet = png_bytes(pixels(decode(read_bytes(study / SHEET, _SHEET_LIMIT), str(study / SHEET))), {})
    contents = {
        REPORT: page(result, sheet, _sections(result)).encode(),
        RESULT: (json.dumps(result, indent=1, allow_nan=False) + "\n").encode(),
    }
    return result, findings, write_together(options.out, contents, pending=(json.dumps(PENDING) + "\n").encode())


def _result(key: Key, raters: Sequence[Ratings], options: ReadOptions, notes: Iterable[str]) -> dict[str, Any]:
    scores = scores_of(raters, key)
    estimates = opinions(scores, replicates=options.bootstrap, seed=options.seed)
    protocol = {
        "study": key.study, "rows": list(key.rows), "images": len(key.images), "repeats": key.repeats,
        "worst example": f"shrunk by {key.factor}", "study seed": key.seed,
        "bootstrap": {"replicates": options.bootstrap, "seed": options.seed, "draws": "raters and images"},
    }  # fmt: skip
    tests = pairs(scores, estimates)
    checks = [_rater(place, raters, scores, options.seed) for place in range(len(raters))]
    agreement = alpha(scores)
    about = f"mean of the scores 1 (worst) to 5 (best) of {len(raters)} raters, the first of each picture"
    return {
        "format": FORMAT,
        "title": f"{key.title}: mean opinion scores",
        "protocol": protocol,
        "protocol_sha256": json_sha256(protocol),
        "made_by": made_by(torch.device("cpu")),
        "columns": [{"label": MOS, "heading": MOS, "metric": "mos", "better": "up", "about": about}],
        "rows": [_row(name, row, scores, estimates[row]).entry() for row, name in enumerate(key.rows)],
        "pairs": [
            {"first": key.rows[each.first], "second": key.rows[each.second],
             "values": {MOS: figure_entry(each.difference)} if each.difference else {}}
            for each in tests
        ],
        "published": [asdict(each) for each in PUBLISHED],
        "tests": [
            {"first": key.rows[each.first], "second": key.rows[each.second], "u": each.u, "p": each.p,
             "holm": each.corrected, "effect": each.effect}
            for each in tests
        ],
        "agreement": {"alpha": agreement, "level": "ordinal"},
        "raters": checks,
        "notes": [*notes, *_notes(key, raters, agreement, checks)],
    }  # fmt: skip


def _row(name: str, row: int, scores: Array, estimate: Estimate | None) -> Row:
    """A row with its images that were rated, and how often it got each score."""
    given = scores[:, row]
    counts = {"scores": [int((given == score).sum()) for score in SCORES]}
    images = int((~np.isnan(given)).any(0).sum())
    return Row(name, {MOS: estimate} if estimate else {}, images, counts)


def _rater(place: int, raters: Sequence[Ratings], scores: Array, seed: int) -> dict[str, Any]:
    rater = raters[place]
    repeats = [(given[0], given[1]) for given in rater.shown().values() if len(given) == 2]
    check = check_rater(scores[place], np.delete(scores, place, 0), repeats, seed=seed)
    seconds = plain_statistics.median(max(time, 0) for *_, time in rater.ratings) / 1000
    return {"rater": rater.rater, "name": rater.name, "seconds": seconds, **asdict(check)}


def _notes(key: Key, raters: Sequence[Ratings], agreement: float | None, checks: Sequence[dict[str, Any]]) -> list[str]:
    shown = len(key.items) + key.repeats
    stopped = [rater for rater in raters if len(rater.ratings) < shown]
    notes = [f"{len(raters)} raters, {sum(len(rater.ratings) for rater in raters):,} ratings."]
    if stopped:
        numbers = ", ".join(f"{each.rater} after {len(each.ratings)}" for each in stopped)
        notes.append(f"Not all of {shown} pictures rated: rater {numbers}.")
    undefined = "Krippendorff's alpha is not defined: no picture has two scores, or all are one."
    measured = f"Krippendorff's alpha, ordinal: {agreement or 0:.3f} (1: all agree, 0: as by chance)."
    notes.append(undefined if agreement is None else measured)
    notes += [f"Rater {_named(each)}: {each['remark']}." for each in checks if each["remark"]]
    if not any(each["remark"] for each in checks):
        notes.append("No rater answers as if at random.")
    notes += [
        "Mann and Whitney's U takes all scores for independent, as in the paper; the intervals draw raters and images.",
        f"The paper's figures are of 40 other raters and other images; only distances to {REFERENCE} can be compared.",
    ]
    return notes


def _named(rater: dict[str, Any]) -> str:
    return f"{rater['rater']} ({rater['name']})" if rater["name"] else str(rater["rater"])


def test_cells(test: dict[str, Any]) -> list[str]:
    """The texts of a test: the pair, marked if it is significant, U, p, Holm's p and the effect."""
    mark = "*" * (test["holm"] < LEVEL)
    numbers = (f"{test['u']:,.1f}", probability(test["p"]), probability(test["holm"]), f"{test['effect']:+.3f}")
    return [f"{pair_name(test)}{mark}", *numbers]


TEST_HEADS = ("U", "p", "p (Holm)", "effect")
TESTS = "Mann-Whitney U of each pair"
TESTS_MARKED = f"* p below {LEVEL:g} after Holm's correction; effect: rank-biserial correlation, -1 to 1"


def probability(value: float) -> str:
    """A p-value; small ones in powers of ten."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _sections(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Headings and HTML of what this report has beyond others."""
    tests = _table(("", *TEST_HEADS), [test_cells(each) for each in result["tests"]])
    heads = ("rater", "rated", "seconds", "repeats", "apart", "p", "correlation", "p", "")
    raters = [
        [
            _named(each), str(each["rated"]), f"{each['seconds']:.1f}", str(each["repeats"]), _maybe(each["apart"]),
            _maybe(each["apart_p"]), _maybe(each["correlation"]), _maybe(each["correlation_p"]), each["remark"],
        ]
        for each in result["raters"]
    ]  # fmt: skip
    about = (
        "Seconds: median. Apart: mean difference of the two scores of a repeated picture, and the share of shuffles "
        "that are as close. Correlation: Spearman's with the mean of the other raters, and how likely it is by chance."
    )
    return [
        (TESTS, f"{tests}<p>{escaped(TESTS_MARKED)}.</p>"),
        ("Shares of the scores", shares_svg(result["rows"])),
        ("Raters", f"{_table(heads, raters)}<p>{about}</p>"),
    ]


def _maybe(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escaped(each)}</th>" for each in heads)]
    lines += ["".join(f"<td>{escaped(each)}</td>" for each in row) for row in rows]
    return f'<div class="wide"><table><tr>{"</tr><tr>".join(lines)}</tr></table></div>'


def shares_svg(rows: Sequence[dict[str, Any]]) -> str:
    """A bar for each row, divided by how often it got each score, with its mean and interval beneath on the scale of 1
    to 5."""
    left, width, step, top = 130, 640, 46, 34
    reach = width - left - 16
    rated = [row for row in rows if MOS in row["values"]]
    drawing = Drawing(width, top + step * len(rated) + 8, "Shares of the scores by row")
    for place, (score, colour) in enumerate(zip(SCORES, COLOURS, strict=True)):
        x = left + place * 90
        drawing.box((x, 8), (14, 14), colour)
        drawing.text((x + 20, 15), f"{score}{ENDS.get(score, '')}")
    for place, row in enumerate(rated):
        y, edge, counts = top + step * place, float(left), row["scores"]
        drawing.text((left - 8, y + 12), row["name"][:18], anchor="end")
        for count, colour in zip(counts, COLOURS, strict=True):
            share = reach * count / sum(counts)
            drawing.box((edge, y), (share, 24), colour)
            edge += share
        value, *ends = (float(row["values"][MOS][each]) for each in ("value", "low", "high"))
        at, *spread = ((left + reach * (each - 1) / 4, y + 31) for each in (value, *ends))
        drawing.line(spread, INK, width=2)
        drawing.dot(at, INK, filled=True)
        drawing.text((left - 8, y + 31), figure(value), anchor="end", colour=GREY)
    return drawing.svg().decode()
