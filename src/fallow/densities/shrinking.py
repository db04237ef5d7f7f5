r"""Gaussians with a covariance shrunk towards a common shape, and leave-one-out densities in closed form.

With the scatter S of n rows about their mean, in D dimensions, and a target shape T,

.. math:: \Sigma = \frac{S + \nu \tau T}{n + \nu}, \qquad
    \tau = \frac{\operatorname{tr}(T^{-1} S) + D}{D (n + 1)}

the target counts as :math:`\nu` rows, at the scale :math:`\tau` of the rows (one row of scale 1 is added, so
that a group of one row has a scale too). In a basis B with :math:`B^\top T B = 1` and
:math:`B^\top S B = \operatorname{diag}(m)`, everything is a sum over D numbers, and removing a row of weight
w is exact:

.. math:: S' = S - \tfrac{n w}{n - w} d d^\top, \quad n' = n - w, \quad x - \mu' = \tfrac{n}{n - w} d, \quad
    d = x - \mu
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arrays.selection import blocks

LOG_2_PI = math.log(2 * math.pi)
_CHUNK = 1 << 22
"""Numbers held in memory at a time while rows are scored."""
_THIN = 1e-12
"""The least variance in any direction, as a share of the largest."""


class ShrunkGaussians:
    """K Gaussians, ready to score rows, each in the basis in which target and scatter are diagonal.

    Args:
        mean: ``(K, D)``.
        scatter: S, ``(K, D, D)``.
        count: n, ``(K,)``; a group without rows has the density 0.
        target: T, ``(D, D)``, positive definite.
        rows: nu, the weight of the target.
    """

    def __init__(self, mean: Tensor, scatter: Tensor, count: Tensor, target: Tensor, rows: float) -> None:
        self.mean = mean
        self.count = count
        self.rows = rows
        # Whitening by the target's Cholesky factor turns the generalised eigenproblem into an ordinary one.
        factor = torch.linalg.cholesky(target)
        half = torch.linalg.solve_triangular(factor, scatter, upper=False)
        whitened = torch.linalg.solve_triangular(factor, half.mT.contiguous(), upper=False)
        # eigh reads one triangle only, and rounding makes the two differ.
        spread, vectors = torch.linalg.eigh((whitened + whitened.mT) / 2)
        self.basis = torch.linalg.solve_triangular(factor.T.contiguous(), vectors, upper=True)
        self.spread = spread.clamp_min(0)
        self._log_target = 2 * factor.diagonal().log().sum()
        scale = (self.spread.sum(1) + self.dim) / (self.dim * (count + 1))
        variance = (self.spread + (rows * scale)[:, None]) / (count + rows).clamp_min(1e-300)[:, None]
        self._variance = variance.clamp_min(_THIN * variance.max(1, keepdim=True).values).clamp_min(1e-300)
        self._centre = (count[:, None] * mean).sum(0) / count.sum()
        constant = -0.5 * (self._variance.log().sum(1) + self._log_target + self.dim * LOG_2_PI)
        self._constant = constant.masked_fill(count <= 0, -math.inf)
        self._factors: dict[torch.dtype, tuple[Tensor, Tensor, Tensor]] = {}

    @property
    def dim(self) -> int:
        """D."""
        return int(self.mean.shape[1])

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density of rows ``(B, D)`` under each Gaussian, float64 ``(B, K)``.

        Rows of float32 are multiplied in float32 about the mean of all groups, and summed in float64.
        """
        factors, offsets, centre = self._unit_bases(x.dtype)
        k = len(self.count)
        log_prob = torch.empty(len(x), k, dtype=torch.float64, device=x.device)
        for start, stop in blocks(len(x), max(1, _CHUNK // len(offsets))):
            z = torch.addmm(offsets, x[start:stop] - centre, factors).view(-1, k, self.dim)
            distance = torch.linalg.vector_norm(z, dim=2, dtype=torch.float64).square_()
            torch.add(self._constant, distance, alpha=-0.5, out=log_prob[start:stop])
        return log_prob

    def _unit_bases(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bases with unit variance ``(D, K D)``, the means in them ``(K D,)``, and the centre."""
        if dtype not in self._factors:
            factors = self.basis / self._variance.sqrt()[:, None, :]
            offsets = ((self._centre - self.mean)[:, None, :] @ factors).flatten()
            flat = factors.transpose(0, 1).reshape(self.dim, -1)
            self._factors[dtype] = (flat.to(dtype), offsets.to(dtype), self._centre.to(dtype))
        return self._factors[dtype]

    def covariance(self) -> Tensor:
        """Return the covariance of each Gaussian, ``(K, D, D)``."""
        half: Tensor = torch.linalg.inv(self.basis).mT * self._variance.sqrt()[:, None, :]
        return half @ half.mT

    def left_out(self, x: Tensor, weights: Tensor, group: int = 0, rows: float | None = None) -> Tensor:
        """Return the log density of the rows of a group under its Gaussian, each without itself.

        Args:
            x: ``(B, D)``.
            weights: ``(B,)``, as in ``count``.
            group: the number of the Gaussian.
            rows: another weight of the target.

        Returns:
            float64 ``(B,)``; -inf for the only row of a group.
        """
        rows = self.rows if rows is None else rows
        n = self.count[group]
        spread = self.spread[group]
        squares = ((x.double() - self.mean[group]) @ self.basis[group]).square()
        rest = n - weights
        has_others = rest > n * 1e-12  # rounding leaves a little
        rest = rest.where(has_others, 1.0)
        factor = n * weights / rest
        trace = (spread.sum() - factor * squares.sum(1)).clamp_min(0)
        scale = (trace + self.dim) / (self.dim * (rest + 1))
        inner = (spread + (rows * scale)[:, None]).clamp_min(1e-300)
        form = (squares / inner).sum(1)
        kept = (1 - factor * form).clamp_min(1e-300)
        distance = (rest + rows) * (n / rest).square() * form / kept
        log_inner = inner.log().sum(1) + kept.log() - self.dim * (rest + rows).log()
        log_prob = -0.5 * (distance + log_inner + self._log_target + self.dim * LOG_2_PI)
        left_out: Tensor = log_prob.where(has_others, -math.inf)
        return left_out

    def fit_left_out(self, x: Tensor, weights: Tensor, group: int, candidates: list[float]) -> Tensor:
        """Return, for each weight of the target, the sum of w log p over rows, each without itself."""
        if self.count[group] <= weights.max():
            return x.new_zeros(len(candidates))
        return torch.stack([(weights * self.left_out(x, weights, group, rows)).sum() for rows in candidates])
