"""K-means of numbers on a line: groups are stretches of the sorted values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 300


def group_edges(values: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    r"""Return the values that part ``values`` into at most ``groups`` groups by k-means, ascending.

    Lloyd's algorithm on sorted values: a group is a stretch between two edges, an edge lies midway between
    two means, and a mean is a difference of running sums, so that a round takes O(g log N) after one sort.
    It runs from three starts (equal counts, equal widths, and between) and keeps the closest fit; nothing
    is drawn. A group that ends empty is dropped, so equal values make one group. Value :math:`v` belongs to
    group ``searchsorted(edges, v, side="right")``.

    References:
        Least squares quantization in PCM (Lloyd, 1982)

    Args:
        values: ``(N,)``, finite, in any order, at least one.
        groups: how many groups there may be.

    Returns:
        ``(g - 1,)``, the edges between the g groups.

    Example:
        >>> group_edges(np.array([0, 9, 1, 10, 0.5], np.float32), 2).tolist()
        [5.0]
    """
    ordered = np.sort(values)
    sums = np.zeros(ordered.size + 1)
    np.cumsum(ordered, dtype=np.float64, out=sums[1:])
    distinct = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])].astype(np.float64)
    k = min(groups, distinct.size)
    middle = (np.arange(k) + 0.5) / k
    even = distinct[0] + middle * (distinct[-1] - distinct[0])
    dense = distinct[(middle * distinct.size).astype(np.int64)]
    # The best k points lie as dense as the cube root of the values' density (Panter and Dite, 1951).
    spread = np.cumsum(np.cbrt(np.square(np.diff(distinct))))
    best = distinct[np.searchsorted(spread, middle * spread[-1])] if k > 1 else dense
    return max((_lloyd(ordered, sums, start) for start in (dense, even, best)), key=lambda fit: fit[0])[1]


def _lloyd(
    ordered: NDArray[np.float32], sums: NDArray[np.float64], means: NDArray[np.float64]
) -> tuple[float, NDArray[np.float32]]:
    """Return the spread between the groups, largest where that inside them is least, and the edges."""
    centre = sums[-1] / ordered.size
    bounds = np.zeros(0, np.int64)
    for _ in range(ROUNDS):
        edges = ((means[1:] + means[:-1]) / 2).astype(np.float32)
        before, bounds = bounds, np.concatenate([[0], np.searchsorted(ordered, edges), [ordered.size]])
        if np.array_equal(bounds, before):
            break
        count, total = np.diff(bounds), np.diff(sums[bounds])
        means = np.where(count > 0, total / np.maximum(count, 1), means)
    count = np.diff(bounds)
    between = float(np.sum(count * (means - centre) ** 2))
    return between, edges[np.flatnonzero(count)[:-1]]
