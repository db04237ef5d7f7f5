"""Choose the samples to train on and to report on: a fixed subset, and a validation part."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.checksums import checksums
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
"""Most characters, or the held-out ones if more, that a cut moves back to the beginning of a line."""
_NEARLY = 0.9
"""Part of the share at which the documents that a run held out are enough."""
_HEAD = 1024
"""Characters by which the held-out end of a document is found again."""
Data = TypeVar("Data", ImageData, TextData)


def chosen_parts(
    data: Data, samples: int | None, validation: float | None, before: DataFile | None = None
) -> Data:
    """Return the data with the training part cut down, and the validation part in place of the test part.

    All draws depend only on the content of the samples (see :mod:`fallow.datasets.held_out`), so that every
    seed trains and is measured on the same samples. The validation part is drawn first, from all samples;
    each class keeps a sample to train on.

    Args:
        data: as it was read.
        samples: the number of samples to train on; None for all that are left.
        validation: the share in (0, 1) to hold out and report on; None reports on the test part.
        before: the samples of the resumed run, or None. They stay on their side; only new samples are drawn.

    Raises:
        InvalidValue: if the training part has fewer samples, or too few to hold some out.
    """
    # A test part that was not drawn, but came with the data, needs no repair.
    if before is not None and data.test_share is not None:
        data = _split_as_before(data, before, data.test_share, validation is not None)
    if validation is not None:
        n = len(data.train)
        count = max(1, round(validation * n))
        if count >= n:
            raise invalid("--validation must leave a sample to train on.", f"{count} of {n:,} held out")
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


def _split_as_before(data: Data, before: DataFile, share: float, validates: bool) -> Data:
    """Return the data with the test part of the resumed run; only new samples are drawn."""
    whole, cut = data.joined(), len(data.train)
    side = _sides(whole, before)
    if side is None:
        return data
    if validates:  # the run's held-out samples were its validation part, a cut of the training part
        side = np.where(side == HELD, TRAINED, side)
    # Seed 0 whatever the run's is, so that all seeds are measured on the same samples.
    keys, labels = keyed(whole.identities()[0], TEST, 0), _labels(whole)
    if isinstance(data, ImageData):
        out = held_out_by_class(keys, labels, share, side)
    else:
        out = held_out_of_all(keys, labels, round(share * labels.size), side)
    return data if np.array_equal(np.flatnonzero(out), np.arange(cut, out.size)) else whole.with_held_out(out)


def _labels(data: ImageData | TextData) -> NDArray[np.int64]:
    labels = data.train.labels
    return labels if isinstance(labels, np.ndarray) else labels.numpy()


def _sides(data: ImageData | TextData, before: DataFile | None) -> NDArray[np.int8] | None:
    """Return on which side of a run each training sample was; None if the run has no checksums."""
    return None if before is None or before.content is None else sides(before, _samples(data))


def _samples(data: ImageData | TextData) -> Samples:
    """Return the checksums and labels by which the training samples are recognised."""
    if isinstance(data, ImageData):
        content, identity = data.train.contents(), data.identity
        return Samples(content, None if identity is None else identity[0], _labels(data))
    return Samples(data.train.checksums(), data.train.identities(), _labels(data))


def chosen_samples(
    content: NDArray[np.uint64], samples: int | None, known: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return the mask of the training samples to train on, ``(N,)``.

    Args:
        content: the checksums by which they are drawn, ``(N,)``.
        samples: the number to choose; None for all.
        known: mask of the samples of the resumed run, which are chosen first; or None.

    Raises:
        InvalidValue: if there are fewer.
    """
    n = content.size
    if samples is None:
        return np.ones(n, np.bool_)
    if samples > n:
        rule = f"--samples must be at most {n:,}, the number of training samples."
        raise invalid(rule, f"{samples:,}", "Leave it out to train on all.")
    return smallest_of(keyed(content, SAMPLES), samples, known)


