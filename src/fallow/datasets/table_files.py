"""Columns of tables: CSV, JSON lines and Parquet files, and data sets of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import damaged, invalid, missing_extra
from .pool_part import said

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_NAME_THEM = "Name --text and --label."


@dataclass(frozen=True)
class Columns:
    """The columns of a part that are wanted.

    Attributes:
        name: what the part is called, for errors.
        texts: of its rows.
        labels: of each column of labels, the cells of its rows.
        rows: the numbers that people give its rows.
        classes: names of the classes where the table knows them, by id; else None.
    """

    name: str
    texts: list[str]
    labels: list[list[Any]]
    rows: Sequence[int]
    classes: tuple[str, ...] | None = None

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Return some of the rows."""
        picked = rows.tolist()
        labels = [[column[row] for row in picked] for column in self.labels]
        texts, numbers = [self.texts[row] for row in picked], [self.rows[row] for row in picked]
        return Columns(self.name, texts, labels, numbers, self.classes)


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
    if suffix in (".jsonl", ".ndjson"):
        cells, rows = _json_lines(path, columns)
    elif suffix == ".parquet":
        cells = _parquet(path, columns)
        rows = range(len(cells[0]))
    else:
        cells = _csv(path, columns, "\t" if suffix == ".tsv" else ",")
        rows = range(2, 2 + len(cells[0]))
    return Columns(path.name, _checked(path.name, cells[0], rows), cells[1:], rows)


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
        found = datasets.load_from_disk(place) if saved else datasets.load_dataset(place)
    except Exception as error:  # the hub, the disk and the builders raise many kinds
        raise invalid(rule, said(error), "Check its name.") from None
    parts = found if isinstance(found, datasets.DatasetDict) else {"train": found}
    return {str(name): _of_part(f"{data} {name}", part, columns) for name, part in parts.items()}


def _of_part(name: str, part: Any, columns: list[str]) -> Columns:
    """Return the columns of a part; ids of classes that have names become these, -1 none."""
    _check_columns(name, part.column_names, columns)
    cells = [list(part[column]) for column in columns]
    names = [getattr(part.features[column], "names", None) for column in columns[1:]]
    for place, known in enumerate(names, 1):
        if known:
            cells[place] = [known[i] if i is not None and i >= 0 else None for i in cells[place]]
    first, rows = next(iter(names), None), range(len(part))
    classes = tuple(first) if first and all(one == first for one in names) else None
    return Columns(name, _checked(name, cells[0], rows), cells[1:], rows, classes)


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
                found = json.loads(line)
                if not isinstance(found, dict):
                    raise ValueError(f"line {number} is no object")
                known |= dict.fromkeys(found)
                rows.append(number)
                for cell, name in zip(cells, columns, strict=True):
                    cell.append(found.get(name))
    except (OSError, ValueError, RecursionError) as error:  # text that is not UTF-8 too
        step = (
            f"Mend line {len(rows) + 1}, or leave it out."
            if rows
            else "Save it as an object a line, in UTF-8."
        )
        raise damaged(f"{path} must be readable.", said(error), step) from None
    if not rows:
        raise damaged(f"{path} must be readable.", "an empty file", "Save it as an object a line, in UTF-8.")
    _check_columns(str(path), list(known), columns)
    return cells, rows


def _parquet(path: Path, columns: list[str]) -> list[list[Any]]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise missing_extra("A table of texts", "pyarrow") from None
    try:
        names = parquet.read_schema(path).names
        _check_columns(str(path), names, columns)
        table = parquet.read_table(path, columns=columns)
        return [table.column(name).to_pylist() for name in columns]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(f"{path} must be readable.", said(error), "Copy it again.") from None


def _csv(path: Path, columns: list[str], delimiter: str) -> list[list[Any]]:
    """Read a table whose cells stay the text that they are."""
    try:
        import pyarrow
        import pyarrow.csv as csv
    except ModuleNotFoundError:
        raise missing_extra("A table of texts", "pyarrow") from None
    try:
        table = csv.read_csv(
            path,
            csv.ReadOptions(block_size=1 << 26),
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            csv.ConvertOptions(column_types={name: pyarrow.string() for name in columns}),
        )
        _check_columns(str(path), table.schema.names, columns)
        return [table.column(name).to_pylist() for name in columns]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        step = "Save it as UTF-8, with as many cells in every row."
        raise damaged(f"{path} must be readable.", said(error), step) from None


def _check_columns(name: str, known: Sequence[str], columns: list[str]) -> None:
    for column in columns:
        if list(known).count(column) != 1:
            found = ", ".join(list(known)[:12]) or "no columns"
            raise invalid(f"{name} must have one column {column}.", found, _NAME_THEM)


def _checked(name: str, cells: list[Any], rows: Sequence[int]) -> list[str]:
    for row, cell in zip(rows, cells, strict=True):
        if not isinstance(cell, str):
            found = f"{'nothing' if cell is None else type(cell).__name__} in row {row}"
            rule = f"Every row of {name} must hold a text."
            raise invalid(rule, found, "Fill it in, or leave the row out.")
    return cells
