"""Checks that options have the types of their annotations. Loads no torch."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..errors import invalid_type

_NOUNS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a mapping",
    list: "a list",
    NoneType: "None",
}


_NAMED = {"policy": "Name it, and pass its values beside it: policy='error-mass', error=0.15."}
"""What to do if an object was given where its name is wanted."""


def check_kinds(options: Any) -> None:
    """Raise if a field of a dataclass does not have the type of its annotation.

    A whole number is a number too; true and false are neither. The keys of a mapping must be text at any
    depth: options are stored as JSON, which would turn them into text.

    Raises:
        InvalidType: naming the option, its value and the required type.
    """
    # `from __future__ import annotations` leaves annotations as text.
    hints = get_type_hints(type(options))
    for field in fields(options):
        value = getattr(options, field.name)
        kind = hints[field.name]
        if not _is(value, kind):
            step = _NAMED.get(field.name, "") if is_dataclass(value) else ""
            raise invalid_type(f"`{field.name}` must be {_described(kind)}.", repr(value), step)
        if (key := _wrong_key(value)) is not None:
            step = f"Write it as '{key}', and convert it where it is used."
            raise invalid_type(f"The keys in `{field.name}` must be text.", repr(key), step)


def _wrong_key(value: Any) -> Any:
    """Return the first key of a mapping, at any depth, that is not text; or None."""
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.values()
        for key in value:
            if not isinstance(key, str):
                return key
    elif isinstance(value, list | tuple):
        parts = value
    return next((key for part in parts if (key := _wrong_key(part)) is not None), None)


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is(value, part) for part in get_args(kind))
    if kind is Any:
        return True
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (int, float):  # bool is a subclass of int
        return isinstance(value, int if origin is int else int | float) and not isinstance(value, bool)
    if not isinstance(value, origin):
        return False
    return not parts or all(_is(part, parts[0]) for part in value)


def _described(kind: Any) -> str:
    """Return a type in words.

    >>> _described(list[int]), _described(float | str | None)
    ('a list of whole numbers', 'a number, a text or None')
    """
    if isinstance(kind, UnionType):
        nouns = [_described(part) for part in get_args(kind)]
        return f"{', '.join(nouns[:-1])} or {nouns[-1]}"
    origin, parts = get_origin(kind) or kind, get_args(kind)
    of = f" of {_NOUNS[parts[0]].removeprefix('a ')}s" if origin is list and parts else ""
    return f"{_NOUNS[origin]}{of}"
