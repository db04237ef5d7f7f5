"""Read JSON of unknown origin within bounds, and check it against classes before it is used."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from ..errors import damaged

MAX_EPOCHS = 1 << 16
"""Epoch numbers are below this: the table keeps them in 16 bits."""
DEEPEST = 32
"""Maximum nesting depth of objects and lists."""
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
    """Return the plain values in JSON; the caller has bounded its length.

    Raises:
        DamagedData: if it is not JSON, or is nested too deeply.
    """
    try:
        # Not msgspec's parser: it rejects lone surrogates, which stand for file names that are not UTF-8.
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{name} must be JSON.", one_line(error), step) from None
    check_plain(value, name, step)
    return value


def check_kind(kind: type[Kind], value: Any, name: str, step: str = "") -> Kind:
    """Convert plain values to a class.

    Args:
        kind: the class, or any other type that msgspec can convert to.
        value: the result of :func:`parse_json`.
        name: the name of the file, for errors.
        step: the next step if the file is damaged, for errors.

    Raises:
        DamagedData: if a value has another type or is out of range.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise damaged(f"{name} must be as fallow writes it.", one_line(error), step) from None


def decode(kind: type[Kind], data: bytes, name: str, step: str = "") -> Kind:
    """Return JSON as a class; numbers that are not finite are None. Quick, as it makes no plain values.

    Args:
        kind: the class.
        data: the JSON; the caller has bounded its length.
        name: the name of the file, for errors.
        step: the next step if the file is damaged, for errors.

    Raises:
        DamagedData: if it is not JSON, or a value has another type or is out of range.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # What this parser rejects may still be valid, such as NaN and lone surrogates.
        return check_kind(kind, finite(parse_json(data, name, step)), name, step)


def check_plain(value: Any, name: str, step: str = "") -> None:
    """Check the depth of plain values and the size of their integers.

    Raises:
        DamagedData: if they are nested deeper than 32, or an integer has more than 64 bits.
    """
    # Level by level: a recursion would fail on the depth that it looks for.
    level = [value]
    depth = 0
    while level:
        if depth > DEEPEST:
            raise damaged(
                f"{name} must not be nested deeper than {DEEPEST}.", "a deeper list or object", step
            )
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
            elif isinstance(item, int) and abs(item) >= _LARGEST_NUMBER:
                raise damaged(f"Numbers in {name} must have at most 64 bits.", "a larger one", step)
        level = below
        depth += 1


def one_line(error: Exception) -> str:
    """Return an error's message on one line of at most 300 characters, or its class name if it is empty."""
    message = re.sub(r"\s+", " ", str(error)).strip()
    return message[:300] or type(error).__name__


def finite(value: Any) -> Any:
    """Return ``value`` with None for each NaN and infinity, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
