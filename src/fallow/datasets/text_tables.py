"""Texts in tables: CSV, JSON lines and Parquet files, and data sets of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import damaged, invalid, missing_extra
from ..keyed import mix, uniform
from ..selection import smallest
from .pool_part import said
from .texts import Corpus, Document, TextData, Texts, soft_labels

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_TEST = 0x7E57
_HELD_OUT = ("test", "validation", "val", "dev")


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
        texts, numbers = ([part[row] for row in picked] for part in (self.texts, self.rows))
        return Columns(self.name, texts, labels, numbers, self.classes)


def load_text_table(data: str, text: str, labels: Sequence[str], *, test_share: float = 0.2) -> TextData:
    """Read texts with a class each.

    Args:
        data: FILE.csv, FILE.tsv, FILE.jsonl or FILE.parquet; a folder with a file named train, and one named
            test, validation, val or dev; or ``hf:NAME``, as Hugging Face's ``datasets`` loads it.
        text: the column of texts.
        labels: the column of classes, names or whole numbers; of several, one an annotator, the share of them
            that say so makes a soft label. An empty cell is a label that was not given.
        test_share: the share that is held out where there is no such part, in (0, 1): the same rows in every
            run.

    Raises:
        InvalidValue: where there is no such data or column, a cell holds what it must not, or a row has no
            label.
        DamagedData: where it cannot be read.
        ModuleNotFoundError: without what reads it.
    """
    train, test = _parts(data, [text, *labels], test_share)
    classes = train.classes or _classes(train)
    ids = {name: place for place, name in enumerate(classes)}
    parts = [_texts(part, classes, ids) for part in (train, test)]
    if len(np.unique(parts[0].labels)) < 2:
        found = f"only {classes[int(parts[0].labels[0])]}"
        raise invalid("Texts must be of two classes or more.", found, "With one there is nothing to learn.")
    return TextData(Path(data.removeprefix("hf:")).name, parts[0], parts[1], classes)


def load_documents(data: str, text: str, *, test_share: float = 0.2) -> Corpus:
    """Read a document a row, for a language model; see :func:`load_text_table`."""
    parts = _parts(data, [text], test_share)
    train, test = (
        tuple(
            Document(f"{part.name}:{row}", words)
            for row, words in zip(part.rows, part.texts, strict=True)
            if words
        )
        for part in parts
    )
    return Corpus(Path(data.removeprefix("hf:")).name, train, test)


def _parts(data: str, columns: list[str], test_share: float) -> tuple[Columns, Columns]:
    """Return the part to train on and the part held out."""
    if data.startswith("hf:"):
        parts = _hugging_face(data, columns)
    elif (path := Path(data)).is_dir():
        parts = {file.stem: _file(file, columns) for file in _tables(path)}
    else:
        parts = {"train": _file(path, columns)}
    if "train" not in parts:
        found = ", ".join(sorted(parts)) or "no table"
        raise invalid(f"{data} must hold a part named train.", found, "Name the file itself.")
    train = parts["train"]
    held_out = next((parts[name] for name in _HELD_OUT if name in parts), None)
    if held_out is not None:
        for part in (train, held_out):
            if not part.texts:
                raise invalid(f"{part.name} must hold rows.", "none", "Add some.")
        return train, held_out
    count = len(train.texts)
    cut = round(test_share * count)
    if not 0 < cut < count:
        rule = f"{data} must leave rows to train on and rows to hold out."
        raise invalid(
            rule, f"{count} in all, --test_share {test_share:g}", "Add rows, or name another share."
        )
    out = smallest(lambda start, stop: uniform(mix(_TEST, count), start, stop), count, cut)
    return train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out))


def _tables(folder: Path) -> list[Path]:
    wanted = {"train", *_HELD_OUT}
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]
    return [file for file in files if file.stem in wanted]


def _file(path: Path, columns: list[str]) -> Columns:
    """Read the columns of a file."""
    if not path.is_file():
        raise invalid(f"The data {path} must exist.", "no such file", "Check the path.")
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise missing_extra("A table of texts", "pyarrow") from None
    try:
        table = _table(path, columns)
        for name in columns:
            if table.schema.names.count(name) != 1:
                found = ", ".join(table.schema.names[:12]) or "no columns"
                raise invalid(f"{path} must have one column {name}.", found, "Name --text and --label.")
        cells = [table.column(name).to_pylist() for name in columns]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(f"{path} must be readable.", said(error), "Copy it again, as UTF-8.") from None
    first = 2 if path.suffix.lower() in (".csv", ".tsv") else 1
    if path.suffix.lower() == ".parquet":
        first = 0
    rows = range(first, first + table.num_rows)
    return Columns(path.name, _checked_texts(path.name, cells[0], rows), cells[1:], rows)


def _table(path: Path, columns: list[str]) -> Any:
    """Return a file as a table of Arrow; a cell of CSV stays the text that it is."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as parquet

        names = parquet.read_schema(path).names
        return parquet.read_table(path, columns=[name for name in dict.fromkeys(columns) if name in names])
    if suffix in (".jsonl", ".ndjson"):
        import pyarrow.json as json_lines

        return json_lines.read_json(path, json_lines.ReadOptions(block_size=1 << 26))
    if suffix not in SUFFIXES:
        raise invalid("Texts must be a table.", path, f"Name a file that ends in {', '.join(SUFFIXES)}.")
    import pyarrow
    import pyarrow.csv as csv

    return csv.read_csv(
        path,
        csv.ReadOptions(block_size=1 << 26),
        csv.ParseOptions(delimiter="\t" if suffix == ".tsv" else ",", newlines_in_values=True),
        csv.ConvertOptions(column_types={name: pyarrow.string() for name in columns}),
    )


