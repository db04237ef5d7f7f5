"""A density in two halves: each row is scored by the half that does not contain it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import invalid
from .base import Density, DensityLike, check_sample
from .own import as_density
from .row_draws import random_keys

AGREE = 0.7
"""Least rank correlation of the two halves at which the density may remove samples."""
_HALVES = 0x4A1F


class Halves(Density):
    r"""Two copies of a density, each fitted to one half of the rows.

    A fitted row is scored by the half that does not contain it (:meth:`left_out`). For other rows

    .. math:: p(x) = \frac{n_0 p_0(x) + n_1 p_1(x)}{n_0 + n_1}

    The half of a row is drawn by its index, so a sample stays in its half in every fit and on every rank.

    Args:
        density: a :class:`Density`, or any object with ``fit(x)`` and ``log_prob(x)``; copies are fitted.
        seed: of the halves.

    Attributes:
        halves: the two densities.
    """

    name: ClassVar[str] = "halves"

    def __init__(self, density: DensityLike, seed: int = 0) -> None:
        density = as_density(density, seed)
        self.halves = (deepcopy(density), deepcopy(density))
        self.seed = seed

    def half(self, index: Tensor) -> Tensor:
        """Return the half of each sample, 0 or 1."""
        return random_keys(index, self.seed ^ _HALVES) & 1

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
    ) -> Halves:
        """See :meth:`Density.fit`; ``start`` and ``iterations`` are for mixtures."""
        x, weights, index = check_sample(x, weights, index, least=0 if together else 4)
        half = self.half(index)
        options = {}
        for number, density in enumerate(self.halves):
            own = half == number
            if start is not None:
                options = {"start": start[own], "iterations": iterations}
            weight, of_half = weights[own], index[own]
            density.fit(x[own], weights=weight, index=of_half, together=together, group=group, **options)
        self._update_size()
        return self

    def agreement(self, x: Tensor) -> float:
        """Return the rank correlation of the two over rows, from -1 to 1.

        Below 0.7 there are too few rows for so fine a density, and it should not remove anything.
        """
        first, second = (density.log_prob(x) for density in self.halves)
        return rank_correlation(first, second)

    def _update_size(self) -> None:
        self.dim = self.halves[0].dim
        self.count = self.halves[0].count + self.halves[1].count

    def log_prob(self, x: Tensor) -> Tensor:
        """See :meth:`Density.log_prob`."""
        x = self._rows(x)
        counts = [density.count for density in self.halves]
        shares = torch.tensor(counts, dtype=torch.float64, device=x.device) / self.count
        both = torch.stack([density.log_prob(x) for density in self.halves], dim=1)
        return (both + shares.log()).logsumexp(1)

    def left_out(self, x: Tensor, *, weights: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """See :meth:`Density.left_out`: the log density under the half without the row.

        With ``index`` on the host nothing waits for the device.
        """
        x = self._rows(x)
        half = self.half(torch.arange(len(x)) if index is None else index)
        log_prob = x.new_empty(len(x), dtype=torch.float64)
        for number, density in enumerate(self.halves):
            # nonzero() on the device would wait for it, to learn the size of its result.
            others = (half != number).nonzero()[:, 0].to(x.device, non_blocking=True)
            log_prob[others] = density.log_prob(x[others])
        return log_prob

    def merge(self, other: Density) -> Halves:
        """Return the two halves, each merged with its like."""
        if not isinstance(other, Halves) or other.seed != self.seed:
            raise invalid("Halves merge with Halves of the same seed.", type(other).__name__)
        merged = Halves(self.halves[0], self.seed)
        pairs = zip(self.halves, other.halves, strict=True)
        merged.halves = tuple(half.merge(second) for half, second in pairs)  # type: ignore[assignment]
        merged._update_size()
        return merged

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Density.state_dict`."""
        first, second = (density.state_dict() for density in self.halves)
        return {"first": first, "second": second, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Density.load_state_dict`."""
        self.seed = state["seed"]
        for density, name in zip(self.halves, ("first", "second"), strict=True):
            density.load_state_dict(state[name])
        self._update_size()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Return Spearman's rank correlation of two columns ``(N,)``, -1 to 1.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 20.0, 300.0])), 9)
    1.0
    """
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).double()
    ranks -= ranks.mean(1, keepdim=True)
    return float((ranks[0] @ ranks[1]) / (ranks.norm(dim=1).prod()).clamp_min(1e-300))
