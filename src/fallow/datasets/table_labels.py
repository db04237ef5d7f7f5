"""The class that each cell of a column of labels names, the same for every kind of file.

==============================  =========================================================================
cell                            class
==============================  =========================================================================
empty, blank, null, ``nan``     none: the label is missing. ``nan`` in any case, as a number or as text
``7``, ``7.0``, ``-0``          ``7``, ``7`` and ``0``: whole numbers, written without a point
``1e+16``                       ``10000000000000000``: some programs write large whole numbers like this
``0.5``, ``1e-05``              an error: a class is a name or a whole number
``inf``, ``Infinity``           ``inf``: a class among words, with a note; an error among numbers only
``true``, ``True``, ``TRUE``    ``True``, which is not ``1``; likewise ``False``
``01``, ``1e5``, ``+1``         different names, as text: leading zeros and signs are written on purpose
any other text                  itself, without the blanks around it; ``cat`` and ``Cat`` are two classes
decimals                        as text: ``7``
dates, times                    an error: a time is no class. As text they are names, with a note
==============================  =========================================================================

Notes before training report probable mistakes: names such as "none", names that differ only in case, blanks
or Unicode forms, dates, and columns of many different numbers, which a regression predicts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from ..errors import FallowError, invalid
from .class_names import name_notes, quoted

LONGEST = 10_000
"""Maximum number of characters of the name of a class."""
FEW = 20
"""This many different numbers may always be classes."""
_INTEGER = re.compile(r"-?[0-9]+")
_WITH_POINT = re.compile(r"-?[0-9]*\.[0-9]+([eE][+-]?[0-9]{1,3})?")
_WITH_POWER = re.compile(r"-?[0-9]+[eE][+-][0-9]{1,3}")
_INFINITE = re.compile(r"([+-]?)inf(inity)?", re.IGNORECASE)
_LIKE_A_NUMBER = re.compile(r"[+-]?[0-9][0-9.,' \u00a0\u2009\u202f]*([eE][+-]?[0-9]+)?\s?%?")
_DATE = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9].*)?")
_BOOLEANS = {text: name for name in ("True", "False") for text in (name, name.lower(), name.upper())}
_MISSING_NAMES = frozenset(
    {"none", "null", "na", "n/a", "<na>", "#n/a", "nil", "nat", "undefined", "missing", "?", "-"}
)
_STEP = "Name the column of classes by --label."
_CUT = f"{_STEP} To learn numbers, cut them into a few classes first, such as low and high."
_SHOWN = 3
_NAN = ("nan", "-nan")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_INFINITE_NAMES = {"inf", "-inf"}


@dataclass(frozen=True)
class Columns:
    """The selected columns of a table.

    Attributes:
        name: of the table, for errors.
        texts: the text of each row.
        labels: for each column of labels, the cells of all rows.
        rows: the number of each row: in a text file the line in which it begins, else its position, from 0.
        unit: what ``rows`` counts, ``"line"`` or ``"row"``.
        classes: names of the classes, by id, if the table holds them.
    """

    name: str
    texts: list[str]
    labels: list[list[Any]]
    rows: Sequence[int]
    unit: str
    classes: tuple[str, ...] | None = None

    def titles(self) -> list[str]:
        """Return the title of each row: ``x.csv:7`` by its line, or ``x.parquet, row 5``."""
        between = ":" if self.unit == "line" else ", row "
        return [f"{self.name}{between}{row}" for row in self.rows]


class ClassName(str):
    """The name of a class from the table itself, which is taken literally."""

    __slots__ = ()


def is_missing(cell: Any) -> bool:
    """Return whether a cell holds null or NaN, the two ways in which programs write a missing value."""
    return cell is None or (isinstance(cell, float) and cell != cell)


def names_of(part: Columns, column: Sequence[Any]) -> Iterator[str | None]:
    """Yield the cells of a column of labels as names of classes, None for a missing label.

    Raises:
        InvalidValue: if a cell is neither a name nor a whole number.
    """
    # Only texts are cached: as keys 1, 1.0 and True are equal.
    names: dict[str, str | None] = {}
    for row, cell in zip(part.rows, column, strict=True):
        if not isinstance(cell, str):
            yield _name(cell, part, column, row)
            continue
        if cell not in names:
            names[cell] = _name(cell, part, column, row)
        yield names[cell]


def classes_of(part: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes of a part, and a sentence on each probable mistake in them.

    They are in the order of the table if it names them; else numbers come first, in their order, then words.

    Raises:
        InvalidValue: if a cell is no class, or the column looks like the target of a regression.
    """
    counts: Counter[str] = Counter()
    for row in zip(*(names_of(part, column) for column in part.labels), strict=True):
        counts.update({name for name in row if name is not None})
    if part.classes is not None:
        names: Sequence[str] = part.classes
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise invalid(f"The classes of {part.name} must have different names.", f"{repeated[0]!r} twice")
        notes = [*_odd_names(counts), *name_notes(names)]
    else:
        # Longer numbers sort as text: the time of `int` grows with the square of the length.
        numbers = {name: int(name) for name in counts if len(name) < 20 and _INTEGER.fullmatch(name)}
        names = sorted(counts, key=lambda name: (name not in numbers, numbers.get(name, 0), name))
        notes = [*_odd_counts(part, counts), *_odd_names(counts), *name_notes(names), *_missing(part)]
    return tuple(names), tuple(notes)


def without_label(part: Columns, row: int) -> FallowError:
    """Return the error for a row without a label."""
    cells = {str(cell).strip() for column in part.labels if (cell := column[row]) is not None} - {""}
    place = f"none in {part.unit} {part.rows[row]}"
    if cells:
        place += f", where {min(cells)} counts as none"
    return invalid(f"Every row of {part.name} must have a label.", place, "Fill it in, or leave the row out.")


