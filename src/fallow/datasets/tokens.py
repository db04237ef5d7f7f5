"""Datasets of token ids: texts with a class each, and windows of documents."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..arrays.checksums import row_checksums
from ..errors import check_integer, invalid
from .tokenizing import Encoded

_BATCH = 1 << 14
STEP = 16
"""Batches are padded to a multiple of this many tokens: a compiled model has to handle few shapes."""


class TokenDataset(Dataset[tuple[Tensor, Tensor]]):
    """Token ids and labels in memory, handed out a batch at a time.

    Args:
        encoded: the tokens of N texts.
        labels: class ids int64 ``(N,)``, or probabilities float32 ``(N, C)``.
        pad: the id of the padding token.

    Raises:
        InvalidValue: if the lengths do not match.
    """

    def __init__(self, encoded: Encoded, labels: Tensor, pad: int) -> None:
        if len(labels) != len(encoded.edges) - 1:
            lengths = f"{len(labels)} labels and {len(encoded.edges) - 1} texts"
            raise invalid("Each text must have one label.", lengths, "Encode the texts of these labels.")
        self.encoded = encoded
        self.labels = labels
        self.pad = pad
        self._longest = max(1, int(np.diff(encoded.edges).max(initial=1)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        tokens, labels = self.__getitems__([index])
        return tokens[0], labels[0]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(tokens (B, T), labels (B,) or (B, C))``, T rounded up to a multiple of 16."""
        index = np.asarray(indices, dtype=np.int64)
        starts = self.encoded.edges[index]
        lengths = self.encoded.edges[index + 1] - starts
        width = min(self._longest, -(-int(lengths.max(initial=1)) // STEP) * STEP)
        at = np.arange(width)
        inside = at < lengths[:, None]
        places = np.where(inside, starts[:, None] + at, 0)
        # `where` evaluates both branches, so there must be an id even if all texts are empty.
        ids = self.encoded.ids if self.encoded.ids.size else np.zeros(1, np.int32)
        tokens = np.where(inside, ids[places], self.pad)
        return torch.from_numpy(tokens.astype(np.int64)), self.labels[torch.from_numpy(index)]

    @staticmethod
    def collate(batch: Any) -> tuple[Tensor, Tensor]:
        """Return a batch unchanged, because ``__getitems__`` has collated it."""
        tokens, labels = batch
        return tokens, labels


class WindowDataset(Dataset[Tensor]):
    """Windows of ``length + 1`` tokens of documents.

    Each window begins with the last token of the one before, so that every token of a document except the
    first is predicted once. The last window of a document may be shorter and is padded with -100, the targets
    that losses ignore.

    Args:
        encoded: the tokens of the documents.
        length: number of tokens that a window predicts.

    Attributes:
        starts: int64 ``(N,)``, the position of each window in ``encoded.ids``.
        sizes: int64 ``(N,)``, the number of tokens that each window predicts.
        document: int64 ``(N,)``, the document of each window.

    Raises:
        InvalidValue: if no document has two tokens.
    """

    IGNORED = -100

    def __init__(self, encoded: Encoded, length: int) -> None:
        self.encoded = encoded
        self.length = check_integer("length", length, 1)
        edges = encoded.edges
        count = np.maximum(-(-(np.diff(edges) - 1) // length), 0)
        self.document = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(self.document)) - np.repeat(np.cumsum(count) - count, count)
        self.starts = edges[:-1][self.document] + within * length
        self.sizes = np.minimum(edges[1:][self.document] - 1 - self.starts, length)
        if not len(self.starts):
            size = f"{encoded.ids.size} in all"
            raise invalid("A text must have two tokens or more.", size, "Name a longer one.")

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return windows of tokens ``(B, length + 1)``, int64, -100 after the end of a document."""
        index = np.asarray(indices, dtype=np.int64)
        at = np.arange(self.length + 1)
        inside = at <= self.sizes[index][:, None]
        places = np.where(inside, self.starts[index][:, None] + at, 0)
        return torch.from_numpy(np.where(inside, self.encoded.ids[places], self.IGNORED).astype(np.int64))

    @staticmethod
    def collate(batch: Any) -> Tensor:
        """Return a batch unchanged, because ``__getitems__`` has collated it."""
        windows: Tensor = batch
        return windows

    def take(self, rows: NDArray[np.int64]) -> WindowDataset:
        """Return a dataset of some of the windows."""
        part = copy(self)  # the windows of `encoded` must not be computed again
        part.starts = self.starts[rows]
        part.sizes = self.sizes[rows]
        part.document = self.document[rows]
        return part

    def checksums(self) -> NDArray[np.uint64]:
        """Return a 64-bit checksum (BLAKE2b) of each window: ``(N,)``."""
        parts = [np.zeros(0, np.uint64)]
        for start in range(0, len(self), _BATCH):
            rows = range(start, min(start + _BATCH, len(self)))
            parts.append(row_checksums(self.__getitems__(rows).numpy()))
        return np.concatenate(parts)

    def ids(self, row: int) -> NDArray[np.int32]:
        """Return the tokens that a window predicts."""
        start = int(self.starts[row]) + 1
        return self.encoded.ids[start : start + int(self.sizes[row])]
