"""Tables of JSON lines: one object per line, read strictly; no text becomes a date."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DamagedData, damaged

DEEPEST, MOST = 100, 1_000_000
"""Maximum depth of nested lists and objects, and their maximum number in a line."""
_ONE_PER_LINE = "Save it as one object per line, in UTF-8."
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')


class _Ambiguous(ValueError):
    """JSON that programs read in different ways."""


def read_objects(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file with the numbers of their lines, from 1; blank lines are skipped.

    Raises:
        DamagedData: if a line holds no object, or all lines are blank.
    """
    first = True
    for number, line in enumerate(lines, 1):
        if line.strip():
            step = _ONE_PER_LINE if first else f"Mend line {number}, or leave it out."
            yield number, _object(path, line, number, step)
            first = False
    if first:
        raise damaged(f"{path} must be readable.", "an empty file", _ONE_PER_LINE)


def _object(path: Path, line: str, number: int, step: str) -> dict[str, Any]:
    def wrong(fault: str) -> DamagedData:
        return damaged(f"{path} must be readable.", f"{fault} line {number}", step)

    # Python's reader recurses, and a list takes far more memory than its two characters.
    if line.count("[") + line.count("{") > DEEPEST:
        _check_nesting(line, wrong)
    try:
        value = json.loads(line, object_pairs_hook=_once, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise wrong(f"no JSON at character {error.pos + 1} of") from None
    except _Ambiguous as error:
        raise wrong(f"{error} in") from None
    except RecursionError:
        raise wrong("no JSON at") from None
    if not isinstance(value, dict):
        raise wrong("no object in")
    return value


def _check_nesting(line: str, wrong: Any) -> None:
    # Brackets inside texts do not nest.
    depth = count = 0
    for mark in re.findall(r"[\[\]{}]", _TEXT.sub("", line)):
        depth += 1 if mark in "[{" else -1
        count += mark in "[{"
        if depth > DEEPEST or count > MOST:
            limit = f"{DEEPEST} levels" if depth > DEEPEST else f"{MOST:,} lists"
            raise wrong(f"more than {limit} in")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise _Ambiguous(f"the name {name[:60]!r} twice")
        members[name] = value
    return members


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Ambiguous(f"the number {text[:40]}, which is too large,")
    return value


def _whole(text: str) -> int:
    if len(text) > DEEPEST:  # the time to read it grows with the square of its length
        raise _Ambiguous(f"a number of {len(text.lstrip('-')):,} digits")
    return int(text)
