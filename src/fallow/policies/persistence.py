"""The high side: samples that surprise the network visit after visit, and when that is too often."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import blocks, smallest
from ..errors import check_integer, invalid, invalid_type
from ._shares import scored
from .base import PolicyInput

AUTO = "auto"
BINS = 40
DEPTH, FLAT, REACH = 0.55, 0.95, 0.4
MARGIN = 0.5
_BLOCK = 1 << 16
_STREAK, _MEAN, _VISITS, _WRONG = "visits_above_high", "mean_score", "visits", "visits_wrong"


def check_high(high: float | str | None, visits: int) -> float | str | None:
    """Return ``high`` as a float, ``"auto"`` or None.

    Raises:
        InvalidType, InvalidValue: where it is neither, or ``visits`` is outside 1 to 255.
    """
    check_integer("visits", visits, 1)
    if visits > 255:
        raise invalid("`visits` must be at most 255.", visits)
    if high is None or high == AUTO:
        return high
    if isinstance(high, bool) or not isinstance(high, int | float):
        raise invalid_type('`high` must be a number, "auto" or None.', repr(high))
    if not abs(high) <= float(np.finfo(np.float32).max):
        raise invalid("`high` must be a finite float32.", high, "Use None for no such side.")
    return float(high)


def check_within(name: str, side: float | str | None, low: float, high: float, score: str) -> None:
    """Raise where the number ``side`` lies where no score can: it would remove all or nothing."""
    if isinstance(side, float) and not low <= side <= high:
        raise invalid(
            f"`{name}` must lie in [{low:g}, {high:g}], the range of {score}.",
            side,
            "Look at the scores of one epoch, or read thresholds as shares: Threshold(quantiles=True).",
        )


@dataclass(frozen=True)
class Persistence:
    r"""Finds the samples that score high on ``visits`` visits in a row.

    With a number, a sample is found while its last ``visits`` scores all lay above ``high``.

    With ``"auto"`` the bound is read off the data. For each sample that was visited often enough,
    :math:`p_i = e^{-m_i}`, where :math:`m_i` is the mean of about its last ``visits`` scores: under the KL
    divergence the geometric mean of the probability of its label. Where some labels are wrong, the
    histogram of p has a hill at the left end (labels that the network denies), apart from the rest, and the
    valley between them is the bound. Without a valley, nothing is found. Found is what

    - lies left of the valley,
    - scores clearly above chance, :math:`m_i > \log C + 0.5`, where the number of classes C is known,
    - was predicted wrong on its last ``visits`` visits, where predictions are recorded,
    - and is within the cap of its class: no more than there are samples of that class which the network
      predicts right, the highest m first. So a class that is still to be learned loses nothing. Where no
      predictions are recorded, the cap is half of the class; without labels, half of all samples.

    The hill and the rest are the two components that mixture models of the loss look for under label noise.

    References:
        Unsupervised Label Noise Modeling and Loss Correction (Arazo et al., 2019);
        DivideMix: Learning with Noisy Labels as Semi-supervised Learning (Li, Socher and Hoi, 2020)

    Args:
        high: in the unit of the score, or ``"auto"``.
        visits: how many.
    """

    high: float | str
    visits: int

    def find(
        self, inputs: PolicyInput, most: int | None = None, wrong: NDArray[np.uint8] | None = None
    ) -> NDArray[np.bool_]:
        """Take the fresh scores into account, and return which samples are found: bool ``(N,)``.

        A sample whose last score is not finite is never among them.

        Args:
            inputs: what the policy sees.
            most: find no more than so many, those with the highest scores.
            wrong: what :func:`visits_wrong` returned, where the policy has asked it for this decision.
        """
        if self.high != AUTO:
            found = self._streaks(inputs) >= self.visits
            return _highest(found & scored(inputs), inputs.scores, most)
        if wrong is None:
            wrong = visits_wrong(inputs)
        bound = self._bound(inputs, self._histogram(inputs))
        if bound is None:
            inputs.notes.pop("high", None)
            return np.zeros(len(inputs), np.bool_)
        inputs.notes["high"] = bound
        mean = inputs.column(_MEAN, np.float32)
        found = mean > np.float32(bound)
        found &= inputs.column(_VISITS, np.uint8) >= self.visits
        found &= scored(inputs)
        if wrong is not None:
            found &= wrong >= self.visits
        return _highest(_capped(found, mean, inputs), mean, most)

    def _streaks(self, inputs: PolicyInput) -> NDArray[np.uint8]:
        """Bring up to date, and return, how many of a sample's last scores in a row lay above the bound."""
        assert isinstance(self.high, float)
        streak = inputs.column(_STREAK, np.uint8)
        for start, stop in blocks(len(inputs), _BLOCK):
            rows = slice(start, stop)
            score = inputs.scores[rows]
            _count(streak[rows], inputs.fresh[rows] & (score == score), score > self.high)
        return streak

    def _histogram(self, inputs: PolicyInput) -> NDArray[np.int64]:
        """Bring means and visits up to date; return the counts of exp(-mean).

        Counted are the samples with enough visits, in ``BINS`` bins of [0, 1].
        """
        mean, visits = inputs.column(_MEAN, np.float32), inputs.column(_VISITS, np.uint8)
        counts = np.zeros(BINS + 1, np.int64)
        for start, stop in blocks(len(inputs), _BLOCK):
            rows = slice(start, stop)
            score, known = inputs.scores[rows], mean[rows]
            fresh = inputs.fresh[rows] & (score == score)
            _count(visits[rows], fresh, np.True_)
            weight = np.minimum(np.maximum(visits[rows], 1), self.visits).astype(np.float32)
            known += np.where(fresh, (score - known) / weight, np.float32(0))
            bins = np.minimum(np.exp(-np.maximum(known, 0)) * np.float32(BINS), BINS - 1).astype(np.int64)
            counts += np.bincount(np.where(visits[rows] >= self.visits, bins, BINS), minlength=BINS + 1)
        return counts[:BINS]

    def _bound(self, inputs: PolicyInput, counts: NDArray[np.int64]) -> float | None:
        """Return the score at the valley, or chance and a margin where that is more; None without one."""
        valley = find_valley(counts)
        if valley is None:
            return None
        bound = -math.log(valley / BINS)
        if inputs.labels is None:
            return bound
        return max(bound, math.log(np.count_nonzero(np.bincount(inputs.labels))) + MARGIN)


