"""Which samples are trained on and reported on: a fixed subset, and a part cut off for choosing settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.checksums import checksums, row_checksums
from ..datasets import Corpus, Document, ImageData, TextData
from ..datasets.held_out import (
    HELD,
    SAMPLES,
    TEST,
    TRAINED,
    VALIDATION,
    held_out_by_class,
    held_out_of_all,
    keyed,
    smallest_of,
)
from ..datasets.texts import as_bytes
from ..errors import invalid
from ..runs.data_changes import Samples, sides
from ..runs.data_file import DataFile

_NEAR = 200
"""A line may begin so many characters before, or as many as are held out."""
_NEARLY = 0.9
"""Documents that a run has held out are enough where they make up so much of the share."""
_HEAD = 1024
"""So many characters of a held-out end tell where it begins."""
Data = TypeVar("Data", ImageData, TextData)


def chosen_parts(
    data: Data, samples: int | None, validation: float | None, before: DataFile | None = None
) -> Data:
    """Return the data with the training part cut down, and the validation part in the place of the test part.

    All draws go by what the samples are alone (see :mod:`fallow.datasets.held_out`), so that every seed
    trains on the same samples and is measured on the same ones. The validation part is drawn first, from all;
    each class keeps a sample to train on.

    Args:
        data: as it was read.
        samples: how many to train on; None for all that are left.
        validation: the share in (0, 1) that is cut off and reported on; None reports on the test part.
        before: what the samples of a run were that goes on, or None. Those that it has trained on train,
            those that it has reported on are reported on; only what is new to it is drawn.

    Raises:
        InvalidValue: where the training part has fewer samples, or too few to cut.
    """
    if before is not None and data.test_share is not None:
        data = _parted_as_before(data, before, data.test_share, validation is not None)
    if validation is not None:
        n = len(data.train)
        count = max(1, round(validation * n))
        if count >= n:
            raise invalid("--validation must leave a sample to train on.", f"{count} of {n:,} cut")
        keys = keyed(data.identities()[0], VALIDATION)
        out = held_out_of_all(keys, _labels(data), count, _sides(data, before))
        if not out.any():
            step = "Add samples of the same classes, or leave it out."
            raise invalid("--validation must leave each class a sample.", "each of a class of its own", step)
        data = data.with_held_out(out)
    if samples is not None:
        known = None if before is None else _samples(data).known_to(before)
        data = data.take(np.flatnonzero(chosen_samples(data.identities()[0], samples, known)))
    return data


def _parted_as_before(data: Data, before: DataFile, share: float, validates: bool) -> Data:
    """Return the data with the test part of a run that goes on; what is new to it is drawn."""
    whole, cut = data.joined(), len(data.train)
    where = _sides(whole, before)
    if where is None:
        return data
    if validates:  # the run has not looked at its test part
        where = np.where(where == HELD, TRAINED, where)
    keys, labels = keyed(whole.identities()[0], TEST, 0), _labels(whole)
    if isinstance(data, ImageData):
        out = held_out_by_class(keys, labels, share, where)
    else:
        out = held_out_of_all(keys, labels, round(share * labels.size), where)
    return data if np.array_equal(np.flatnonzero(out), np.arange(cut, out.size)) else whole.with_held_out(out)


def _labels(data: ImageData | TextData) -> NDArray[np.int64]:
    labels = data.train.labels
    return labels if isinstance(labels, np.ndarray) else labels.numpy()


def _sides(data: ImageData | TextData, before: DataFile | None) -> NDArray[np.int8] | None:
    """Return on which side of a run each training sample was; None where nobody can tell."""
    return None if before is None or before.content is None else sides(before, _samples(data))


def _samples(data: ImageData | TextData) -> Samples:
    """Return what the training samples are known by."""
    if isinstance(data, ImageData):
        content, identity = row_checksums(data.train.images.numpy()), data.identity
        return Samples(content, None if identity is None else identity[0], _labels(data))
    return Samples(data.train.checksums(), data.train.identities(), _labels(data))


def chosen_samples(
    content: NDArray[np.uint64], samples: int | None, known: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return which of the training samples are trained on: a mask of ``samples`` of them, or of all.

    Args:
        content: a checksum of each, ``(N,)``, by which they are drawn.
        samples: how many; None for all.
        known: those of a run that goes on, which come before others; or None.

    Raises:
        InvalidValue: where there are fewer.
    """
    n = content.size
    if samples is None:
        return np.ones(n, np.bool_)
    if samples > n:
        rule = f"--samples must be at most {n:,}, the training samples there are."
        raise invalid(rule, f"{samples:,}", "Leave it out to train on all.")
    return smallest_of(keyed(content, SAMPLES), samples, known)


