"""Translate sample numbers of past epochs to present ones, after the data of a training have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Numbering:
    """The earlier positions of the present samples.

    Older samples come first, in their old order. So the remaining samples of a past epoch are the first of
    the present ones.

    Attributes:
        origin: int64 ``(K, N)``: from epoch ``since[k - 1]`` to ``since[k] - 1``, sample i was at position
            ``origin[k, i]``; -1 if it did not exist.
        since: int64 ``(K,)``, ascending: the epochs before which the data changed.
    """

    origin: NDArray[np.int64]
    since: NDArray[np.int64]

    @staticmethod
    def none() -> Numbering:
        """Return the numbering of a training whose data never changed."""
        return Numbering(np.zeros((0, 0), np.int64), np.zeros(0, np.int64))

    def after(self, origin: NDArray[np.int64], since: int) -> Numbering:
        """Return the numbering after another change of the data.

        Args:
            origin: int64 ``(N,)``, the position of each sample before the change, -1 for a new one.
            since: the first epoch with the changed data.
        """
        known = origin >= 0
        # The -1 of a new sample would index the last one; `where` puts it back.
        rows = [np.where(known, row[np.maximum(origin, 0)], -1) for row in self.origin]
        return Numbering(np.stack([*rows, origin]), np.append(self.since, since))

    def places(self, epoch: int, n: int) -> NDArray[np.int64] | None:
        """Return the positions in an epoch of ``n`` samples of those that still exist, in present order.

        None if the data have not changed since that epoch.
        """
        at = int(np.searchsorted(self.since, epoch, side="right"))
        if at == self.since.size:
            return None
        origin: NDArray[np.int64] = self.origin[at]
        return origin[(origin >= 0) & (origin < n)]


def in_present_order(values: NDArray[Any], places: NDArray[np.int64] | None) -> NDArray[Any]:
    """Return the values of a past epoch for the samples that still exist, in present order.

    Args:
        values: ``(n, ...)``, in the numbering of that epoch.
        places: the result of :meth:`Numbering.places`.

    >>> in_present_order(np.array([10, 11, 12, 13]), np.array([0, 3])).tolist()
    [10, 13]
    """
    return values if places is None else values[places]