def _hugging_face(data: str, columns: list[str]) -> dict[str, Columns]:
    """Read the columns of all parts of a data set."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise missing_extra("A Hugging Face data set", "datasets", "hf") from None
    place = data.removeprefix("hf:")
    saved = bool(place) and Path(place).is_dir()
    try:
        found = datasets.load_from_disk(place) if saved else datasets.load_dataset(place)
    except Exception as error:  # the hub, the disk and the builders raise many kinds
        raise invalid(
            f"{data} must be a data set that can be loaded.", said(error), "Check its name."
        ) from None
    rows = found if isinstance(found, datasets.DatasetDict) else {"train": found}
    parts = {}
    for name, part in rows.items():
        if lacking := [column for column in columns if column not in part.column_names]:
            shown = ", ".join(part.column_names)
            raise invalid(f"{data} must have a column {lacking[0]}.", shown, "Name --text and --label.")
        cells = [list(part[column]) for column in columns]
        names = [getattr(part.features[column], "names", None) for column in columns[1:]]
        classes = tuple(names[0]) if names and names[0] and all(one == names[0] for one in names) else None
        if classes:  # their ids, -1 for none
            cells[1:] = [
                [classes[i] if i is not None and i >= 0 else None for i in column] for column in cells[1:]
            ]
        here, numbers = f"{data} {name}", range(len(part))
        parts[str(name)] = Columns(here, _checked_texts(here, cells[0], numbers), cells[1:], numbers, classes)
    return parts


def _checked_texts(name: str, cells: list[Any], rows: Sequence[int]) -> list[str]:
    for row, cell in zip(rows, cells, strict=True):
        if not isinstance(cell, str):
            found = f"{'nothing' if cell is None else type(cell).__name__} in row {row}"
            raise invalid(
                f"Every row of {name} must hold a text.", found, "Fill it in, or leave the row out."
            )
    return cells


def _classes(part: Columns) -> tuple[str, ...]:
    """Return the names of the classes in a part: numbers in their order, before words."""
    found = {name for column in part.labels for name in _cells(part, column) if name is not None}
    return tuple(
        sorted(found, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    )


def _cells(part: Columns, column: list[Any]) -> Iterator[str | None]:
    """Yield the cells of a column of labels as names of classes; None for a label that was not given."""
    for row, cell in zip(part.rows, column, strict=True):
        if cell is None or cell == "" or (isinstance(cell, float) and cell != cell):
            yield None
        elif isinstance(cell, bool | int | str):
            yield str(cell)
        elif isinstance(cell, float) and cell.is_integer():
            yield str(int(cell))
        else:
            rule = f"A label in {part.name} must be a name or a whole number."
            raise invalid(rule, f"{cell!r} in row {row}", "Name the column of classes by --label.")


def _texts(part: Columns, classes: tuple[str, ...], ids: dict[str, int]) -> Texts:
    ratings = np.full((len(part.texts), len(part.labels)), -1, np.int64)
    for place, column in enumerate(part.labels):
        for row, name in enumerate(_cells(part, column)):
            if name is not None and name not in ids:
                rule = f"The classes of {part.name} must be those of the training part."
                raise invalid(rule, f"{name!r} in row {part.rows[row]}", f"Known: {', '.join(classes[:12])}.")
            ratings[row, place] = -1 if name is None else ids[name]
    if len(without := np.flatnonzero((ratings < 0).all(1))):
        rule = f"Every row of {part.name} must have a label."
        raise invalid(rule, f"none in row {part.rows[int(without[0])]}", "Fill it in, or leave the row out.")
    names = tuple(f"{part.name}:{row}" for row in part.rows)
    if len(part.labels) == 1:
        return Texts(tuple(part.texts), ratings[:, 0], None, names)
    soft = soft_labels(ratings, len(classes))
    return Texts(tuple(part.texts), soft.argmax(1), soft, names)
