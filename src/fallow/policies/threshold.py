"""Two thresholds: the published method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .._checks import check_integer, check_share, invalid, invalid_type
from ..selection import blocks, kth_smallest
from .base import Policy, Reason, Standing

_STREAK = "visits_above_high"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Threshold(Policy):
    r"""Leave out what scores under ``low`` (learned) or, visit after visit, over ``high`` (outlier).

    .. math::
        s_i < \text{low} \Rightarrow \text{learned}, \qquad
        s_i > \text{high} \text{ on } v \text{ visits in a row} \Rightarrow \text{outlier}

    Only a score of the epoch that just ended decides; a sample that was not measured stays as it was.

    References:
        Subsampling training data during artificial neural network training (US 2020/0302273 A1)

    Args:
        low: in the unit of the score, or None for no low side.
        high: in the unit of the score, or None for no high side.
        visits: how many scores in a row must lie over ``high``; 1 to 255.
        quantiles: read ``low`` and ``high`` as shares of all last scores instead.

    Raises:
        InvalidValue: where both sides are None, crossed, not finite, or no shares with ``quantiles``.

    Example:
        >>> Threshold(low=0.05, high=3.0)
        Threshold(low=0.05, high=3.0, visits=1, quantiles=False)
    """

    name: ClassVar[str] = "threshold"

    low: float | None = None
    high: float | None = None
    visits: int = 1
    quantiles: bool = False

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise invalid("A Threshold needs `low`, `high` or both.", "neither", "Try low=0.05.")
        for name, value in (("low", self.low), ("high", self.high)):
            if value is not None:
                self._check_side(name, value)
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise invalid(
                "`low` must be below `high`.",
                f"low={self.low}, high={self.high}",
                "Samples under `low` are learned, samples over `high` are outliers.",
            )
        for name, value in (("low", self.low), ("high", self.high)):
            object.__setattr__(self, name, None if value is None else float(value))
        check_integer("visits", self.visits, 1)
        if self.visits > 255:
            raise invalid("`visits` must be at most 255.", self.visits)

    def _check_side(self, name: str, value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid_type(f"`{name}` must be a number.", repr(value))
        if not abs(value) <= _LARGEST:
            raise invalid(f"`{name}` must be a finite float32.", value, "Use None for no such side.")
        if self.quantiles:
            check_share(name, value, closed=True, step="With quantiles=True both are shares.")

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise where a threshold lies where no score can: it would remove all or nothing."""
        if self.quantiles:
            return
        for name, value in (("low", self.low), ("high", self.high)):
            if value is not None and not low <= value <= high:
                raise invalid(
                    f"`{name}` must lie in [{low:g}, {high:g}], the range of {score}.",
                    value,
                    "Look at the scores of one epoch, or use quantiles=True.",
                )

    def decide(self, standing: Standing) -> NDArray[np.uint8]:
        """Judge the fresh scores; leave every other sample as it was."""
        low, high = self._limits(standing)
        watched = self.visits > 1 and high < math.inf
        streak = standing.column(_STREAK, np.uint8) if watched else None
        decided = standing.reason.copy()
        for start, stop in blocks(len(standing), 1 << 16):
            rows = slice(start, stop)
            score = standing.scores[rows]
            fresh = standing.fresh[rows] & (score == score)
            above = score > high if high < math.inf else None
            if streak is not None and above is not None:
                seen = streak[rows]
                longer = np.minimum(seen, 254) + np.uint8(1)
                seen[fresh] = np.where(above, longer, np.uint8(0))[fresh]
                above = seen >= self.visits
            verdict = (score < low).view(np.uint8)  # 1 is Reason.LEARNED
            if above is not None:
                verdict = np.where(above, np.uint8(Reason.OUTLIER), verdict)
            decided[rows] = verdict if fresh.all() else np.where(fresh, verdict, decided[rows])
        return decided

    def _limits(self, standing: Standing) -> tuple[float, float]:
        """Return both thresholds in the unit of the score."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not self.quantiles:
            return low, high
        scores = standing.scores
        scored = int(scores.size - np.count_nonzero(np.isnan(scores)))
        if not scored:
            return -math.inf, math.inf

        def at(rank: int) -> float:
            return kth_smallest(lambda a, b: scores[a:b], scores.size, min(max(rank, 1), scored))

        low = low if self.low is None else at(round(self.low * scored) + 1)
        high = high if self.high is None else at(round(self.high * scored))
        return low, high
