"""A mixture of Gaussians: the default density."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..arrays.distributed import sum_over_ranks
from ..arrays.selection import blocks
from ..errors import check_integer, check_number, invalid, wrong_state
from .base import Density, check_sample
from .k_means import distances, k_means
from .moments import Moments, alone, moments_of
from .naming import chosen
from .shrinking import Shrunk

SEEDED = 1 << 14
"""The start is chosen on at most so many rows."""
_DEAD = 0.1
"""A component with less than this part of its even share is moved."""
_NEGLIGIBLE = 1e-14
"""A smaller share of a row in a component counts as none."""
_RIDGE = 1e-6
"""What is added to the pooled covariance, as a share of its mean variance."""
_LEAST = 1e-9
"""And as a share of the variance of all rows, if there is none within components."""
_NEIGHBOURS = 5
_RESEEDS = 3
_STEP = 1 << 15


class GaussianMixture(Density):
    r"""A mixture of K Gaussians with full covariances, fitted by expectation and maximisation.

    .. math:: p(x) = \sum_k \pi_k\, \mathcal{N}(x; \mu_k, \Sigma_k), \qquad
        \Sigma_k = \frac{S_k + \nu \tau_k P}{n_k + \nu}

    where P is the covariance within components, pooled over all of them, which counts as :math:`\nu` rows at
    the scale :math:`\tau_k` of the component, so that a component of few rows has the shape of the others.
    With ``shrinkage=0`` it is the maximum-likelihood mixture.

    It begins with greedy k-means++. A component that ends up with less than a tenth of its even share is
    moved, up to three times, to the thin but coherent rows that the mixture covers worst. All is done in
    the log domain and in float64; the likelihood never falls while components stay.

    A row pulls a whole component towards itself, for which there is no closed form: use :class:`Halves` to
    have rows scored by the half that has not seen them.

    Args:
        components: K; fewer where there are fewer rows than 2 K.
        shrinkage: :math:`\nu`; by default D, the number of numbers in a row.
        seed: of the start.
        iterations: at most.
        tolerance: it ends where a row gains less than so many nats.

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
        start: Tensor | None = None,
        iterations: int | None = None,
    ) -> GaussianMixture:
        """See :meth:`Density.fit`; ``start``: shares of components in rows to begin with, ``(N, K)``."""
        most = self.iterations if iterations is None else iterations
        x, weights, index = check_sample(x, weights, index, least=0 if together else 2)
        total = sum_over_ranks if together else alone
        some, theirs, _ = chosen((x, weights), index, SEEDED, self.seed, together=together)
        sample = some, theirs
        if start is not None:
            moments = moments_of(x, weights, check_start(start, x), total)
        else:
            moments = self._clustered(*sample)
        self._take(*self._settled(x, weights, moments, sample, total, most))
        return self

    def _clustered(self, x: Tensor, weights: Tensor) -> Moments:
        """Return the moments of k-means clusters of a sample."""
        if len(x) < 2:
            raise invalid("A density needs at least 2 rows.", len(x))
        clusters = max(1, min(self.components, len(x) // 2))
        generator = torch.Generator().manual_seed(self.seed)
        cluster = k_means(x, weights, clusters, generator)
        shares = torch.nn.functional.one_hot(cluster, clusters) * weights[:, None]
        return Moments.zeros(clusters, x.mean(0)).add(x, shares)

    def _settled(
        self,
        x: Tensor,
        weights: Tensor,
        moments: Moments,
        sample: tuple[Tensor, Tensor],
        total: Callable[[Tensor], Tensor],
        most: int,
    ) -> tuple[Moments, float]:
        """Climb to a maximum, move components that died, and climb on; return the best and its height."""
        best, height = self._climb(x, weights, moments, total, most)
        for _ in range(_RESEEDS):
            dead = best.count < _DEAD * best.count.sum() / best.groups
            if not bool(dead.any()):
                break
            moved = _moved(best, self._mixture(best), dead, *sample)
            tried, higher = self._climb(x, weights, moved, total, most)
            if higher <= height:
                break
            best, height = tried, higher
        return best, height

    def _climb(
        self, x: Tensor, weights: Tensor, moments: Moments, total: Callable[[Tensor], Tensor], most: int
    ) -> tuple[Moments, float]:
        """Alternate expectation and maximisation; return the moments at the end, and the mean log density."""
        height = -math.inf
        for _ in range(most):
            moments, likelihood = self._mixture(moments).expectation(x, weights, total)
            if likelihood - height < self.tolerance:
                return moments, likelihood
            height = likelihood
        return moments, height

    def _mixture(self, moments: Moments) -> Mixture:
        rows = float(moments.dim) if self.shrinkage is None else self.shrinkage
        return Mixture(moments, within(moments, rows))

    def _take(self, moments: Moments, height: float) -> None:
        self._moments, self._fitted = moments, self._mixture(moments)
        self.dim, self.count, self.height = moments.dim, float(moments.count.sum()), height

    @property
    def shares(self) -> Tensor:
        r"""The weight :math:`\pi_k` of each component, ``(K,)``."""
        return self._known.moments.count / self._known.moments.count.sum()

    @property
    def means(self) -> Tensor:
        r"""The mean :math:`\mu_k` of each component, ``(K, D)``."""
        return self._known.moments.mean()

    @property
    def covariances(self) -> Tensor:
        r"""The covariance :math:`\Sigma_k` of each component, ``(K, D, D)``."""
        return self._known.gaussians.covariance()

    @property
    def _known(self) -> Mixture:
        if self._fitted is None:
            raise wrong_state("The mixture has not learned anything.", "Call fit(x) first.")
        return self._fitted

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`."""
        return self._known.joint(self._rows(x)).logsumexp(1)

    def component(self, x: Tensor) -> Tensor:
        """Return the component that each row most likely belongs to, int64 ``(B,)``."""
        return self._known.joint(self._rows(x)).argmax(1)

    def merge(self, other: Density) -> GaussianMixture:
        """Return the mixture of both, by their rows: the components of one beside those of the other."""
        if not isinstance(other, GaussianMixture) or self._moments is None or other._moments is None:
            raise invalid("A GaussianMixture merges with a fitted GaussianMixture.", type(other).__name__)
        mine, theirs = self._moments, other._moments.moved(self._moments.origin)
        merged = GaussianMixture(mine.groups + theirs.groups, self.shrinkage, seed=self.seed)
        merged._take(mine.beside(theirs), math.nan)
        return merged

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Density.state_dict`."""
        return {} if self._moments is None else {**self._moments.state_dict(), "height": self.height}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Density.load_state_dict`."""
        if state:
            self._take(Moments.from_state_dict(state), float(state["height"]))


class Mixture:
    """Components with their shares, ready to be scored.

    Args:
        moments: n and mean of each.
        gaussians: of the components.
    """

    def __init__(self, moments: Moments, gaussians: Shrunk) -> None:
        self.moments, self.gaussians = moments, gaussians
        self._log_shares = (moments.count / moments.count.sum()).log()

    def joint(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log \pi_k \mathcal{N}(x; k)`, float64 ``(B, K)``."""
        return self.gaussians.log_prob(x) + self._log_shares

    def expectation(
        self, x: Tensor, weights: Tensor, total: Callable[[Tensor], Tensor]
    ) -> tuple[Moments, float]:
        """Return the moments of rows shared out over the components, and their mean log density."""
        moments = Moments.zeros(self.moments.groups, self.moments.origin)
        likelihood = x.new_zeros(2)
        for start, stop in blocks(len(x), _STEP):
            rows, some = x[start:stop], weights[start:stop]
            joint = self.joint(rows)
            log_prob = joint.logsumexp(1)
            shares = (joint - log_prob[:, None]).exp()
            moments.add(rows, shares.masked_fill(shares < _NEGLIGIBLE, 0.0) * some[:, None])
            likelihood += torch.stack([(some * log_prob).sum(), some.sum()])
        likelihood = total(likelihood)
        return moments.over_ranks(total), float(likelihood[0] / likelihood[1])


def _moved(moments: Moments, mixture: Mixture, dead: Tensor, x: Tensor, weights: Tensor) -> Moments:
    """Return the moments with each dead component put on thin but coherent rows of a sample."""
    log_prob = mixture.joint(x).logsumexp(1)
    thin = log_prob.argsort()[: max(len(x) // 10, _NEIGHBOURS + 1)]
    apart = distances(x[thin], x[thin])
    found = Moments(moments.origin, moments.count.clone(), moments.sum.clone(), moments.scatter.clone())
    free = torch.ones(len(thin), dtype=torch.bool, device=x.device)
    for component in dead.nonzero()[:, 0].tolist():
        if int(free.sum()) <= _NEIGHBOURS:
            break
        open_ = apart.masked_fill(~(free[:, None] & free), math.inf)
        nearest = open_.topk(_NEIGHBOURS + 1, largest=False)
        centre = int(nearest.values[:, -1].argmin())
        members = thin[nearest.indices[centre]]
        free[nearest.indices[centre]] = False
        one = Moments.zeros(1, moments.origin).add(x[members], weights[members])
        found.count[component], found.sum[component] = one.count[0], one.sum[0]
        found.scatter[component] = one.scatter[0]
    return found


def check_start(start: Tensor, x: Tensor) -> Tensor:
    """Return the shares of components in rows, float64 ``(N, K)``."""
    if start.dim() != 2 or len(start) != len(x):
        raise invalid(f"`start` must be of shape ({len(x)}, K).", tuple(start.shape))
    return start.to(x.device, torch.float64)


def within(moments: Moments, rows: float) -> Shrunk:
    """Return the Gaussian of each group, drawn towards the covariance within groups, pooled over all."""
    inner = moments.inner()
    pooled = inner.sum(0) / moments.count.sum()
    away = moments.sum.sum(0) / moments.count.sum()
    spread = moments.scatter.sum(0).diagonal().mean() / moments.count.sum() - away.square().mean()
    size = moments.origin.square().mean() + away.square().mean()
    level = _RIDGE * pooled.diagonal().mean() + _LEAST * (spread.clamp_min(0) + _LEAST * (1 + size))
    pooled = pooled + level * torch.eye(moments.dim, dtype=pooled.dtype, device=pooled.device)
    return Shrunk(moments.mean(), inner, moments.count, pooled, rows)
