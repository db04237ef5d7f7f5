"""A mixture of Gaussians: the default density."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..arrays.distributed import sum_over_ranks
from ..arrays.selection import blocks
from ..errors import check_integer, check_number, invalid, wrong_state
from .base import Density, check_sample
from .k_means import distances, k_means
from .moments import Moments, moments_of, one_rank
from .row_draws import draw_rows
from .shrinking import ShrunkGaussians

_STARTED_ON = 1 << 14
"""Largest number of rows from which the start is computed."""
_DEAD = 0.1
"""A component with less than this part of an equal share is moved."""
_NEGLIGIBLE = 1e-14
"""Smaller shares of a row in a component are set to 0."""
_RIDGE = 1e-6
"""Added to the pooled covariance, as a share of its mean variance."""
_LEAST = 1e-9
"""Added as a share of the variance of all rows, in case there is no variance within components."""
_NEIGHBOURS = 5
_RESEEDS = 3
_STEP = 1 << 15


class GaussianMixture(Density):
    r"""A mixture of K Gaussians with full covariances, fitted by expectation and maximisation.

    .. math:: p(x) = \sum_k \pi_k\, \mathcal{N}(x; \mu_k, \Sigma_k), \qquad
        \Sigma_k = \frac{S_k + \nu \tau_k P}{n_k + \nu}

    P is the covariance within components, pooled over all of them. It counts as :math:`\nu` rows at the
    scale :math:`\tau_k` of the component, so that a component of few rows has the shape of the others.
    With ``shrinkage=0`` this is the maximum-likelihood mixture.

    The fit starts from greedy k-means++. A component that ends with less than a tenth of an equal share is
    moved, up to three times, to a cluster of rows that the mixture covers worst. The computation is in the
    log domain and in float64; the likelihood never falls unless components are moved.

    A row pulls a whole component towards itself, and there is no closed form for the mixture without it:
    use :class:`Halves` to score each row by the half that does not contain it.

    Args:
        components: K; fewer if there are fewer than 2 K rows.
        shrinkage: :math:`\nu`; by default D, the numbers in a row.
        seed: of the start.
        iterations: at most.
        tolerance: the fit ends when the mean log density rises by less than this, in nats.

    References:
        Maximum likelihood from incomplete data via the EM algorithm (Dempster, Laird and Rubin, 1977)

    >>> x = torch.cat([torch.randn(500, 2) - 4, torch.randn(500, 2) + 4])
    >>> density = GaussianMixture(components=2).fit(x)
    >>> bool(density.log_prob(torch.tensor([[4.0, 4.0]])) > density.log_prob(torch.tensor([[0.0, 0.0]])) + 5)
    True
    """

    name: ClassVar[str] = "gaussian-mixture"
    leaves_out: ClassVar[bool] = False

    def __init__(
        self,
        components: int = 16,
        shrinkage: float | None = None,
        *,
        seed: int = 0,
        iterations: int = 100,
        tolerance: float = 1e-3,
    ) -> None:
        self.components = check_integer("components", components, 1)
        self.shrinkage = None if shrinkage is None else check_number("shrinkage", shrinkage, 0)
        self.seed = check_integer("seed", seed, 0)
        self.iterations = check_integer("iterations", iterations, 1)
        self.tolerance = check_number("tolerance", tolerance, 0)
        self._moments: Moments | None = None
        self._fitted: Mixture | None = None
        self.height = -math.inf

    def fit(
        self,
        x: Tensor,
        *,
        weights: Tensor | None = None,
        index: Tensor | None = None,
        together: bool = False,
        group: Any = None,
        start: Tensor | None = None,
        iterations: int | None = None,
    ) -> GaussianMixture:
        """See :meth:`Density.fit`; ``start``: the shares of components in rows to start from, ``(N, K)``."""
        iterations = self.iterations if iterations is None else iterations
        x, weights, index = check_sample(x, weights, index, least=0 if together else 2)
        total = partial(sum_over_ranks, group=group) if together else one_rank
        drawn, drawn_weights, _ = draw_rows(
            (x, weights), index, _STARTED_ON, self.seed, together=together, group=group
        )
        if start is not None:
            moments = moments_of(x, weights, _check_start(start, x), total)
        else:
            moments = self._clusters(drawn, drawn_weights)
        self._take(*self._maximise(x, weights, moments, (drawn, drawn_weights), total, iterations))
        return self

    def _clusters(self, x: Tensor, weights: Tensor) -> Moments:
        """Return the moments of the k-means clusters of rows."""
        if len(x) < 2:
            raise invalid("A density needs at least 2 rows.", len(x))
        clusters = max(1, min(self.components, len(x) // 2))
        generator = torch.Generator().manual_seed(self.seed)
        cluster = k_means(x, weights, clusters, generator)
        shares = torch.nn.functional.one_hot(cluster, clusters) * weights[:, None]
        return Moments.zeros(clusters, x.mean(0)).add(x, shares)

    def _maximise(
        self,
        x: Tensor,
        weights: Tensor,
        moments: Moments,
        sample: tuple[Tensor, Tensor],
        total: Callable[[Tensor], Tensor],
        iterations: int,
    ) -> tuple[Moments, float]:
        """Climb to a maximum, move dead components and climb again; return the best moments and height."""
        best, height = self._climb(x, weights, moments, total, iterations)
        for _ in range(_RESEEDS):
            dead = best.count < _DEAD * best.count.sum() / best.groups
            if not bool(dead.any()):
                break
            moved = _move_dead(best, self._mixture(best), dead, *sample)
            climbed, higher = self._climb(x, weights, moved, total, iterations)
            if higher <= height:
                break
            best, height = climbed, higher
        return best, height

    def _climb(
        self, x: Tensor, weights: Tensor, moments: Moments, total: Callable[[Tensor], Tensor], iterations: int
    ) -> tuple[Moments, float]:
        """Alternate expectation and maximisation; return the final moments and the mean log density."""
        height = -math.inf
        for _ in range(iterations):
            moments, likelihood = self._mixture(moments).expectation(x, weights, total)
            if likelihood - height < self.tolerance:
                return moments, likelihood
            height = likelihood
        return moments, height

    def _mixture(self, moments: Moments) -> Mixture:
        rows = float(moments.dim) if self.shrinkage is None else self.shrinkage
        return Mixture(moments, _shrink_within(moments, rows))

    def _take(self, moments: Moments, height: float) -> None:
        self._moments = moments
        self._fitted = self._mixture(moments)
        self.dim = moments.dim
        self.count = float(moments.count.sum())
        self.height = height

    @property
    def shares(self) -> Tensor:
        r"""The weight :math:`\pi_k` of each component, ``(K,)``."""
        return self._fitted_mixture.moments.count / self._fitted_mixture.moments.count.sum()

    @property
    def means(self) -> Tensor:
        r"""The mean :math:`\mu_k` of each component, ``(K, D)``."""
        return self._fitted_mixture.moments.mean()

    @property
    def covariances(self) -> Tensor:
        r"""The covariance :math:`\Sigma_k` of each component, ``(K, D, D)``."""
        return self._fitted_mixture.gaussians.covariance()

    @property
    def _fitted_mixture(self) -> Mixture:
        if self._fitted is None:
            raise wrong_state("The mixture is not fitted.", "Call fit(x) first.")
        return self._fitted

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`."""
        return self._fitted_mixture.joint(self._rows(x)).logsumexp(1)

    def component(self, x: Tensor) -> Tensor:
        """Return the component that each row most likely belongs to, int64 ``(B,)``."""
        return self._fitted_mixture.joint(self._rows(x)).argmax(1)

    def merge(self, other: Density) -> GaussianMixture:
        """Return the mixture with the components of both, each with its rows."""
        if not isinstance(other, GaussianMixture) or self._moments is None or other._moments is None:
            raise invalid("A GaussianMixture merges with a fitted GaussianMixture.", type(other).__name__)
        moments = self._moments.beside(other._moments.moved(self._moments.origin))
        merged = GaussianMixture(moments.groups, self.shrinkage, seed=self.seed)
        merged._take(moments, math.nan)
        return merged

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Density.state_dict`."""
        return {} if self._moments is None else {**self._moments.state_dict(), "height": self.height}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Density.load_state_dict`."""
        if state:
            self._take(Moments.from_state_dict(state), float(state["height"]))


class Mixture:
    """Components with their shares, ready to score rows.

    Args:
        moments: n and mean of each component.
        gaussians: the components.
    """

    def __init__(self, moments: Moments, gaussians: ShrunkGaussians) -> None:
        self.moments = moments
        self.gaussians = gaussians
        # A group without rows gets -inf here, and so no share in any row.
        self._log_shares = (moments.count / moments.count.sum()).log()

    def joint(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log \pi_k \mathcal{N}(x; k)`, float64 ``(B, K)``."""
        return self.gaussians.log_prob(x) + self._log_shares

    def expectation(
        self, x: Tensor, weights: Tensor, total: Callable[[Tensor], Tensor]
    ) -> tuple[Moments, float]:
        """Return the moments of rows divided among the components, and their mean log density."""
        moments = Moments.zeros(self.moments.groups, self.moments.origin)
        likelihood = x.new_zeros(2)
        for start, stop in blocks(len(x), _STEP):
            rows = x[start:stop]
            block = weights[start:stop]
            joint = self.joint(rows)
            log_prob = joint.logsumexp(1)
            shares = (joint - log_prob[:, None]).exp()
            # Exact zeros let Moments.add skip the row for this component, which saves most of the products.
            moments.add(rows, shares.masked_fill(shares < _NEGLIGIBLE, 0.0) * block[:, None])
            likelihood += torch.stack([(block * log_prob).sum(), block.sum()])
        likelihood = total(likelihood)
        return moments.over_ranks(total), float(likelihood[0] / likelihood[1])


