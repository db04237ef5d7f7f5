"""What the cells of a column of labels mean: the same class, whatever kind of file it was read from.

==============================  =========================================================================
cell                            class
==============================  =========================================================================
empty, blank, null, ``nan``     none: a label that was not given. ``nan`` in any case, as a number or as text
``7``, ``7.0``, ``-0``          ``7``, ``7`` and ``0``: whole numbers, as they are written without a point
``1e+16``                       ``10000000000000000``: programs write large whole numbers so
``0.5``, ``1e-05``              an error: a class is a name or a whole number
``inf``, ``Infinity``           ``inf``: a class beside words, and named; an error beside numbers alone
``true``, ``True``, ``TRUE``    ``True``, which is not ``1``; likewise ``False``
``01``, ``1e5``, ``+1``         names of their own, as text: leading zeros and signs are written on purpose
any other text                  itself, without the blanks around it; ``cat`` and ``Cat`` are two classes
decimals                        as text: ``7``
dates, times                    an error: when something was is no class. As text they are names, and named
==============================  =========================================================================

What looks like a mistake is said before training: classes that are called like nothing, names that differ in
case, blanks or Unicode's forms alone, dates, and columns of many different numbers, which are what a
regression predicts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from ..errors import FallowError, invalid
from .class_names import name_notes, quoted
from .columns import Columns

LONGEST = 10_000
"""Characters of the name of a class."""
FEW = 20
"""So many different numbers may always be classes."""
_INTEGER = re.compile(r"-?[0-9]+")
_WITH_POINT = re.compile(r"-?[0-9]*\.[0-9]+([eE][+-]?[0-9]{1,3})?")
_WITH_POWER = re.compile(r"-?[0-9]+[eE][+-][0-9]{1,3}")
_ENDLESS = re.compile(r"([+-]?)inf(inity)?", re.IGNORECASE)
_LIKE_A_NUMBER = re.compile(r"[+-]?[0-9][0-9.,' \u00a0\u2009\u202f]*([eE][+-]?[0-9]+)?\s?%?")
_DATE = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9].*)?")
_TRUTH = {
    "true": "True",
    "True": "True",
    "TRUE": "True",
    "false": "False",
    "False": "False",
    "FALSE": "False",
}
_NOTHING = frozenset(
    {"none", "null", "na", "n/a", "<na>", "#n/a", "nil", "nat", "undefined", "missing", "?", "-"}
)
_STEP = "Name the column of classes by --label."
_CUT = f"{_STEP} To learn numbers, cut them into a few classes first, such as low and high."
_SHOWN = 3
_NAN = ("nan", "-nan")
_ENDLESS_NAMES = {"inf", "-inf"}


class ClassName(str):
    """The name that a table itself gives to a class: it is taken as it is."""

    __slots__ = ()


def is_nothing(cell: Any) -> bool:
    """Return whether a cell holds nothing: null, or NaN, as programs write it."""
    return cell is None or (isinstance(cell, float) and cell != cell)


def names_of(part: Columns, column: Sequence[Any]) -> Iterator[str | None]:
    """Yield the cells of a column of labels as names of classes; None for a label that was not given.

    Raises:
        InvalidValue: for a cell that is neither a name nor a whole number.
    """
    known: dict[Any, str | None] = {}
    for row, cell in zip(part.rows, column, strict=True):
        if not isinstance(cell, str):
            yield _name(cell, part, column, row)
            continue
        if cell not in known:
            known[cell] = _name(cell, part, column, row)
        yield known[cell]


def classes_of(part: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes of a part, and a sentence for each thing about them that looks like a mistake.

    They stand in the order that the table gives them; else numbers in their order, before words.

    Raises:
        InvalidValue: for a cell that is no class, or a column that looks like a regression's.
    """
    counts: Counter[str] = Counter()
    for rows in zip(*(names_of(part, column) for column in part.labels), strict=True):
        counts.update({name for name in rows if name is not None})
    if part.classes is not None:
        names: Sequence[str] = part.classes
        if again := [name for name, count in Counter(names).items() if count > 1]:
            raise invalid(f"The classes of {part.name} must have different names.", f"{again[0]!r} twice")
        notes = [*_odd(counts), *name_notes(names)]
    else:
        numbers = {name: int(name) for name in counts if len(name) < 20 and _INTEGER.fullmatch(name)}
        names = sorted(counts, key=lambda name: (name not in numbers, numbers.get(name, 0), name))
        notes = [*_doubts(part, counts), *_odd(counts), *name_notes(names), *_not_given(part)]
    return tuple(names), tuple(notes)


def without_label(part: Columns, row: int) -> FallowError:
    """Return the error for a row that nobody has labelled."""
    cells = {str(cell).strip() for column in part.labels if (cell := column[row]) is not None} - {""}
    found = f"none in {part.unit} {part.rows[row]}"
    if cells:
        found += f", where {min(cells)} counts as none"
    return invalid(f"Every row of {part.name} must have a label.", found, "Fill it in, or leave the row out.")


