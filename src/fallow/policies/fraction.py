"""An exact share of the samples, hard or soft."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .._checks import check_share, invalid, invalid_type
from ..selection import smallest
from .base import Policy, Reason, Standing

FLOOR = 1e-6
"""A smaller score counts as this one in a soft draw, so that every sample keeps a chance."""


@dataclass(frozen=True)
class Fraction(Policy):
    r"""Leave out :math:`\mathrm{round}(f N)` samples, by the last score of every sample.

    Hard (``exponent=None``): those with the lowest (or highest) scores. Soft: keep
    :math:`K = N - \mathrm{round}(f N)`, drawn without replacement with odds
    :math:`\propto s_i^{a}`: the K smallest of :math:`E_i / s_i^{a}`, where :math:`E_i` is a standard
    exponential draw (the Gumbel top-K draw in other words), compared as logarithms so that no power
    overflows. With ``remove="highest"`` the odds are :math:`s_i^{-a}`. N counts the samples that have a
    score; one without is kept. Equal scores are told apart by lot.

    References:
        Weighted random sampling with a reservoir (Efraimidis and Spirakis, 2006);
        Stochastic Beams and Where to Find Them (Kool, van Hoof and Welling, 2019)

    Args:
        fraction: the share that is left out, in [0, 1).
        remove: ``"lowest"`` scores or ``"highest"``.
        exponent: how strongly the odds follow the score; None for the hard rule.

    Raises:
        InvalidValue: for a share outside [0, 1), an unknown side or an exponent that is not positive.

    Example:
        >>> Fraction(0.5, exponent=0.5).kept_count(10)
        5
    """

    name: ClassVar[str] = "fraction"

    fraction: float
    remove: str = "lowest"
    exponent: float | None = None

    def __post_init__(self) -> None:
        share = check_share("fraction", self.fraction, closed=False, step="To remove nothing, pass 0.")
        object.__setattr__(self, "fraction", share)
        if self.remove not in ("lowest", "highest"):
            raise invalid('`remove` must be "lowest" or "highest".', repr(self.remove))
        if self.exponent is not None:
            if isinstance(self.exponent, bool) or not isinstance(self.exponent, int | float):
                raise invalid_type("`exponent` must be a number or None.", repr(self.exponent))
            if not 0 < self.exponent < math.inf:
                raise invalid("`exponent` must be positive.", self.exponent, "None is the hard rule.")
            object.__setattr__(self, "exponent", float(self.exponent))

    def kept_count(self, n: int) -> int | None:
        """Return ``n - round(fraction * n)``, at least 1; None for outliers, which may not be re-admitted."""
        return None if self._removes_outliers else self._keep(n)

    @property
    def _removes_outliers(self) -> bool:
        return self.remove == "highest" and self.exponent is None

    def _keep(self, n: int) -> int:
        return n - min(round(self.fraction * n), max(0, n - 1))

    def decide(self, standing: Standing) -> NDArray[np.uint8]:
        """Choose anew among all samples, whether they were kept or not."""
        n, scores = len(standing), standing.scores
        unscored = int(np.count_nonzero(np.isnan(scores)))
        keep = self._keep(n - unscored)
        decided = np.zeros(n, np.uint8)
        if self.exponent is None:
            sign = np.float32(1.0 if self.remove == "lowest" else -1.0)
            out = smallest(lambda a, b: sign * scores[a:b], n, n - unscored - keep, standing.uniform)
            decided[out] = Reason.OUTLIER if self._removes_outliers else Reason.LEARNED
            return decided
        self._check_odds(scores)
        drawn = smallest(lambda a, b: self._clock(standing, a, b), n, keep)
        decided[~(drawn | np.isnan(scores))] = Reason.NOT_DRAWN
        return decided

    def _clock(self, standing: Standing, start: int, stop: int) -> NDArray[np.float32]:
        """Return the logarithms of a block's exponential clocks: the first to ring are kept."""
        assert self.exponent is not None
        score = np.maximum(standing.scores[start:stop], np.float32(FLOOR))
        power = np.float32(self.exponent if self.remove == "lowest" else -self.exponent)
        ring = -np.log(standing.uniform(start, stop))
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(ring) - power * np.log(score), np.float32)

    def _check_odds(self, scores: NDArray[np.float32]) -> None:
        lowest = float(np.nanmin(scores, initial=np.inf))
        if lowest < -1e-3:
            raise invalid(
                "A soft Fraction needs scores of at least 0, since they are odds.",
                f"{lowest:g} at sample {int(np.nanargmin(scores))}",
                "Pass `scores=` to `record` that are not negative, or use exponent=None.",
            )
