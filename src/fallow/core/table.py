"""The table of all samples: last score, its epoch, and the reason for leaving the sample out."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays.no_score import NO_SCORE_FLOOR
from ..errors import invalid
from ..policies.base import Reason

Index: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[np.float32]

UNSEEN, TRAINED, MEASURED = 0, 1, 2
PREDICTED = "predicted"
"""The column of last predicted classes, each plus 1; 0 means none, as in a new column."""


class Table:
    """One row per sample, of 8 bytes plus the columns of the policy.

    Scores arrive by :meth:`write` in any order. Several scores of a sample in one epoch are averaged, with
    the same result in any order.

    Args:
        n: the number of samples.

    Attributes:
        scores: float32 ``(N,)``; NaN if there is no finite score.
        scored_in: uint16 ``(N,)``; 1 + the epoch of the last score, 0 for never.
        reason: uint8 ``(N,)``; a :class:`Reason`.
        seen: uint8 ``(N,)``; in this epoch unseen, trained on, or measured only.
        columns: the policy's memory of each sample, by name.
        notes: the policy's single numbers, by name.
        bad: the number of non-finite scores in this epoch.
        recorded: the number of rows written in this epoch, repeats included.
    """

    def __init__(self, n: int) -> None:
        self.scores: Scores = np.full(n, np.nan, np.float32)
        self.scored_in: NDArray[np.uint16] = np.zeros(n, np.uint16)
        self.reason: NDArray[np.uint8] = np.zeros(n, np.uint8)
        self.seen: NDArray[np.uint8] = np.zeros(n, np.uint8)
        self.columns: dict[str, NDArray[Any]] = {}
        self.notes: dict[str, float] = {}
        self.bad = 0
        self.recorded = 0
        self._again: list[tuple[Index, Scores]] = []

    def __len__(self) -> int:
        return int(self.scores.size)

    def column(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        """Return the column ``name``, made of zeros if it is new: ``(N,)``.

        Raises:
            InvalidValue: if it has another type, as another policy's column may.
        """
        if name not in self.columns:
            self.columns[name] = np.zeros(len(self), dtype)
        if self.columns[name].dtype != dtype:
            step = "Give the column another name, or load a state of the same policy."
            rule = f"The column `{name}` must be of one type, {np.dtype(dtype)}."
            raise invalid(rule, self.columns[name].dtype, step)
        return self.columns[name]

    def write(self, index: Index, scores: Scores, epoch: int, kind: int = TRAINED) -> None:
        """Store scores measured in ``epoch``: index and scores are ``(K,)``.

        A value in (-1e-30, 0) is *no score* and is skipped; a non-finite one is *bad* and leaves the sample
        without a score. Classes predicted in earlier epochs are forgotten.
        """
        # Before rows without a score are dropped: those were seen as well.
        self.seen[index] = kind
        self.recorded += index.size
        stamp = np.uint16(epoch + 1)
        if PREDICTED in self.columns:  # an older prediction does not belong to the new score
            self.columns[PREDICTED][index[self.scored_in[index] != stamp]] = 0
        unscored = (scores < 0) & (scores > NO_SCORE_FLOOR)
        if unscored.any():
            index, scores = index[~unscored], scores[~unscored]
        bad = ~np.isfinite(scores)
        if bad.any():
            self.bad += int(np.count_nonzero(bad))
            scores = np.where(bad, np.float32(np.nan), scores)
        again = self.scored_in[index] == stamp
        if again.any():
            self._again.append((index[again], scores[again]))
            index, scores = index[~again], scores[~again]
        # Repeats are rare, so np.unique, which costs more, only runs if there are some.
        ordered = np.sort(index)
        if (ordered[1:] == ordered[:-1]).any():
            first = np.unique(index, return_index=True)[1]
            rest = np.ones(index.size, np.bool_)
            rest[first] = False
            self._again.append((index[rest], scores[rest]))
            index, scores = index[first], scores[first]
        self.scores[index] = scores
        self.scored_in[index] = stamp

    def repeated(self) -> tuple[Index, Scores]:
        """Return index and score of repeated records, without each sample's first in this epoch: ``(K,)``."""
        if not self._again:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        index = np.concatenate([i for i, _ in self._again])
        scores = np.concatenate([s for _, s in self._again])
        return index, scores

    def repeat(self, index: Index, scores: Scores) -> None:
        """Restore the result of :meth:`repeated`."""
        self._again = [(index, scores)] if index.size else []

    def average_repeats(self) -> None:
        """Average the scores of samples that were recorded more than once in this epoch."""
        index, scores = self.repeated()
        self._again.clear()
        if not index.size:
            return
        sample = np.unique(index)
        index = np.concatenate([sample, index])
        scores = np.concatenate([self.scores[sample], scores])
        by_value = np.lexsort((scores, index))  # sorted, so that the sum does not depend on the order
        row = np.searchsorted(sample, index[by_value])
        total = np.bincount(row, weights=scores[by_value].astype(np.float64))
        self.scores[sample] = (total / np.bincount(row)).astype(np.float32)

    def begin_epoch(self) -> None:
        """Clear what belongs to the epoch that ended."""
        self.average_repeats()
        self.seen[:] = UNSEEN
        self.bad = 0
        self.recorded = 0

    def grow(self, count: int) -> None:
        """Add ``count`` kept samples without a score at the end."""
        self.scores = np.concatenate([self.scores, np.full(count, np.nan, np.float32)])
        self.scored_in = np.concatenate([self.scored_in, np.zeros(count, np.uint16)])
        self.reason = np.concatenate([self.reason, np.full(count, Reason.KEPT, np.uint8)])
        self.seen = np.concatenate([self.seen, np.zeros(count, np.uint8)])
        self.columns = {
            name: np.concatenate([column, np.zeros(count, column.dtype)])
            for name, column in self.columns.items()
        }

    def cut(self, n: int) -> None:
        """Delete the samples from ``n`` on."""
        for name in ("scores", "scored_in", "reason", "seen"):
            # A copy, since a view would keep the longer array in memory.
            setattr(self, name, getattr(self, name)[:n].copy())
        self.columns = {name: column[:n].copy() for name, column in self.columns.items()}

    def rearrange(self, origin: Index) -> None:
        """Reorder the samples between epochs: sample i was at ``origin[i]``, -1 for a new one."""
        known = np.flatnonzero(origin >= 0)
        old, columns = origin[known], self.columns
        # It holds what a new sample starts with.
        fresh = Table(origin.size)
        for name in ("scores", "scored_in", "reason", "seen"):
            rows = getattr(fresh, name)
            rows[known] = getattr(self, name)[old]
            setattr(self, name, rows)
        self.columns = {}
        for name, column in columns.items():
            self.column(name, column.dtype.type)[known] = column[old]

    def forget(self, index: Index) -> None:
        """Reset samples: no score, and kept unless they were removed by hand."""
        self.scores[index] = np.nan
        self.scored_in[index] = 0
        self.reason[index[self.reason[index] != Reason.BY_HAND]] = Reason.KEPT
        for column in self.columns.values():
            column[index] = 0
