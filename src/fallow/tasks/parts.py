"""Which samples are trained on and reported on: a fixed subset, and a part cut off for choosing settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .._checks import invalid
from ..datasets import Corpus, Document, ImageData, TextData
from ..keyed import mix, uniform
from ..selection import smallest

_VALIDATION, _SAMPLES = 0x7A11, 0x5A3B
_NEAR = 200
"""A line may begin so many characters before, or as many as are held out."""
Data = TypeVar("Data", ImageData, TextData)


def chosen_parts(data: Data, samples: int | None, validation: float | None) -> Data:
    """Return the data with the training part cut down, and the validation part in the place of the test part.

    Both draws are functions of the number of training samples alone, so that every seed trains on the
    same samples and is measured on the same ones. The validation part is drawn first, from all.

    Args:
        data: as it was read.
        samples: how many to train on; None for all that are left.
        validation: the share in (0, 1) that is cut off and reported on; None reports on the test part.

    Raises:
        InvalidValue: where the training part has fewer samples, or too few to cut.
    """
    kept = np.arange(len(data.train))
    test = data.test
    if validation is not None:
        count = max(1, round(validation * kept.size))
        if count >= kept.size:
            raise invalid("--validation must leave a sample to train on.", f"{count} of {kept.size:,} cut")
        out = drawn(_VALIDATION, kept.size, count)
        test = data.train.take(kept[out])
        kept = kept[~out]
    kept = kept[chosen_samples(kept.size, samples)]
    if kept.size == len(data.train):
        return data
    if isinstance(data, ImageData):
        files = None if data.files is None else tuple(data.files[i] for i in kept.tolist())
        return replace(data, train=data.train.take(kept), test=test, files=files)
    return replace(data, train=data.train.take(kept), test=test)


def chosen_samples(n: int, samples: int | None) -> NDArray[np.bool_]:
    """Return which of ``n`` training samples are trained on: a mask of ``samples`` of them, or of all.

    Raises:
        InvalidValue: where there are fewer.
    """
    if samples is None:
        return np.ones(n, np.bool_)
    if samples > n:
        rule = f"--samples must be at most {n:,}, the training samples there are."
        raise invalid(rule, f"{samples:,}", "Leave it out to train on all.")
    return drawn(_SAMPLES, n, samples)


def chosen_documents(corpus: Corpus, validation: float | None) -> Corpus:
    """Return documents with whole ones cut off for validation, in the place of those held out.

    Of a single document it is the end, cut at a line, so that no window is trained on beside one that is
    reported on.

    Args:
        corpus: as it was read.
        validation: the share in (0, 1) of the characters; None reports on the held-out documents.
    """
    if validation is None:
        return corpus
    if len(corpus.train) == 1:
        kept, test = cut_at_line(corpus.train[0], validation)
        return replace(corpus, train=(kept,), test=(test,))
    order = np.argsort(uniform(mix(_VALIDATION, len(corpus.train)), 0, len(corpus.train)), kind="stable")
    sizes = np.array([len(document.text) for document in corpus.train])
    enough = np.cumsum(sizes[order]) >= validation * sizes.sum()
    out = set(order[: min(int(enough.argmax()) + 1, len(order) - 1)].tolist())
    parts = [
        tuple(document for place, document in enumerate(corpus.train) if (place in out) == held)
        for held in (False, True)
    ]
    return replace(corpus, train=parts[0], test=parts[1])


def cut_at_line(document: Document, share: float) -> tuple[Document, Document]:
    """Return a document without its last share, and that share, cut where a line begins.

    Raises:
        InvalidValue: where one of the two would be empty.
    """
    text = document.text
    wanted = round((1 - share) * len(text))
    at = text.rfind("\n", 0, wanted) + 1
    if not at or wanted - at > max(_NEAR, share * len(text)):  # a text of long lines is cut inside one
        at = wanted
    if not 0 < at < len(text):
        step = "Name a longer text, or another share."
        raise invalid(
            "A text must leave something to train on and to hold out.",
            f"{len(text)} character{'s'[: len(text) != 1]}",
            step,
        )
    return Document(document.title, text[:at]), Document(f"{document.title} (end)", text[at:])


def drawn(key: int, n: int, count: int) -> NDArray[np.bool_]:
    """Return a mask ``(n,)`` of ``count`` samples drawn by ``key``."""
    return smallest(lambda start, stop: uniform(mix(key, n), start, stop), n, count)
