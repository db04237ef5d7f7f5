"""Select the k smallest of N values exactly, without sorting and without a second array of N values.

The bits of a float32, read as an unsigned integer, keep its order (after a flip for the sign). So two
counting passes, by the high and then by the low 16 bits, find the k-th value. A function of the position
returns the values in blocks, so they can be computed on the fly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Callable[[int, int], NDArray[np.float32]]
"""``values(start, stop) -> (stop - start,)``; NaN is skipped."""

BLOCK = 1 << 18
HELD = 1 << 22
"""Up to this many values (16 MB) are computed once and held; more are computed again in each pass."""

_LOW = np.uint32(0xFFFF)


def blocks(n: int, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Yield ``(start, stop)`` over ``range(n)``."""
    for start in range(0, n, size):
        yield start, min(start + size, n)


def _ordered(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return integers in the order of the values; NaN gives the largest."""
    values = values + np.float32(0)  # turns -0 into 0, which has other bits
    # Shifting a negative int32 fills all of its bits with ones.
    negative = (values.view(np.int32) >> np.int32(31)).view(np.uint32)
    ordered = values.view(np.uint32) ^ (negative | np.uint32(0x80000000))
    np.copyto(ordered, np.uint32(0xFFFFFFFF), where=values != values)
    return ordered


def _reader(values: Values, n: int) -> Callable[[], Iterable[tuple[int, NDArray[np.uint32]]]]:
    """Return a function that yields ``(start, ordered block)`` in each pass."""

    def read() -> Iterator[tuple[int, NDArray[np.uint32]]]:
        for start, stop in blocks(n):
            yield start, _ordered(values(start, stop))

    held = list(read()) if n <= HELD else None
    return read if held is None else lambda: held


def _value(ordered: int) -> float:
    bits = ordered ^ (0x80000000 if ordered & 0x80000000 else 0xFFFFFFFF)
    return float(np.array(bits, np.uint32).view(np.float32))


def _cut(read: Callable[[], Iterable[tuple[int, NDArray[np.uint32]]]], count: int) -> tuple[int, int]:
    """Return the ``count``-th smallest as an ordered integer, and the number of values below it."""
    high = np.zeros(1 << 16, np.int64)
    for _, ordered in read():
        high += np.bincount(ordered >> np.uint32(16), minlength=1 << 16)
    up_to = np.cumsum(high)
    top = int(np.searchsorted(up_to, count))
    below = int(up_to[top] - high[top])
    low = np.zeros(1 << 16, np.int64)
    for _, ordered in read():
        inside = ordered[ordered >> np.uint32(16) == top]
        low += np.bincount(inside & _LOW, minlength=1 << 16)
    up_to = np.cumsum(low)
    bottom = int(np.searchsorted(up_to, count - below))
    return (top << 16) | bottom, below + int(up_to[bottom] - low[bottom])


def kth_smallest(values: Values, n: int, count: int) -> float:
    """Return the ``count``-th smallest value, counted from 1.

    >>> v = np.array([3.0, np.nan, -1.0, 2.0], np.float32)
    >>> kth_smallest(lambda a, b: v[a:b], 4, 2)
    2.0
    """
    return _value(_cut(_reader(values, n), count)[0])


def smallest(values: Values, n: int, count: int, ties: Values | None = None) -> NDArray[np.bool_]:
    """Return a mask ``(n,)`` of the ``count`` smallest values.

    Args:
        values: the values by position. NaN is never chosen.
        n: the number of positions.
        count: how many to choose, at most the number of values that are not NaN.
        ties: breaks ties at the last value chosen, the smallest first; by default the lowest positions.

    >>> v = np.array([3.0, 1.0, 2.0, 1.0], np.float32)
    >>> smallest(lambda a, b: v[a:b], 4, 2).tolist()
    [False, True, False, True]
    """
    chosen = np.zeros(n, np.bool_)
    if count <= 0:
        return chosen
    read = _reader(values, n)
    cut, below = _cut(read, count)
    left = count - below
    equal: list[NDArray[np.int64]] = []
    rank: list[NDArray[np.float32]] = []
    for start, ordered in read():
        stop = start + ordered.size
        np.less(ordered, np.uint32(cut), out=chosen[start:stop])
        at = np.flatnonzero(ordered == np.uint32(cut))
        if ties is not None:
            rank.append(ties(start, stop)[at])
        equal.append(start + at)
    tied = np.concatenate(equal)
    if ties is not None and tied.size > left:
        tied = tied[np.argsort(np.concatenate(rank), kind="stable")]
    chosen[tied[:left]] = True
    return chosen
