"""Columns of tables: CSV, JSON lines and Parquet files, and data sets of Hugging Face.

Nothing that is read is trusted: a table is a regular file, and what it says of its sizes is held against its
length before anything is allocated.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ..errors import damaged, invalid
from ..files.regular_file import opened
from .columns import Columns
from .hub_names import load_parts
from .json_lines import read_objects
from .names import TABLES
from .parquet_file import batches, check_expanded, opened_parquet
from .table_labels import ClassName, is_nothing
from .texts import not_utf8

_NAME_THEM = "Name --text and --label."
_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs"}
LONGEST, _LONGEST_HEADER = 1 << 25, 1 << 20
"""Characters of a line, or of a text in quotation marks, and of a header, at most."""
_AT_ONCE = 1024
_HALF = re.compile("[\ud800-\udfff]")


def read_file(path: Path, columns: list[str], inside: Path | None = None) -> Columns:
    """Read the columns of a file, the texts first.

    Args:
        path: of the file.
        columns: their names.
        inside: a folder above it that is not to be trusted; see :func:`~fallow.files.regular_file.opened`.

    Raises:
        InvalidValue: where it lacks a column, or a text.
        DamagedData: where it is no regular file, or cannot be read.
        ModuleNotFoundError: without what reads it.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise invalid("Texts must be a table.", path, f"Name a file that ends in {', '.join(TABLES)}.")
    rows: Sequence[int]
    unit = "line"
    try:
        if suffix in (".jsonl", ".ndjson"):
            cells, rows = _json_lines(path, columns, inside)
        elif suffix == ".parquet":
            cells = _parquet(path, columns, inside)
            rows, unit = range(len(cells[0])), "row"
        else:
            cells, rows = _csv(path, columns, "\t" if suffix == ".tsv" else ",;\t", inside)
    except UnicodeDecodeError:
        raise not_utf8(path, inside) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, "Check its rights.") from None
    return Columns(path.name, _checked(path.name, cells[0], rows, unit), cells[1:], rows, unit)


def read_hugging_face(data: str, columns: list[str]) -> dict[str, Columns]:
    """Read the columns of all parts of ``hf:NAME`` or ``hf:FOLDER``; see :func:`read_file`."""
    return {name: _of_part(f"{data} {name}", part, columns) for name, part in load_parts(data).items()}


def _of_part(name: str, part: Any, columns: list[str]) -> Columns:
    """Return the columns of a part; ids of classes that have names become these, -1 none."""
    pictures = [key for key, kind in part.features.items() if type(kind).__name__ == "Image"]
    if pictures and columns[0] not in part.column_names:
        step = "Add --task image to train on them, or name a column of texts by --text."
        raise invalid(f"{name} must have a column {columns[0]} of texts.", f"images in {pictures[0]}", step)
    _check_columns(name, part.column_names, columns)
    for column in columns:
        kind = type(part.features[column]).__name__
        if kind not in ("Value", "ClassLabel"):  # others may open files, by the paths that they hold
            rule = f"{name} must have texts and classes in its columns."
            raise invalid(rule, f"{column}, which is of kind {kind}", _NAME_THEM)
    cells = [list(part[column]) for column in columns]
    names = [
        [one.strip() for one in getattr(part.features[column], "names", None) or ()] for column in columns[1:]
    ]
    for place, known in enumerate(names, 1):
        if known:
            cells[place] = _of_ids(name, cells[place], [ClassName(one) for one in known])
    first, rows = next(iter(names), None), range(len(part))
    classes = tuple(first) if first and all(one == first for one in names) else None
    return Columns(name, _checked(name, cells[0], rows, "row"), cells[1:], rows, "row", classes)


def _of_ids(name: str, cells: list[Any], names: list[ClassName]) -> list[ClassName | None]:
    for row, place in enumerate(cells):
        if place is not None and place >= len(names):
            rule = f"A label in {name} must be below {len(names)}, as many classes as it names."
            raise invalid(rule, f"{place} in row {row}", "Relabel the row, or leave it out.")
    return [names[place] if place is not None and place >= 0 else None for place in cells]


def _json_lines(path: Path, columns: list[str], inside: Path | None) -> tuple[list[list[Any]], list[int]]:
    cells: list[list[Any]] = [[] for _ in columns]
    rows: list[int] = []
    known: dict[str, None] = {}
    with _text(path, inside, None) as text:
        for number, found in read_objects(path, text):
            known |= dict.fromkeys(found)
            rows.append(number)
            for cell, name in zip(cells, columns, strict=True):
                cell.append(found.get(name))
    _check_columns(str(path), list(known), columns)
    return cells, rows


