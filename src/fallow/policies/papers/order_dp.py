"""OrderDP's rule: the highest scores of a random pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import smallest
from .._shares import check_budget, check_part, left_out, scored, uniform_draws
from ..base import Policy, PolicyInput, Reason


@dataclass(frozen=True)
class OrderDP(Policy):
    r"""Draw a pool of samples uniformly and keep those with its highest scores.

    The pool has :math:`S = \mathrm{round}(\text{pool} \cdot N)` samples. The
    :math:`\mathrm{round}(\text{keep} \cdot S)` with the highest last scores are kept, at least 1; ties are
    broken at random. N counts the samples with a score; samples without one are kept. Weights stay 1.

    A ``budget`` b keeps :math:`N - \mathrm{round}(b N)` samples of the pool; a pool that is too small for
    this is enlarged.

    References:
        OrderDP: A Theoretically Guaranteed Lossless Dynamic Data Pruning Framework (Xu et al., 2026)

    Args:
        pool: the share to draw, in (0, 1].
        keep: the share of the pool to keep, in (0, 1].
        budget: the share of all scored samples to leave out each epoch, in [0, 1); None for ``keep``.

    Raises:
        InvalidValue: if a share is outside its interval.

    Example:
        >>> OrderDP(pool=0.8, keep=0.5).kept_count(10)
        4
    """

    name: ClassVar[str] = "order-dp"

    pool: float = 0.8
    keep: float = 0.375
    budget: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", check_part("pool", self.pool))
        object.__setattr__(self, "keep", check_part("keep", self.keep))
        object.__setattr__(self, "budget", check_budget(self.budget))

    @classmethod
    def with_share(cls, share: float | None) -> OrderDP:
        """Return the rule as published, or one that leaves out ``share`` of all samples in each epoch."""
        # Near its authors' pool of 0.8 where they leave out 0.7, and never less than what is kept.
        return cls() if share is None else cls(pool=1 - share / 4, budget=share)

    def _pool_size(self, n: int) -> int:
        drawn = max(min(n, 1), round(self.pool * n))
        return drawn if self.budget is None else max(drawn, self.kept_count(n))

    def kept_count(self, n: int) -> int:
        """Return ``round(keep * round(pool * n))``, or ``n - round(budget * n)``; at least 1."""
        if self.budget is not None:
            return n - left_out(self.budget, n)
        return max(min(n, 1), round(self.keep * self._pool_size(n)))

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Draw the pool of the planned epoch and rank it."""
        n = len(inputs)
        has_score = scored(inputs)
        count = int(np.count_nonzero(has_score))
        pool = smallest(uniform_draws(inputs, has_score), n, self._pool_size(count))

        def negated(start: int, stop: int) -> NDArray[np.float32]:
            return np.where(pool[start:stop], -inputs.scores[start:stop], np.float32(np.nan))

        decided = np.where(has_score, np.uint8(Reason.NOT_DRAWN), np.uint8(Reason.KEPT))
        # Within the pool the score decides, outside it the draw: the reasons say which.
        decided[pool] = Reason.LEARNED
        decided[smallest(negated, n, self.kept_count(count), inputs.uniform)] = Reason.KEPT
        return decided