def visits_wrong(inputs: PolicyInput) -> NDArray[np.uint8] | None:
    """Return on how many of its last visits in a row each sample was predicted as another class: ``(N,)``.

    It counts up to 255, from the last warm-up epoch on, and takes the fresh predictions into account: ask
    once a decision. A sample whose last visit told no class begins at 0 again; a visit without a sound score
    changes nothing. None where there are no labels, or no predictions yet.
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


def _count(streak: NDArray[np.uint8], fresh: NDArray[np.bool_], hit: NDArray[np.bool_] | np.bool_) -> None:
    """Add 1, in place, to the fresh ones that hit, up to 255; the other fresh ones begin at 0 again."""
    streak *= hit | ~fresh
    streak += fresh & hit & (streak < 255)


def find_valley(counts: NDArray[np.integer]) -> int | None:
    """Return the edge, in bins, between a hill at the left end of a histogram and the rest; or None.

    The counts are smoothed, 1-2-1. The edge is the first place, at most ``REACH`` of the way to the right,
    where the histogram has stopped falling: the mean over the next quarter of it is at least ``FLAT`` times
    as high. There the count must be at most ``DEPTH`` times that of the hill's top, by more than chance would
    make it, and at least 30 % of all must lie beyond. A histogram that falls all the way, or rises from the
    start, has no valley.

    Args:
        counts: int ``(bins,)``, of values that lie between 0 and 1.

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
        top, low = float(smooth[:edge].max()), float(smooth[edge])
        deep = low <= DEPTH * top and top - low > 4 * math.sqrt(top + low)
        flat = float(smooth[edge : edge + quarter].mean()) >= FLAT * low
        if deep and flat and smooth[edge:].sum() >= 0.3 * smooth.sum():
            return edge
    return None


def _highest(found: NDArray[np.bool_], values: NDArray[np.float32], most: int | None) -> NDArray[np.bool_]:
    """Leave the ``most`` with the highest values, ties by index."""
    if most is None or np.count_nonzero(found) <= most:
        return found
    return smallest(lambda a, b: np.where(found[a:b], -values[a:b], np.float32(np.nan)), found.size, most)


def _capped(found: NDArray[np.bool_], mean: NDArray[np.float32], inputs: PolicyInput) -> NDArray[np.bool_]:
    """Leave no more of each class than its cap, those with the highest means."""
    labels, predicted = inputs.labels, inputs.predicted
    if labels is None:
        return _highest(found, mean, found.size // 2)
    classes = int(labels.max()) + 1
    if predicted is None:
        cap = np.bincount(labels, minlength=classes) // 2
    else:
        cap = np.bincount(labels[predicted == labels], minlength=classes)
    over = np.bincount(labels[found], minlength=classes) > cap
    if not over.any():
        return found
    index = np.flatnonzero(found & over[labels])
    by_class = index[np.lexsort((index, -mean[index], labels[index]))]
    label = labels[by_class]
    place = np.arange(by_class.size) - np.searchsorted(label, label, side="left")
    found[by_class[place >= cap[label]]] = False
    return found
