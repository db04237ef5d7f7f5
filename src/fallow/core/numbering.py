"""How the samples of past epochs are numbered now, in a training whose data have changed on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Numbering:
    """Where the present samples stood in earlier epochs.

    Samples that were there before come first, in their old order. So those that an epoch had are the first
    ones now too, and what is told of it is a prefix of the present samples.

    Attributes:
        origin: int64 ``(K, N)``: sample i stood at ``origin[k, i]`` in the epochs before ``since[k]``, and
            not before ``since[k - 1]``; -1 where it was not there.
        since: int64 ``(K,)``, ascending.
    """

    origin: NDArray[np.int64]
    since: NDArray[np.int64]

    @staticmethod
    def none() -> Numbering:
        """Return the numbering of a training whose samples always stood where they stand."""
        return Numbering(np.zeros((0, 0), np.int64), np.zeros(0, np.int64))

    def after(self, origin: NDArray[np.int64], since: int) -> Numbering:
        """Return the numbering once the samples have changed again.

        Args:
            origin: int64 ``(N,)``, where each sample stood in the numbering until now, -1 for a new one.
            since: the first epoch that has the samples as they are now.
        """
        known = origin >= 0
        rows = [np.where(known, row[np.maximum(origin, 0)], -1) for row in self.origin]
        return Numbering(np.stack([*rows, origin]), np.append(self.since, since))

    def places(self, epoch: int, n: int) -> NDArray[np.int64] | None:
        """Return where those of the present samples stood that an epoch of ``n`` samples had, in their order.

        None where samples stood in it where they stand now.
        """
        at = int(np.searchsorted(self.since, epoch, side="right"))
        if at == self.since.size:
            return None
        origin: NDArray[np.int64] = self.origin[at]
        return origin[(origin >= 0) & (origin < n)]


def present(values: NDArray[Any], places: NDArray[np.int64] | None) -> NDArray[Any]:
    """Return what was told of each sample of a past epoch, of those that are there now, as they stand now.

    Args:
        values: ``(n, ...)``, in the numbering of that epoch.
        places: what :meth:`Numbering.places` returned.

    >>> present(np.array([10, 11, 12, 13]), np.array([0, 3])).tolist()
    [10, 13]
    """
    return values if places is None else values[places]
