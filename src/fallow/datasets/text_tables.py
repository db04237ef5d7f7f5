"""From tables of texts to texts with a class each, or to documents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .._checks import check_share, invalid
from ..keyed import mix, uniform
from ..selection import smallest
from .table_files import SUFFIXES, Columns, read_file, read_hugging_face
from .table_labels import classes_of, names_of, without_label
from .texts import Corpus, Document, TextData, Texts, soft_labels

_TEST = 0x7E57
_HELD_OUT = ("test", "validation", "val", "dev")


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
            run.

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
    whole = parts.whole
    classes, notes = classes_of(whole)
    ids = {name: place for place, name in enumerate(classes)}
    train, test = (_texts(part, classes, ids) for part in (parts.train, parts.test))
    named = len(np.unique(train.labels)) if train.soft is None else np.count_nonzero(train.soft.any(0))
    if named < 2:
        found = f"only {classes[int(train.labels[0])]}"
        raise invalid("Texts must be of two classes or more.", found, "With one there is nothing to learn.")
    return TextData(_name(os.fspath(data)), train, test, classes, notes=notes)


def load_documents(data: str | os.PathLike[str], text: str, *, test_share: float = 0.2) -> Corpus:
    """Read a document a row that is not blank, for a language model; see :func:`load_text_table`."""
    parts = _Parts.of(os.fspath(data), [text], test_share)
    train, test = (
        tuple(
            Document(title, words)
            for title, words in zip(part.titles(), part.texts, strict=True)
            if words.strip()
        )
        for part in (parts.train, parts.test)
    )
    return Corpus(_name(os.fspath(data)), train, test)


@dataclass(frozen=True)
class _Parts:
    """The part to train on, the part held out, and the one that tells which classes there are."""

    train: Columns
    test: Columns
    whole: Columns

    @staticmethod
    def of(data: str, columns: list[str], test_share: float) -> _Parts:
        step = "Name a share above 0 and below 1."
        test_share = check_share("test_share", test_share, closed=False, step=step)
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
        held_out = next((parts[name] for name in _HELD_OUT if name in parts), None)
        if held_out is not None:
            for part in (train, held_out):
                if not part.texts:
                    raise invalid(f"{part.name} must hold rows.", "none", "Add some.")
            return _Parts(train, held_out, train)
        count = len(train.texts)
        cut = round(test_share * count)
        if not 0 < cut < count:
            rule = f"{data} must leave rows to train on and rows to hold out."
            found = f"{count} in all, --test_share {test_share:g}"
            raise invalid(rule, found, "Add rows, or name another share.")
        out = smallest(lambda start, stop: uniform(mix(_TEST, count), start, stop), count, cut)
        return _Parts(train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out)), train)


def _path(data: str) -> Path:
    """Return a path that the system can look at."""
    path = Path(data)
    try:
        there = bool(data) and path.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise invalid(f"The data {data[:200]} must exist.", "no such file or folder", "Check the path.")
    return path


def _name(data: str) -> str:
    return Path(data.removeprefix("hf:")).name or Path(data).resolve().name


def _tables(folder: Path) -> dict[str, Path]:
    """Return the file of each part in a folder."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.stem not in ("train", *_HELD_OUT):
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