def chosen_documents(
    corpus: Corpus,
    validation: float | None,
    side: NDArray[np.int8] | None = None,
    cut: NDArray[np.uint64] | None = None,
) -> Corpus:
    """Return documents with a validation part, whole documents drawn by content, in place of the test part.

    The validation part of a single document is its end, cut at a line: validation windows between training
    windows would be too easy.

    Args:
        corpus: as it was read.
        validation: the share of the characters in (0, 1); None reports on the held-out documents.
        side: int8 ``(N,)``, the side of each training document in the resumed run: 1 held out, -1 trained
            on, 0 new; or None.
        cut: the :func:`beginning` of the held-out end of a single document in the resumed run, or None.
    """
    if validation is None:
        return corpus
    if len(corpus.train) == 1:
        kept, test = cut_at_line(corpus.train[0], validation, cut)
        return replace(corpus, train=(kept,), test=(test,), cut=beginning(test))
    keys = keyed(text_checksums(corpus.train), VALIDATION)
    side = np.zeros(keys.size, np.int8) if side is None else side
    order = np.lexsort((keys, -side))  # held-out documents first, then new ones
    sizes = np.array([len(document.text) for document in corpus.train])
    wanted = validation * sizes.sum() * (_NEARLY if (side == HELD).any() else 1)
    enough = np.cumsum(sizes[order]) >= wanted
    # A document that was trained on is never held out, and one document stays to train on.
    most = max(1, int(np.count_nonzero(side != TRAINED)) - (not (side == TRAINED).any()))
    held = max(int(np.count_nonzero(side == HELD)), min(int(enough.argmax()) + 1, most))
    out = np.zeros(keys.size, np.bool_)
    out[order[: min(held, keys.size - 1)]] = True
    return corpus.with_held_out(out)


def split_as_before(corpus: Corpus, side: NDArray[np.int8], *, validates: bool) -> Corpus:
    """Return documents with the test part of the resumed run; only new documents are drawn.

    Args:
        corpus: as it was read, with a test part that was drawn.
        side: int8 ``(N + M,)``, the side of each document in the run, those of the test part last.
        validates: whether the run reports on a validation part instead of the test part.
    """
    assert corpus.test_share is not None
    whole = replace(corpus, train=corpus.train + corpus.test)
    side = np.where(side == HELD, TRAINED, side) if validates else side
    keys = keyed(text_checksums(whole.train), TEST, 0)
    count = round(corpus.test_share * keys.size)
    return whole.with_held_out(held_out_of_all(keys, None, count, side))


def text_checksums(documents: tuple[Document, ...]) -> NDArray[np.uint64]:
    """Return a 64-bit checksum of the text of each document."""
    return checksums(as_bytes(document.text) for document in documents)


def cut_at_line(
    document: Document, share: float, before: NDArray[np.uint64] | None = None
) -> tuple[Document, Document]:
    """Return a document without its last share, and that share, cut at the beginning of a line.

    Args:
        document: the document to cut.
        share: the share to hold out, in (0, 1).
        before: the :func:`beginning` of the held-out end in the resumed run, or None. If the text still holds
            it, the cut lies before it, and all that follows is held out.

    Raises:
        InvalidValue: if one of the two would be empty.
    """
    text = document.text
    wanted = round((1 - share) * len(text))
    at = text.rfind("\n", 0, wanted) + 1
    if not at or wanted - at > max(_NEAR, share * len(text)):  # a text of long lines is cut inside a line
        at = wanted
    if before is not None:
        at = _start_before(text, at, before)
    if not 0 < at < len(text):
        found = f"{len(text)} character{'s'[: len(text) != 1]}"
        step = "Name a longer text, or another share."
        raise invalid("A text must leave something to train on and to hold out.", found, step)
    return Document(document.title, text[:at]), Document(f"{document.title} (end)", text[at:])


def beginning(document: Document) -> NDArray[np.uint64]:
    """Return the length and the checksum of a document's beginning, by which it is found again: ``(2,)``."""
    head = document.text[:_HEAD]
    return np.array([len(head), checksums([as_bytes(head)])[0]], np.uint64)


def _start_before(text: str, default: int, before: NDArray[np.uint64]) -> int:
    """Return the start of the end that was held out before; ``default`` if the text no longer holds it."""
    length, wanted = min(int(before[0]), _HEAD), before[1]
    # The likely place first: a long text has many lines to compute checksums of.
    for candidates in ([default], _line_starts(text)):
        starts = [at for at in candidates if at + length <= len(text)]
        heads = checksums(as_bytes(text[at : at + length]) for at in starts)
        index = np.flatnonzero(heads == wanted)
        if index.size:
            # The last one, as what was held out is the end of the text.
            return starts[int(index[-1])]
    return default


def _line_starts(text: str) -> list[int]:
    starts, at = [], text.find("\n") + 1
    while at:
        starts.append(at)
        at = text.find("\n", at) + 1
    return starts
