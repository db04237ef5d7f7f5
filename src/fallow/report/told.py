"""Values out of a JSON object that may hold anything: what is not what it should be counts as not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import text

_LARGEST = 1 << 53


def rows(value: Any, most: int) -> list[Mapping[str, Any]]:
    """Return the first objects of a list, at most so many.

    >>> rows([{"a": 1}, 2, None, {}], 9)
    [{'a': 1}, {}]
    """
    if not isinstance(value, list):
        return []
    found: list[Mapping[str, Any]] = [one for one in value if isinstance(one, dict)]
    return found[:most]


def number(value: Any) -> float | None:
    """Return a finite number, or None.

    >>> number(2), number(float("nan")), number(True), number("2")
    (2.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else None


def share(value: Any) -> float | None:
    """Return a number in [0, 1], or None."""
    found = number(value)
    return found if found is not None and 0 <= found <= 1 else None


def whole(value: Any) -> int | None:
    """Return a whole number of at least 0, or None."""
    found = number(value)
    return int(value) if found is not None and isinstance(value, int) and value >= 0 else None


def name(value: Any, limit: int = text.NAME) -> str | None:
    """Return a name on one line as it is shown, or None."""
    return text.name(value, limit) if isinstance(value, str) else None
