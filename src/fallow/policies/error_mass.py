"""The default: leave out as many samples as together hold a small share of the remaining error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import blocks
from ..errors import InvalidValue, check_share, invalid
from .base import IN_TURN, Policy, PolicyInput, Reason
from .expectation import FEWEST as FEWEST_GROUPS
from .expectation import PAIRS, expected_errors
from .persistence import AUTO, Persistence, check_high, check_within, visits_wrong

FEWEST = 25
"""Minimum number of returned samples for an audit."""
MEMORY = 0.8
"""Share of the earlier audits in their mean."""
SMALLEST = 0.25
"""The error in use is at least this share of ``error``."""
BOUND = 1 / 3
"""A sample that is left out has at most this share of ``error`` as its own error."""
LEVERAGE = 0.5
"""A sample that is left out has at most this share of the mean error."""
_BLOCK = 1 << 16
_OUT = "left_out"  # saved in states; do not rename


@dataclass(frozen=True)
class ErrorMass(Policy):
    r"""Leave out the largest set of samples that holds at most the share ``error`` of the error.

    The error of a sample is the probability that the network does not give to its label,
    :math:`e = 1 - e^{-s}` for a score in nats, or :math:`s / s_{\max}` for a score with a largest value. It
    is the size of the gradient that the sample sends into the logits. The *error mass* of a set R is

    .. math:: m(R) = \frac{\sum_{i \in R} \bar e_i}{\sum_{i} \bar e_i / (1 + w_i)},
        \qquad \bar e_i = E[e' \mid m_i]

    Here :math:`\bar e_i` is the *expected* error: what samples of such errors on their visits so far, in the
    mean :math:`m_i`, showed the next time that they trained, see
    :func:`fallow.policies.expectation.expected_errors`. A single low score flatters. In the first two epochs,
    until that can be learned, all samples train. It takes 100 samples at least. After an epoch that trained
    on fewer, no sample joins those that are left out, and of these the last error counts.

    The number :math:`w_i` counts the sample's last visits in a row on which the network predicted another
    class than the label, so that wrong labels, which nothing teaches, do not hold most of the mass. It needs
    ``labels=`` and ``record(..., predicted=)``; without them w is 1 if the last error was above 1/2, else 0.

    The samples with the least error are left out, as many as stay below ``error``, if they were right on
    their last visit and have an error of at most a third of ``error``, and of at most half of the mean. So
    the data decide the share: much on a set that is mostly learned, little on one that is not, and nothing if
    all samples are alike.

    Samples above ``high`` on ``visits`` visits in a row are left out first, as outliers, and do not count;
    ``"auto"`` finds that bound in the data, see :class:`fallow.policies.Persistence`. A class with at most
    half of its even share of the samples is rare, and always stays whole: what it is surprised by is rarely a
    wrong label. Samples without a score are kept.

    Left-out samples come back in turns, a tenth of them in each epoch, unless the schedule says otherwise.
    They audit the decisions that left them out: their mean error, times the number of samples that were out,
    is the error that was really left out. If that is more than ``error`` on average, the error in use falls
    by as much, at most to a quarter.

    Samples removed by hand count nowhere.

    The ``notes`` of the history hold for each epoch: ``left_out``, the share of the samples that the policy
    leaves out as learned; ``error``, the mass that they hold; ``mean_error``, the mean expected error of all
    samples but outliers; ``error_found``, the mean of the audits; ``high``, if a bound was found.

    References:
        Not All Samples Are Created Equal (Katharopoulos and Fleuret, 2018), whose importance is bounded by
        the same gradient; Regression to the mean in repeated readings (Galton, 1886)

    Args:
        error: the share of the error that may be left out, in [0, 1); a third of it is the most that a sample
            which is left out may have as its own error.
        high: threshold of outliers, in the unit of the score; ``"auto"``, or None for no outliers.
        visits: number of visits in a row that must exceed ``high``; 1 to 255.

    Raises:
        InvalidValue, InvalidType: if an argument is out of range.

    Example:
        >>> ErrorMass(0.1)
        ErrorMass(error=0.1, high='auto', visits=3)
    """

    name: ClassVar[str] = "error-mass"
    keeps_steps: ClassVar[bool] = True
    fewest_samples: ClassVar[int] = FEWEST_GROUPS * PAIRS
    returns_every: ClassVar[int | None] = 10

    error: float = 0.15
    high: float | str | None = AUTO
    visits: int = 3

    def __post_init__(self) -> None:
        share = check_share("error", self.error, closed=False, step="Try 0.15; 0 leaves nothing out.")
        object.__setattr__(self, "error", share)
        object.__setattr__(self, "high", check_high(self.high, self.visits))

    def first_epoch(self) -> int:
        """Return 2: the errors of two epochs are needed."""
        return 2

    @property
    def finds_outliers(self) -> bool:
        """Whether there is a high threshold."""
        return self.high is not None

    @property
    def reads_predictions(self) -> bool:
        """Always: samples that stay wrong count less."""
        return True

    def check_range(self, low: float, high: float, score: str) -> None:
        """Raise if scores may be negative, or ``high`` is outside their range."""
        if low < 0:
            raise _negative(f"{score} in [{low:g}, {high:g}]")
        check_within("high", self.high, low, high, score)

    def decide(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Choose among all samples, whether they were kept or not."""
        scores, out = inputs.scores, inputs.column(_OUT, np.bool_)
        _check_scores(scores)
        decided = np.zeros(len(inputs), np.uint8)
        # `visits_wrong` counts on each call: one call serves outliers and error.
        wrong = visits_wrong(inputs)
        rare = inputs.rare
        if self.high is not None:
            outlier = Persistence(self.high, self.visits).find(inputs, None, wrong)
            decided[outlier if rare is None else outlier & ~rare] = Reason.OUTLIER
        back = out & inputs.column(IN_TURN, np.bool_) & inputs.fresh & (scores == scores)
        returned, left_out = int(np.count_nonzero(back)), int(np.count_nonzero(out))
        expected = expected_errors(inputs, back, left_out / max(1, returned))
        errors = inputs.error_of(scores) if expected is None else expected
        errors[decided == Reason.OUTLIER] = np.nan
        in_use = len(inputs)
        if inputs.by_hand is not None:
            errors[inputs.by_hand] = np.nan
            in_use -= int(np.count_nonzero(inputs.by_hand))
        if wrong is None:
            wrong = (inputs.error_of(scores) > 0.5).view(np.uint8)
        mean, total = _sums(errors, wrong)
        if returned >= FEWEST:
            held = left_out * float(inputs.error_of(scores[back]).mean(dtype=np.float64))
            audit(inputs.notes, held / max(total, 1e-30))
        learned = (errors <= min(BOUND * self.error, LEVERAGE * mean)) & (wrong == 0)
        if expected is None:  # a last error alone decides only who stays out
            learned &= out
        if rare is not None:
            learned &= ~rare
        least = _largest_set(errors, scores, learned, self.in_use(inputs.notes) * total)
        decided[least] = Reason.LEARNED
        out[:] = decided == Reason.LEARNED
        notes = inputs.notes
        notes["left_out"] = least.size / max(1, in_use)
        notes["error"] = float(errors[least].sum(dtype=np.float64)) / max(total, 1e-30)
        notes["mean_error"] = mean
        return decided

    def in_use(self, notes: Mapping[str, float]) -> float:
        """Return the error in use, given what the audits found."""
        found = max(notes.get("error_found", 0.0), 1e-30)
        return self.error * min(max(self.error / found, SMALLEST), 1.0)


def audit(notes: dict[str, float], found: float) -> None:
    """Note the mean of the audits, given the share of the error that was really left out."""
    before = notes.get("error_found", found)
    notes["error_found"] = MEMORY * before + (1 - MEMORY) * found


def _sums(errors: NDArray[np.float32], wrong: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the mean of the known errors, and their sum with each divided by 1 + its wrong visits."""
    known, whole, total = 0, 0.0, 0.0
    for start, stop in blocks(errors.size, _BLOCK):
        block = errors[start:stop]
        known += int(np.count_nonzero(block == block))
        block = np.fmax(block, np.float32(0))  # turns NaN into 0
        whole += float(block.sum(dtype=np.float64))
        total += float((block / (wrong[start:stop] + np.float32(1))).sum(dtype=np.float64))
    return whole / max(1, known), total


def _largest_set(
    errors: NDArray[np.float32], scores: NDArray[np.float32], among: NDArray[np.bool_], limit: float
) -> NDArray[np.int64]:
    """Return the rows of the largest set of samples whose errors sum to at most ``limit``.

    Samples of equal error join by their scores, the lowest first.
    """
    rows = np.flatnonzero(among)
    errors = errors[rows]
    # The bits of non-negative floats sort like the floats: a histogram spares sorting all of them.
    bins = errors.view(np.uint32) >> np.uint32(16)
    up_to = np.cumsum(np.bincount(bins, errors, minlength=1 << 16))
    cut = int(np.searchsorted(up_to, limit, side="right"))
    at = np.flatnonzero(bins == cut)
    at = at[np.lexsort((scores[rows[at]], errors[at]))]
    rest = limit - (float(up_to[cut - 1]) if cut else 0.0)
    at = at[np.cumsum(errors[at], dtype=np.float64) <= rest]
    return np.concatenate([rows[bins < cut], rows[at]])


def _check_scores(scores: NDArray[np.float32]) -> None:
    lowest = float(np.nanmin(scores, initial=np.inf))
    # Rounding may leave a divergence slightly below 0.
    if lowest < -1e-3:
        raise _negative(f"{lowest:g} at sample {int(np.nanargmin(scores))}")


def _negative(found: str) -> InvalidValue:
    return invalid(
        "ErrorMass needs scores of at least 0: it reads them as errors.",
        found,
        "Pass non-negative `scores=` to `record`, or use Fraction.",
    )
