"""Tables of texts, read as texts with a class each, or as documents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays.checksums import checksums
from ..errors import check_share, invalid
from ..files.regular_file import kind_at
from .held_out import TEST, held_out_of_all, keyed
from .hub_names import HELD_OUT
from .names import TABLES, TEST_SHARE
from .table_files import read_file, read_hugging_face
from .table_labels import Columns, classes_of, names_of, without_label
from .texts import Corpus, Document, TextData, Texts, as_bytes, soft_labels


def load_text_table(
    data: str | os.PathLike[str], text: str, labels: Sequence[str], *, test_share: float = TEST_SHARE
) -> TextData:
    """Read texts with a class each.

    The name of a sample is ``FILE.csv:7``, with the line in which its row begins, if the file is text, else
    ``FILE.parquet, row 5``, with the position of its row, from 0.

    Args:
        data: FILE.csv (separated by semicolons or tabs if its header has no comma), FILE.tsv, FILE.jsonl
            or FILE.parquet; a folder with a file named train, and one named test, validation, val or dev; or
            ``hf:NAME``, as Hugging Face's ``datasets`` loads it.
        text: the column of texts. A missing text is an empty one.
        labels: the column of classes, names or whole numbers; or several columns, one per annotator, whose
            shares become soft labels. :mod:`fallow.datasets.table_labels` lists the class for each cell.
        test_share: the share that is held out if there is no such part, in (0, 1): the same rows in every
            run, drawn by their texts alone. Each class keeps a row to train on, so none is held out if every
            row has a class of its own.

    Raises:
        InvalidValue: if the data or a column does not exist, a cell is invalid, a row has no label, the
            labels are numbers that nearly all differ, or every text to train on is empty.
        DamagedData: if the data cannot be read.
        ModuleNotFoundError: if the package that reads them is missing.
    """
    columns = [text, *labels]
    for name in columns:
        if columns.count(name) > 1:
            raise invalid("Each column must be named once.", f"{name} twice", "Name --text and --label.")
    train_rows, test_rows = _read_parts(os.fspath(data), columns, test_share)
    if not any(row.strip() for row in train_rows.texts):
        rule = f"{train_rows.name} must hold texts to train on."
        raise invalid(rule, "only empty ones", "Name the column of texts by --text.")
    classes, notes = classes_of(train_rows)
    ids = {name: number for number, name in enumerate(classes)}
    train = _texts(train_rows, classes, ids)
    drawn = None
    if test_rows is None:
        drawn = test_share
        out = _held_out(train_rows, train.identities(), train.labels, test_share)
        train, test = train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out))
    else:
        test = _texts(test_rows, classes, ids)
    used = len(np.unique(train.labels)) if train.soft is None else np.count_nonzero(train.soft.any(0))
    if used < 2:
        only = f"only {classes[int(train.labels[0])]}"
        raise invalid("Texts must be of two classes or more.", only, "With one there is nothing to learn.")
    return TextData(_name(os.fspath(data)), train, test, classes, notes, drawn)


def load_documents(data: str | os.PathLike[str], text: str, *, test_share: float = TEST_SHARE) -> Corpus:
    """Read each row that is not blank as a document, for a language model; see :func:`load_text_table`."""
    train, test = _read_parts(os.fspath(data), [text], test_share)
    if test is not None:
        return Corpus(_name(os.fspath(data)), _documents(train), _documents(test))
    corpus = Corpus(_name(os.fspath(data)), _documents(train), (), test_share)
    if corpus.train:
        content = checksums(as_bytes(document.text) for document in corpus.train)
        return corpus.with_held_out(_held_out(train, content, None, test_share))
    return corpus


def _documents(part: Columns) -> tuple[Document, ...]:
    rows = zip(part.titles(), part.texts, strict=True)
    return tuple(Document(title, text) for title, text in rows if text.strip())


def _read_parts(data: str, columns: list[str], test_share: float) -> tuple[Columns, Columns | None]:
    """Return the part to train on, and the part held out; None if that has to be drawn."""
    check_share("test_share", test_share, closed=False, step="Name a share above 0 and below 1.")
    if data.startswith("hf:"):
        parts = read_hugging_face(data, columns)
    elif (path := _path(data)).is_dir():
        parts = {name: read_file(file, columns, path) for name, file in _tables(path).items()}
    else:
        parts = {"train": read_file(path, columns)}
    if "train" not in parts:
        names = ", ".join(sorted(parts)) or "no table"
        raise invalid(f"{data} must hold a part named train.", names, "Name the file itself.")
    train = parts["train"]
    held_out = next((parts[name] for name in HELD_OUT if name in parts), None)
    if held_out is None:
        _check_share_of(data, len(train.texts), test_share)
        return train, None
    for part in (train, held_out):
        if not part.texts:
            raise invalid(f"{part.name} must hold rows.", "none", "Add some.")
    return train, held_out


def _check_share_of(data: str, count: int, share: float) -> None:
    """Raise if a share of ``count`` rows leaves none to train on, or none to hold out."""
    if not 0 < round(share * count) < count:
        rule = f"{data} must leave rows to train on and rows to hold out."
        raise invalid(rule, f"{count} in all, --test_share {share:g}", "Add rows, or name another share.")


def _held_out(
    part: Columns, content: NDArray[np.uint64], labels: NDArray[np.int64] | None, share: float
) -> NDArray[np.bool_]:
    """Return the mask of held-out rows: those whose texts have the smallest hashes."""
    _check_share_of(part.name, content.size, share)
    return held_out_of_all(keyed(content, TEST, 0), labels, round(share * content.size))


def _path(data: str) -> Path:
    """Return the path of data that exist."""
    path = Path(data)
    try:
        exists = bool(data) and path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds NUL
        exists = False
    if not exists:
        content = kind_at(path) or "no such file or folder"
        raise invalid(f"The data {data[:200]} must exist.", content, "Check the path.")
    return path


def _name(data: str) -> str:
    return Path(data.removeprefix("hf:")).name or Path(data).resolve().name


def _tables(folder: Path) -> dict[str, Path]:
    """Return the file of each part in a folder."""
    tables: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in TABLES or file.stem not in ("train", *HELD_OUT):
            continue
        if file.stem in tables:
            both = f"{tables[file.stem].name} and {file.name}"
            raise invalid(f"{folder} must hold one table named {file.stem}.", both, "Move one away.")
        tables[file.stem] = file
    return tables


def _texts(part: Columns, classes: tuple[str, ...], ids: dict[str, int]) -> Texts:
    # -1 is the missing rating of `soft_labels`.
    ratings = np.full((len(part.texts), len(part.labels)), -1, np.int64)
    for annotator, column in enumerate(part.labels):
        for row, name in enumerate(names_of(part, column)):
            if name is not None and name not in ids:
                rule = f"The classes of {part.name} must be those of the training part."
                step = f"Known: {', '.join(classes[:12])}. Relabel the row, or leave it out."
                raise invalid(rule, f"{name!r} in {part.unit} {part.rows[row]}", step)
            ratings[row, annotator] = -1 if name is None else ids[name]
    for row in np.flatnonzero((ratings < 0).all(1))[:1].tolist():
        raise without_label(part, row)
    names = tuple(part.titles())
    if len(part.labels) == 1:
        return Texts(tuple(part.texts), ratings[:, 0], None, names)
    soft = soft_labels(ratings, len(classes))
    return Texts(tuple(part.texts), soft.argmax(1), soft, names)
