"""Whether options are of the kinds that their annotations name. Loads no torch."""

from __future__ import annotations

from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..errors import invalid_type

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a mapping",
    list: "a list",
    NoneType: "None",
}


def check_kinds(options: Any) -> None:
    """Raise where an option of a dataclass is not of the kind that its annotation names.

    A whole number is a number too; true and false are neither. The keys of a mapping, at any depth, are text:
    options are kept as JSON, which would make text of them.

    Raises:
        InvalidType: naming the option, its value and the kind that is wanted.
    """
    hints = get_type_hints(type(options))
    for field in fields(options):
        value, kind = getattr(options, field.name), hints[field.name]
        if not _is(value, kind):
            raise invalid_type(f"`{field.name}` must be {_told(kind)}.", repr(value))
        if (key := _other_key(value)) is not None:
            step = f"Write it as '{key}', and turn it back where it is used."
            raise invalid_type(f"The keys in `{field.name}` must be text.", repr(key), step)


def _other_key(value: Any) -> Any:
    """Return the first key of a mapping, at any depth, that is no text; or None."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                return key
            if (found := _other_key(part)) is not None:
                return found
    elif isinstance(value, list | tuple):
        return next((found for part in value if (found := _other_key(part)) is not None), None)
    return None


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is(value, one) for one in get_args(kind))
    if kind is Any:
        return True
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (int, float):
        return isinstance(value, int if origin is int else int | float) and not isinstance(value, bool)
    if not isinstance(value, origin):
        return False
    return not parts or all(_is(part, parts[0]) for part in value)


def _told(kind: Any) -> str:
    """Return a kind in words.

    >>> _told(list[int]), _told(float | str | None)
    ('a list of whole numbers', 'a number, a text or None')
    """
    if isinstance(kind, UnionType):
        words = [_told(one) for one in get_args(kind)]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    origin, parts = get_origin(kind) or kind, get_args(kind)
    of = f" of {_WORDS[parts[0]].removeprefix('a ')}s" if origin is list and parts else ""
    return f"{_WORDS[origin]}{of}"