def _move_dead(moments: Moments, mixture: Mixture, dead: Tensor, x: Tensor, weights: Tensor) -> Moments:
    """Return the moments with each dead component moved to a tight group of badly covered rows."""
    log_prob = mixture.joint(x).logsumexp(1)
    thin = log_prob.argsort()[: max(len(x) // 10, _NEIGHBOURS + 1)]
    apart = distances(x[thin], x[thin])
    moved = Moments(moments.origin, moments.count.clone(), moments.sum.clone(), moments.scatter.clone())
    free = torch.ones(len(thin), dtype=torch.bool, device=x.device)
    for component in dead.nonzero()[:, 0].tolist():
        if int(free.sum()) <= _NEIGHBOURS:
            break
        between_free = apart.masked_fill(~(free[:, None] & free), math.inf)
        nearest = between_free.topk(_NEIGHBOURS + 1, largest=False)
        centre = int(nearest.values[:, -1].argmin())
        members = thin[nearest.indices[centre]]
        free[nearest.indices[centre]] = False
        group = Moments.zeros(1, moments.origin).add(x[members], weights[members])
        moved.count[component] = group.count[0]
        moved.sum[component] = group.sum[0]
        moved.scatter[component] = group.scatter[0]
    return moved


def _check_start(start: Tensor, x: Tensor) -> Tensor:
    if start.dim() != 2 or len(start) != len(x):
        raise invalid(f"`start` must be of shape ({len(x)}, K).", tuple(start.shape))
    return start.to(x.device, torch.float64)


def _shrink_within(moments: Moments, rows: float) -> ShrunkGaussians:
    """Return the Gaussian of each group, shrunk towards the covariance within groups, pooled over all."""
    inner = moments.inner()
    pooled = inner.sum(0) / moments.count.sum()
    offset = moments.sum.sum(0) / moments.count.sum()
    variance = moments.scatter.sum(0).diagonal().mean() / moments.count.sum() - offset.square().mean()
    size = moments.origin.square().mean() + offset.square().mean()
    # The target must be positive definite even if each component is a point, or all rows are equal.
    ridge = _RIDGE * pooled.diagonal().mean() + _LEAST * (variance.clamp_min(0) + _LEAST * (1 + size))
    pooled = pooled + ridge * torch.eye(moments.dim, dtype=pooled.dtype, device=pooled.device)
    return ShrunkGaussians(moments.mean(), inner, moments.count, pooled, rows)