def _name(cell: Any, part: Columns, column: Sequence[Any], row: int) -> str | None:
    if is_nothing(cell):
        return None
    if isinstance(cell, ClassName):
        return str(cell)
    if isinstance(cell, date | time | timedelta):
        step = f"{_STEP} If times are classes, save them as text."
        raise invalid(
            f"A label in {part.name} must be a name or a whole number, not a time.",
            f"{str(cell)[:40]} in {part.unit} {row}",
            step,
        )
    if isinstance(cell, str | bool | int | float | Decimal):
        text = str(cell).strip()
        found = _of_text(text)
        if found is not None and len(found) <= LONGEST and not _holds_no_text(found):
            return found or None
        if found is not None:
            rule = f"A label in {part.name} must be text of at most {LONGEST:,} characters, without NUL."
            raise invalid(rule, f"{text[:40]!r}, {len(text):,} characters, in {part.unit} {row}", _STEP)
    raise _no_class(cell, part, column, row)


def _of_text(text: str) -> str | None:
    """Return the name that a text stands for, nothing for a label that was not given, None for a fraction.

    >>> [_of_text(text) for text in ("7.0", "-0.0", "1e+16", "01", "1e5", "TRUE", "NaN", "-Infinity", "0.5")]
    ['7', '0', '10000000000000000', '01', '1e5', 'True', '', '-inf', None]
    """
    if text in _TRUTH:
        return _TRUTH[text]
    if text.lower() in _NAN:
        return ""
    if text == "-0":
        return "0"
    if _WITH_POINT.fullmatch(text) or _WITH_POWER.fullmatch(text):
        number = Decimal(text)
        if number != number.to_integral_value():
            return None
        return f"{number or number.copy_abs():f}".partition(".")[0]
    if found := _ENDLESS.fullmatch(text):
        return f"{found[1].replace('+', '')}inf"
    return text


def _holds_no_text(name: str) -> bool:
    return "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name)


def _no_class(cell: Any, part: Columns, column: Sequence[Any], row: int) -> FallowError:
    rule = f"A label in {part.name} must be a name or a whole number."
    fractions = {one for one in column if isinstance(one, str | float | Decimal) and not is_nothing(one)}
    count = sum(_of_text(str(one).strip()) is None for one in fractions)
    more = f", one of {count:,} different fractions" if count > FEW else ""
    return invalid(rule, f"{repr(cell)[:200]} in {part.unit} {row}{more}", _CUT if count > 1 else _STEP)


def _doubts(part: Columns, counts: Counter[str]) -> Iterator[str]:
    """Yield a doubt about very many classes; of numbers that cannot be classes, raise."""
    rows = len(part.texts)
    numbers = [name for name in counts if _LIKE_A_NUMBER.fullmatch(name)]
    words = [name for name in counts if not _LIKE_A_NUMBER.fullmatch(name)]
    if words and all(name in _ENDLESS_NAMES for name in words):
        at = next(
            place
            for column in part.labels
            for place, name in enumerate(names_of(part, column))
            if name in words
        )
        rule = f"A label in {part.name} must be a name or a whole number."
        raise invalid(rule, f"{words[0]} in {part.unit} {part.rows[at]}", _CUT)
    values = sorted(int(name) for name in numbers if len(name) < 20 and _INTEGER.fullmatch(name))
    # Ids of classes are mostly counted from 0 or 1; amounts are not.
    in_turn = len(values) == len(numbers) > 0 and values[0] in (0, 1) and values[-1] - values[0] < len(values)
    found = f"{len(numbers):,} different numbers in {rows:,} rows, as {' and '.join(sorted(numbers)[:2])}"
    if len(numbers) > max(FEW, (0.9 if in_turn else 0.5) * rows):
        rule = f"The labels of {part.name} must be classes, with some rows each."
        raise invalid(rule, found, f"{_CUT} If they are classes all the same, write a letter before each.")
    if len(numbers) > max(2 * FEW, (0.5 if in_turn else 0.1) * rows):
        yield f"The labels are {found}. If they are amounts, not classes, cut them into a few classes first."
    if counts and all(map(_DATE.fullmatch, counts)):
        yield f"The labels are {len(counts):,} different dates, as {min(counts)}. {_STEP}"
    if len(words) > max(2 * FEW, 0.5 * rows):
        yield f"The labels are {len(words):,} different texts in {rows:,} rows: most classes have one row."


def _odd(counts: Counter[str]) -> Iterator[str]:
    """Yield a sentence for each class whose name may be none."""

    def of(name: str) -> str:
        count = counts[name]
        return f"{quoted(name)} is a class of {count:,} row{'s'[: count != 1]}"

    for name in sorted(_ENDLESS_NAMES & counts.keys()):
        yield f"{of(name)}: it is taken for a word, not for a number without end."
    truths = {"False", "True"} & counts.keys()
    if len(counts) > len(truths):
        yield from (f"{of(name)}, which is no number." for name in sorted(truths))
    for name in sorted(name for name in counts if name.lower() in _NOTHING)[:_SHOWN]:
        yield f"{of(name)}: if it stands for no label, empty these cells."
    for name in sorted(name for name in counts if len(name) > 15 and _INTEGER.fullmatch(name))[:1]:
        yield f"{of(name)}: programs round numbers of more than 15 digits, so compare it with the source."


def _not_given(part: Columns) -> Iterator[str]:
    cells = (cell for column in part.labels for cell in column)
    count = sum(isinstance(cell, str) and cell.strip().lower() in _NAN for cell in cells)
    if count:
        yield f"`nan` stands in {count:,} cell{'s'[: count != 1]} and counts as no label."
