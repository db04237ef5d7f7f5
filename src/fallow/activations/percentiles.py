"""The percentile of a value among those of a panel, also beyond the largest of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_TAIL = 0.1
"""The share of the panel that the tail is fitted to."""


@dataclass
class Percentiles:
    r"""The distribution of a number over a panel: its values, with an exponential tail above their 90 %.

    .. math:: u(x) = \begin{cases} \#\{x' < x\} / R & x \le q \\
        1 - 0.1\, e^{-(x - q) / m} & x > q \end{cases}

    with the quantile q and the mean excess m of the values above it. The tail keeps values beyond the whole
    panel in order. The *surprise* is :math:`-\log (1 - u)`, in nats: a standard exponential over the panel,
    and additive for independent numbers.

    Args:
        values: of the panel, float64, ascending.
        edge: q.
        excess: m.

    References:
        Statistical inference using extreme order statistics (Pickands, 1975);
        Statistical methods for research workers, on combining tests (Fisher, 1932)
    """

    values: Tensor
    edge: Tensor
    excess: Tensor

    @staticmethod
    def of(values: Tensor) -> Percentiles:
        """Return the distribution of values ``(R,)``."""
        ordered = values.double().sort().values
        place = min(len(ordered) - 1, math.ceil((1 - _TAIL) * len(ordered)))
        edge = ordered[place - 1] if place else ordered[0]
        above = ordered[place:] - edge
        # A panel of equal values has no excess to divide by.
        excess = above.mean().clamp_min(1e-9 * (1 + edge.abs()))
        return Percentiles(ordered, edge, excess)

    def surprise(self, values: Tensor) -> Tensor:
        """Return -log(1 - u), float64 ``(B,)``; NaN for a value that is not finite."""
        values = values.double()
        below = torch.searchsorted(self.values, values.contiguous()) / len(self.values)
        # Beyond the edge the tail counts; the clamp only keeps log 0 out of this branch.
        inside = -torch.log1p(-below.clamp_max(1 - _TAIL))
        tail = -math.log(_TAIL) + (values - self.edge) / self.excess
        surprise = torch.where(values > self.edge, tail, inside)
        return surprise.masked_fill(~values.isfinite(), torch.nan)

    def __call__(self, values: Tensor) -> Tensor:
        """Return u, float32 ``(B,)``, in [0, 1]; NaN for a value that is not finite."""
        # 1 - exp(-s) would lose digits near 0.
        return -torch.expm1(-self.surprise(values)).float()

    def state_dict(self) -> dict[str, Any]:
        """Return the three tensors."""
        return {"values": self.values, "edge": self.edge, "excess": self.excess}
