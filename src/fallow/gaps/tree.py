"""Groups at every scale: the tree in which Ward's method joins rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import missing_extra


@dataclass(frozen=True, eq=False)
class Tree:
    """n rows and the n - 1 groups in which they join, each after the two that it is made of.

    Node i is row i below n, and group i - n above.

    Attributes:
        parts: int64 ``(n - 1, 2)``, the two nodes that each group joins.
        linkage: as scipy has it.
    """

    parts: NDArray[np.int64]
    linkage: NDArray[np.float64]

    @staticmethod
    def of(places: NDArray[np.float64]) -> Tree:
        """Join rows ``(n, p)``, 2 at least; time and memory grow with n squared.

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
        """How many rows there are."""
        return len(self.parts) + 1

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums over the rows of each node: ``(n, ...) -> (2 n - 1, ...)``."""
        n = self.rows
        found = np.concatenate([values, np.zeros((n - 1, *values.shape[1:]), values.dtype)])
        for node, (first, second) in enumerate(self.parts, n):
            found[node] = found[first] + found[second]
        return found

    def members(self, node: int) -> NDArray[np.int64]:
        """Return the rows of a node, ascending."""
        rows, open_nodes = [], [int(node)]
        while open_nodes:
            at = open_nodes.pop()
            if at < self.rows:
                rows.append(at)
            else:
                open_nodes += self.parts[at - self.rows].tolist()
        return np.sort(np.array(rows, np.int64))

    def groups(self, count: int) -> NDArray[np.int64]:
        """Return a group a row, int64 ``(n,)`` from 0: ``count`` groups, or fewer."""
        from scipy.cluster.hierarchy import fcluster

        found: NDArray[np.int64] = fcluster(self.linkage, max(1, count), "maxclust").astype(np.int64) - 1
        return found

    def best(self, gains: NDArray[np.float64]) -> list[int]:
        """Return the nodes, none inside another, with the largest sum of gains; none without a gain.

        Args:
            gains: ``(2 n - 1,)``, of each node, at least 0.
        """
        n = self.rows
        best, taken = gains.copy(), gains > 0
        for node, (first, second) in enumerate(self.parts, n):
            inside = best[first] + best[second]
            if inside > gains[node]:
                best[node], taken[node] = inside, False
        chosen, open_nodes = [], [2 * n - 2]
        while open_nodes:
            node = open_nodes.pop()
            if taken[node]:
                chosen.append(node)
            elif node >= n:
                open_nodes += self.parts[node - n].tolist()
        return sorted(chosen)
