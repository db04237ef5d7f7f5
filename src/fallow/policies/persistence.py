"""Persistent outliers: samples that score high on several visits in a row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import blocks, smallest
from ..errors import check_integer, invalid, invalid_type
from ._shares import scored, without_nan
from .base import PolicyInput

AUTO = "auto"
BINS = 40
# Criteria of `find_valley`.
DEPTH, FLAT, REACH = 0.65, 0.95, 0.4
MARGIN = 0.5
"""Nats above chance level from which a sample counts as denied by the network."""
_BLOCK = 1 << 16
# Names of columns, which saved states hold: renaming one loses what resumed runs remember.
_STREAK, _MEAN, _VISITS, _WRONG = "visits_above_high", "mean_score", "visits", "visits_wrong"


def check_side(name: str, side: float | str | None) -> float | str | None:
    """Return a threshold as a float, ``"auto"`` or None."""
    if side is None or side == AUTO:
        return side
    if isinstance(side, bool) or not isinstance(side, int | float):
        raise invalid_type(f'`{name}` must be a number, "auto" or None.', repr(side))
    if not abs(side) <= float(np.finfo(np.float32).max):
        raise invalid(f"`{name}` must be a finite float32.", side, "Use None for no threshold.")
    return float(side)


def check_high(high: float | str | None, visits: int) -> float | str | None:
    """Return ``high`` as a float, ``"auto"`` or None.

    Raises:
        InvalidType, InvalidValue: if it is anything else, or ``visits`` is outside 1 to 255.
    """
    check_integer("visits", visits, 1)
    if visits > 255:  # the columns that count visits are uint8
        raise invalid("`visits` must be at most 255.", visits)
    return check_side("high", high)


def check_within(name: str, side: float | str | None, low: float, high: float, score: str) -> None:
    """Raise if the number ``side`` is outside the score's range: it would remove all samples or none."""
    if isinstance(side, float) and not low <= side <= high:
        raise invalid(
            f"`{name}` must lie in [{low:g}, {high:g}], the range of {score}.",
            side,
            "Look at the scores of one epoch, or read thresholds as shares: Threshold(quantiles=True).",
        )


