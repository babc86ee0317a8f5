"""The results of `make gpu` as Markdown.

python benchmarks/gpu_report.py out/gpu                          # on the terminal
python benchmarks/gpu_report.py out/gpu --into docs/results.md   # between the two marks, or at the end
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import common
import tyro
from tyro.conf import Positional, arg

from pixgraft.errors import PixgraftError
from pixgraft.files import read_bytes, read_json, write_bytes

MARKS = ("<!-- gpu -->", "<!-- /gpu -->")


def tables(out: Path) -> str:
    """The sections of all pieces that were run."""
    pieces = {path.stem: read_json(path) for path in sorted(out.glob("*.json"))}
    pieces = {name: each for name, each in pieces.items() if isinstance(each, dict) and "rc" in each}
    if not pieces:
        raise PixgraftError(f"{out}: holds no results of make gpu")
    parts = ["## On a GPU", _machine(pieces)]
    steps = [each for name, each in pieces.items() if name.startswith("step-")]
    if steps:
        parts.append(_table(("preset", "kind", "batch", "images/s", "peak MiB"), [_step(each) for each in steps]))
    if (agree := pieces.get("agree")) and agree["result"]:
        rows = agree["result"]["rows"]
        far = max((row["apart"] for row in rows if row["apart"] is not None), default=0.0)
        sound = sum(row["sound"] for row in rows)
        parts.append(f"Steps as on the CPU: {sound} of {len(rows)} experiments; losses apart by {far:.1e} at most.")
    for name, title in (("oracles", "Oracles without TF32"), ("oracles-tf32", "Oracles with TF32")):
        if (path := out / f"{name}.jsonl").is_file():
            lines = [json.loads(line) for line in read_bytes(path).decode().splitlines()]
            parts.append(f"{title}: off by {max(max(line.values()) for line in lines):.1e} of a deviation at most.")
    other = [each for name, each in pieces.items() if not name.startswith(("step-", "machine"))]
    states = [(each["name"], _state(each), f"{each['seconds']:,.0f}") for each in other]
    parts.append(_table(("piece", "state", "seconds"), states))
    return "\n\n".join(parts) + "\n"


def _machine(pieces: dict[str, Any]) -> str:
    facts = pieces.get("machine", {}).get("result") or {}
    return "`make gpu`; " + ", ".join(f"{name} {value}" for name, value in facts.items()) + "."


def _state(piece: dict[str, Any]) -> str:
    return "done" if piece["rc"] == 0 else "not finished" if piece["rc"] == 124 else "failed"


def _step(piece: dict[str, Any]) -> tuple[str, ...]:
    if not piece["result"]:
        return (*piece["name"].removeprefix("step-").rsplit("-", 1), "", _state(piece), "")
    row = piece["result"]
    return row["preset"], row["kind"], str(row["batch"]), f"{row['images_per_second']:,.1f}", f"{row['peak_mib']:,}"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])


def main(out: Annotated[Positional[Path], arg(metavar="OUT")], /, *, into: Path | None = None) -> None:
    """Print the tables, or write them into a file.

    Args:
        out: The folder of `make gpu`.
        into: A Markdown file; what stands between its two marks is replaced.
    """
    text = tables(out)
    if into is None:
        print(text, end="")
        return
    former = read_bytes(into).decode()
    before, _, rest = former.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    write_bytes(into, f"{before.rstrip()}\n\n{MARKS[0]}\n{text}{MARKS[1]}\n{after.lstrip()}".encode())


if __name__ == "__main__":
    common.run_main(lambda: tyro.cli(main))
