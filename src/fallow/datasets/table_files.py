"""Columns of tables: CSV, JSON lines and Parquet files, and data sets of Hugging Face.

No file is trusted: a table must be a regular file, and the sizes that it claims are compared with its length
before memory is reserved.
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
from .hub_names import load_parts
from .json_lines import read_objects
from .names import TABLES
from .parquet_file import batches, check_expanded, opened_parquet
from .table_labels import ClassName, Columns, is_missing
from .texts import not_utf8

_NAME_THEM = "Name --text and --label."
_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs"}
LONGEST, _LONGEST_HEADER = 1 << 25, 1 << 20
"""Maximum number of characters of a line or a quoted text, and of a header."""
_BATCH = 1024
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_file(path: Path, columns: list[str], inside: Path | None = None) -> Columns:
    """Read the columns of a file, the texts first.

    Args:
        path: of the file.
        columns: their names.
        inside: a folder above it that is not trusted; see :func:`~fallow.files.regular_file.opened`.

    Raises:
        InvalidValue: if a column or a text is missing.
        DamagedData: if it is not a regular file, or cannot be read.
        ModuleNotFoundError: if the package that reads it is missing.
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
    """Return the columns of a part; ids of named classes become their names, and -1 becomes None."""
    pictures = [key for key, kind in part.features.items() if type(kind).__name__ == "Image"]
    if pictures and columns[0] not in part.column_names:
        step = "Add --task image to train on them, or name a column of texts by --text."
        raise invalid(f"{name} must have a column {columns[0]} of texts.", f"images in {pictures[0]}", step)
    _check_columns(name, part.column_names, columns)
    for column in columns:
        kind = type(part.features[column]).__name__
        if kind not in ("Value", "ClassLabel"):  # other kinds may open files, by paths in the cells
            rule = f"{name} must have texts and classes in its columns."
            raise invalid(rule, f"{column}, which is of kind {kind}", _NAME_THEM)
    texts, *labels = [list(part[column]) for column in columns]
    names = [
        tuple(title.strip() for title in getattr(part.features[column], "names", None) or ())
        for column in columns[1:]
    ]
    for at, titles in enumerate(names):
        if titles:
            labels[at] = _class_names(name, labels[at], [ClassName(title) for title in titles])
    rows = range(len(part))
    classes = names[0] if names and names[0] and len(set(names)) == 1 else None
    return Columns(name, _checked(name, texts, rows, "row"), labels, rows, "row", classes)


def _class_names(name: str, ids: list[int | None], names: list[ClassName]) -> list[ClassName | None]:
    for row, number in enumerate(ids):
        if number is not None and number >= len(names):
            rule = f"A label in {name} must be below {len(names)}, the number of its classes."
            raise invalid(rule, f"{number} in row {row}", "Relabel the row, or leave it out.")
    return [names[number] if number is not None and number >= 0 else None for number in ids]


def _json_lines(path: Path, columns: list[str], inside: Path | None) -> tuple[list[list[Any]], list[int]]:
    cells: list[list[Any]] = [[] for _ in columns]
    rows: list[int] = []
    names: dict[str, None] = {}  # each line may have others
    with _text(path, inside, None) as text:
        for number, members in read_objects(path, text):
            names |= dict.fromkeys(members)
            rows.append(number)
            for column, name in zip(cells, columns, strict=True):
                column.append(members.get(name))
    _check_columns(str(path), list(names), columns)
    return cells, rows


def _parquet(path: Path, columns: list[str], inside: Path | None) -> list[list[Any]]:
    cells: list[list[Any]] = [[] for _ in columns]
    with opened_parquet(path, "A Parquet table", inside) as (table, file):
        _check_columns(str(path), table.schema_arrow.names, columns)
        check = check_expanded(path, file.seek(0, 2))
        for batch in batches(path, table, file, columns, _BATCH):
            for column, name in zip(cells, columns, strict=True):
                values = batch.column(name).to_pylist()
                check(sum(len(value) for value in values if isinstance(value, str)))
                column += values
    return cells


