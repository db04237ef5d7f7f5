"""Groups of rows at every scale, by the tree of Ward's method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import missing_extra


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of n rows and n - 1 groups; each group follows the two nodes that it joins.

    Node i is row i if i < n, and group i - n otherwise.

    Attributes:
        parts: int64 ``(n - 1, 2)``, the two nodes of each group.
        linkage: the linkage matrix of scipy.
    """

    parts: NDArray[np.int64]
    linkage: NDArray[np.float64]

    @staticmethod
    def of(places: NDArray[np.float64]) -> Tree:
        """Join rows ``(n, p)``, at least 2; time and memory grow with n squared.

        References:
            Hierarchical grouping to optimize an objective function (Ward, 1963)
        """
        try:
            from scipy.cluster.hierarchy import ward
        except ModuleNotFoundError:
            raise missing_extra("Finding gaps", "scipy") from None
        linkage = ward(places)
        return Tree(linkage[:, :2].astype(np.int64), linkage)

    @property
    def rows(self) -> int:
        """The number of rows, n."""
        return len(self.parts) + 1

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums over the rows of each node: ``(n, ...) -> (2 n - 1, ...)``."""
        n = self.rows
        sums = np.concatenate([values, np.zeros((n - 1, *values.shape[1:]), values.dtype)])
        for node, (first, second) in enumerate(self.parts, n):
            sums[node] = sums[first] + sums[second]
        return sums

    def members(self, node: int) -> NDArray[np.int64]:
        """Return the rows of a node, ascending."""
        rows = []
        open_nodes = [int(node)]  # not by recursion: a tree may be as deep as it has rows
        while open_nodes:
            current = open_nodes.pop()
            if current < self.rows:
                rows.append(current)
            else:
                open_nodes += self.parts[current - self.rows].tolist()
        return np.sort(np.array(rows, np.int64))

    def groups(self, count: int) -> NDArray[np.int64]:
        """Return the group of each row, int64 ``(n,)`` from 0, for at most ``count`` groups."""
        from scipy.cluster.hierarchy import fcluster

        groups: NDArray[np.int64] = fcluster(self.linkage, max(1, count), "maxclust").astype(np.int64) - 1
        return groups

    def best(self, gains: NDArray[np.float64]) -> list[int]:
        """Return the nodes with the largest sum of gains, none inside another and each with a gain.

        Args:
            gains: ``(2 n - 1,)``, of each node, at least 0.
        """
        n = self.rows
        # Parts come before the groups they join, so one pass up and one pass down find the optimum.
        best = gains.copy()
        taken = gains > 0
        for node, (first, second) in enumerate(self.parts, n):
            inside = best[first] + best[second]
            if inside > gains[node]:
                best[node] = inside
                taken[node] = False
        chosen = []
        open_nodes = [2 * n - 2]
        while open_nodes:
            node = open_nodes.pop()
            if taken[node]:
                chosen.append(node)
            elif node >= n:
                open_nodes += self.parts[node - n].tolist()
        return sorted(chosen)
