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
    """Texts with what people say of each.

    Attributes:
        texts: N of them.
        labels: class ids, int64 ``(N,)``; of several annotators the class that most of them name.
        soft: float32 ``(N, C)``, the share of annotators that name each class; None where each has one label.
        names: where each text comes from, or None.

    Raises:
        InvalidValue: where the lengths do not fit.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    soft: NDArray[np.float32] | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.texts, self.labels, self.soft, self.names) if part is not None}
        if len(lengths) != 1:
            raise invalid("Texts and labels must be as many.", " and ".join(map(str, sorted(lengths))))

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def empty(self) -> int:
        """How many of the texts are empty or blank."""
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
        """Return a 64-bit checksum (BLAKE2b) of each text and of what its annotators say: ``(N,)``."""
        soft = [b""] * len(self) if self.soft is None else [row.tobytes() for row in self.soft]
        return checksums(as_bytes(text) + said for text, said in zip(self.texts, soft, strict=True))

    def identities(self) -> NDArray[np.uint64]:
        """Return a 64-bit checksum (BLAKE2b) of each text alone: ``(N,)``."""
        return checksums(map(as_bytes, self.texts))

    def beside(self, other: Texts) -> Texts:
        """Return these texts and others after them."""
        soft, names = None, None
        if self.soft is not None and other.soft is not None:
            soft = np.concatenate([self.soft, other.soft])
        if self.names is not None and other.names is not None:
            names = self.names + other.names
        return Texts(self.texts + other.texts, np.concatenate([self.labels, other.labels]), soft, names)


@dataclass(frozen=True)
class TextData:
    """Texts with one class each, as a train part and a test part.

    Attributes:
        name: what was asked for.
        train: the texts to train on.
        test: the texts held out.
        classes: the name of each class, in the order of the ids.
        notes: what to tell a person of how the data were read, a sentence each.
        test_share: the share of all texts that was drawn as the test part; None where the data brought one.
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
        """Return the data with some train samples, a mask ``(N,)``, in the place of the test samples."""
        return replace(
            self, train=self.train.take(np.flatnonzero(~out)), test=self.train.take(np.flatnonzero(out))
        )

    def joined(self) -> TextData:
        """Return the data with the test samples among the train samples, after them."""
        return replace(self, train=self.train.beside(self.test))


@dataclass(frozen=True)
class Document:
    """A text that stands for itself: a play, a file, a row of a table.

    Attributes:
        title: what it is called.
        text: what it says.
    """

    title: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Documents for a language model.

    Attributes:
        name: what was asked for.
        train: the documents to train on.
        test: those held out.
        test_share: the share of the documents that was drawn as the test part; None where the data brought
            one, or it is the end of a single text.
        cut: uint64 ``(2,)``, of a single text: length and checksum of what its held-out end begins with; or
            None.
    """

    name: str
    train: tuple[Document, ...]
    test: tuple[Document, ...]
    test_share: float | None = None
    cut: NDArray[np.uint64] | None = None

    def with_held_out(self, out: NDArray[np.bool_]) -> Corpus:
        """Return the corpus with some train documents, a mask ``(N,)``, in the place of those held out."""
        parts = [
            tuple(document for document, held in zip(self.train, out.tolist(), strict=True) if held == wanted)
            for wanted in (False, True)
        ]
        return replace(self, train=parts[0], test=parts[1])


def soft_labels(ratings: NDArray[np.integer], classes: int, *, missing: int = -1) -> NDArray[np.float32]:
    r"""Return the label distribution of samples that several annotators have rated.

    .. math:: q_{ic} = \frac{|\{r : y_{ir} = c\}|}{|\{r : y_{ir} \ne \text{missing}\}|}

    Args:
        ratings: class ids ``(N, R)``, one column an annotator.
        classes: C.
        missing: the id of a rating that was not given.

    Returns:
        float32 ``(N, C)``, each row with the sum 1: targets for any score.

    Raises:
        InvalidValue: for a class id outside [0, C), or a sample without a rating.

    Example:
        >>> soft_labels(np.array([[0, 0, 1, -1]]), 2).round(2).tolist()
        [[0.6700000166893005, 0.33000001311302185]]
    """
    ratings = np.asarray(ratings)
    if ratings.ndim != 2 or ratings.dtype.kind not in "iu":
        raise invalid("`ratings` must be whole numbers (N, R).", f"{ratings.dtype} {ratings.shape}")
    there = ratings != missing
    wrong = np.argwhere(there & ((ratings < 0) | (ratings >= classes)))
    if wrong.size:
        row, column = wrong[0].tolist()
        raise invalid(f"Ratings must be in [0, {classes}).", f"{ratings[row, column]} of sample {row}")
    if not there.any(1).all():
        row = int(np.flatnonzero(~there.any(1))[0])
        raise invalid("Every sample must have a rating.", f"none of sample {row}", "Leave it out.")
    counts = np.zeros((len(ratings), classes), np.float32)
    at = np.nonzero(there)
    np.add.at(counts, (at[0], ratings[at]), 1)
    found: NDArray[np.float32] = counts / counts.sum(1, keepdims=True)
    return found


def as_bytes(text: str) -> bytes:
    """Return a text as UTF-8; a half of a surrogate pair, which has none, as its number."""
    return text.encode("utf-8", "surrogatepass")


def not_utf8(path: Path, inside: Path | None = None) -> DamagedData:
    """Return the error for a file of text that cannot be decoded."""
    found, start = "UTF-16", 0
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