def _csv(
    path: Path, columns: list[str], marks: str, inside: Path | None
) -> tuple[list[list[Any]], list[int]]:
    """Return the cells of a table, as text, and the line in which each row begins.

    The first of ``marks`` in the header separates the cells: spreadsheets save semicolons in countries with a
    decimal comma.
    """
    cells: list[list[Any]] = [[] for _ in columns]
    lines: list[int] = []
    with _text(path, inside, "") as text:
        mark = _separator(path, text, marks)
    begin = 1
    limit = csv.field_size_limit(LONGEST)  # global in the module, so it is put back
    try:
        with _text(path, inside, "") as text:
            # Without `strict` a quotation mark that is not closed swallows the rest of the file.
            reader = csv.reader(text, delimiter=mark, strict=True)
            header = next(filter(None, reader))
            _check_columns(str(path), header, columns)
            positions = [header.index(column) for column in columns]
            begin = reader.line_num + 1
            for row in reader:
                if row:
                    _check_cells(path, len(header), len(row), begin, mark)
                    lines.append(begin)
                    for column, position in zip(cells, positions, strict=True):
                        column.append(row[position])
                begin = reader.line_num + 1
    except csv.Error:
        fault = f"a quotation mark that is not closed or not doubled, in the row of line {begin}"
        raise damaged(f"{path} must be readable.", fault, 'Inside a quoted text write it as "".') from None
    finally:
        csv.field_size_limit(limit)
    return cells, lines


@contextmanager
def _text(path: Path, inside: Path | None, newline: str | None) -> Iterator[Iterator[str]]:
    """Open a file of text; yield its lines."""
    with opened(path, inside) as file, TextIOWrapper(file, encoding="utf-8-sig", newline=newline) as text:
        yield _lines(path, text)


def _lines(path: Path, text: TextIOWrapper) -> Iterator[str]:
    """Yield the lines of a text; raise if one is too long."""
    for number, line in enumerate(iter(lambda: text.readline(LONGEST + 1), ""), 1):
        if len(line) > LONGEST:
            rule = f"{path} must have lines of at most {LONGEST:,} characters."
            raise damaged(rule, f"a longer one in line {number}", "Cut it, or save the texts as Parquet.")
        yield line


def _separator(path: Path, lines: Iterable[str], marks: str) -> str:
    header = next((line for line in lines if line.strip()), None)
    step = "Save it with a line of column names, and a row for each text."
    if header is None:
        raise damaged(f"{path} must be readable.", "an empty file", step)
    if "\0" in header:  # as in UTF-16 without a byte order mark
        raise damaged(f"{path} must be UTF-8.", "zero bytes in its header", "Save it as UTF-8.")
    if len(header) > _LONGEST_HEADER:
        rule = f"{path} must have a header of at most {_LONGEST_HEADER:,} characters."
        raise damaged(rule, f"{len(header):,}", step)
    return next((mark for mark in marks if mark in header), marks[0])


def _check_cells(path: Path, in_header: int, in_row: int, line: int, mark: str) -> None:
    if in_row != in_header:
        rule = f"{path} must have as many cells in every row as in its header, {in_header}."
        step = f'Put a text with {_MARKS[mark]} or new lines between quotation marks (").'
        raise damaged(rule, f"{in_row} in the row of line {line}", step)


def _check_columns(name: str, known: Sequence[str], columns: list[str]) -> None:
    for column in columns:
        if list(known).count(column) != 1:
            present = ", ".join(list(known)[:12]) or "no columns"
            raise invalid(f"{name} must have one column {column}.", present, _NAME_THEM)


def _checked(name: str, cells: list[Any], rows: Sequence[int], unit: str) -> list[str]:
    """Return the cells as texts; an empty cell is an empty text, in every kind of file."""
    texts = ["" if is_missing(cell) else cell for cell in cells]
    for row, text in zip(rows, texts, strict=True):
        fault = None
        if not isinstance(text, str):
            fault = type(text).__name__
        elif not text.isascii() and _SURROGATE.search(text):
            fault = "half a character"
        if fault:
            rule = f"Every row of {name} must hold a text."
            raise invalid(rule, f"{fault} in {unit} {row}", "Mend it, or leave the row out.")
    return texts
