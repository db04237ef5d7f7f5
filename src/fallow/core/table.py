"""What is remembered of every sample: its last score, when that was measured, and why it is left out."""

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
"""The column of the classes last predicted, each plus 1; 0 is none."""


class Table:
    """One row a sample; 8 bytes a row, plus what a policy asks for.

    Scores arrive by :meth:`write` in any order. A second score of the same sample in the same epoch is
    averaged with the first, to the same value whatever the order.

    Args:
        n: how many samples.

    Attributes:
        scores: float32 ``(N,)``; NaN where there is no sound score.
        scored_in: uint16 ``(N,)``; 1 + the epoch of the last score, 0 for never.
        reason: uint8 ``(N,)``; a :class:`Reason`.
        seen: uint8 ``(N,)``; in this epoch unseen, trained on, or measured only.
        columns: what the policy remembers of each sample, by name.
        notes: single numbers that the policy remembers, by name.
        bad: how many non-finite scores this epoch brought.
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
        """Return the column ``name``, zeros where it is new: ``(N,)``.

        Raises:
            InvalidValue: if it is of another type, as that of another policy.
        """
        if name not in self.columns:
            self.columns[name] = np.zeros(len(self), dtype)
        if self.columns[name].dtype != dtype:
            step = "Give the column another name, or load a state of the same policy."
            rule = f"The column `{name}` must be of one type, {np.dtype(dtype)}."
            raise invalid(rule, self.columns[name].dtype, step)
        return self.columns[name]

    def write(self, index: Index, scores: Scores, epoch: int, kind: int = TRAINED) -> None:
        """Take over scores measured in ``epoch``: both ``(K,)``.

        A value in (-1e-30, 0) is *no score* and changes none; a non-finite one is *bad* and leaves the
        sample without a score. What was predicted in an epoch before is forgotten.
        """
        self.seen[index] = kind
        self.recorded += index.size
        stamp = np.uint16(epoch + 1)
        if PREDICTED in self.columns:  # of an epoch that tells no class, none is known
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
        """Return the scores beyond the first of this epoch, sample by sample: both ``(K,)``."""
        if not self._again:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        index = np.concatenate([i for i, _ in self._again])
        scores = np.concatenate([s for _, s in self._again])
        return index, scores

    def repeat(self, index: Index, scores: Scores) -> None:
        """Take over scores beyond the first, as :meth:`repeated` gave them."""
        self._again = [(index, scores)] if index.size else []

    def settle(self) -> None:
        """Average the scores of samples that came more than once in this epoch."""
        index, scores = self.repeated()
        self._again.clear()
        if not index.size:
            return
        sample = np.unique(index)
        index = np.concatenate([sample, index])
        scores = np.concatenate([self.scores[sample], scores])
        by_value = np.lexsort((scores, index))
        row = np.searchsorted(sample, index[by_value])
        total = np.bincount(row, weights=scores[by_value].astype(np.float64))
        self.scores[sample] = (total / np.bincount(row)).astype(np.float32)

    def begin_epoch(self) -> None:
        """Forget what was seen in the epoch that ended."""
        self.settle()
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
        """Forget the samples from ``n`` on."""
        for name in ("scores", "scored_in", "reason", "seen"):
            setattr(self, name, getattr(self, name)[:n].copy())
        self.columns = {name: column[:n].copy() for name, column in self.columns.items()}

    def rearrange(self, origin: Index) -> None:
        """Give samples other places between epochs: sample i stood at ``origin[i]``, -1 for a new one."""
        known = np.flatnonzero(origin >= 0)
        old, columns = origin[known], self.columns
        fresh = Table(origin.size)
        for name in ("scores", "scored_in", "reason", "seen"):
            rows = getattr(fresh, name)
            rows[known] = getattr(self, name)[old]
            setattr(self, name, rows)
        self.columns = {}
        for name, column in columns.items():
            self.column(name, column.dtype.type)[known] = column[old]

    def forget(self, index: Index) -> None:
        """Make samples new: without a score, and kept unless they were removed by hand."""
        self.scores[index] = np.nan
        self.scored_in[index] = 0
        self.reason[index[self.reason[index] != Reason.BY_HAND]] = Reason.KEPT
        for column in self.columns.values():
            column[index] = 0
