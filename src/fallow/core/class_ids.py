"""Number class ids from 0, so that no array is as long as the largest id."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SMALL = 1024
"""Ids below this are never renumbered: a network may have more classes than there are samples."""
_MOST = 2**31 - 2
"""The largest number: the table keeps number + 1 in int32."""


class ClassIds:
    """A mapping between class ids and numbers from 0.

    Ids that are at least 0 and not much larger than the number of samples are their own numbers. If one is
    negative or larger, the ids of the samples are numbered from 0 in ascending order.

    Args:
        ids: the ids in ascending order, int64 ``(C,)``; None if they are their own numbers.

    >>> class_ids = ClassIds.of(np.array([7, -1, 2**40, 7]))
    >>> class_ids.encode(np.array([-1, 7, 2**40]))
    array([0, 1, 2], dtype=int32)
    >>> ClassIds.of(np.array([0, 2, 1])).encode(np.array([2, 9]))
    array([2, 9], dtype=int32)
    """

    def __init__(self, ids: NDArray[np.int64] | None = None) -> None:
        self.ids = ids
        self._back: NDArray[np.int64] | None = None
        if ids is not None:
            no_class = -1 if ids[0] > -1 or -1 not in ids else np.iinfo(np.int64).min
            # Last, so that decode() reaches it both by -1, *no class*, and by C, a class that no sample has.
            self._back = np.append(ids, no_class)

    @staticmethod
    def of(labels: NDArray[np.int64]) -> ClassIds:
        """Return the mapping for the labels of all samples, int64 ``(N,)``."""
        if labels.min() >= 0 and labels.max() < max(_SMALL, 2 * labels.size):
            return ClassIds()
        return ClassIds(np.unique(labels))

    @property
    def renumbered(self) -> bool:
        """Whether ids and numbers differ."""
        return self.ids is not None

    def encode(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Return the number of each id, int32 of the same shape.

        An id that no sample has becomes C, or -1, *no class*, if it is negative.
        """
        if self.ids is None:
            # Clipped before the cast to int32, in which a huge id would wrap around.
            same: NDArray[np.int32] = np.clip(ids, -1, _MOST).astype(np.int32)
            return same
        # For an id beyond the last one searchsorted returns C, which is past the end.
        at = np.minimum(np.searchsorted(self.ids, ids), self.ids.size - 1)
        other = np.where(ids < 0, -1, self.ids.size)
        numbers: NDArray[np.int32] = np.where(self.ids[at] == ids, at, other).astype(np.int32)
        return numbers

    def decode(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the id of each number, int64.

        *No class*, and a class that no sample has, become -1, or the lowest int64 if -1 is an id.
        """
        if self._back is None:
            return numbers.astype(np.int64)
        ids: NDArray[np.int64] = self._back[numbers]
        return ids
