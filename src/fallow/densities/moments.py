r"""Sums over rows that give means and covariances, and add up over batches and ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import invalid


@dataclass
class Moments:
    r"""Counts, sums and scatter matrices of K groups of rows about one origin, in float64.

    .. math:: n_k = \sum_i r_{ik}, \quad s_k = \sum_i r_{ik} (x_i - c), \quad
        S_k = \sum_i r_{ik} (x_i - c)(x_i - c)^\top

    with the weight :math:`r_{ik}` of row i in group k. Moments about the same origin add up term by term;
    others are moved to it first. An origin c near the mean avoids the cancellation in
    :math:`S_k / n_k - (s_k / n_k)(s_k / n_k)^\top`.

    Args:
        origin: c, ``(D,)``.
        count: n, ``(K,)``.
        sum: s, ``(K, D)``.
        scatter: S, ``(K, D, D)``.

    References:
        Numerically stable parallel computation of (co-)variance (Schubert and Gertz, 2018)

    >>> import torch
    >>> x = torch.randn(100, 3, dtype=torch.float64) + 1e6
    >>> moments = Moments.zeros(1, x[0]).add(x)
    >>> bool(torch.allclose(moments.covariance()[0], x.T.cov(correction=0)))
    True
    """

    origin: Tensor
    count: Tensor
    sum: Tensor
    scatter: Tensor

    @staticmethod
    def zeros(groups: int, origin: Tensor) -> Moments:
        """Return the moments of empty groups about an origin ``(D,)``."""
        origin = origin.detach().double()
        new = origin.new_zeros
        return Moments(origin, new(groups), new(groups, len(origin)), new(groups, len(origin), len(origin)))

    @property
    def groups(self) -> int:
        """K."""
        return len(self.count)

    @property
    def dim(self) -> int:
        """D."""
        return len(self.origin)

    def add(self, x: Tensor, weights: Tensor | None = None) -> Moments:
        """Add rows in place, and return self.

        Args:
            x: ``(B, D)``.
            weights: ``(B, K)``, of each row in each group; with one group also ``(B,)``, by default 1 each.
        """
        centred = x.double() - self.origin
        if weights is None:
            weights = centred.new_ones(len(x), 1)
        shares = weights.double().reshape(len(x), self.groups)
        self.count += shares.sum(0)
        self.sum += shares.T @ centred
        for group in range(self.groups):
            share = shares[:, group]
            rows = centred
            if self.groups > 1:  # most rows have a share in few groups: the others need no product
                members = share.nonzero()[:, 0]
                share = share[members]
                rows = centred[members]
            self.scatter[group].addmm_((rows * share[:, None]).T, rows)
        return self

    def moved(self, origin: Tensor) -> Moments:
        """Return the same moments about another origin."""
        shift = self.origin - origin
        cross = self.sum.unsqueeze(2) * shift
        square = self.count[:, None, None] * torch.outer(shift, shift)
        scatter = self.scatter + cross + cross.transpose(1, 2) + square
        return Moments(origin, self.count.clone(), self.sum + self.count[:, None] * shift, scatter)

    def plus(self, other: Moments) -> Moments:
        """Return the moments of the rows of both.

        Raises:
            InvalidValue: if their numbers of groups or of columns differ.
        """
        if (self.groups, self.dim) != (other.groups, other.dim):
            rule = f"Moments of {self.groups} groups of {self.dim} numbers add to moments of the same shape."
            raise invalid(rule, f"{other.groups} groups of {other.dim}")
        other = other.moved(self.origin)
        return Moments(
            self.origin, self.count + other.count, self.sum + other.sum, self.scatter + other.scatter
        )

    def beside(self, other: Moments) -> Moments:
        """Return the groups of both, those of the other last; the origin must be the same."""
        pairs = ((self.count, other.count), (self.sum, other.sum), (self.scatter, other.scatter))
        return Moments(self.origin, *(torch.cat(pair) for pair in pairs))

    def over_ranks(self, total: Callable[[Tensor], Tensor]) -> Moments:
        """Return the moments of the rows of all ranks; the origin must be the same on all."""
        packed = total(torch.cat([self.count, self.sum.flatten(), self.scatter.flatten()]))
        sizes = [self.count.numel(), self.sum.numel(), self.scatter.numel()]
        count, sums, scatter = torch.split(packed, sizes)
        return Moments(self.origin, count, sums.view_as(self.sum), scatter.view_as(self.scatter))

    def mean(self) -> Tensor:
        """Return the mean of each group, ``(K, D)``; an empty group has the origin."""
        return self.origin + self.sum / self.count.clamp_min(1e-300)[:, None]

    def inner(self) -> Tensor:
        """Return the scatter of each group about its own mean, ``(K, D, D)``."""
        count = self.count.clamp_min(1e-300).view(-1, 1, 1)
        scatter = self.scatter - self.sum.unsqueeze(2) * self.sum.unsqueeze(1) / count
        return (scatter + scatter.transpose(1, 2)) / 2  # rounding leaves it slightly asymmetric

    def covariance(self) -> Tensor:
        """Return the covariance of each group, ``(K, D, D)``, divided by n."""
        return self.inner() / self.count.clamp_min(1e-300).view(-1, 1, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the four tensors."""
        return {"origin": self.origin, "count": self.count, "sum": self.sum, "scatter": self.scatter}

    @staticmethod
    def from_state_dict(state: dict[str, Any]) -> Moments:
        """Return the moments of a :meth:`state_dict`."""
        return Moments(*(state[name].clone() for name in ("origin", "count", "sum", "scatter")))


def moments_of(x: Tensor, weights: Tensor, shares: Tensor, total: Callable[[Tensor], Tensor]) -> Moments:
    """Return the moments of groups of rows about the mean of all rows, over all ranks.

    Args:
        x: float64 ``(N, D)``.
        weights: ``(N,)``.
        shares: ``(N, K)``, of each group in each row.
        total: sums a tensor over ranks.
    """
    start = total(torch.cat([(weights[:, None] * x).sum(0), weights.sum()[None]]))
    moments = Moments.zeros(shares.shape[1], start[:-1] / start[-1])
    return moments.add(x, shares * weights[:, None]).over_ranks(total)


def one_rank(values: Tensor) -> Tensor:
    """Return values as they are: the ``total`` of a single process."""
    return values
