"""The rows of the usage chart: which samples stand in which, and how many of them every epoch used.

The picture beside a run and the chart of its report are drawn from these arrays, and so say the same.
Samples stand by class, and within a class by how often they were used. A row holds so many of them that
its shade means something: one sample where a rule decides, many where a draw does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...core.history import EpochRecord, resized
from ...policies.base import Reason

History: TypeAlias = Sequence[EpochRecord]
ReasonOf: TypeAlias = Callable[[int], NDArray[np.uint8] | None]
"""Says why each sample was left out of an epoch, uint8 ``(n,)``; None where that is not known."""

ROWS, LEAST, DRAWS = 512, 64, 100
"""Rows of a chart: at most; at least where epochs were drawn; and then with so many samples each, if that
leaves enough rows. What share of 100 samples was drawn is within 10 points of their odds, 19 times of 20."""
PALEST, DARKER = 0.1, 0.72
"""How strongly a row is coloured of which an epoch used hardly any sample, and by how much more the more it
used; a row that was used whole has the colour itself."""
GROUPED = 64
"""Samples stand by class where there are up to so many classes; more would only flicker."""


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Which samples stand in which row: N samples, R rows.

    Attributes:
        order: integers ``(N,)``, the samples from the first row to the last.
        edges: int64 ``(R + 1,)``; row ``r`` holds the samples ``order[edges[r]:edges[r + 1]]``.
        classes: the label of each class and the row in which it begins; none where all stand together.
    """

    order: NDArray[np.integer]
    edges: NDArray[np.int64]
    classes: list[tuple[Any, int]]

    @property
    def single(self) -> bool:
        """Whether each row is one sample."""
        return len(self.edges) == len(self.order) + 1


class Counts(NamedTuple):
    """What became of the samples of each row in an epoch: int64 ``(R,)`` each.

    Attributes:
        used: how many were trained on.
        outliers: how many were left out as outliers; 0 where reasons are not known.
        total: how many existed then; samples may join later.
    """

    used: NDArray[np.int64]
    outliers: NDArray[np.int64]
    total: NDArray[np.int64]


class Shares(NamedTuple):
    """What became of the samples of each row in every epoch: float64 ``(R, E)`` each, in [0, 1].

    NaN where none was there yet; exactly 0 or 1 only where it is that of none or all of them.
    """

    used: NDArray[np.float64]
    outliers: NDArray[np.float64]


