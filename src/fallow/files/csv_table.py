r"""Write CSV that spreadsheets, pandas, Polars and DuckDB read alike, and in which no cell is a formula.

A spreadsheet runs a cell that begins with ``=`` as a formula. Readers differ in what ends a cell or a row: a
semicolon if the comma is decimal, a tab, a lone carriage return. So a text gets a ``'`` wherever any reader
may start a cell with a formula, also behind blanks, marks and quotes, which some readers strip.
:func:`unguarded` removes exactly these again.

Lone surrogates (from file names), which UTF-8 cannot hold, and NUL are escaped as ``\udce9``. Tables that are
not read back, such as ``samples.csv``, also escape terminal controls in names (:func:`names`): people look
at them by ``cat`` and ``less -R``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ..spelling import one_line

_BREAK = r"\r\n|[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029;,|]"
"""Ends a cell or a row for some reader."""
_PASSED = (
    "'\" \\\\"
    "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f"
    "\u2000-\u200f\u202a-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
)
"""Characters that a reader may strip from the start of a cell; the guard is one of them."""
_STARTS = r"=+\-@\t\r\n|" "\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20\uff5c\u2212"
"""Characters that may start a formula, full-width forms included, and separators that may precede one."""
_PLACE = re.compile(rf"(\A|{_BREAK})(?=[{_PASSED}]*[{_STARTS}])")
_GUARDED = re.compile(rf"(\A|{_BREAK})'(?=[{_PASSED}]*[{_STARTS}])")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)
_TO_QUOTE = re.compile(r"[\",;|\x00-\x1f\x7f-\x9f\u2028\u2029]|\A[\s'#]|\s\Z")
"""Cells to quote. Readers guess separators and comments and strip blanks; a lone carriage return ends a row
for all of them, and Python's own writer quotes it only since 3.13."""


class Plain(str):
    """Text that is written without escapes and quotes, such as a formatted number."""

    __slots__ = ()


def table(columns: Mapping[str, Iterable[Any]]) -> str:
    r"""Return a table with a header; the columns have one length.

    >>> table({"index": [0, 1], "label": ["=1+1", None]})
    'index,label\n0,"\'=1+1"\n1,\n'
    """
    if len(columns) < 2:
        return line(columns) + "".join(map(line, zip(*columns.values(), strict=True)))
    cells = zip(*map(_column, columns.values()), strict=True)
    return line(columns) + "".join(f"{row}\n" for row in map(",".join, cells))


def line(cells: Iterable[Any]) -> str:
    """Return a row: texts guarded, None as an empty cell, bools as ``true`` or ``false``."""
    row = ",".join(map(_written, cells))
    return f"{row}\n" if row else '""\n'  # readers skip blank lines


def names(values: Iterable[str | None]) -> list[str | None]:
    r"""Escape names so that a terminal can show them.

    >>> names(["cat", "\x1b[2J", None])
    ['cat', '\\u001b[2J', None]
    """
    return [value and one_line(value) for value in values]


def _column(values: Iterable[Any]) -> Iterable[str]:
    # They are read twice, which an iterator does not allow.
    values = list(values)
    kinds = set(map(type, values))
    # str() alone is much faster, and a table may have millions of rows.
    return map(str, values) if kinds <= {int, Plain} else map(_written, values)


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str) or isinstance(value, Plain):
        return str(value)
    return value if value.isalnum() else _quoted(value)


@lru_cache(4096)  # class names and reasons repeat
def _quoted(value: str) -> str:
    text = cell(value)
    return '"' + text.replace('"', '""') + '"' if _TO_QUOTE.search(text) else text


def cell(text: str) -> str:
    """Return the content of a text's cell, without the quotes around it."""
    return guarded(spelled(text))


def guarded(text: str) -> str:
    r"""Guard a text so that no reader finds a formula in it; negative numbers are left alone.

    >>> guarded("-1"), guarded("-1+1"), guarded("a;=1"), guarded("'=1")
    ('-1', "'-1+1", "a;'=1", "''=1")
    """
    return text if _NUMBER.fullmatch(text) else _PLACE.sub(r"\1'", text)


def unguarded(text: str) -> str:
    """Undo :func:`guarded`, and remove guards that other programs put before numbers.

    >>> unguarded("''=1"), unguarded("'a"), unguarded("'-1")
    ("'=1", "'a", '-1')
    """
    return _GUARDED.sub(r"\1", text)


def spelled(text: str) -> str:
    r"""Escape lone surrogates, which UTF-8 cannot hold, and NUL.

    >>> spelled("caf\udce9")
    'caf\\udce9'
    """
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()
