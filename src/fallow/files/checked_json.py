"""JSON of unknown origin: read with bounds, and checked against classes before anything is built on it."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from ..errors import damaged

MAX_EPOCHS = 1 << 16
"""Epochs are numbered below this: a table keeps them in 16 bits."""
DEEPEST = 32
"""How deep objects and lists may be nested."""
MOST_SECONDS = 1e12
_LARGEST_NUMBER = 1 << 63

Epoch = Annotated[int, Meta(ge=0, lt=MAX_EPOCHS)]
Epochs = Annotated[int, Meta(ge=0, le=MAX_EPOCHS)]
Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
Seconds = Annotated[float, Meta(ge=0, lt=MOST_SECONDS)]
Real = Annotated[float, Meta(ge=-1e300, le=1e300)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(max_length=1 << 13)]

Kind = TypeVar("Kind")


def parse_json(data: bytes, name: str, step: str = "") -> Any:
    """Return the plain values in JSON whose length the caller has bounded.

    Names of files that are not UTF-8 stand in it as lone surrogates, which Python's reader takes.

    Raises:
        DamagedData: if it is no JSON, or is nested too deep.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{name} must be JSON.", one_line(error), step) from None
    check_plain(found, name, step)
    return found


def check_kind(kind: type[Kind], value: Any, name: str, step: str = "") -> Kind:
    """Return plain values as a class.

    Args:
        kind: the class, or any other type that msgspec can convert to.
        value: what :func:`parse_json` returned.
        name: of the file, for errors.
        step: what to do about a damaged one.

    Raises:
        DamagedData: if a value is of another type or out of range.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise damaged(f"{name} must be as fallow writes it.", one_line(error), step) from None


def check_plain(value: Any, name: str, step: str = "") -> None:
    """Raise for values that nobody would write: nested deeper than 32, or numbers beyond 64 bits.

    Raises:
        DamagedData: naming what was found.
    """
    level, deep = [value], 0
    while level:
        if deep > DEEPEST:
            raise damaged(
                f"{name} must not be nested deeper than {DEEPEST}.", "a deeper list or object", step
            )
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list | tuple):
                below += one
            elif isinstance(one, int) and abs(one) >= _LARGEST_NUMBER:
                raise damaged(f"Numbers in {name} must have at most 64 bits.", "a larger one", step)
        level, deep = below, deep + 1


def one_line(error: Exception) -> str:
    """Return what an error says, in one line of at most 300 characters."""
    words = re.sub(r"\s+", " ", str(error)).strip()
    return words[:300] or type(error).__name__


def finite(value: Any) -> Any:
    """Return ``value`` with every number that JSON cannot hold as None."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
