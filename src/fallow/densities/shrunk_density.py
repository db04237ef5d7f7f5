"""What densities by one Gaussian a group share: how they are drawn to a shape, kept and merged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import check_number, invalid
from .base import Density
from .moments import Moments
from .shrinking import Shrunk

AUTO = "auto"
Self = TypeVar("Self", bound="ShrunkDensity")


class ShrunkDensity(Density):
    r"""Gaussians by their moments, drawn towards a shape that counts as :math:`\nu` rows.

    Args:
        shrinkage: :math:`\nu`, or ``"auto"``: D times the power of ten with the highest leave-one-out
            likelihood.
    """

    def __init__(self, shrinkage: float | str = AUTO) -> None:
        if shrinkage != AUTO:
            shrinkage = check_number("shrinkage", shrinkage, 0)
        self.shrinkage = shrinkage
        self._moments: Moments | None = None
        self._shrunk: Shrunk | None = None

    @staticmethod
    @abstractmethod
    def _drawn(moments: Moments, rows: float) -> Shrunk:
        """Return the Gaussians of moments, their shape counted as so many rows."""

    def _take(self, moments: Moments, rows: float) -> None:
        self._moments, self._shrunk = moments, self._drawn(moments, rows)
        self.dim, self.count = moments.dim, float(moments.count.sum())

    def merge(self: Self, other: Density) -> Self:
        """Return the density of the rows of both, with the shrinkage of the one with more rows."""
        mine, theirs = self._moments, other._moments if isinstance(other, type(self)) else None
        if mine is None or theirs is None:
            kind = type(self).__name__
            raise invalid(f"A {kind} merges with a fitted {kind}.", type(other).__name__)
        more: Any = self if self.count >= other.count else other
        merged = type(self)(self.shrinkage)
        merged._take(mine.plus(theirs), more._shrunk.rows)
        return merged

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Density.state_dict`."""
        if self._moments is None or self._shrunk is None:
            return {}
        return {**self._moments.state_dict(), "rows": self._shrunk.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Density.load_state_dict`."""
        if state:
            self._take(Moments.from_state_dict(state), float(state["rows"]))


def moments_of(x: Tensor, weights: Tensor, shares: Tensor, total: Callable[[Tensor], Tensor]) -> Moments:
    """Return the moments of rows of all ranks about their common mean, shared out over groups.

    Args:
        x: float64 ``(N, D)``.
        weights: ``(N,)``.
        shares: ``(N, K)``, of each group in each row.
        total: sums over ranks.
    """
    start = total(torch.cat([(weights[:, None] * x).sum(0), weights.sum()[None]]))
    moments = Moments.zeros(shares.shape[1], start[:-1] / start[-1])
    return moments.add(x, shares * weights[:, None]).over_ranks(total)


def alone(total: Tensor) -> Tensor:
    """Return what one process has summed: there are no others."""
    return total
