"""Upper confidence bounds: keep samples with a high mean score, or not measured for long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...arrays.selection import blocks, smallest
from ...errors import check_number, check_share
from .._shares import left_out, scored
from ..base import Policy, PolicyInput, Reason

_MEAN, _VISITS = "ucb_mean", "ucb_visits"


@dataclass(frozen=True)
class UCB(Policy):
    r"""Leave out the :math:`\mathrm{round}(f N)` samples with the lowest upper confidence bound.

    .. math:: u_i = m_i + c \sqrt{\frac{\log t}{v_i}}, \qquad m_i \leftarrow a\, m_i + (1 - a)\, s_i

    m is the moving average of a sample's scores and starts with the first one, v is their number, and t the
    number of epochs so far. Only a fresh score changes m and v, so the bound of a sample that is left out
    rises with t until it is visited again. Ties are broken at random. N counts the samples with a score.

    References:
        Accelerating Deep Learning with Dynamic Data Pruning (Raju, Daruwalla and Lipasti, 2021);
        Finite-time Analysis of the Multiarmed Bandit Problem (Auer, Cesa-Bianchi and Fischer, 2002)

    Args:
        fraction: the share to leave out, in [0, 1).
        smoothing: a, the weight of the past in the moving average, in [0, 1); 0 for only the last score.
        exploration: c, in the unit of the score, at least 0.

    Raises:
        InvalidValue: if a share is outside [0, 1), or the exploration is negative or not finite.

    Example:
        >>> UCB(0.3).kept_count(10)
        7
    """

    name: ClassVar[str] = "ucb"

    fraction: float
    smoothing: float = 0.2
    exploration: float = 1.0

    def __post_init__(self) -> None:
        share = check_share("fraction", self.fraction, closed=False, step="To remove nothing, pass 0.")
        object.__setattr__(self, "fraction", share)
        object.__setattr__(self, "smoothing", check_share("smoothing", self.smoothing, closed=False))
        object.__setattr__(self, "exploration", check_number("exploration", self.exploration, 0.0))

    def kept_count(self, n: int) -> int:
        """Return ``n - round(fraction * n)``, at least 1."""
        return n - left_out(self.fraction, n)

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Update the bounds with the fresh scores and keep the highest ones."""
        n = len(inputs)
        has_score = scored(inputs)
        mean = inputs.column(_MEAN, np.float32)
        visits = inputs.column(_VISITS, np.uint16)
        a = np.float32(self.smoothing)
        for start, stop in blocks(n, 1 << 16):
            rows = slice(start, stop)
            # A score from before the first decision is not fresh, but is the first that is seen here.
            first = visits[rows] == 0
            update = has_score[rows] & (inputs.fresh[rows] | first)
            score = inputs.scores[rows]
            average = np.where(first, score, a * mean[rows] + (1 - a) * score)
            np.copyto(mean[rows], average, where=update)
            visits[rows] += update
        radius = np.float32(self.exploration * math.sqrt(math.log(max(1, inputs.epoch))))

        def bound(start: int, stop: int) -> NDArray[np.float32]:
            count = np.maximum(visits[start:stop], 1).astype(np.float32)
            upper = mean[start:stop] + radius / np.sqrt(count)
            return np.where(has_score[start:stop], upper, np.float32(np.nan))

        out = left_out(self.fraction, int(np.count_nonzero(has_score)))
        decided = np.zeros(n, np.uint8)
        decided[smallest(bound, n, out, inputs.uniform)] = Reason.LEARNED
        return decided