@dataclass(frozen=True)
class Persistence:
    r"""Detector of samples that score high on ``visits`` visits in a row.

    With a number, a sample is an outlier while its last ``visits`` scores are all above ``high``.

    With ``"auto"``, the bound is derived from the data. A class with at most half of its even share of the
    samples is rare, and no sample of it is an outlier or counts here: it looks mislabelled for long, and is
    rarely so. For each other sample with enough visits,
    :math:`p_i = e^{-m_i}`, with :math:`m_i` the mean of about its last ``visits`` scores. Under the KL
    divergence, this is the geometric mean of the probability of its label. If some labels are wrong, the
    histogram of p has a peak at the left end (labels that the network contradicts) apart from the rest, and
    the valley between them is the bound. Without a valley there are no outliers. Outliers are the samples
    that

    - lie left of the valley,
    - score clearly above chance, :math:`m_i > \log C + 0.5`, if the number of classes C is known,
    - were predicted wrong on their last ``visits`` visits, if predictions are recorded,
    - and are within the cap of their class, the highest m first. The cap is the number of samples of the
      class that the network predicts right, so a class that is not learned yet loses nothing. Without
      predictions the cap is half of the class; without labels, half of all samples.

    Mixture models of the loss under label noise look for the same two components.

    References:
        Unsupervised Label Noise Modeling and Loss Correction (Arazo et al., 2019);
        DivideMix: Learning with Noisy Labels as Semi-supervised Learning (Li, Socher and Hoi, 2020)

    Args:
        high: the threshold, in the unit of the score, or ``"auto"``.
        visits: number of visits in a row.
    """

    high: float | str
    visits: int

    def find(
        self, inputs: PolicyInput, most: int | None = None, wrong: NDArray[np.uint8] | None = None
    ) -> NDArray[np.bool_]:
        """Update the columns with the fresh scores and return the outliers: bool ``(N,)``.

        A sample whose last score is not finite is never an outlier.

        Args:
            inputs: the input of the policy.
            most: maximum number of outliers; the highest scores win.
            wrong: the result of :func:`visits_wrong`, if the policy has called it for this decision.
        """
        if self.high != AUTO:
            outlier = self._streaks(inputs) >= self.visits
            return _highest(outlier & scored(inputs), inputs.scores, most)
        # `visits_wrong` counts on each call, so it must run once per decision.
        if wrong is None:
            wrong = visits_wrong(inputs)
        rare = inputs.rare
        bound = self._bound(inputs, self._histogram(inputs, rare))
        if bound is None:
            # A note stands only while it holds.
            inputs.notes.pop("high", None)
            return np.zeros(len(inputs), np.bool_)
        inputs.notes["high"] = bound
        mean = inputs.column(_MEAN, np.float32)
        outlier = mean > np.float32(bound)
        outlier &= inputs.column(_VISITS, np.uint8) >= self.visits
        outlier &= scored(inputs)
        if rare is not None:
            outlier &= ~rare
        if wrong is not None:
            outlier &= wrong >= self.visits
        return _highest(_capped(outlier, mean, inputs), mean, most)

    def _streaks(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Update and return the number of each sample's last scores in a row above the threshold."""
        assert isinstance(self.high, float)
        streak = inputs.column(_STREAK, np.uint8)
        for start, stop in blocks(len(inputs), _BLOCK):
            rows = slice(start, stop)
            score = inputs.scores[rows]
            _count(streak[rows], inputs.fresh[rows] & (score == score), score > self.high)
        return streak

    def _histogram(self, inputs: PolicyInput, rare: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Update means and visits; return the histogram of exp(-mean) in ``BINS`` bins of [0, 1].

        Only samples with enough visits are counted, none of a rare class, and none removed by hand.
        """
        mean, visits = inputs.column(_MEAN, np.float32), inputs.column(_VISITS, np.uint8)
        counts = np.zeros(2 * BINS, np.int64)  # the second half takes samples that do not count
        for start, stop in blocks(len(inputs), _BLOCK):
            rows = slice(start, stop)
            score, average = inputs.scores[rows], mean[rows]
            known = score == score
            fresh = inputs.fresh[rows] & known
            _count(visits[rows], fresh)
            # A plain mean at first, then an exponential one: it needs one column instead of `visits`.
            weight = np.clip(visits[rows].astype(np.float32), 1, self.visits)
            average += (without_nan(score, known) - average) / weight * fresh
            bins = np.minimum(np.exp(-np.maximum(average, 0)) * np.float32(BINS), BINS - 1).astype(np.uint8)
            aside = visits[rows] < self.visits
            for other in (rare, inputs.by_hand):
                if other is not None:
                    aside |= other[rows]
            counts += np.bincount(bins + np.uint8(BINS) * aside, minlength=2 * BINS)
        return counts[:BINS]

    def _bound(self, inputs: PolicyInput, counts: NDArray[np.int64]) -> float | None:
        """Return the score at the valley, at least chance plus a margin; None without a valley."""
        valley = find_valley(counts)
        if valley is None:
            return None
        bound = -math.log(valley / BINS)
        if inputs.labels is None:
            return bound
        return max(bound, math.log(np.count_nonzero(inputs.class_sizes)) + MARGIN)


def visits_wrong(inputs: PolicyInput) -> NDArray[np.uint8] | None:
    """Update and return the number of each sample's last visits in a row with a wrong prediction: ``(N,)``.

    It counts up to 255, from the last warm-up epoch on. Every call counts the fresh predictions, so call it
    once per decision. A visit without a prediction resets the count to 0; a visit without a finite score
    changes nothing. None without labels, or before the first prediction.
    """
    if inputs.labels is None or inputs.predicted is None:
        return None
    streak = inputs.column(_WRONG, np.uint8)
    for start, stop in blocks(len(inputs), _BLOCK):
        rows = slice(start, stop)
        score, guess = inputs.scores[rows], inputs.predicted[rows]
        wrong = (guess != inputs.labels[rows]) & (guess >= 0)
        _count(streak[rows], inputs.fresh[rows] & (score == score), wrong)
    return streak


def _count(streak: NDArray[np.uint8], fresh: NDArray[np.bool_], hit: NDArray[np.bool_] | None = None) -> None:
    """Add 1 to the fresh entries with a hit, up to 255, and reset the other fresh ones to 0; in place.

    Without ``hit``, all have one.
    """
    if hit is not None:
        streak *= hit | ~fresh
        fresh = fresh & hit
    streak += fresh & (streak < 255)


def find_valley(counts: NDArray[np.integer]) -> int | None:
    """Return the edge, in bins, between a peak at the left end of a histogram and the rest; or None.

    The counts are smoothed with weights 1-2-1. The edge is the first bin, within the first ``REACH`` of them,
    at which the histogram has stopped falling: the mean over the next quarter of the bins is at least
    ``FLAT`` times its count. Its count must be at most ``DEPTH`` times that of the peak, the difference must
    exceed four standard deviations, and at least 30 % of all values must lie beyond the edge. A histogram
    that only falls, or rises from the start, has no valley.

    Args:
        counts: int ``(bins,)``, the histogram of values between 0 and 1.

    Returns:
        The number of bins left of the edge, at least 1.

    Example:
        >>> find_valley(np.array([900, 500, 100, 90, 95, 100, 120, 200, 400, 600]))
        3
        >>> find_valley(np.array([5, 10, 20, 30, 50, 80, 120, 200, 300, 400])) is None
        True
    """
    padded = np.concatenate([counts[:1], counts, counts[-1:]]).astype(np.float64)
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    quarter = -(-smooth.size // 4)
    for edge in range(1, int(REACH * smooth.size) + 1):
        top = float(smooth[:edge].max())
        low = float(smooth[edge])
        # Counts are about Poisson, so the variance of top - low is top + low.
        deep = low <= DEPTH * top and top - low > 4 * math.sqrt(top + low)
        flat = float(smooth[edge : edge + quarter].mean()) >= FLAT * low
        if deep and flat and smooth[edge:].sum() >= 0.3 * smooth.sum():
            return edge
    return None


def _highest(outlier: NDArray[np.bool_], values: NDArray[np.float32], most: int | None) -> NDArray[np.bool_]:
    """Return at most ``most`` of the outliers, those with the highest values, ties by index."""
    if most is None or np.count_nonzero(outlier) <= most:
        return outlier
    return smallest(lambda a, b: np.where(outlier[a:b], -values[a:b], np.float32(np.nan)), outlier.size, most)


def _capped(outlier: NDArray[np.bool_], mean: NDArray[np.float32], inputs: PolicyInput) -> NDArray[np.bool_]:
    """Return the outliers within the cap of each class, those with the highest means."""
    labels, predicted = inputs.labels, inputs.predicted
    if labels is None:
        return _highest(outlier, mean, outlier.size // 2)
    sizes = inputs.class_sizes
    cap = sizes // 2 if predicted is None else np.bincount(labels, predicted == labels)
    index = np.flatnonzero(outlier)
    label = labels[index]
    over = np.bincount(label, minlength=sizes.size) > cap
    if not over.any():
        return outlier
    index = index[over[label]]
    by_class = index[np.lexsort((index, -mean[index], labels[index]))]
    label = labels[by_class]
    rank = np.arange(by_class.size) - np.searchsorted(label, label, side="left")
    outlier[by_class[rank >= cap[label]]] = False
    return outlier