def _parquet(path: Path, columns: list[str], inside: Path | None) -> list[list[Any]]:
    cells: list[list[Any]] = [[] for _ in columns]
    with opened_parquet(path, "A Parquet table", inside) as (found, file):
        _check_columns(str(path), found.schema_arrow.names, columns)
        check = check_expanded(path, file.seek(0, 2))
        for batch in batches(path, found, file, columns, _AT_ONCE):
            for cell, name in zip(cells, columns, strict=True):
                more = batch.column(name).to_pylist()
                check(sum(len(one) for one in more if isinstance(one, str)))
                cell += more
    return cells


def _csv(
    path: Path, columns: list[str], marks: str, inside: Path | None
) -> tuple[list[list[Any]], list[int]]:
    """Read a table whose cells stay the text that they are, and the line in which each row begins.

    The first of ``marks`` that the header has separates the cells: spreadsheets save semicolons where the
    comma is decimal.
    """
    cells: list[list[Any]] = [[] for _ in columns]
    lines: list[int] = []
    with _text(path, inside, "") as text:
        mark = _separator(path, text, marks)
    begin, limit = 1, csv.field_size_limit(LONGEST)
    try:
        with _text(path, inside, "") as text:
            reader = csv.reader(text, delimiter=mark, strict=True)
            header = next(filter(None, reader))
            _check_columns(str(path), header, columns)
            places = [header.index(column) for column in columns]
            begin = reader.line_num + 1
            for row in reader:
                if row:
                    _check_cells(path, len(header), len(row), begin, mark)
                    lines.append(begin)
                    for cell, place in zip(cells, places, strict=True):
                        cell.append(row[place])
                begin = reader.line_num + 1
    except csv.Error:
        found = f"a quotation mark that is not closed or not doubled, in the row of line {begin}"
        raise damaged(f"{path} must be readable.", found, 'Inside a quoted text write it as "".') from None
    finally:
        csv.field_size_limit(limit)
    return cells, lines


@contextmanager
def _text(path: Path, inside: Path | None, newline: str | None) -> Iterator[Iterator[str]]:
    """Open a file of text; yield its lines."""
    with opened(path, inside) as file, TextIOWrapper(file, encoding="utf-8-sig", newline=newline) as text:
        yield _lines(path, text)


def _lines(path: Path, text: TextIOWrapper) -> Iterator[str]:
    """Yield the lines of a text, each of a bounded length.

    Raises:
        DamagedData: for a longer one.
    """
    number = 0
    while line := text.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            rule = f"{path} must have lines of at most {LONGEST:,} characters."
            raise damaged(rule, f"a longer one in line {number}", "Cut it, or save the texts as Parquet.")
        yield line


def _separator(path: Path, lines: Iterable[str], marks: str) -> str:
    header = next((line for line in lines if line.strip()), None)
    if header is None:
        step = "Save it with a line of names of columns, and a row a text."
        raise damaged(f"{path} must be readable.", "an empty file", step)
    if "\0" in header:  # as UTF-16 without its mark has them
        raise damaged(f"{path} must be UTF-8.", "zero bytes in its header", "Save it as UTF-8.")
    if len(header) > _LONGEST_HEADER:
        rule = f"{path} must have a header of at most {_LONGEST_HEADER:,} characters."
        raise damaged(rule, f"{len(header):,}", "Save it with a line of names of columns, and a row a text.")
    return next((mark for mark in marks if mark in header), marks[0])


def _check_cells(path: Path, wanted: int, found: int, line: int, mark: str) -> None:
    if found != wanted:
        rule = f"{path} must have as many cells in every row as in its header, {wanted}."
        step = f'Put a text with {_MARKS[mark]} or new lines between quotation marks (").'
        raise damaged(rule, f"{found} in the row of line {line}", step)


def _check_columns(name: str, known: Sequence[str], columns: list[str]) -> None:
    for column in columns:
        if list(known).count(column) != 1:
            found = ", ".join(list(known)[:12]) or "no columns"
            raise invalid(f"{name} must have one column {column}.", found, _NAME_THEM)


def _checked(name: str, cells: list[Any], rows: Sequence[int], unit: str) -> list[str]:
    """Return the cells as texts: nothing is an empty one, in every kind of file."""
    texts = ["" if is_nothing(cell) else cell for cell in cells]
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(text, str):
            rule, found = f"Every row of {name} must hold a text.", f"{type(text).__name__} in {unit} {row}"
            raise invalid(rule, found, "Mend it, or leave the row out.")
        if not text.isascii() and _HALF.search(text):
            rule, found = f"Every row of {name} must hold a text.", f"half a character in {unit} {row}"
            raise invalid(rule, found, "Mend it, or leave the row out.")
    return texts
