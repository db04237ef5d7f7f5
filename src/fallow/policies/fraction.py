"""An exact share of the samples, hard or soft."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import Values, smallest
from ..errors import check_share, invalid, invalid_type
from ._shares import left_out
from .base import Policy, PolicyInput, Reason
from .persistence import AUTO, Persistence, check_high, check_within, visits_wrong

FLOOR = 1e-6
"""Smaller scores count as this one, so that they have a logarithm and a chance in every draw."""


@dataclass(frozen=True)
class Fraction(Policy):
    r"""Leave out :math:`\mathrm{round}(f N)` samples, chosen by the last score of every sample.

    Hard (``exponent=None``): leave out the lowest (or highest) scores. Soft: keep
    :math:`K = N - \mathrm{round}(f N)` samples, drawn without replacement with odds
    :math:`\propto s_i^{a}`. These are the K smallest of :math:`E_i / s_i^{a}` with standard exponential
    draws :math:`E_i` (equivalent to Gumbel top-K), compared as logarithms so that no power overflows. With
    ``remove="highest"`` the odds are :math:`s_i^{-a}`. N counts the samples with a score; samples without
    one are kept. Ties are broken at random.

    ``high`` leaves out samples that score above it on ``visits`` visits in a row first, as outliers, the
    highest first and at most :math:`\mathrm{round}(f N)` of them. The rest of the share comes from the other
    samples, so the number of kept samples stays the same. ``"auto"`` derives the bound from the data, and
    finds no outliers if the data show none, see :class:`fallow.policies.Persistence`.

    References:
        Weighted random sampling with a reservoir (Efraimidis and Spirakis, 2006);
        Stochastic Beams and Where to Find Them (Kool, van Hoof and Welling, 2019)

    Args:
        fraction: the share to leave out, in [0, 1).
        remove: ``"lowest"`` scores or ``"highest"``.
        exponent: how strongly the odds follow the score; None for the hard rule.
        high: threshold of outliers, in the unit of the score; ``"auto"``, or None for no outliers.
        visits: number of visits in a row that must exceed ``high``; 1 to 255.

    Raises:
        InvalidValue: if ``fraction`` is outside [0, 1), ``remove`` is unknown, ``exponent`` is not positive,
            or ``high`` is used with ``remove="highest"``.

    Example:
        >>> Fraction(0.5, exponent=0.5).kept_count(10)
        5
    """

    name: ClassVar[str] = "fraction"

    fraction: float
    remove: str = "lowest"
    exponent: float | None = None
    high: float | str | None = None
    visits: int = 3

    def __post_init__(self) -> None:
        share = check_share("fraction", self.fraction, closed=False, step="To remove nothing, pass 0.")
        object.__setattr__(self, "fraction", share)
        if self.remove not in ("lowest", "highest"):
            raise invalid('`remove` must be "lowest" or "highest".', repr(self.remove))
        if self.exponent is not None:
            if isinstance(self.exponent, bool) or not isinstance(self.exponent, int | float):
                raise invalid_type("`exponent` must be a number or None.", repr(self.exponent))
            if not 0 < self.exponent < math.inf:
                raise invalid(
                    "`exponent` must be positive.",
                    self.exponent,
                    "For the hard rule use None, on the command line --policy fraction.",
                )
            object.__setattr__(self, "exponent", float(self.exponent))
        object.__setattr__(self, "high", check_high(self.high, self.visits))
        if self.high is not None and self.remove == "highest":
            raise invalid('`high` goes with remove="lowest".', f"high={self.high!r}", "Leave it out.")

    def kept_count(self, n: int) -> int | None:
        """Return ``n - round(fraction * n)``, at least 1; None for outliers, which may not be re-admitted."""
        return None if self._removes_outliers else n - left_out(self.fraction, n)

    @property
    def finds_outliers(self) -> bool:
        """Whether there is a high threshold, or the highest scores are left out."""
        return self.high is not None or self._removes_outliers

    @property
    def reads_predictions(self) -> bool:
        """Whether there is an automatic high threshold."""
        return self.high == AUTO

    @property
    def _removes_outliers(self) -> bool:
        return self.remove == "highest" and self.exponent is None

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise if ``high`` is outside the range of the score."""
        check_within("high", self.high, low, high, score)

    @property
    def draws(self) -> bool:
        """Return whether there is an exponent."""
        return self.exponent is not None

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Choose among all samples, whether they were kept or not."""
        if self.exponent is not None:
            self._check_odds(inputs.scores)
        n, scores = len(inputs), inputs.scores
        decided = np.zeros(n, np.uint8)
        scored = n - int(np.count_nonzero(np.isnan(scores)))
        out = left_out(self.fraction, scored)
        keep = scored - out
        if self.high is not None:
            wrong = visits_wrong(inputs) if self.reads_predictions else None
            outlier = Persistence(self.high, self.visits).find(inputs, out, wrong)
            decided[outlier] = Reason.OUTLIER
            out -= int(np.count_nonzero(outlier))
            # Without a score, outliers take no part in the choice of the rest.
            scores = np.where(outlier, np.float32(np.nan), scores)
        if self.exponent is None:
            sign = np.float32(1.0 if self.remove == "lowest" else -1.0)
            lowest = smallest(lambda a, b: sign * scores[a:b], n, out, inputs.uniform)
            decided[lowest] = Reason.OUTLIER if self._removes_outliers else Reason.LEARNED
            return decided
        drawn = smallest(self._sampling_keys(inputs, scores), n, keep)
        decided[~(drawn | np.isnan(scores))] = Reason.NOT_DRAWN
        return decided

    def _sampling_keys(self, inputs: PolicyInput, scores: NDArray[np.float32]) -> Values:
        """Return each sample's sampling key; the smallest are kept, NaN is skipped."""
        assert self.exponent is not None
        power = np.float32(self.exponent if self.remove == "lowest" else -self.exponent)

        def keys(start: int, stop: int) -> NDArray[np.float32]:
            exponential = -np.log(inputs.uniform(start, stop))
            log_score = np.log(np.maximum(scores[start:stop], np.float32(FLOOR)))
            with np.errstate(divide="ignore"):  # a draw of exactly 1 gives log 0, which sorts first
                return np.asarray(np.log(exponential) - power * log_score, np.float32)

        return keys

    def _check_odds(self, scores: NDArray[np.float32]) -> None:
        lowest = float(np.nanmin(scores, initial=np.inf))
        # Rounding may leave a divergence slightly below 0.
        if lowest < -1e-3:
            raise invalid(
                "A soft Fraction needs scores of at least 0, since they are odds.",
                f"{lowest:g} at sample {int(np.nanargmin(scores))}",
                "Pass non-negative `scores=` to `record`, or use exponent=None.",
            )