def chosen_documents(
    corpus: Corpus,
    validation: float | None,
    where: NDArray[np.int8] | None = None,
    cut: NDArray[np.uint64] | None = None,
) -> Corpus:
    """Return documents with whole ones cut off for validation, in the place of those held out.

    They are drawn by their texts. Of a single document it is the end, cut at a line, so that no window is
    trained on beside one that is reported on.

    Args:
        corpus: as it was read.
        validation: the share in (0, 1) of the characters; None reports on the held-out documents.
        where: int8 ``(N,)``, on which side of a run that goes on each training document was: 1 held out,
            -1 trained on, 0 for a new one; or None.
        cut: what told in the run where the end of a single document begins, or None.
    """
    if validation is None:
        return corpus
    if len(corpus.train) == 1:
        kept, test = cut_at_line(corpus.train[0], validation, cut)
        return replace(corpus, train=(kept,), test=(test,), cut=beginning(test))
    keys = keyed(text_checksums(corpus.train), VALIDATION)
    where = np.zeros(keys.size, np.int8) if where is None else where
    order = np.lexsort((keys, -where))  # those held out before, then new ones
    sizes = np.array([len(document.text) for document in corpus.train])
    wanted = validation * sizes.sum() * (_NEARLY if (where == HELD).any() else 1)
    enough = np.cumsum(sizes[order]) >= wanted
    most = max(1, int(np.count_nonzero(where != TRAINED)) - (not (where == TRAINED).any()))
    held = max(int(np.count_nonzero(where == HELD)), min(int(enough.argmax()) + 1, most))
    out = np.zeros(keys.size, np.bool_)
    out[order[: min(held, keys.size - 1)]] = True
    return corpus.with_held_out(out)


def parted_as_before(corpus: Corpus, where: NDArray[np.int8], *, validates: bool) -> Corpus:
    """Return documents with those held out that a run that goes on held out; what is new to it is drawn.

    Args:
        corpus: as it was read, with a test part that was drawn.
        where: int8 ``(N + M,)``, on which side of the run each document was, those of the test part last.
        validates: whether the run reports on a validation part, and has not looked at its test part.
    """
    assert corpus.test_share is not None
    whole = replace(corpus, train=corpus.train + corpus.test)
    where = np.where(where == HELD, TRAINED, where) if validates else where
    keys = keyed(text_checksums(whole.train), TEST, 0)
    count = round(corpus.test_share * keys.size)
    return whole.with_held_out(held_out_of_all(keys, None, count, where))


def text_checksums(documents: tuple[Document, ...]) -> NDArray[np.uint64]:
    """Return a 64-bit checksum of the text of each document."""
    return checksums(as_bytes(document.text) for document in documents)


def cut_at_line(
    document: Document, share: float, before: NDArray[np.uint64] | None = None
) -> tuple[Document, Document]:
    """Return a document without its last share, and that share, cut where a line begins.

    Args:
        document: what to cut.
        share: in (0, 1).
        before: what :func:`beginning` told of the held-out end in a run that goes on, or None. If that text
            is there still, the cut lies before it, wherever it is now, and all that follows is held out.

    Raises:
        InvalidValue: where one of the two would be empty.
    """
    text = document.text
    wanted = round((1 - share) * len(text))
    at = text.rfind("\n", 0, wanted) + 1
    if not at or wanted - at > max(_NEAR, share * len(text)):  # a text of long lines is cut inside one
        at = wanted
    if before is not None:
        at = _begins_as_before(text, at, before)
    if not 0 < at < len(text):
        step = "Name a longer text, or another share."
        raise invalid(
            "A text must leave something to train on and to hold out.",
            f"{len(text)} character{'s'[: len(text) != 1]}",
            step,
        )
    return Document(document.title, text[:at]), Document(f"{document.title} (end)", text[at:])


def beginning(document: Document) -> NDArray[np.uint64]:
    """Return length and checksum of what a document begins with, by which it is found again: ``(2,)``."""
    head = document.text[:_HEAD]
    return np.array([len(head), checksums([as_bytes(head)])[0]], np.uint64)


def _begins_as_before(text: str, usual: int, before: NDArray[np.uint64]) -> int:
    """Return where the end begins that was held out before; ``usual`` where it is not there any more."""
    length, wanted = min(int(before[0]), _HEAD), before[1]
    for places in ([usual], _line_starts(text)):
        starts = [at for at in places if at + length <= len(text)]
        heads = checksums(as_bytes(text[at : at + length]) for at in starts)
        found = np.flatnonzero(heads == wanted)
        if found.size:
            return starts[int(found[-1])]
    return usual


def _line_starts(text: str) -> list[int]:
    starts, at = [], text.find("\n") + 1
    while at:
        starts.append(at)
        at = text.find("\n", at) + 1
    return starts
