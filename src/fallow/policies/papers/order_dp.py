"""OrderDP's rule: the highest scores of a random pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import smallest
from .._shares import check_budget, check_part, left_out, lots, scored
from ..base import Policy, PolicyInput, Reason


@dataclass(frozen=True)
class OrderDP(Policy):
    r"""Draw a pool of samples uniformly, and keep its highest scores.

    The pool holds :math:`S = \mathrm{round}(\text{pool} \cdot N)` samples;
    :math:`\mathrm{round}(\text{keep} \cdot S)` of them are kept, at least 1, by their last scores; equal
    scores are told apart by lot. N counts the samples that have a score; one without is kept. Weights stay 1.

    With a ``budget`` b, :math:`N - \mathrm{round}(b N)` are kept of the pool, and of a larger pool where
    that is more than it holds.

    References:
        OrderDP: A Theoretically Guaranteed Lossless Dynamic Data Pruning Framework (Xu et al., 2026)

    Args:
        pool: the share that is drawn, in (0, 1].
        keep: the share of the pool that is kept, in (0, 1].

        budget: the share of all scored samples to leave out of each epoch, in [0, 1); None for ``keep``.

    Raises:
        InvalidValue: for a share outside its interval.

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

    def _drawn(self, n: int) -> int:
        """Return how many of ``n`` are in the pool."""
        drawn = max(min(n, 1), round(self.pool * n))
        return drawn if self.budget is None else max(drawn, self.kept_count(n))

    def kept_count(self, n: int) -> int:
        """Return ``round(keep * round(pool * n))``, or ``n - round(budget * n)``; at least 1."""
        if self.budget is not None:
            return n - left_out(self.budget, n)
        return max(min(n, 1), round(self.keep * self._drawn(n)))

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Draw the pool of the planned epoch and rank it."""
        n, there = len(inputs), scored(inputs)
        count = int(np.count_nonzero(there))
        pool = smallest(lots(inputs, there), n, self._drawn(count))

        def ease(start: int, stop: int) -> NDArray[np.float32]:
            return np.where(pool[start:stop], -inputs.scores[start:stop], np.float32(np.nan))

        decided = np.where(there, np.uint8(Reason.NOT_DRAWN), np.uint8(Reason.KEPT))
        decided[pool] = Reason.LEARNED
        decided[smallest(ease, n, self.kept_count(count), inputs.uniform)] = Reason.KEPT
        return decided
