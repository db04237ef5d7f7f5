"""Which sample of one list is which of another, by what it is: one to one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def matched(before: NDArray[np.uint64], now: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return where each value of ``now`` stands in ``before``, -1 where it does not: ``(N,)``.

    No place is given twice; equal values are matched in their order.

    >>> matched(np.array([7, 5, 7], np.uint64), np.array([7, 7, 7, 5, 1], np.uint64)).tolist()
    [0, 2, -1, 1, -1]
    """
    found = np.full(now.size, -1, np.int64)
    if not before.size or not now.size:
        return found
    old, new = np.argsort(before, kind="stable"), np.argsort(now, kind="stable")
    values, ordered = before[old], now[new]
    first = np.searchsorted(ordered, ordered)
    at = np.searchsorted(values, ordered) + np.arange(now.size) - first
    inside = np.minimum(at, values.size - 1)
    same = (at < values.size) & (values[inside] == ordered)
    found[new[same]] = old[at[same]]
    return found


def matched_in_turn(before: list[NDArray[np.uint64]], now: list[NDArray[np.uint64]]) -> NDArray[np.int64]:
    """Return :func:`matched` by the first pair of lists, then what is left by the second, and so on."""
    found = np.full(now[0].size, -1, np.int64)
    open_ = np.ones(before[0].size, np.bool_)
    for old, new in zip(before, now, strict=True):
        left, places = np.flatnonzero(found < 0), np.flatnonzero(open_)
        at = matched(old[places], new[left])
        found[left[at >= 0]] = places[at[at >= 0]]
        open_[found[found >= 0]] = False
    return found