def arrange(
    history: History, labels: NDArray[Any] | None = None, scores: NDArray[np.floating] | None = None
) -> Arrangement:
    """Return which samples stand in which row. No row holds samples of two classes that are kept apart.

    Args:
        history: E epochs; the last has N samples, earlier ones may have fewer.
        labels: ``(N,)``, of any kind that can be sorted; or None.
        scores: ``(N,)``, by which samples that were used equally often stand, the highest first; or None.
    """
    n = history[-1].remaining
    values, classes = np.unique(np.zeros(n, np.int8) if labels is None else labels, return_inverse=True)
    apart = labels is not None and len(values) <= GROUPED
    if not apart:
        values, classes = np.zeros(1), np.zeros(n, np.int8)
    order = usage_order(history, classes.astype(np.int8), scores)
    sizes = np.bincount(classes, minlength=len(values))
    rows = min(n, ROWS)
    if n > 2 * LEAST and any(drew(record) for record in history):
        rows = min(rows, max(LEAST, n // DRAWS))
    each = np.clip(np.round(rows * sizes / n).astype(np.int64), 1, sizes)
    starts = np.cumsum(each) - each
    first = np.repeat(np.cumsum(sizes) - sizes, each)
    inside = np.arange(each.sum()) - np.repeat(starts, each)
    edges = np.append(first + inside * np.repeat(sizes, each) // np.repeat(each, each), n)
    return Arrangement(
        order, edges, list(zip(values.tolist(), starts.tolist(), strict=True)) if apart else []
    )


def usage_order(
    history: History, classes: NDArray[np.integer] | None = None, scores: NDArray[np.floating] | None = None
) -> NDArray[Any]:
    """Return the samples by class, then by times used, the most used first: integers ``(N,)``.

    Equals that were used in the same epochs stand together, where a rule chose these. A draw says no more of
    a sample than how often it was used. Further equals stand by score, the highest first, then by index.
    """
    n = history[-1].remaining
    kind = np.int32 if n < 2**31 else np.int64
    order = np.arange(n, dtype=kind)
    if scores is not None:
        order = np.argsort(-resized(np.asarray(scores), n, np.nan), kind="stable").astype(kind)
    times: NDArray[Any] = np.zeros(n, np.int16 if len(history) < 2**15 else np.int32)  # 16 bits sort fastest
    for record in reversed(history):  # a radix sort, a bit at a time
        used = used_mask(record, n)
        times -= used
        if not drew(record):
            now = used[order]
            order = np.concatenate([order[now], order[~now]])
    for key in (times, classes):
        order = order if key is None else order[np.argsort(key[order], kind="stable")]
    return order


def row_counts(
    order: NDArray[np.integer],
    edges: NDArray[np.integer],
    record: EpochRecord,
    reason: NDArray[np.uint8] | None = None,
) -> Counts:
    """Return what became of the samples of each row in an epoch.

    Args:
        order: as in :class:`Arrangement`, and ``edges`` too; no row is empty.
        edges: where rows begin, and N.
        record: of the epoch.
        reason: uint8 ``(record.remaining,)``, why each sample was left out of it; or None.
    """
    n, starts = order.size, edges[:-1]
    used = np.add.reduceat(used_mask(record, n)[order], starts, dtype=np.int64)
    if record.remaining >= n:
        there = np.diff(edges).astype(np.int64)
    else:
        there = np.add.reduceat(order < record.remaining, starts, dtype=np.int64)
    outliers = np.zeros(starts.size, np.int64)
    if reason is not None and record.outliers:
        odd = resized(reason == Reason.OUTLIER, n, False) & ~used_mask(record, n)
        outliers = np.add.reduceat(odd[order], starts, dtype=np.int64)
    return Counts(used, outliers, there)


def row_shares(history: History, arrangement: Arrangement, reason_of: ReasonOf | None = None) -> Shares:
    """Return what became of the samples of each row in every epoch; one epoch is unpacked at a time.

    Args:
        history: E epochs, those of the arrangement.
        arrangement: of N samples in R rows.
        reason_of: is asked for the reasons of each epoch that left out outliers; or None.
    """
    size = len(arrangement.edges) - 1, len(history)
    used, outliers = np.full(size, np.nan), np.full(size, np.nan)
    for column, record in enumerate(history):
        reason = reason_of(record.epoch) if reason_of is not None and record.outliers else None
        found = row_counts(arrangement.order, arrangement.edges, record, reason)
        for part, into in ((found.used, used), (found.outliers, outliers)):
            np.divide(part, found.total, out=into[:, column], where=found.total > 0)
    return Shares(used, outliers)


def drew(record: EpochRecord) -> bool:
    """Return whether chance had a say in what the epoch used: a draw, or a step rule in its batches."""
    return record.not_drawn > 0 or record.backward < record.kept


def used_mask(record: EpochRecord, n: int) -> NDArray[np.bool_]:
    """Return which of the first ``n`` samples the epoch used; those that came later were not."""
    used: NDArray[np.bool_] = resized(record.used_mask, n, False)
    return used


def epoch_ticks(first: int, last: int) -> list[int]:
    """Return which epochs an axis names, at most eleven of ``first`` to ``last``: the first, and round ones.

    >>> epoch_ticks(1, 8), epoch_ticks(1, 30)
    ([1, 2, 3, 4, 5, 6, 7, 8], [1, 5, 10, 15, 20, 25, 30])
    """
    step = next(s * 10**k for k in range(9) for s in (1, 2, 5) if s * 10**k * 10 > last - first)
    if step <= 2:
        return list(range(first, last + 1, step))
    round_ones = range(-(-first // step) * step, last + 1, step)
    return [first, *(epoch for epoch in round_ones if epoch - first >= 0.6 * step)]
