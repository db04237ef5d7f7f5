"""Match the samples of two lists one to one, by their checksums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def matched(before: NDArray[np.uint64], now: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the position of each value of ``now`` in ``before``, -1 if it is missing: ``(N,)``.

    No position is given twice; equal values are matched in order.

    >>> matched(np.array([7, 5, 7], np.uint64), np.array([7, 7, 7, 5, 1], np.uint64)).tolist()
    [0, 2, -1, 1, -1]
    """
    origin = np.full(now.size, -1, np.int64)
    if not before.size or not now.size:
        return origin
    old, new = np.argsort(before, kind="stable"), np.argsort(now, kind="stable")
    values, ordered = before[old], now[new]
    first = np.searchsorted(ordered, ordered)
    # The k-th of several equal values in `now` takes the k-th of them in `before`.
    at = np.searchsorted(values, ordered) + np.arange(now.size) - first
    inside = np.minimum(at, values.size - 1)
    same = (at < values.size) & (values[inside] == ordered)
    origin[new[same]] = old[at[same]]
    return origin


def matched_in_turn(before: list[NDArray[np.uint64]], now: list[NDArray[np.uint64]]) -> NDArray[np.int64]:
    """Match by the first pair of lists, then the unmatched rest by the second, and so on."""
    origin = np.full(now[0].size, -1, np.int64)
    free = np.ones(before[0].size, np.bool_)
    for old, new in zip(before, now, strict=True):
        left = np.flatnonzero(origin < 0)
        candidates = np.flatnonzero(free)
        at = matched(old[candidates], new[left])
        origin[left[at >= 0]] = candidates[at[at >= 0]]
        free[origin[origin >= 0]] = False
    return origin
