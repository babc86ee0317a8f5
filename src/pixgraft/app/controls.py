"""Controls for the fields of an options dataclass: what a page shows for each, and the values that come back.

A field's type says which control it gets, its docstring is the help. What a model cannot take is left out.
"""

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pixgraft.errors import PixgraftError, shown
from pixgraft.pipelines.base import Pipeline
from pixgraft.pipelines.encode import PHOTOGRAPHS, EncodingPipeline
from pixgraft.pipelines.move import AMOUNT
from pixgraft.pipelines.options import one_of

Kind = Literal["picture", "drawing", "file", "choice", "switch", "number", "text"]
Range = tuple[float, float, float]
"""Least and largest value, and what is shown at first."""

TEXT_LIMIT = 200
"""Characters of a text."""
STYLES = 2
"""Pictures of a field that takes several."""
OTHER_FILES = ("palette", "codes", "latents", "first", "second", "direction")
"""Fields of paths that are no pictures."""
FOLDERS = re.compile(r": files, folders( \(searched\))? or zips; - is the standard input")
"""The part of a help that speaks of more than a page takes."""
UNSET = "not set"
"""What a choice shows that may be left open."""
FOR_FOLDERS = ("pairs", "grid")
"""Fields that say nothing of a single picture."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """One field of the options on a page."""

    name: str
    kind: Kind
    label: str
    help: str
    default: Any
    """The option's own default, which stands for a value that was left as `shown`."""
    shown: Any = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    step: float | None = None
    """Of numbers: 1 of whole ones."""
    count: int = 1
    """Pictures or files that it takes."""
    tuples: int = 0
    """Tuples that the option's paths lie in: none, one of all paths, or one of each path in one of all."""

    def value(self, given: Any) -> Any:
        """The option's value for what a page sends. Raises PixgraftError, which names the control, for anything else.

        Of pictures and files a list of paths is given, of which some may be None.
        """
        if self.kind in ("picture", "drawing", "file"):
            paths = [Path(each) for each in given if each]
            if self.tuples:
                return tuple(paths) if self.tuples == 1 else tuple((each,) for each in paths)
            return paths[0] if paths else self.default
        if given == self.shown or given is None:
            return self.default
        if self.kind == "switch":
            if not isinstance(given, bool):
                raise PixgraftError(f"{self.label} {shown(given)}: choose on or off")
        elif self.kind == "choice":
            one_of(self.label, given, self.choices)
        elif self.kind == "number":
            return self._number(given)
        elif not isinstance(given, str) or len(given) > TEXT_LIMIT:
            raise PixgraftError(f"{self.label}: give a text of up to {TEXT_LIMIT} characters")
        return given

    def _number(self, given: Any) -> float:
        number = isinstance(given, int | float) and not isinstance(given, bool)
        whole = number and (self.step != 1 or (abs(given) < 2**53 and given == int(given)))
        if (
            not whole
            or not (self.least is None or given >= self.least)
            or not (self.most is None or given <= self.most)
        ):
            limits = "" if self.least is None else f" from {self.least:g}"
            limits += "" if self.most is None else f" to {self.most:g}"
            raise PixgraftError(f"{self.label} {shown(given)}: choose a {'whole ' * (self.step == 1)}number{limits}")
        return int(given) if self.step == 1 else float(given)


def controls(options: type, pipeline: Pipeline) -> list[Control]:
    """The controls of the fields that a model can take, in their order."""
    hints, helps = get_type_hints(options, include_extras=True), docstrings(options)
    found = []
    for each in fields(options):
        if each.name in FOR_FOLDERS or not APPLIES.get(each.name, lambda _: True)(pipeline):
            continue
        default = None if each.default is MISSING else each.default
        found.append(_control(options, each.name, hints[each.name], default, helps.get(each.name, ""), pipeline))
    return found


def _control(options: type, name: str, hint: Any, default: Any, text: str, pipeline: Pipeline) -> Control:
    types_ = _types(hint)
    label = name.replace("_", " ").capitalize()
    about: dict[str, Any] = {"name": name, "label": label, "help": text, "default": default, "shown": default}
    if Path in types_:
        tuples, kind = types_.count(tuple), _file_kind(name, pipeline)
        plain = text if kind == "file" else FOLDERS.sub("", text)
        return Control(kind=kind, count=STYLES if tuples > 1 else 1, tuples=tuples, **about | {"help": plain})
    if choices := tuple(each for each in types_ if isinstance(each, str)):
        if default is None and type(None) in types_:
            choices = (UNSET, *choices)
        return Control(kind="choice", choices=choices, **about | {"shown": default or choices[0]})
    if name == "domain":
        return Control(kind="choice", choices=pipeline.domains, **about)  # type: ignore[attr-defined]
    if bool in types_:
        return Control(kind="switch", **about)
    if float in types_ or int in types_:
        known = RANGES.get(f"{options.__name__}.{name}", RANGES.get(name))
        least, most, first = known(pipeline) if known else (None, None, default)
        step = 0.05 if float in types_ else 1
        return Control(kind="number", least=least, most=most, step=step, **about | {"shown": first})
    return Control(kind="text", **about | {"shown": default or ""})


