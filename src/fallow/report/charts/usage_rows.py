"""The rows of the usage chart: the samples in each, and how many of them every epoch used.

``usage.png`` and the chart of the report are drawn from these arrays and agree. Samples are sorted by class,
and then by the number of uses. A row is one sample if a rule decides on its use, and many if a draw does,
because the share of one sample would be noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...arrays.occurring import occurring
from ...core.history import EpochRecord, resized
from ...policies.base import Reason

History: TypeAlias = Sequence[EpochRecord]
ReasonOf: TypeAlias = Callable[[int], NDArray[np.uint8] | None]
"""Returns the reason of each sample in an epoch, uint8 ``(n,)``; None if unknown."""

ROWS, LEAST, DRAWS = 512, 64, 100
"""Maximum number of rows; minimum number with random draws; and samples per row with draws, if that leaves
enough rows. The drawn share of 100 samples is within 10 points of its expectation, 19 times of 20."""
PALEST, DARKER = 0.1, 0.72
"""Strength of the colour for a share near 0, and its increase up to a share near 1. A row that was used
completely has the full colour."""
GROUPED = 64
"""Maximum number of classes that group the samples; more would only flicker."""


@dataclass(frozen=True, eq=False)
class Arrangement:
    """N samples in R rows.

    Attributes:
        order: integers ``(N,)``, the samples from the first row to the last.
        edges: int64 ``(R + 1,)``; row ``r`` holds the samples ``order[edges[r]:edges[r + 1]]``.
        classes: the label and the first row of each class; empty if classes are not grouped.
    """

    order: NDArray[np.integer]
    edges: NDArray[np.int64]
    classes: list[tuple[Any, int]]

    @property
    def single(self) -> bool:
        """Whether each row is one sample."""
        return len(self.edges) == len(self.order) + 1


class Counts(NamedTuple):
    """Counts of the samples of each row in an epoch: int64 ``(R,)`` each.

    Attributes:
        used: samples trained on.
        outliers: samples left out as outliers; 0 if reasons are not known.
        total: samples that existed in that epoch.
    """

    used: NDArray[np.int64]
    outliers: NDArray[np.int64]
    total: NDArray[np.int64]


class Shares(NamedTuple):
    """Shares of the samples of each row in every epoch: float64 ``(R, E)`` each, in [0, 1].

    NaN if none existed; exactly 0 or 1 only for none or all of them.
    """

    used: NDArray[np.float64]
    outliers: NDArray[np.float64]


def arrange(
    history: History, labels: NDArray[Any] | None = None, scores: NDArray[np.floating] | None = None
) -> Arrangement:
    """Return the samples of each row. If classes are grouped, no row holds samples of two classes.

    Args:
        history: E epochs; the last has N samples, earlier ones may have fewer.
        labels: ``(N,)``, sortable; or None.
        scores: ``(N,)``, the order of samples that were used equally often, the highest first; or None.
    """
    n = history[-1].remaining
    values, classes = occurring(np.zeros(n, np.int8) if labels is None else labels)
    grouped = labels is not None and len(values) <= GROUPED
    if not grouped:
        values, classes = np.zeros(1), np.zeros(n, np.int8)
    order = usage_order(history, classes.astype(np.int8), scores)
    sizes = np.bincount(classes, minlength=len(values))
    rows = min(n, ROWS)
    if n > 2 * LEAST and any(drew(record) for record in history):
        rows = min(rows, max(LEAST, n // DRAWS))
    # Rows are shared out in proportion to the classes; a rare class has at least one.
    each = np.clip(np.round(rows * sizes / n).astype(np.int64), 1, sizes)
    starts = np.cumsum(each) - each
    first = np.repeat(np.cumsum(sizes) - sizes, each)
    inside = np.arange(each.sum()) - np.repeat(starts, each)
    edges = np.append(first + inside * np.repeat(sizes, each) // np.repeat(each, each), n)
    return Arrangement(
        order, edges, list(zip(values.tolist(), starts.tolist(), strict=True)) if grouped else []
    )


def usage_order(
    history: History, classes: NDArray[np.integer] | None = None, scores: NDArray[np.floating] | None = None
) -> NDArray[Any]:
    """Return the samples by class, then by number of uses, the most used first: integers ``(N,)``.

    Ties are sorted by the epochs of their use, if a rule chose them (those of a draw are random), then by
    score, the highest first, then by index.
    """
    n = history[-1].remaining
    kind = np.int32 if n < 2**31 else np.int64
    order = np.arange(n, dtype=kind)
    if scores is not None:
        order = np.argsort(-resized(np.asarray(scores), n, np.nan), kind="stable").astype(kind)
    times: NDArray[Any] = np.zeros(n, np.int16 if len(history) < 2**15 else np.int32)  # 16 bits sort fastest
    # A radix sort by 16 epochs at a time, which never holds all (N, E) bits in memory.
    bits, held = np.zeros(n, np.uint16), 0
    for record in reversed(history):
        used = used_mask(record, n)
        # Counted downwards, so that a stable ascending sort begins with the most used.
        times -= used
        if not drew(record):
            bits |= (~used).astype(np.uint16) << np.uint16(held)
            held += 1
        if held == 16:
            order, held = _sorted(order, bits), 0
            bits[:] = 0
    for key in (bits, times, classes):
        order = order if key is None else _sorted(order, key)
    return order


def _sorted(order: NDArray[Any], key: NDArray[Any]) -> NDArray[Any]:
    """Return samples sorted by a key, in the order that they had where it is the same."""
    sorted_: NDArray[Any] = order[np.argsort(key[order], kind="stable")]
    return sorted_


def row_counts(
    order: NDArray[np.integer],
    edges: NDArray[np.integer],
    record: EpochRecord,
    reason: NDArray[np.uint8] | None = None,
) -> Counts:
    """Return the counts of each row in an epoch.

    Args:
        order: as in :class:`Arrangement`.
        edges: as in :class:`Arrangement`; no row may be empty.
        record: of the epoch.
        reason: uint8 ``(record.remaining,)``, why each sample was left out of it; or None.
    """
    n, starts = order.size, edges[:-1]
    used = np.add.reduceat(used_mask(record, n)[order], starts, dtype=np.int64)
    if record.remaining >= n:
        total = np.diff(edges).astype(np.int64)
    else:
        total = np.add.reduceat(order < record.remaining, starts, dtype=np.int64)
    outliers = np.zeros(starts.size, np.int64)
    if reason is not None and record.outliers:
        odd = resized(reason == Reason.OUTLIER, n, False) & ~used_mask(record, n)
        outliers = np.add.reduceat(odd[order], starts, dtype=np.int64)
    return Counts(used, outliers, total)


def row_shares(history: History, arrangement: Arrangement, reason_of: ReasonOf | None = None) -> Shares:
    """Return the shares of each row in every epoch; one epoch is unpacked at a time.

    Args:
        history: E epochs, those of the arrangement.
        arrangement: of N samples in R rows.
        reason_of: called for each epoch that left out outliers; or None.
    """
    size = len(arrangement.edges) - 1, len(history)
    used, outliers = np.full(size, np.nan), np.full(size, np.nan)
    for column, record in enumerate(history):
        reason = reason_of(record.epoch) if reason_of is not None and record.outliers else None
        counts = row_counts(arrangement.order, arrangement.edges, record, reason)
        for part, into in ((counts.used, used), (counts.outliers, outliers)):
            np.divide(part, counts.total, out=into[:, column], where=counts.total > 0)
    return Shares(used, outliers)


def drew(record: EpochRecord) -> bool:
    """Return whether chance influenced the use of samples: a draw, or a step rule in the batches."""
    return record.not_drawn > 0 or record.backward < record.kept


def used_mask(record: EpochRecord, n: int) -> NDArray[np.bool_]:
    """Return which of the first ``n`` samples the epoch used; samples that did not exist yet were not."""
    return resized(record.used_mask, n, False)


def epoch_ticks(first: int, last: int) -> list[int]:
    """Return at most eleven labelled epochs of an axis from ``first`` to ``last``: the first, and round ones.

    >>> epoch_ticks(1, 8), epoch_ticks(1, 30)
    ([1, 2, 3, 4, 5, 6, 7, 8], [1, 5, 10, 15, 20, 25, 30])
    """
    step = next(s * 10**k for k in range(9) for s in (1, 2, 5) if s * 10**k * 10 > last - first)
    if step <= 2:
        return list(range(first, last + 1, step))
    round_ones = range(-(-first // step) * step, last + 1, step)
    return [first, *(epoch for epoch in round_ones if epoch - first >= 0.6 * step)]


def came_back(history: History) -> list[int]:
    """Return the places of the epochs in which re-admission shows: 1 % of the samples more are kept.

    There are none if samples come back in turns, in nearly every epoch after the first removal: then the
    number of kept samples grows for other reasons.
    """
    removed = next((place for place, record in enumerate(history) if record.kept < record.n), len(history))
    later = history[removed + 1 :]
    if 3 * sum(record.readmitted > 0 for record in later) > 2 * len(later):
        return []
    return [
        place + 1
        for place, (a, b) in enumerate(pairwise(history))
        if b.readmitted and b.kept - a.kept >= max(1, b.n / 100)
    ]
