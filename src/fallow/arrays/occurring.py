"""The values that occur among whole numbers, and the place of each: counted, since a sort takes seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SPREAD = 1 << 16
"""Values of which the largest and the smallest are at most so far apart are counted, however few they are."""


def occurring(numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return what ``np.unique(numbers, return_inverse=True)`` does, the same to the bit.

    Args:
        numbers: ``(N,)``; those that are no whole numbers, or far apart, are sorted.

    Returns:
        The values that occur, ascending, ``(C,)``, and the place of each number among them, ``(N,)``.

    >>> [found.tolist() for found in occurring(np.array([5, -1, 5, 2]))]
    [[-1, 2, 5], [2, 0, 2, 1]]
    """
    if numbers.size and numbers.dtype.kind in "iu" and numbers.dtype != np.uint64:
        low, high = int(numbers.min()), int(numbers.max())
        if high - low <= max(_SPREAD, numbers.size):
            at = numbers.astype(np.int64) - low
            there = np.bincount(at, minlength=high - low + 1) > 0
            places = np.cumsum(there) - 1
            return (np.flatnonzero(there) + low).astype(numbers.dtype), places[at]
    values, places = np.unique(numbers, return_inverse=True)
    return values, places.astype(np.int64, copy=False)
