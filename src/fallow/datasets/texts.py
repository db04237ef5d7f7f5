"""Texts in memory: with a class each, or as documents for a language model; a train and a test part."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays.checksums import checksums
from ..errors import DamagedData, damaged, invalid
from ..files.regular_file import opened


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts with their labels.

    Attributes:
        texts: N texts.
        labels: class ids, int64 ``(N,)``; with several annotators the class that most of them name.
        soft: float32 ``(N, C)``, the share of annotators that name each class; None for single labels.
        names: the origin of each text, or None.

    Raises:
        InvalidValue: if the lengths do not match.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    soft: NDArray[np.float32] | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.texts, self.labels, self.soft, self.names) if part is not None}
        if len(lengths) != 1:
            raise invalid(
                "Texts and labels must have the same length.", " and ".join(map(str, sorted(lengths)))
            )

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def empty(self) -> int:
        """The number of texts that are empty or blank."""
        return sum(not text.strip() for text in self.texts)

    def take(self, rows: NDArray[np.int64]) -> Texts:
        """Return some of the texts."""
        picked = rows.tolist()
        return Texts(
            tuple(self.texts[row] for row in picked),
            self.labels[rows],
            None if self.soft is None else self.soft[rows],
            None if self.names is None else tuple(self.names[row] for row in picked),
        )

    def checksums(self) -> NDArray[np.uint64]:
        """Return a 64-bit checksum (BLAKE2b) of each text with its soft label: ``(N,)``."""
        # Two copies of a text with other soft labels are two samples.
        soft = [b""] * len(self) if self.soft is None else [row.tobytes() for row in self.soft]
        return checksums(as_bytes(text) + label for text, label in zip(self.texts, soft, strict=True))

    def identities(self) -> NDArray[np.uint64]:
        """Return a 64-bit checksum (BLAKE2b) of each text alone: ``(N,)``."""
        return checksums(map(as_bytes, self.texts))

    def joined(self, other: Texts) -> Texts:
        """Return these texts, followed by others."""
        soft = None
        names = None
        if self.soft is not None and other.soft is not None:
            soft = np.concatenate([self.soft, other.soft])
        if self.names is not None and other.names is not None:
            names = self.names + other.names
        return Texts(self.texts + other.texts, np.concatenate([self.labels, other.labels]), soft, names)


@dataclass(frozen=True)
class TextData:
    """Texts with one class each, as a train part and a test part.

    Attributes:
        name: the name of the file, folder or data set.
        train: the texts to train on.
        test: the texts held out.
        classes: the name of each class, in the order of the ids.
        notes: a sentence on each thing about the data that a person should know.
        test_share: the share of all texts that was drawn as the test part; None if the data have one.
    """

    name: str
    train: Texts
    test: Texts
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    test_share: float | None = None

    def identities(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return a checksum of each train and of each test text, ``(N,)`` and ``(M,)``."""
        return self.train.identities(), self.test.identities()

    def take(self, rows: NDArray[np.int64]) -> TextData:
        """Return the data with some of the train samples."""
        return replace(self, train=self.train.take(rows))

    def with_held_out(self, out: NDArray[np.bool_]) -> TextData:
        """Return the data with the train samples of the mask ``(N,)`` as the test samples."""
        train, test = (self.train.take(np.flatnonzero(mask)) for mask in (~out, out))
        return replace(self, train=train, test=test)

    def joined(self) -> TextData:
        """Return the data with the test samples appended to the train samples."""
        return replace(self, train=self.train.joined(self.test))


@dataclass(frozen=True)
class Document:
    """A text of its own: a play, a file, a row of a table."""

    title: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Documents for a language model.

    Attributes:
        name: the name of the file, folder or data set.
        train: the documents to train on.
        test: the documents held out.
        test_share: the share of the documents that was drawn as the test part; None if the data have one, or
            if it is the end of a single text.
        cut: uint64 ``(2,)``, for a single text the length and checksum of the start of its held-out end; or
            None.
    """

    name: str
    train: tuple[Document, ...]
    test: tuple[Document, ...]
    test_share: float | None = None
    cut: NDArray[np.uint64] | None = None

    def with_held_out(self, out: NDArray[np.bool_]) -> Corpus:
        """Return the corpus with the train documents of the mask ``(N,)`` as those held out."""
        train, test = (tuple(self.train[row] for row in np.flatnonzero(mask)) for mask in (~out, out))
        return replace(self, train=train, test=test)


def soft_labels(ratings: NDArray[np.integer], classes: int, *, missing: int = -1) -> NDArray[np.float32]:
    r"""Return the label distribution of samples that several annotators have rated.

    .. math:: q_{ic} = \frac{|\{r : y_{ir} = c\}|}{|\{r : y_{ir} \ne \text{missing}\}|}

    Args:
        ratings: class ids ``(N, R)``, one column per annotator.
        classes: C.
        missing: the id of a missing rating.

    Returns:
        float32 ``(N, C)``, rows with the sum 1: targets for any score.

    Raises:
        InvalidValue: if a class id is outside [0, C), or a sample has no rating.

    Example:
        >>> soft_labels(np.array([[0, 0, 1, -1]]), 2).round(2).tolist()
        [[0.6700000166893005, 0.33000001311302185]]
    """
    ratings = np.asarray(ratings)
    if ratings.ndim != 2 or ratings.dtype.kind not in "iu":
        raise invalid("`ratings` must be whole numbers (N, R).", f"{ratings.dtype} {ratings.shape}")
    given = ratings != missing
    for row, column in np.argwhere(given & ((ratings < 0) | (ratings >= classes)))[:1].tolist():
        raise invalid(f"Ratings must be in [0, {classes}).", f"{ratings[row, column]} of sample {row}")
    for row in np.flatnonzero(~given.any(1))[:1].tolist():
        raise invalid("Every sample must have a rating.", f"none of sample {row}", "Leave it out.")
    counts = np.zeros((len(ratings), classes), np.float32)
    rows, columns = np.nonzero(given)
    np.add.at(counts, (rows, ratings[rows, columns]), 1)
    shares: NDArray[np.float32] = counts / counts.sum(1, keepdims=True)
    return shares


def as_bytes(text: str) -> bytes:
    """Return a text as UTF-8; half of a surrogate pair is encoded too, unlike by ``str.encode``."""
    return text.encode("utf-8", "surrogatepass")


def not_utf8(path: Path, inside: Path | None = None) -> DamagedData:
    """Return the error for a file of text that cannot be decoded."""
    found = "UTF-16"
    start = 0
    with opened(path, inside) as lines:
        for number, line in enumerate(lines, 1):
            if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
                break
            try:
                line.decode()
            except UnicodeDecodeError as error:
                found = f"the byte 0x{line[error.start]:02X} at {start + error.start}, in line {number}"
                break
            start += len(line)
    return damaged(f"{path} must be UTF-8.", found, "Save it as UTF-8.")
