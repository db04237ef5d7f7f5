"""From tables of texts to texts with a class each, or to documents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays.checksums import checksums
from ..errors import check_share, invalid
from ..files.regular_file import kind_at
from .columns import Columns
from .held_out import TEST, held_out_of_all, keyed
from .hub_names import HELD_OUT
from .table_files import SUFFIXES, read_file, read_hugging_face
from .table_labels import classes_of, names_of, without_label
from .texts import Corpus, Document, TextData, Texts, as_bytes, soft_labels


def load_text_table(
    data: str | os.PathLike[str], text: str, labels: Sequence[str], *, test_share: float = 0.2
) -> TextData:
    """Read texts with a class each.

    A sample is called by the line in which its row begins, as ``FILE.csv:7``, where the file is text, else by
    the place of the row, from 0, as ``FILE.parquet, row 5``.

    Args:
        data: FILE.csv (separated by semicolons or tabs where its header has no comma), FILE.tsv, FILE.jsonl
            or FILE.parquet; a folder with a file named train, and one named test, validation, val or dev; or
            ``hf:NAME``, as Hugging Face's ``datasets`` loads it.
        text: the column of texts. A cell without one is an empty text.
        labels: the column of classes, names or whole numbers; of several, one an annotator, the share of them
            that say so makes a soft label. :mod:`fallow.datasets.table_labels` says what each cell means.
        test_share: the share that is held out where there is no such part, in (0, 1): the same rows in every
            run, drawn by their texts alone. Each class keeps a row to train on: none is held out where every
            row has a class of its own.

    Raises:
        InvalidValue: where there is no such data or column, a cell holds what it must not, a row has no
            label, the labels are numbers that nearly all differ, or every text to train on is empty.
        DamagedData: where it cannot be read.
        ModuleNotFoundError: without what reads it.
    """
    columns = [text, *labels]
    for name in columns:
        if columns.count(name) > 1:
            raise invalid("Each column must be named once.", f"{name} twice", "Name --text and --label.")
    parts = _Parts.of(os.fspath(data), columns, test_share)
    if not any(words.strip() for words in parts.train.texts):
        rule = f"{parts.train.name} must hold texts to train on."
        raise invalid(rule, "none that is not empty", "Name the column of texts by --text.")
    classes, notes = classes_of(parts.train)
    ids = {name: place for place, name in enumerate(classes)}
    train = _texts(parts.train, classes, ids)
    if parts.test is None:
        out = _held_out(parts.train, train.identities(), train.labels, test_share)
        train, test = train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out))
    else:
        test = _texts(parts.test, classes, ids)
    named = len(np.unique(train.labels)) if train.soft is None else np.count_nonzero(train.soft.any(0))
    if named < 2:
        found = f"only {classes[int(train.labels[0])]}"
        raise invalid("Texts must be of two classes or more.", found, "With one there is nothing to learn.")
    drawn = test_share if parts.test is None else None
    return TextData(_name(os.fspath(data)), train, test, classes, notes, drawn)


def load_documents(data: str | os.PathLike[str], text: str, *, test_share: float = 0.2) -> Corpus:
    """Read a document a row that is not blank, for a language model; see :func:`load_text_table`."""
    parts = _Parts.of(os.fspath(data), [text], test_share)
    train, test = (
        tuple(
            Document(title, words)
            for title, words in zip(part.titles(), part.texts, strict=True)
            if words.strip()
        )
        for part in (parts.train, parts.test or parts.train.take(np.zeros(0, np.int64)))
    )
    corpus = Corpus(_name(os.fspath(data)), train, test, test_share if parts.test is None else None)
    if parts.test is None and train:
        content = checksums(as_bytes(document.text) for document in train)
        return corpus.with_held_out(_held_out(parts.train, content, None, test_share))
    return corpus


@dataclass(frozen=True)
class _Parts:
    """The part to train on, and the part held out; None where that is to be drawn."""

    train: Columns
    test: Columns | None

    @staticmethod
    def of(data: str, columns: list[str], test_share: float) -> _Parts:
        check_share("test_share", test_share, closed=False, step="Name a share above 0 and below 1.")
        if data.startswith("hf:"):
            parts = read_hugging_face(data, columns)
        elif (path := _path(data)).is_dir():
            parts = {name: read_file(file, columns, path) for name, file in _tables(path).items()}
        else:
            parts = {"train": read_file(path, columns)}
        if "train" not in parts:
            found = ", ".join(sorted(parts)) or "no table"
            raise invalid(f"{data} must hold a part named train.", found, "Name the file itself.")
        train = parts["train"]
        held_out = next((parts[name] for name in HELD_OUT if name in parts), None)
        if held_out is not None:
            for part in (train, held_out):
                if not part.texts:
                    raise invalid(f"{part.name} must hold rows.", "none", "Add some.")
            return _Parts(train, held_out)
        _check_share_of(data, len(train.texts), test_share)
        return _Parts(train, None)


def _check_share_of(data: str, count: int, share: float) -> None:
    """Raise where a share of so many rows leaves none to train on, or none to hold out."""
    if not 0 < round(share * count) < count:
        rule = f"{data} must leave rows to train on and rows to hold out."
        found = f"{count} in all, --test_share {share:g}"
        raise invalid(rule, found, "Add rows, or name another share.")


def _held_out(
    part: Columns, content: NDArray[np.uint64], labels: NDArray[np.int64] | None, share: float
) -> NDArray[np.bool_]:
    """Return which rows are held out: those whose texts have the smallest hashes."""
    _check_share_of(part.name, content.size, share)
    return held_out_of_all(keyed(content, TEST, 0), labels, round(share * content.size))


def _path(data: str) -> Path:
    """Return a path that the system can look at."""
    path = Path(data)
    try:
        there = bool(data) and path.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        found = kind_at(path) or "no such file or folder"
        raise invalid(f"The data {data[:200]} must exist.", found, "Check the path.")
    return path


def _name(data: str) -> str:
    return Path(data.removeprefix("hf:")).name or Path(data).resolve().name


def _tables(folder: Path) -> dict[str, Path]:
    """Return the file of each part in a folder."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.stem not in ("train", *HELD_OUT):
            continue
        if file.stem in found:
            both = f"{found[file.stem].name} and {file.name}"
            raise invalid(f"{folder} must hold one table named {file.stem}.", both, "Move one away.")
        found[file.stem] = file
    return found


def _texts(part: Columns, classes: tuple[str, ...], ids: dict[str, int]) -> Texts:
    ratings = np.full((len(part.texts), len(part.labels)), -1, np.int64)
    for place, column in enumerate(part.labels):
        for row, name in enumerate(names_of(part, column)):
            if name is not None and name not in ids:
                rule = f"The classes of {part.name} must be those of the training part."
                step = f"Known: {', '.join(classes[:12])}. Relabel the row, or leave it out."
                raise invalid(rule, f"{name!r} in {part.unit} {part.rows[row]}", step)
            ratings[row, place] = -1 if name is None else ids[name]
    without: NDArray[np.int64] = np.flatnonzero((ratings < 0).all(1))
    if without.size:
        raise without_label(part, int(without[0]))
    names = tuple(part.titles())
    if len(part.labels) == 1:
        return Texts(tuple(part.texts), ratings[:, 0], None, names)
    soft = soft_labels(ratings, len(classes))
    return Texts(tuple(part.texts), soft.argmax(1), soft, names)
