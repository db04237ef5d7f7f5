"""One Gaussian, its covariance drawn towards a sphere."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..arrays.distributed import sum_over_ranks
from .base import check_sample, check_weights
from .moments import Moments
from .shrinking import Shrunk
from .shrunk_density import ShrunkDensity, alone, moments_of

_GRID = [10.0**power for power in range(-6, 4)]


class Gaussian(ShrunkDensity):
    r"""A Gaussian with full covariance, shrunk towards a sphere of the same mean variance.

    .. math:: \Sigma = \frac{S + \nu \tau I}{n + \nu}

    with the scatter S of n rows and the mean variance :math:`\tau`: the sphere counts as :math:`\nu` rows. By
    default :math:`\nu / D` is the power of ten with the highest leave-one-out likelihood, so that many rows
    are hardly shrunk and few rows do not break it. The leave-one-out densities are exact, in closed form.

    Args:
        shrinkage: :math:`\nu`, or ``"auto"``.

    References:
        Cross-validation of covariance structures (Hoffbeck and Landgrebe, 1996)

    >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    >>> Gaussian().fit(x).log_prob(torch.zeros(1, 2)).item()  # -log 2 pi = -1.84
    -1.8...
    """

    name: ClassVar[str] = "gaussian"

    def fit(
        self,
        x: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        index: Tensor | None = None,
        together: bool = False,
    ) -> Gaussian:
        """See :meth:`Density.fit`."""
        x, weights, _ = check_sample(x, weights, index, least=0 if together else 2)
        total = sum_over_ranks if together else alone
        moments = moments_of(x, weights, torch.ones_like(weights)[:, None], total)
        rows = self.shrinkage
        if isinstance(rows, str):
            grid = [moments.dim * step for step in _GRID]
            fits = total(self._drawn(moments, 0.0).fit_left_out(x, weights, 0, grid))
            rows = grid[int(fits.argmax())]
        self._take(moments, rows)
        return self

    @staticmethod
    def _drawn(moments: Moments, rows: float) -> Shrunk:
        """Return the Gaussian, drawn towards a sphere."""
        sphere = torch.eye(moments.dim, dtype=torch.float64, device=moments.origin.device)
        return Shrunk(moments.mean(), moments.inner(), moments.count, sphere, rows)

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`."""
        x = self._rows(x)
        assert self._shrunk is not None
        return self._shrunk.log_prob(x)[:, 0]

    def left_out(
        self,
        x: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`Density.left_out`."""
        x = self._rows(x)
        assert self._shrunk is not None
        return self._shrunk.left_out(x, check_weights(weights, x))