def _types(hint: Any) -> list[Any]:
    """The types and literal values that a hint is made of."""
    if get_origin(hint) is Annotated:
        return _types(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if get_origin(hint) in (Union, types.UnionType, tuple):
        outer = [tuple] if get_origin(hint) is tuple else []
        return [*outer, *(each for part in get_args(hint) if part is not Ellipsis for each in _types(part))]
    return [hint]


def _file_kind(name: str, pipeline: Pipeline) -> Kind:
    if name in OTHER_FILES:
        return "file"
    return "drawing" if name == "condition" and _condition(pipeline) in ("sketch", "labels") else "picture"


def _condition(pipeline: Any) -> str:
    return pipeline.condition.kind if hasattr(pipeline, "condition") else ""


def _can_align(pipeline: Pipeline) -> bool:
    if isinstance(pipeline, EncodingPipeline):
        return _condition(pipeline) in PHOTOGRAPHS
    return pipeline.model.frame is not None


def _styled(pipeline: Any) -> bool:
    """Whether codes can be mixed by layer; true of tasks without codes, whose fields mean another thing."""
    return bool(getattr(pipeline.method, "layer_styles", True))


APPLIES: Mapping[str, Callable[[Any], bool]] = {
    "palette": lambda pipeline: _condition(pipeline) == "labels",
    "nearest": lambda pipeline: _condition(pipeline) == "labels",
    "factor": lambda pipeline: _condition(pipeline) == "lr",
    "project": lambda pipeline: _condition(pipeline) in ("", "lr"),
    "align": _can_align, "faces": _can_align, "paste_back": _can_align,
    "domain": lambda pipeline: bool(pipeline.domains),
    "style": lambda pipeline: bool(pipeline.method.style_dim),
    "vary": lambda pipeline: bool(pipeline.method.style_dim),
    "components": lambda pipeline: bool(pipeline.method.components),
    "noise": lambda pipeline: pipeline.method.has_noise,
    "truncation": lambda pipeline: pipeline.method.code_name == "w",
    "samples": _styled, "mix_from": _styled, "mix_alpha": _styled,
}  # fmt: skip
"""Whether a model can take a field; one that is not named can always be taken."""


def _steps(pipeline: Any) -> Range:
    return 1, pipeline.method.max_steps or 2 * pipeline.method.steps, pipeline.method.steps


RANGES: Mapping[str, Callable[[Any], Range]] = {
    "EncodingOptions.steps": _steps, "EncodingOptions.amount": lambda pipeline: (-5, 5, AMOUNT),
    "mix_from": lambda pipeline: (1, len(pipeline.method.start_codes) - 1, pipeline.mix_from(None)),
    "mix_alpha": lambda pipeline: (0.05, 1, 1),
    "factor": lambda pipeline: (1, 32, 1),
    "samples": lambda pipeline: (1, 16, 1),
    "count": lambda pipeline: (1, 64, 16),
    "truncation": lambda pipeline: (0, 1.5, 1),
    "rows": lambda pipeline: (1, 8, 4), "columns": lambda pipeline: (1, 8, 4),
    "points": lambda pipeline: (2, 8, 4), "frames": lambda pipeline: (1, 50, 25),
}  # fmt: skip
"""Numbers that get a slider. The page offers fewer than the command line: a click is to be answered soon."""


@cache
def docstrings(options: type) -> dict[str, str]:
    """The docstring beneath each field of a dataclass and of those that it inherits from, on one line."""
    found: dict[str, str] = {}
    for each in reversed(options.__mro__[:-1]):
        try:
            body: Sequence[ast.stmt] = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0].body  # type: ignore[attr-defined]
        except (OSError, TypeError):  # a class that was made at run time
            continue
        for statement, after in pairwise(body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[ast.unparse(statement.target)] = " ".join(str(after.value.value).split())
    return found
