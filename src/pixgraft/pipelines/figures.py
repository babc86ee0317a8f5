"""Figures of a report as people read them."""

from typing import Any


def figure_at(measures: Any, path: str) -> Any:
    """The figure at a dotted path within measures; None if it is not there."""
    for part in path.split("."):
        try:
            measures = measures[int(part) if isinstance(measures, list) else part]
        except (LookupError, TypeError, ValueError):
            return None
    return measures


def number_of(value: Any) -> float:
    """A number of a report, which may have been edited, as a float; 0 for what is none."""
    try:
        return float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        return 0.0


def figure_text(value: Any) -> str:
    """A number, or several, as text; nothing for what is none."""
    if isinstance(value, list):
        return ", ".join(f"{number_of(each):.3f}" for each in value if isinstance(each, int | float))
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if isinstance(value, float) else ""
