r"""CSV, as every table of fallow is written: for spreadsheets, pandas, Polars and DuckDB alike.

A spreadsheet takes a cell that begins with ``=`` for a formula and runs it. Which characters end a cell or a
row is up to who reads: a semicolon where the comma is decimal, a tab, a lone carriage return. So a text gets
a ``'`` at each place at which any reader may begin a cell, if what stands there could be a formula; the place
is looked for behind blanks, marks and quotes, which some readers take away. :func:`unguarded` takes exactly
these off again.

What UTF-8 cannot hold (halves of surrogate pairs, as names of files may have) and NUL are spelled, as
``\udce9``. Tables that nobody reads back, as ``samples.csv``, spell in names what a terminal would obey, too
(:func:`names`): people look at them by ``cat`` and ``less -R``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ..spelling import one_line

_BREAK = r"\r\n|[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029;,|]"
"""Ends a cell or a row, for some reader."""
_PASSED = (
    "'\" \\\\"
    "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f"
    "\u2000-\u200f\u202a-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
)
"""What a reader may take away before it looks at a cell; a guard is one of them."""
_STARTS = r"=+\-@\t\r\n|" "\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20\uff5c\u2212"
"""What a formula may start with, full-width forms too, and what stands before one in a cell of its own."""
_PLACE = re.compile(rf"(\A|{_BREAK})(?=[{_PASSED}]*[{_STARTS}])")
_GUARDED = re.compile(rf"(\A|{_BREAK})'(?=[{_PASSED}]*[{_STARTS}])")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)
_TO_QUOTE = re.compile(r"[\",;|\x00-\x1f\x7f-\x9f\u2028\u2029]|\A[\s'#]|\s\Z")
"""Some readers guess what separates, what begins a remark, and take blanks away; a lone carriage return ends
a row for all of them, and Python's own writer quotes it since 3.13 only."""


class Plain(str):
    """Text that is written as it is, such as a number with so many digits."""

    __slots__ = ()


def table(columns: Mapping[str, Iterable[Any]]) -> str:
    r"""Return a table of columns of one length: a line of their names, and a line a row.

    >>> table({"index": [0, 1], "label": ["=1+1", None]})
    'index,label\n0,"\'=1+1"\n1,\n'
    """
    if len(columns) < 2:
        return line(columns) + "".join(map(line, zip(*columns.values(), strict=True)))
    cells = zip(*map(_column, columns.values()), strict=True)
    return line(columns) + "".join(f"{row}\n" for row in map(",".join, cells))


def line(cells: Iterable[Any]) -> str:
    """Return a row: texts guarded, None as nothing, truth as ``true`` or ``false``, numbers as they are."""
    found = ",".join(map(_written, cells))
    return f"{found}\n" if found else '""\n'  # a blank line is no row


def names(values: Iterable[str | None]) -> list[str | None]:
    r"""Return names as a terminal may show them.

    >>> names(["cat", "\x1b[2J", None])
    ['cat', '\\u001b[2J', None]
    """
    return [value and one_line(value) for value in values]


def _column(values: Iterable[Any]) -> Iterable[str]:
    """Return the cells of a column; of a million samples this takes seconds."""
    values = list(values)
    kinds = set(map(type, values))
    return map(str, values) if kinds <= {int, Plain} else map(_written, values)


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str) or isinstance(value, Plain):
        return str(value)
    return value if value.isalnum() else _quoted(value)


@lru_cache(4096)  # classes and reasons come over and over
def _quoted(value: str) -> str:
    text = cell(value)
    return '"' + text.replace('"', '""') + '"' if _TO_QUOTE.search(text) else text


def cell(text: str) -> str:
    """Return a text as it stands in its cell, without the quotes around it."""
    return guarded(spelled(text))


def guarded(text: str) -> str:
    r"""Return a text in which no reader finds a formula; a number below zero is none.

    >>> guarded("-1"), guarded("-1+1"), guarded("a;=1"), guarded("'=1")
    ('-1', "'-1+1", "a;'=1", "''=1")
    """
    return text if _NUMBER.fullmatch(text) else _PLACE.sub(r"\1'", text)


def unguarded(text: str) -> str:
    """Return the text before :func:`guarded`; also of a number that somebody has guarded.

    >>> unguarded("''=1"), unguarded("'a"), unguarded("'-1")
    ("'=1", "'a", '-1')
    """
    return _GUARDED.sub(r"\1", text)


def spelled(text: str) -> str:
    r"""Return a text that UTF-8 can hold, without NUL.

    >>> spelled("caf\udce9")
    'caf\\udce9'
    """
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()
