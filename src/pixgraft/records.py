"""Dataclasses from plain values, as JSON and TOML hold them: the one check of what is read from a disk.

Numbers are within 64 bits and finite, and nothing is nested deeper than `DEPTH`.
"""

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pixgraft.errors import PixgraftError, shown

DEPTH = 16

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as dicts, lists, strings, numbers and booleans."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples become lists
    return values


def from_dict(kind: type[T], values: Any, where: str) -> T:
    """The dataclass `kind` from plain values. Missing fields have their defaults; error messages start with `where`.

    If field types depend on the values, the dataclass has a class method `field_types(values)` that returns them.

    Raises PixgraftError for values that are no table, an unknown field, a missing field without default, or a value of
    the wrong type.
    """
    if not isinstance(values, Mapping):
        raise PixgraftError(f"{where}: expected a table, found {shown(values)}")
    hints, fields = _described(typing.cast(Any, kind))
    unknown = sorted(set(values) - fields.keys())
    if unknown:
        names = ", ".join(shown(name)[1:-1] for name in unknown[:8])
        raise PixgraftError(f"{where}: no such field: {names} (there are {', '.join(sorted(fields))})")
    field_types = getattr(kind, "field_types", None)
    if field_types is not None:
        try:
            hints = hints | field_types(values)
        except PixgraftError as error:
            raise PixgraftError(f"{where}: {error}") from None
    absent = dataclasses.MISSING
    required = {name for name, field in fields.items() if field.default is field.default_factory is absent}
    if missing := sorted(required - values.keys()):
        raise PixgraftError(f"{where}: missing: {', '.join(missing)}")
    given = {name: _typed(value, hints[name], f"{where}: {name}") for name, value in values.items()}
    return kind(**given)


@functools.cache
def _described(kind: type) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """The types and the fields of a dataclass, by name."""
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    return typing.get_type_hints(kind), fields


def known(kind: type, values: Any) -> Any:
    """Of a table the fields that the dataclass `kind` has; other values as they are, for `from_dict` to refuse."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names} if isinstance(values, dict) else values


def _typed(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`: a plain type, Any, a Literal, a tuple, a dict, a union with None, or a dataclass."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_dict(kind, value, where)
    if kind is Any:
        _check_plain(value, where, DEPTH)
        return value
    if origin is typing.Literal:
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            raise PixgraftError(f"{where}: {shown(value)} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is dict:
        if not isinstance(value, Mapping):
            raise PixgraftError(f"{where}: expected a table, found {shown(value)}")
        return {key: _typed(item, arguments[1], f"{where}: {shown(key)[1:-1]}") for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise PixgraftError(f"{where}: expected a list, found {shown(value)}")
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(value) != len(kinds):
            raise PixgraftError(f"{where}: expected {len(kinds)} values, found {len(value)}")
        return tuple(_typed(item, each, where) for item, each in zip(value, kinds, strict=True))
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(value, arguments[0], where)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise PixgraftError(f"{where}: expected {kind.__name__}, found {shown(value)}")
    _check_plain(value, where, 0)
    return float(value) if kind is float else value


def _check_plain(value: Any, where: str, depth: int) -> None:
    """Raise PixgraftError for a number that is too large or not finite, and for what is nested deeper than `depth`."""
    if isinstance(value, dict | list):
        if not depth:
            raise PixgraftError(f"{where}: nested too deeply")
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item, where, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise PixgraftError(f"{where}: expected a finite number, found {value}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise PixgraftError(f"{where}: {shown(value)} is beyond 64 bits")
    elif not isinstance(value, str | int | float | None):
        raise PixgraftError(f"{where}: expected a plain value, found {shown(value)}")
