"""An exact share of the samples, hard or soft."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import Values, smallest
from ..errors import check_flag, check_number, check_share, invalid, invalid_type
from ._shares import left_out
from .base import Policy, PolicyInput, Reason
from .expectation import FLOOR, Errors, expectation
from .persistence import AUTO, Persistence, check_high, check_within, visits_wrong

_MOST = 1e30
"""Limit of the exponent of doubt: it already outweighs every draw, and more would overflow."""


@dataclass(frozen=True)
class Fraction(Policy):
    r"""Leave out :math:`\mathrm{round}(f N)` samples, chosen by the last score of every sample.

    Hard (``exponent=None``): leave out the lowest (or highest) scores. Soft: keep
    :math:`K = N - \mathrm{round}(f N)` samples, drawn without replacement with odds
    :math:`\propto s_i^{a}`. These are the K smallest of :math:`E_i / s_i^{a}` with standard exponential
    draws :math:`E_i` (equivalent to Gumbel top-K), compared as logarithms so that no power overflows. With
    ``remove="highest"`` the odds are :math:`s_i^{-a}`. N counts the samples with a score; samples without
    one are kept. Ties are broken at random.

    ``calibrate`` replaces the odds from the last score by the expected odds from the next one,
    :math:`E[s'^{\,a} \mid s]` (for a up to 1): the mean over the samples that had a similar score and trained
    again in the epoch that just ended, see :func:`fallow.policies.expectation.expectation`. If the scores of
    one epoch say little about the next, the draw is close to a random subset. ``high`` and ``doubt`` are not
    affected. Calibration starts with the second draw, when there are scores to compare.

    ``doubt`` d counts a score as :math:`s_i (1 + w_i)^{-d}` in a soft draw; :math:`w_i` is the number of the
    sample's last visits in a row on which the network predicted a class other than the label. A sample
    predicted right on its last visit keeps its whole score; one that stays wrong is drawn less often, but is
    never left out for good. It needs ``labels=`` and ``record(..., predicted=)``; without them w is 0.

    ``keep_rare`` keeps a class whole in a soft draw if it has at most its even share of the K,
    :math:`K / C` samples of C classes, whatever their scores. The rest of the K is drawn from the other
    classes. A balanced set has no rare class. It needs ``labels=``; without them no class is rare.

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
        doubt: how fast a score loses weight with wrong predictions in a row; 0 for not at all.
        keep_rare: whether small classes are kept whole, except for outliers.
        calibrate: whether the odds are those expected from the next score.

    Raises:
        InvalidValue: if ``fraction`` is outside [0, 1), ``remove`` is unknown, ``exponent`` is not positive,
            ``doubt`` is negative, ``doubt``, ``keep_rare`` or ``calibrate`` is used without an exponent, or
            any of these or ``high`` with ``remove="highest"``.

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
    doubt: float = 0.0
    keep_rare: bool = False
    calibrate: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep_rare", check_flag("keep_rare", self.keep_rare))
        object.__setattr__(self, "calibrate", check_flag("calibrate", self.calibrate))
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
        self._check_draw()

    def _check_draw(self) -> None:
        """Check the options that need a soft draw with ``remove="lowest"``."""
        object.__setattr__(self, "doubt", check_number("doubt", self.doubt, 0.0, "Use 0 for no doubt."))
        for name in ("doubt", "keep_rare", "calibrate"):
            if getattr(self, name) and (self.exponent is None or self.remove == "highest"):
                step = "exponent=0.5" if self.exponent is None else 'remove="lowest"'
                raise invalid(
                    f'`{name}` goes with an exponent and remove="lowest".',
                    f"{name}={getattr(self, name)!r}, exponent={self.exponent!r}, remove={self.remove!r}",
                    f"Set {step}, or leave {name} out.",
                )

    def kept_count(self, n: int) -> int | None:
        """Return ``n - round(fraction * n)``, at least 1; None for outliers, which may not be re-admitted."""
        return None if self._removes_outliers else n - left_out(self.fraction, n)

    @property
    def finds_outliers(self) -> bool:
        """Whether there is a high threshold, or the highest scores are left out."""
        return self.high is not None or self._removes_outliers

    @property
    def reads_predictions(self) -> bool:
        """Whether doubt or an automatic high threshold is used."""
        return self.doubt > 0 or self.high == AUTO

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
        # `visits_wrong` counts on each call: one call serves the outliers and doubt.
        wrong = visits_wrong(inputs) if self.reads_predictions else None
        if self.high is not None:
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
        drawn = smallest(self._sampling_keys(inputs, scores, wrong, keep), n, keep)
        decided[~(drawn | np.isnan(scores))] = Reason.NOT_DRAWN
        return decided

    def _sampling_keys(
        self, inputs: PolicyInput, scores: NDArray[np.float32], wrong: NDArray[np.uint8] | None, keep: int
    ) -> Values:
        """Return each sample's sampling key; the ``keep`` smallest are kept, NaN is skipped."""
        assert self.exponent is not None
        power = np.float32(self.exponent if self.remove == "lowest" else -self.exponent)
        rare = self._rare(inputs.labels, keep)
        doubt = np.float32(min(self.exponent * self.doubt, _MOST))
        expected = self._expected(inputs) if self.calibrate else None

        def keys(start: int, stop: int) -> NDArray[np.float32]:
            block = scores[start:stop]
            if expected is not None:
                block = expected(block)
            exponential = -np.log(inputs.uniform(start, stop))
            log_score = np.log(np.maximum(block, np.float32(FLOOR)))
            with np.errstate(divide="ignore"):  # a draw of exactly 1 gives log 0, which sorts first
                key = np.asarray(np.log(exponential) - power * log_score, np.float32)
            if doubt and wrong is not None:
                key += doubt * np.log1p(wrong[start:stop], dtype=np.float32)
            if rare is not None:
                # Sorts first. Outliers and unscored samples, whose keys are NaN, stay out of the draw.
                key[rare[start:stop] & ~np.isnan(key)] = -np.inf
            return key

        return keys

    def _expected(self, inputs: PolicyInput) -> Errors | None:
        """Return the function from a score to the score of its expected odds, or None; see `expectation`."""
        assert self.exponent is not None
        power = np.float32(min(self.exponent, 1.0))
        odds = expectation(inputs, lambda scores: scores**power)
        return None if odds is None else lambda scores: odds(scores) ** (1 / power)

    def _rare(self, labels: NDArray[np.int32] | None, keep: int) -> NDArray[np.bool_] | None:
        """Return which samples belong to a rare class, which is kept whole, ``(N,)``; None if none does."""
        if labels is None or not self.keep_rare:
            return None
        sizes = np.bincount(labels)
        # `size <= keep / classes`, without a division.
        rare = (sizes > 0) & (sizes * np.count_nonzero(sizes) <= keep)
        return rare[labels] if rare.any() else None

    def _check_odds(self, scores: NDArray[np.float32]) -> None:
        lowest = float(np.nanmin(scores, initial=np.inf))
        # Rounding may leave a divergence slightly below 0.
        if lowest < -1e-3:
            raise invalid(
                "A soft Fraction needs scores of at least 0, since they are odds.",
                f"{lowest:g} at sample {int(np.nanargmin(scores))}",
                "Pass non-negative `scores=` to `record`, or use exponent=None.",
            )