def _name(cell: Any, part: Columns, column: Sequence[Any], row: int) -> str | None:
    if is_missing(cell):
        return None
    if isinstance(cell, ClassName):
        return str(cell)
    if isinstance(cell, date | time | timedelta):
        rule = f"A label in {part.name} must be a name or a whole number, not a time."
        step = f"{_STEP} If times are classes, save them as text."
        raise invalid(rule, f"{str(cell)[:40]} in {part.unit} {row}", step)
    if isinstance(cell, str | bool | int | float | Decimal):
        text = str(cell).strip()
        name = _of_text(text)
        if name is not None:
            if len(name) <= LONGEST and not _NOT_TEXT.search(name):
                return name or None
            rule = f"A label in {part.name} must be text of at most {LONGEST:,} characters, without NUL."
            raise invalid(rule, f"{text[:40]!r}, {len(text):,} characters, in {part.unit} {row}", _STEP)
    raise _no_class(cell, part, column, row)


def _of_text(text: str) -> str | None:
    """Return the name for the text of a cell, "" for a missing label, None for a fraction.

    >>> [_of_text(text) for text in ("7.0", "-0.0", "1e+16", "01", "1e5", "TRUE", "NaN", "-Infinity", "0.5")]
    ['7', '0', '10000000000000000', '01', '1e5', 'True', '', '-inf', None]
    """
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text.lower() in _NAN:
        return ""
    if text == "-0":
        return "0"
    # Exact, unlike floats above 2**53.
    if _WITH_POINT.fullmatch(text) or _WITH_POWER.fullmatch(text):
        number = Decimal(text)
        if number != number.to_integral_value():
            return None
        return f"{number or number.copy_abs():f}".partition(".")[0]
    if match := _INFINITE.fullmatch(text):
        return f"{match[1].replace('+', '')}inf"
    return text


def _no_class(cell: Any, part: Columns, column: Sequence[Any], row: int) -> FallowError:
    rule = f"A label in {part.name} must be a name or a whole number."
    values = {each for each in column if isinstance(each, str | float | Decimal) and not is_missing(each)}
    count = sum(_of_text(str(value).strip()) is None for value in values)
    more = f", one of {count:,} different fractions" if count > FEW else ""
    return invalid(rule, f"{repr(cell)[:200]} in {part.unit} {row}{more}", _CUT if count > 1 else _STEP)


def _odd_counts(part: Columns, counts: Counter[str]) -> Iterator[str]:
    """Yield a sentence if there are very many classes; raise if they are numbers that cannot be classes."""
    rows = len(part.texts)
    numbers = [name for name in counts if _LIKE_A_NUMBER.fullmatch(name)]
    words = [name for name in counts if not _LIKE_A_NUMBER.fullmatch(name)]
    if words and set(words) <= _INFINITE_NAMES:
        columns = (zip(part.rows, names_of(part, column), strict=True) for column in part.labels)
        row = next(row for column in columns for row, name in column if name in words)
        rule = f"A label in {part.name} must be a name or a whole number."
        raise invalid(rule, f"{words[0]} in {part.unit} {row}", _CUT)
    values = sorted(int(name) for name in numbers if len(name) < 20 and _INTEGER.fullmatch(name))
    # Ids of classes are mostly counted from 0 or 1, amounts are not.
    consecutive = (
        len(values) == len(numbers) > 0 and values[0] in (0, 1) and values[-1] - values[0] < len(values)
    )
    examples = " and ".join(sorted(numbers)[:2])
    found = f"{len(numbers):,} different numbers in {rows:,} rows, such as {examples}"
    if len(numbers) > max(FEW, (0.9 if consecutive else 0.5) * rows):
        rule = f"The labels of {part.name} must be classes, with some rows each."
        raise invalid(rule, found, f"{_CUT} If they are classes nevertheless, write a letter before each.")
    if len(numbers) > max(2 * FEW, (0.5 if consecutive else 0.1) * rows):
        yield f"The labels are {found}. If they are amounts, not classes, cut them into a few classes first."
    if counts and all(map(_DATE.fullmatch, counts)):
        yield f"The labels are {len(counts):,} different dates, such as {min(counts)}. {_STEP}"
    if len(words) > max(2 * FEW, 0.5 * rows):
        yield f"The labels are {len(words):,} different texts in {rows:,} rows: most classes have one row."


def _odd_names(counts: Counter[str]) -> Iterator[str]:
    """Yield a sentence for each name that may not be meant as the name of a class."""

    def subject(name: str) -> str:
        count = counts[name]
        return f"{quoted(name)} is a class of {count:,} row{'s'[: count != 1]}"

    for name in sorted(_INFINITE_NAMES & counts.keys()):
        yield f"{subject(name)}: it is read as a word, not as an infinite number."
    booleans = {"False", "True"} & counts.keys()
    if len(counts) > len(booleans):
        yield from (f"{subject(name)}, which is not a number." for name in sorted(booleans))
    for name in sorted(name for name in counts if name.lower() in _MISSING_NAMES)[:_SHOWN]:
        yield f"{subject(name)}: if it stands for no label, empty these cells."
    for name in sorted(name for name in counts if len(name) > 15 and _INTEGER.fullmatch(name))[:1]:
        yield f"{subject(name)}: programs round numbers above 15 digits, so compare it with the source."


def _missing(part: Columns) -> Iterator[str]:
    cells = (cell for column in part.labels for cell in column)
    count = sum(isinstance(cell, str) and cell.strip().lower() in _NAN for cell in cells)
    if count:
        yield f"`nan` stands in {count:,} cell{'s'[: count != 1]} and counts as no label."
