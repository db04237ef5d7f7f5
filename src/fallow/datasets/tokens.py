"""Datasets of token ids: texts of any length with a class each, and windows of a stream of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..arrays.checksums import row_checksums
from ..errors import check_integer, invalid
from .tokenizing import Encoded

_AT_ONCE = 1 << 14
STEP = 16
"""Batches are filled up to a multiple of so many tokens, so that few shapes come up."""


class TokenDataset(Dataset[tuple[Tensor, Tensor]]):
    """Token ids and labels in memory, handed out a batch at a time.

    Args:
        encoded: the tokens of N texts.
        labels: class ids int64 ``(N,)``, or probabilities float32 ``(N, C)``.
        pad: the id that fills up a batch.

    Raises:
        InvalidValue: where the lengths do not fit.
    """

    def __init__(self, encoded: Encoded, labels: Tensor, pad: int) -> None:
        if len(labels) != len(encoded.edges) - 1:
            found = f"{len(labels)} labels and {len(encoded.edges) - 1} texts"
            raise invalid("Labels must be as many as the texts.", found, "Encode the texts that they are of.")
        self.encoded, self.labels, self.pad = encoded, labels, pad
        self._longest = max(1, int(np.diff(encoded.edges).max(initial=1)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        tokens, labels = self.__getitems__([index])
        return tokens[0], labels[0]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(tokens (B, T), labels (B,) or (B, C))``, T the longest, filled up to a multiple of 16."""
        index = np.asarray(indices, dtype=np.int64)
        starts, stops = self.encoded.edges[index], self.encoded.edges[index + 1]
        lengths = stops - starts
        width = min(self._longest, -(-int(lengths.max(initial=1)) // STEP) * STEP)
        at = np.arange(width)
        inside = at < lengths[:, None]
        places = np.where(inside, starts[:, None] + at, 0)
        ids = self.encoded.ids if self.encoded.ids.size else np.zeros(1, np.int32)
        tokens = np.where(inside, ids[places], self.pad)
        return torch.from_numpy(tokens.astype(np.int64)), self.labels[torch.from_numpy(index)]

    @staticmethod
    def collate(batch: Any) -> tuple[Tensor, Tensor]:
        """Return a batch as it is; the dataset has made one already."""
        tokens, labels = batch
        return tokens, labels


class WindowDataset(Dataset[Tensor]):
    """Windows of ``length + 1`` tokens out of documents.

    Each begins with the last token of the one before, so that every token of a document but its first is
    predicted once. The last of a document may be shorter; -100 fills it up, where nothing is to be predicted.

    Args:
        encoded: the tokens of the documents.
        length: tokens that a window predicts.

    Attributes:
        starts: int64 ``(N,)``, where each window begins in ``encoded.ids``.
        sizes: int64 ``(N,)``, how many tokens each predicts.
        document: int64 ``(N,)``, the document that each is part of.

    Raises:
        InvalidValue: where no document has two tokens.
    """

    IGNORED = -100

    def __init__(self, encoded: Encoded, length: int) -> None:
        self.encoded, self.length = encoded, check_integer("length", length, 1)
        edges = encoded.edges
        count = np.maximum(-(-(np.diff(edges) - 1) // length), 0)
        self.document = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(self.document)) - np.repeat(np.cumsum(count) - count, count)
        self.starts = edges[:-1][self.document] + within * length
        self.sizes = np.minimum(edges[1:][self.document] - 1 - self.starts, length)
        if not len(self.starts):
            raise invalid(
                "A text must have two tokens or more.", f"{encoded.ids.size} in all", "Name a longer one."
            )

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return windows of tokens ``(B, length + 1)``, int64; -100 after the end of a document."""
        index = np.asarray(indices, dtype=np.int64)
        at = np.arange(self.length + 1)
        inside = at <= self.sizes[index][:, None]
        places = np.where(inside, self.starts[index][:, None] + at, 0)
        return torch.from_numpy(np.where(inside, self.encoded.ids[places], self.IGNORED).astype(np.int64))

    @staticmethod
    def collate(batch: Any) -> Tensor:
        """Return a batch as it is; the dataset has made one already."""
        windows: Tensor = batch
        return windows

    def take(self, rows: NDArray[np.int64]) -> WindowDataset:
        """Return a dataset of some of the windows."""
        part = WindowDataset.__new__(WindowDataset)
        part.encoded, part.length = self.encoded, self.length
        part.starts, part.sizes = self.starts[rows], self.sizes[rows]
        part.document = self.document[rows]
        return part

    def checksums(self) -> NDArray[np.uint64]:
        """Return a 64-bit checksum (BLAKE2b) of each window: ``(N,)``."""
        parts = [np.zeros(0, np.uint64)]
        for start in range(0, len(self), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(self)))
            parts.append(row_checksums(self.__getitems__(rows).numpy()))
        return np.concatenate(parts)

    def ids(self, row: int) -> NDArray[np.int32]:
        """Return the tokens that a window predicts."""
        start = int(self.starts[row]) + 1
        return self.encoded.ids[start : start + int(self.sizes[row])]
