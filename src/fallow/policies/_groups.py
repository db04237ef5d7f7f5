"""K-means in one dimension: each group is an interval of the sorted values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 300
"""Maximum number of rounds; the algorithm nearly always converges earlier."""


def group_edges(values: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    r"""Return the edges that split ``values`` into at most ``groups`` groups by k-means, ascending.

    Lloyd's algorithm on sorted values: a group is the interval between two edges, an edge is the midpoint of
    two means, and a mean is a difference of running sums. So a round takes O(g log N) after one sort. The
    algorithm starts from equal counts, from equal widths and from a compromise, and returns the best fit;
    nothing is random. Empty groups are dropped, so equal values make one group. Value :math:`v` belongs to
    group ``searchsorted(edges, v, side="right")``.

    References:
        Least squares quantization in PCM (Lloyd, 1982)

    Args:
        values: ``(N,)``, finite, in any order, at least one.
        groups: maximum number of groups.

    Returns:
        ``(g - 1,)``, the edges between the g groups.

    Example:
        >>> group_edges(np.array([0, 9, 1, 10, 0.5], np.float32), 2).tolist()
        [5.0]
    """
    ordered = np.sort(values)
    # In float64: a mean is the difference of two large sums.
    sums = np.zeros(ordered.size + 1)
    np.cumsum(ordered, dtype=np.float64, out=sums[1:])
    distinct = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])].astype(np.float64)
    k = min(groups, distinct.size)
    quantiles = (np.arange(k) + 0.5) / k
    equal_widths = distinct[0] + quantiles * (distinct[-1] - distinct[0])
    equal_counts = distinct[(quantiles * distinct.size).astype(np.int64)]
    starts = [equal_counts, equal_widths]
    if k > 1:
        # The optimal density of k points is the cube root of the values' density (Panter and Dite, 1951).
        spread = np.cumsum(np.cbrt(np.square(np.diff(distinct))))
        starts.append(distinct[np.searchsorted(spread, quantiles * spread[-1])])
    return max((_lloyd(ordered, sums, start) for start in starts), key=lambda fit: fit[0])[1]


def _lloyd(
    ordered: NDArray[np.float32], sums: NDArray[np.float64], means: NDArray[np.float64]
) -> tuple[float, NDArray[np.float32]]:
    """Return the variation between the groups, which is largest for the best fit, and the edges."""
    centre = sums[-1] / ordered.size
    bounds = np.zeros(0, np.int64)
    for _ in range(ROUNDS):
        # Of the type of the values, so that comparing them later gives the same groups.
        edges = ((means[1:] + means[:-1]) / 2).astype(np.float32)
        before, bounds = bounds, np.concatenate([[0], np.searchsorted(ordered, edges), [ordered.size]])
        if np.array_equal(bounds, before):
            break
        count, total = np.diff(bounds), np.diff(sums[bounds])
        # An empty group keeps its mean, and may get values again.
        means = np.where(count > 0, total / np.maximum(count, 1), means)
    count = np.diff(bounds)
    between = float(np.sum(count * (means - centre) ** 2))
    return between, edges[np.flatnonzero(count)[:-1]]
