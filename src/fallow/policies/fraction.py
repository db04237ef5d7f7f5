"""An exact share of the samples, hard or soft."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import Values, smallest
from ..errors import check_flag, check_share, invalid, invalid_type
from .base import Policy, PolicyInput, Reason
from .expectation import FLOOR, expectation
from .persistence import AUTO, Persistence, check_high, check_within, visits_wrong

_MOST = 1e30
"""A larger exponent of doubt counts as this one, which no sample outweighs."""


@dataclass(frozen=True)
class Fraction(Policy):
    r"""Leave out :math:`\mathrm{round}(f N)` samples, by the last score of every sample.

    Hard (``exponent=None``): those with the lowest (or highest) scores. Soft: keep
    :math:`K = N - \mathrm{round}(f N)`, drawn without replacement with odds
    :math:`\propto s_i^{a}`: the K smallest of :math:`E_i / s_i^{a}`, where :math:`E_i` is a standard
    exponential draw (the Gumbel top-K draw in other words), compared as logarithms so that no power
    overflows. With ``remove="highest"`` the odds are :math:`s_i^{-a}`. N counts the samples that have a
    score; one without is kept. Equal scores are told apart by lot.

    With ``calibrate`` the odds are those that a sample is expected to have by its next score,
    :math:`E[s'^{\,a} \mid s]` (for a up to 1), instead of those by its last one: the mean over the samples
    that scored alike and trained again in the epoch that just ended, see
    :func:`fallow.policies.expectation.expectation`. The less the scores of one epoch tell of the next, the
    closer that comes to a random subset. The high side and doubt see what they see without it. It begins
    with the second draw, when there are scores to compare.

    With ``doubt`` d a score counts as :math:`s_i (1 + w_i)^{-d}` in a soft draw, where :math:`w_i` is on how
    many of its last visits in a row the network predicted another class than the label: with d = 1, the
    surprise is shared out over the visits that failed. A sample that is right now and then keeps its whole
    score; one that stays wrong is drawn less often, and never left out for good. It takes ``labels=`` and
    ``record(..., predicted=)``; without them w is 0.

    With ``keep_rare`` a soft draw takes a class whole where it has no more samples than its even share of the
    K, :math:`K / C` of C classes, whatever its samples score; the rest of the K is drawn from the other
    classes. Of a balanced set no class is that small. It takes ``labels=``; without them no class is rare.

    With ``high``, samples that score above it on ``visits`` visits in a row are outliers and left out
    first, the highest before the others, at most :math:`\mathrm{round}(f N)` of them; the rest of the share
    is taken from the other samples. ``"auto"`` finds the bound in the data, and none where there is none: see
    :class:`fallow.policies.Persistence`. So the number of kept samples is the same with and without it.

    References:
        Weighted random sampling with a reservoir (Efraimidis and Spirakis, 2006);
        Stochastic Beams and Where to Find Them (Kool, van Hoof and Welling, 2019)

    Args:
        fraction: the share that is left out, in [0, 1).
        remove: ``"lowest"`` scores or ``"highest"``.
        exponent: how strongly the odds follow the score; None for the hard rule.
        high: outliers score above it, in the unit of the score; ``"auto"``, or None for no such side.
        visits: on so many visits in a row; 1 to 255.
        doubt: how fast a score loses weight with the wrong predictions in a row; 0 for not at all.
        keep_rare: whether classes with few samples are kept whole, outliers apart.
        calibrate: whether the odds are those expected of the next score.

    Raises:
        InvalidValue: for a share outside [0, 1), an unknown side, an exponent that is not positive, a
            negative doubt, doubt, ``keep_rare`` or ``calibrate`` without an exponent, or what belongs to
            ``"lowest"`` with ``remove="highest"``.

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
                    "None, on the command line --policy fraction, is the hard rule.",
                )
            object.__setattr__(self, "exponent", float(self.exponent))
        object.__setattr__(self, "high", check_high(self.high, self.visits))
        if self.high is not None and self.remove == "highest":
            raise invalid('`high` goes with remove="lowest".', f"high={self.high!r}", "Leave it out.")
        self._check_draw()

    def _check_draw(self) -> None:
        """Check what only a soft draw of the lowest knows."""
        if isinstance(self.doubt, bool) or not isinstance(self.doubt, int | float):
            raise invalid_type("`doubt` must be a number.", repr(self.doubt), "0 is none.")
        if not 0 <= self.doubt < math.inf:
            raise invalid("`doubt` must be at least 0 and finite.", self.doubt, "0 is none.")
        object.__setattr__(self, "doubt", float(self.doubt))
        for name in ("keep_rare", "calibrate"):
            if not isinstance(getattr(self, name), bool):
                raise invalid_type(f"`{name}` must be True or False.", repr(getattr(self, name)), "Try True.")
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
        return None if self._removes_outliers else self._keep(n)

    @property
    def finds_outliers(self) -> bool:
        """Whether there is a high side, or the highest scores are left out."""
        return self.high is not None or self._removes_outliers

    @property
    def reads_predictions(self) -> bool:
        """Whether there is doubt, or a high side that finds itself."""
        return self.doubt > 0 or self.high == AUTO

    @property
    def _removes_outliers(self) -> bool:
        return self.remove == "highest" and self.exponent is None

    def _keep(self, n: int) -> int:
        return n - min(round(self.fraction * n), max(0, n - 1))

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise where ``high`` lies where no score can."""
        check_within("high", self.high, low, high, score)

    @property
    def draws(self) -> bool:
        """Return whether there is an exponent."""
        return self.exponent is not None

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Choose anew among all samples, whether they were kept or not."""
        if self.exponent is not None:
            self._check_odds(inputs.scores)
        n, scores = len(inputs), inputs.scores
        decided = np.zeros(n, np.uint8)
        scored = n - int(np.count_nonzero(np.isnan(scores)))
        keep, out = self._keep(scored), scored - self._keep(scored)
        wrong = visits_wrong(inputs) if self.reads_predictions else None
        if self.high is not None:
            outlier = Persistence(self.high, self.visits).find(inputs, out, wrong)
            decided[outlier] = Reason.OUTLIER
            out -= int(np.count_nonzero(outlier))
            scores = np.where(outlier, np.float32(np.nan), scores)
        if self.exponent is None:
            sign = np.float32(1.0 if self.remove == "lowest" else -1.0)
            lowest = smallest(lambda a, b: sign * scores[a:b], n, out, inputs.uniform)
            decided[lowest] = Reason.OUTLIER if self._removes_outliers else Reason.LEARNED
            return decided
        drawn = smallest(self._rings(inputs, scores, wrong, keep), n, keep)
        decided[~(drawn | np.isnan(scores))] = Reason.NOT_DRAWN
        return decided

    def _rings(
        self,
        inputs: PolicyInput,
        scores: NDArray[np.float32],
        wrong: NDArray[np.uint8] | None,
        keep: int,
    ) -> Values:
        """Return when the clocks of the samples ring: the first ``keep`` are kept, NaN takes no part."""
        rare = self._rare(inputs.labels, keep)
        assert self.exponent is not None
        doubt = np.float32(min(self.exponent * self.doubt, _MOST))
        expected = expectation(inputs, self.exponent) if self.calibrate else None

        def rings(start: int, stop: int) -> NDArray[np.float32]:
            block = scores[start:stop]
            ring = self._clock(block if expected is None else expected(block), inputs.uniform(start, stop))
            if doubt and wrong is not None:
                ring += doubt * np.log1p(wrong[start:stop], dtype=np.float32)
            if rare is not None:
                ring[rare[start:stop] & ~np.isnan(ring)] = -np.inf
            return ring

        return rings

    def _rare(self, labels: NDArray[np.int32] | None, keep: int) -> NDArray[np.bool_] | None:
        """Return which samples are of a class that is kept whole, ``(N,)``; None where there is none."""
        if labels is None or not self.keep_rare:
            return None
        sizes = np.bincount(labels)
        rare = (sizes > 0) & (sizes * np.count_nonzero(sizes) <= keep)
        return rare[labels] if rare.any() else None

    def _clock(self, scores: NDArray[np.float32], draws: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logarithms of a block's exponential clocks: the first to ring are kept."""
        assert self.exponent is not None
        score = np.maximum(scores, np.float32(FLOOR))
        power = np.float32(self.exponent if self.remove == "lowest" else -self.exponent)
        ring = -np.log(draws)
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
