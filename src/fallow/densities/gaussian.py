"""One Gaussian with its covariance shrunk towards a sphere."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..arrays.distributed import sum_over_ranks
from ..errors import check_number, invalid
from .base import Density, check_sample, check_weights
from .moments import Moments, moments_of, one_rank
from .shrinking import ShrunkGaussians

AUTO = "auto"
_GRID = [10.0**power for power in range(-6, 4)]


class Gaussian(Density):
    r"""A Gaussian with full covariance, shrunk towards a sphere of the same mean variance.

    .. math:: \Sigma = \frac{S + \nu \tau I}{n + \nu}

    with the scatter S of n rows and the mean variance :math:`\tau`: the sphere counts as :math:`\nu` rows. By
    default :math:`\nu / D` is the power of ten with the highest leave-one-out likelihood: many rows are
    hardly shrunk, and few rows do not make the covariance singular. The leave-one-out densities are exact,
    in closed form.

    Args:
        shrinkage: :math:`\nu`, or ``"auto"``.

    References:
        Cross-validation of covariance structures (Hoffbeck and Landgrebe, 1996)

    >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    >>> Gaussian().fit(x).log_prob(torch.zeros(1, 2)).item()  # -log 2 pi = -1.84
    -1.8...
    """

    name: ClassVar[str] = "gaussian"

    def __init__(self, shrinkage: float | str = AUTO) -> None:
        if shrinkage != AUTO:
            shrinkage = check_number("shrinkage", shrinkage, 0)
        self.shrinkage = shrinkage
        self._moments: Moments | None = None
        self._shrunk: ShrunkGaussians | None = None

    def fit(
        self,
        x: Tensor,
        *,
        weights: Tensor | None = None,
        index: Tensor | None = None,
        together: bool = False,
        group: Any = None,
    ) -> Gaussian:
        """See :meth:`Density.fit`."""
        x, weights, _ = check_sample(x, weights, index, least=0 if together else 2)
        total = partial(sum_over_ranks, group=group) if together else one_rank
        moments = moments_of(x, weights, torch.ones_like(weights)[:, None], total)
        rows = self.shrinkage
        if isinstance(rows, str):
            grid = [moments.dim * step for step in _GRID]
            likelihoods = total(self._shrink(moments, 0.0).fit_left_out(x, weights, 0, grid))
            rows = grid[int(likelihoods.argmax())]
        self._take(moments, rows)
        return self

    @staticmethod
    def _shrink(moments: Moments, rows: float) -> ShrunkGaussians:
        sphere = torch.eye(moments.dim, dtype=torch.float64, device=moments.origin.device)
        return ShrunkGaussians(moments.mean(), moments.inner(), moments.count, sphere, rows)

    def _take(self, moments: Moments, rows: float) -> None:
        self._moments = moments
        self._shrunk = self._shrink(moments, rows)
        self.dim = moments.dim
        self.count = float(moments.count.sum())

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`."""
        x = self._rows(x)
        assert self._shrunk is not None
        return self._shrunk.log_prob(x)[:, 0]

    def left_out(self, x: Tensor, *, weights: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """See :meth:`Density.left_out`."""
        x = self._rows(x)
        assert self._shrunk is not None
        return self._shrunk.left_out(x, check_weights(weights, x))

    def merge(self, other: Density) -> Gaussian:
        """Return the density of the rows of both, with the shrinkage of the one with more rows."""
        if not isinstance(other, Gaussian) or self._moments is None or other._moments is None:
            raise invalid("A Gaussian merges with a fitted Gaussian.", type(other).__name__)
        larger: Any = self if self.count >= other.count else other
        merged = Gaussian(self.shrinkage)
        merged._take(self._moments.plus(other._moments), larger._shrunk.rows)
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
