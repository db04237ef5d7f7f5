"""``--labels``: training with the classes that a person has corrected in a list.

What is held out has been drawn before, by the labels of the data, so that it stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets import ImageData, TextData
from ..datasets.images import Images
from ..datasets.texts import Texts
from ..errors import FallowError, invalid
from ..report.text import plural
from ..runs.data_file import readable
from ..runs.directory import run_of_list
from ..runs.labels_file import OUT, Correction, read_corrections
from ..runs.sample_names import relative
from .class_names import class_id, ids_by_name
from .console import Console

Data = TypeVar("Data", ImageData, TextData)
_TRAIN, _HELD_OUT, _ELSEWHERE = 0, 1, 2
_AGAIN = "Write the list anew: fallow suspects RUN --export FILE.csv."


def read_labels(path: Path) -> list[Correction]:
    """Read a list of corrected labels, which may lie in a run; see :func:`read_corrections` for errors."""
    return read_corrections(path, run_of_list(path))


def with_labels(data: Data, before: Data, labels: str, folder: str, console: Console) -> Data:
    """Return the data with the labels of a list; every line is checked before anything is changed.

    A file of a folder is known by its name, and its content must be that of the list. A row of a table or of
    an array is known by its content, and by its name or place if the list has no checksum of it or if several
    samples are equal. Held-out samples are corrected only if the list names them.

    Args:
        data: the samples to train on and to hold out.
        before: the data before ``--samples`` and ``--validation`` chose among them: their other samples may
            be named too, which changes nothing.
        labels: the path of the list; empty for none.
        folder: the ``--data`` option, to which file names are relative.
        console: prints what the list has changed.

    Raises:
        InvalidValue: if a line names no sample or no class, its sample has changed or has another label than
            the given one, a sample is named twice, or a held-out one is to be left out.
        DamagedData: if the list cannot be read.
    """
    if not labels:
        return data
    path = Path(labels)
    lines = read_labels(path)
    ids = ids_by_name(data.classes)
    known = _Known.of(data, before, lines, folder)
    new = [_labels(part).copy() for part in (data.train, data.test)]
    left_out = np.zeros(len(data.train), np.bool_)
    seen: dict[tuple[int, int], int] = {}
    counts = dict.fromkeys(("corrected", "held", "elsewhere"), 0)
    for one in lines:
        part, row = known.find(one, path)
        if (first := seen.setdefault((part, row), one.row)) != one.row:
            rule = f"{path} must name each sample once."
            raise invalid(rule, f"one in row {first} and in row {one.row}", "Remove one of them.")
        label = class_id(one.label, ids)
        out = label is None and one.label.strip().lower() in OUT
        if label is None and not out:
            raise _unknown_class(one, path, data.classes)
        if part == _ELSEWHERE:
            counts["elsewhere"] += 1
            continue
        _check_given(one, path, int(new[part][row]), ids, data.classes)
        if out and part == _HELD_OUT:
            rule = f"{path} must leave out training samples only."
            raise invalid(rule, f"a held-out one in row {one.row}", "Empty its label.")
        if out:
            left_out[row] = True
        elif label is not None and label != new[part][row]:
            new[part][row] = label
            counts["held" if part == _HELD_OUT else "corrected"] += 1
    if left_out.all():
        raise invalid(f"{path} must leave samples to train on.", "none", "Empty some labels.")
    console.passage(_said(path, counts, int(left_out.sum())))
    data = _relabelled(data, new[0], new[1])
    return data.take(np.flatnonzero(~left_out)) if left_out.any() else data


def _said(path: Path, counts: dict[str, int], left_out: int) -> str:
    """Return a sentence about what the list has changed."""
    parts = [f"{plural(counts['corrected'], 'training label')} corrected"]
    if left_out:
        parts.append(f"{plural(left_out, 'sample')} left out")
    if counts["held"]:
        parts.append(f"{plural(counts['held'], 'held-out label')} corrected, so that accuracy is another")
    if counts["elsewhere"]:
        are = "is" if counts["elsewhere"] == 1 else "are"
        parts.append(f"{counts['elsewhere']:,} {are} not among the chosen samples")
    return f"{path}: {'; '.join(parts)}."


@dataclass(frozen=True, eq=False)
class _Known:
    """The samples that a list may name.

    Attributes:
        by_file: whether a sample is a file, which its name identifies.
        named: part and row of the samples with a name that the list uses.
        sums: the checksums of the parts: training, held out, all others.
        trained: the number of training samples, if they are known by their places.
    """

    by_file: bool
    named: dict[str, tuple[int, int]]
    sums: tuple[NDArray[np.uint64], ...]
    trained: int

    @staticmethod
    def of(
        data: ImageData | TextData, before: ImageData | TextData, lines: list[Correction], folder: str
    ) -> _Known:
        wanted = {one.file for one in lines} - {""}
        named: dict[str, tuple[int, int]] = {}
        for part, names in enumerate((*_names(data), *_names(before))):
            for row, name in enumerate(readable(names) or ()):
                for spelling in {name, relative(name, folder)} & wanted:
                    named.setdefault(spelling, (min(part, _ELSEWHERE), row))
        sums = (*data.identities(), np.concatenate(before.identities()))
        by_file = isinstance(data, ImageData) and data.files is not None
        return _Known(by_file, named, sums, len(data.train))

    def find(self, one: Correction, path: Path) -> tuple[int, int]:
        """Return part and row of the sample that a line names."""
        place = self.named.get(one.file)
        if not one.file and one.index is not None and one.index < self.trained:
            place = (_TRAIN, one.index)
        if self.by_file or not one.checksum:
            if place is None:
                raise self._unknown(one, path)
            if not self._fits(one, place):
                raise self._changed(one, path)
            return place
        if place is not None and place[0] != _ELSEWHERE and self._fits(one, place):
            return place
        wanted = np.uint64(int(one.checksum, 16))
        for part, sums in enumerate(self.sums):
            rows = np.flatnonzero(sums == wanted)
            if rows.size == 1 or (rows.size and part == _ELSEWHERE):
                return part, int(rows[0])
            if rows.size:
                rule = f"Row {one.row} of {path} must name one sample."
                raise invalid(rule, f"{rows.size:,} equal ones, and none at its place", _AGAIN)
        if place is None:
            raise self._unknown(one, path)
        raise self._changed(one, path)

    def _fits(self, one: Correction, place: tuple[int, int]) -> bool:
        part, row = place
        # Of a sample that was not chosen, only the name is known.
        return part == _ELSEWHERE or not one.checksum or int(self.sums[part][row]) == int(one.checksum, 16)

    def _unknown(self, one: Correction, path: Path) -> FallowError:
        found = one.file if one.file else f"index {one.index}"
        rule = f"Row {one.row} of {path} must name a sample of the data."
        return invalid(rule, found, "Correct the row, or write the list anew from a run on these data.")

    def _changed(self, one: Correction, path: Path) -> FallowError:
        name = one.file or f"index {one.index}"
        rule = f"Row {one.row} of {path} must name the sample that its checksum is of."
        return invalid(rule, f"another content of {name}", _AGAIN)


def _names(data: ImageData | TextData) -> Iterator[tuple[str, ...] | None]:
    yield from (
        (data.files, data.test_files) if isinstance(data, ImageData) else (data.train.names, data.test.names)
    )


def _check_given(
    one: Correction, path: Path, label: int, ids: dict[str, int], classes: tuple[str, ...]
) -> None:
    """Raise if the data give a sample another class than the list says that they do."""
    if not one.given or class_id(one.given, ids) == label:
        return
    now = (readable(classes) or ())[label] if 0 <= label < len(classes) else str(label)
    rule = f"given in row {one.row} of {path} must be the class in the data, {now}."
    raise invalid(rule, repr(one.given), "The data were changed since: check the label, or remove the row.")


def _unknown_class(one: Correction, path: Path, classes: tuple[str, ...]) -> FallowError:
    shown = ", ".join((readable(classes) or ())[:12]) + (", ..." if len(classes) > 12 else "")
    rule = f"The label in row {one.row} of {path} must be a class of the data: {shown}."
    return invalid(
        rule, repr(one.label), "Correct it; junk leaves the sample out, nothing leaves it as it is."
    )


def _labels(part: Images | Texts) -> NDArray[np.int64]:
    return part.labels if isinstance(part, Texts) else part.labels.numpy()


def _relabelled(data: Data, train: NDArray[np.int64], test: NDArray[np.int64]) -> Data:
    if isinstance(data, TextData):
        return replace(data, train=_as_rated(data.train, train), test=_as_rated(data.test, test))
    parts = [
        part.with_labels(torch.from_numpy(new)) for part, new in ((data.train, train), (data.test, test))
    ]
    return replace(data, train=parts[0], test=parts[1])


def _as_rated(part: Texts, labels: NDArray[np.int64]) -> Texts:
    """Return texts with other classes; a corrected class counts as if all annotators had named it."""
    soft = part.soft
    if soft is not None:
        soft = soft.copy()
        changed = np.flatnonzero(labels != part.labels)
        soft[changed] = 0
        soft[changed, labels[changed]] = 1
    return replace(part, labels=labels, soft=soft)
