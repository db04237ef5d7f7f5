"""Columns of tables: CSV, JSON lines and Parquet files, and data sets of Hugging Face."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import InvalidValue, damaged, invalid, missing_extra
from .hub_names import NO_CODE, check_hub_name
from .pool_part import said
from .texts import not_utf8

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_NAME_THEM = "Name --text and --label."
_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_LONGEST = (1 << 31) - 1
_AN_OBJECT_A_LINE = "Save it as an object a line, in UTF-8."


@dataclass(frozen=True)
class Columns:
    """The columns of a part that are wanted.

    Attributes:
        name: what the part is called, for errors.
        texts: of its rows.
        labels: of each column of labels, the cells of its rows.
        rows: the numbers that people give its rows: of a file of text the line in which each begins, else its
            place, from 0.
        unit: what they number, ``"line"`` or ``"row"``.
        classes: names of the classes where the table knows them, by id; else None.
    """

    name: str
    texts: list[str]
    labels: list[list[Any]]
    rows: Sequence[int]
    unit: str
    classes: tuple[str, ...] | None = None

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Return some of the rows."""
        picked = rows.tolist()
        labels = [[column[row] for row in picked] for column in self.labels]
        texts, numbers = [self.texts[row] for row in picked], [self.rows[row] for row in picked]
        return replace(self, texts=texts, labels=labels, rows=numbers)

    def titles(self) -> list[str]:
        """Return what each row is called: ``x.csv:7`` by its line, or ``x.parquet, row 5``."""
        between = ":" if self.unit == "line" else ", row "
        return [f"{self.name}{between}{row}" for row in self.rows]


def read_file(path: Path, columns: list[str]) -> Columns:
    """Read the columns of a file, the texts first.

    Raises:
        InvalidValue: where it lacks a column, or a text.
        DamagedData: where it cannot be read.
        ModuleNotFoundError: without what reads it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise invalid("Texts must be a table.", path, f"Name a file that ends in {', '.join(SUFFIXES)}.")
    rows: Sequence[int]
    unit = "line"
    if suffix in (".jsonl", ".ndjson"):
        cells, rows = _json_lines(path, columns)
    elif suffix == ".parquet":
        cells = _parquet(path, columns)
        rows, unit = range(len(cells[0])), "row"
    else:
        cells, rows = _csv(path, columns, "\t" if suffix == ".tsv" else ",;\t")
    return Columns(path.name, _checked(path.name, cells[0], rows, unit), cells[1:], rows, unit)


def is_nothing(cell: Any) -> bool:
    """Return whether a cell holds nothing: null, or NaN, as programs write it."""
    return cell is None or (isinstance(cell, float) and cell != cell)


def read_hugging_face(data: str, columns: list[str]) -> dict[str, Columns]:
    """Read the columns of all parts of ``hf:NAME`` or ``hf:FOLDER``; see :func:`read_file`."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise missing_extra("A Hugging Face data set", "datasets", "hf") from None
    place = data.removeprefix("hf:")
    rule = f"{data[:200]} must be a data set that can be loaded."
    if not place:
        raise invalid(rule, "no name", "Check its name.")
    try:
        saved = Path(place).is_dir()
        if not saved:
            check_hub_name(datasets, place)
        found = datasets.load_from_disk(place) if saved else datasets.load_dataset(place, **NO_CODE)
    except InvalidValue:
        raise
    except Exception as error:  # the hub, the disk and the builders raise many kinds
        raise invalid(rule, said(error), "Check its name.") from None
    parts = found if isinstance(found, datasets.DatasetDict) else {"train": found}
    return {str(name): _of_part(f"{data} {name}", part, columns) for name, part in parts.items()}


def _of_part(name: str, part: Any, columns: list[str]) -> Columns:
    """Return the columns of a part; ids of classes that have names become these, -1 none."""
    _check_columns(name, part.column_names, columns)
    cells = [list(part[column]) for column in columns]
    names = [
        [one.strip() for one in getattr(part.features[column], "names", None) or ()] for column in columns[1:]
    ]
    for place, known in enumerate(names, 1):
        if known:
            cells[place] = [known[i] if i is not None and i >= 0 else None for i in cells[place]]
    first, rows = next(iter(names), None), range(len(part))
    classes = tuple(first) if first and all(one == first for one in names) else None
    return Columns(name, _checked(name, cells[0], rows, "row"), cells[1:], rows, "row", classes)


def _json_lines(path: Path, columns: list[str]) -> tuple[list[list[Any]], list[int]]:
    """Read an object a line, as it stands: no text is taken for a date."""
    cells: list[list[Any]] = [[] for _ in columns]
    rows: list[int] = []
    known: dict[str, None] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                step = f"Mend line {number}, or leave it out." if rows else _AN_OBJECT_A_LINE
                found = _object(path, line, number, step)
                known |= dict.fromkeys(found)
                rows.append(number)
                for cell, name in zip(cells, columns, strict=True):
                    cell.append(found.get(name))
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, "Check its rights.") from None
    if not rows:
        raise damaged(f"{path} must be readable.", "an empty file", _AN_OBJECT_A_LINE)
    _check_columns(str(path), list(known), columns)
    return cells, rows


def _object(path: Path, line: str, number: int, step: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        at = f"character {error.pos + 1} of " if isinstance(error, json.JSONDecodeError) else ""
        raise damaged(f"{path} must be readable.", f"no JSON at {at}line {number}", step) from None
    if not isinstance(found, dict):
        raise damaged(f"{path} must be readable.", f"no object in line {number}", step)
    return found


def _parquet(path: Path, columns: list[str]) -> list[list[Any]]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise missing_extra("A Parquet table", "pyarrow") from None
    try:
        names = parquet.read_schema(path).names
        _check_columns(str(path), names, columns)
        table = parquet.read_table(path, columns=columns)
        return [table.column(name).to_pylist() for name in columns]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(f"{path} must be readable.", said(error), "Copy it again.") from None


def _csv(path: Path, columns: list[str], marks: str) -> tuple[list[list[Any]], list[int]]:
    """Read a table whose cells stay the text that they are, and the line in which each row begins.

    The first of ``marks`` that the header has separates the cells: spreadsheets save semicolons where the
    comma is decimal.
    """
    cells: list[list[Any]] = [[] for _ in columns]
    lines: list[int] = []
    begin, limit = 1, csv.field_size_limit(_LONGEST)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            mark = _separator(path, file, marks)
            file.seek(0)
            reader = csv.reader(file, delimiter=mark, strict=True)
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
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, "Check its rights.") from None
    finally:
        csv.field_size_limit(limit)
    return cells, lines


def _separator(path: Path, lines: Iterable[str], marks: str) -> str:
    header = next((line for line in lines if line.strip()), None)
    if header is None:
        step = "Save it with a line of names of columns, and a row a text."
        raise damaged(f"{path} must be readable.", "an empty file", step)
    if "\0" in header:  # as UTF-16 without its mark has them
        raise damaged(f"{path} must be UTF-8.", "zero bytes in its header", "Save it as UTF-8.")
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
    return texts
