"""Two thresholds: the published method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import blocks, kth_smallest
from ..errors import check_flag, check_share, invalid
from ._shares import scored
from .base import Policy, PolicyInput, Reason
from .persistence import AUTO, Persistence, check_high, check_side, check_within

FIRST_LOW = 0.05
"""Initial threshold of ``low="auto"``, in nats: the label has a probability of 0.95."""
WRONG = (0.05, 0.075, 0.10)
"""Accepted share of wrong removals: minimum, target, maximum."""
FEWEST = 30
"""Minimum number of re-admitted samples for an audit."""
_LEARNED = "learned"


@dataclass(frozen=True)
class Threshold(Policy):
    r"""Leave out samples below ``low`` (learned), and those above ``high`` on several visits (outliers).

    .. math::
        s_i < \text{low} \Rightarrow \text{learned}, \qquad
        s_i > \text{high} \text{ on } v \text{ visits in a row} \Rightarrow \text{outlier}

    Only scores of the epoch that just ended count; a sample that was not measured stays as it was.

    ``low="auto"`` controls the low threshold by an audit that costs nothing. Whenever learned samples come
    back, by the schedule or for a floor, their fresh scores show which removals were wrong: those that now
    score above the mean of all fresh scores. If their share w is outside 5 to 10 %, the threshold is
    multiplied by :math:`0.075 / w`, at least by 1/2 and at most by 2. It starts at 0.05 nats and needs a
    schedule that re-admits. Fewer than 30 re-admitted samples change nothing.

    ``high="auto"`` finds persistent outliers if the data show two kinds of samples, see
    :class:`fallow.policies.Persistence`. The ``notes`` of the history hold the values in use: ``low``,
    ``high`` if there is one, and ``wrong_removals``, the share w, if an audit was made.

    References:
        Subsampling training data during artificial neural network training (US 2020/0302273 A1)

    Args:
        low: in the unit of the score; ``"auto"``, or None for no low threshold.
        high: in the unit of the score; ``"auto"``, or None for no high threshold.
        visits: number of scores in a row that must be above ``high``; 1 to 255.
        quantiles: whether ``low`` and ``high`` are quantiles of all last scores instead.

    Raises:
        InvalidValue: if both are None, ``low`` is not below ``high``, or one is not finite, or not in [0, 1]
            with ``quantiles``.
        InvalidType: if a threshold is neither a number nor ``"auto"``.

    Example:
        >>> Threshold(low=0.05, high=3.0)
        Threshold(low=0.05, high=3.0, visits=1, quantiles=False)
    """

    name: ClassVar[str] = "threshold"

    low: float | str | None = None
    high: float | str | None = None
    visits: int = 1
    quantiles: bool = False

    def __post_init__(self) -> None:
        # A frozen dataclass can replace its fields only through object.__setattr__.
        object.__setattr__(self, "quantiles", check_flag("quantiles", self.quantiles))
        if self.low is None and self.high is None:
            raise invalid("A Threshold needs `low`, `high` or both.", "neither", "Try low=0.05.")
        for name in ("low", "high"):
            side = check_side(name, getattr(self, name))
            if self.quantiles and side == AUTO:
                raise invalid(f"`{name}` must be a share with quantiles=True.", repr(side))
            if self.quantiles and side is not None:
                check_share(name, side, closed=True, step="With quantiles=True both are shares.")
            object.__setattr__(self, name, side)
        check_high(self.high, self.visits)
        if isinstance(self.low, float) and isinstance(self.high, float) and self.low >= self.high:
            raise invalid(
                "`low` must be below `high`.",
                f"low={self.low}, high={self.high}",
                "Samples below `low` are learned, samples above `high` are outliers.",
            )

    @property
    def finds_outliers(self) -> bool:
        """Whether there is a high threshold."""
        return self.high is not None

    @property
    def reads_predictions(self) -> bool:
        """Whether the high threshold is automatic."""
        return self.high == AUTO

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise if a threshold is outside the range of the score."""
        if not self.quantiles:
            check_within("low", self.low, low, high, score)
            check_within("high", self.high, low, high, score)

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Decide by the fresh scores; leave every other sample as it was."""
        low, high = self._limits(inputs)
        outlier = None
        if self.high == AUTO or (self.visits > 1 and high < math.inf):
            outlier = Persistence(self.high if self.high == AUTO else high, self.visits).find(inputs)
        decided = inputs.reason.copy()
        for start, stop in blocks(len(inputs), 1 << 16):
            rows = slice(start, stop)
            score = inputs.scores[rows]
            fresh = inputs.fresh[rows] & (score == score)
            verdict = (score < low).view(np.uint8)  # True is 1, and so is Reason.LEARNED: no copy
            if outlier is not None:
                verdict = np.where(outlier[rows], np.uint8(Reason.OUTLIER), verdict)
            elif high < math.inf:
                verdict = np.where(score > high, np.uint8(Reason.OUTLIER), verdict)
            # Usually all samples of a block are fresh, and the verdict needs no merging.
            decided[rows] = verdict if fresh.all() else np.where(fresh, verdict, decided[rows])
        if self.low == AUTO:
            # For the audit: once re-admitted, a sample no longer has this reason.
            inputs.column(_LEARNED, np.bool_)[:] = decided == Reason.LEARNED
        return decided

    def _audited(self, inputs: PolicyInput) -> float:
        """Return the low threshold, adjusted by the fresh scores of re-admitted samples."""
        notes, scores = inputs.notes, inputs.scores
        low = notes.setdefault("low", FIRST_LOW)
        # It stands only in epochs with an audit.
        notes.pop("wrong_removals", None)
        fresh = inputs.fresh & scored(inputs)
        readmitted = fresh & inputs.column(_LEARNED, np.bool_)
        count = int(np.count_nonzero(readmitted))
        if count < FEWEST:
            return low
        mean = np.float32(scores.mean(dtype=np.float64, where=fresh))
        wrong = int(np.count_nonzero(readmitted & (scores > mean))) / count
        notes["wrong_removals"] = wrong
        least, target, most = WRONG
        if not least <= wrong <= most:
            # 1e-9 avoids a division by zero; the limit of 2 then applies.
            notes["low"] = low = low * min(max(target / max(wrong, 1e-9), 0.5), 2.0)
        return low

    def _limits(self, inputs: PolicyInput) -> tuple[float, float]:
        """Return both thresholds in the unit of the score; an automatic high one counts as infinite."""
        low = self._audited(inputs) if self.low == AUTO else _number(self.low, -math.inf)
        high = _number(self.high, math.inf)
        if not self.quantiles:
            return low, high
        scores = inputs.scores
        count = int(np.count_nonzero(scored(inputs)))
        if not count:
            return -math.inf, math.inf

        def at_rank(rank: int) -> float:
            return kth_smallest(lambda a, b: scores[a:b], scores.size, min(max(rank, 1), count))

        # The comparison is strict, so a share of `count` needs the next larger score as its threshold.
        if self.low is not None:
            low = at_rank(round(low * count) + 1)
        if self.high is not None:
            high = at_rank(round(high * count))
        return low, high


def _number(side: float | str | None, default: float) -> float:
    return side if isinstance(side, float) else default
