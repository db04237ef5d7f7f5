"""Tables of JSON lines: an object a line, as it stands; no text is taken for a date."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DamagedData, damaged

DEEPEST, MOST = 100, 1_000_000
"""Lists and objects inside each other, and in a line, at most."""
_AN_OBJECT_A_LINE = "Save it as an object a line, in UTF-8."
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')


class _Unfit(ValueError):
    """JSON that has no one meaning."""


def read_objects(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file with the numbers of their lines, from 1; blank lines are passed over.

    Raises:
        DamagedData: for the first line that holds none, or no line at all.
    """
    first = True
    for number, line in enumerate(lines, 1):
        if line.strip():
            step = _AN_OBJECT_A_LINE if first else f"Mend line {number}, or leave it out."
            yield number, _object(path, line, number, step)
            first = False
    if first:
        raise damaged(f"{path} must be readable.", "an empty file", _AN_OBJECT_A_LINE)


def _object(path: Path, line: str, number: int, step: str) -> dict[str, Any]:
    def wrong(found: str) -> DamagedData:
        return damaged(f"{path} must be readable.", f"{found} line {number}", step)

    if line.count("[") + line.count("{") > DEEPEST:
        _check_nesting(line, wrong)
    try:
        found = json.loads(line, object_pairs_hook=_once, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise wrong(f"no JSON at character {error.pos + 1} of") from None
    except _Unfit as error:
        raise wrong(f"{error} in") from None
    except RecursionError:
        raise wrong("no JSON at") from None
    if not isinstance(found, dict):
        raise wrong("no object in")
    return found


def _check_nesting(line: str, wrong: Any) -> None:
    depth = count = 0
    for mark in re.findall(r"[\[\]{}]", _TEXT.sub("", line)):
        depth += 1 if mark in "[{" else -1
        count += mark in "[{"
        if depth > DEEPEST or count > MOST:
            more = f"more than {DEEPEST} levels" if depth > DEEPEST else f"more than {MOST:,} lists"
            raise wrong(f"{more} in")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _Unfit(f"the name {name[:60]!r} twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Unfit(f"the number {text[:40]}, which is too large,")
    return value


def _whole(text: str) -> int:
    if len(text) > DEEPEST:
        raise _Unfit(f"a number of {len(text.lstrip('-')):,} digits")
    return int(text)
