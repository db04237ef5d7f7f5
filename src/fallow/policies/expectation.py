"""The error that a sample is expected to show when it trains the next time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import blocks
from ._shares import without_nan
from .base import PolicyInput, Reason

RECENT = 0.4
"""Weight of the last error in the mean of a sample's errors."""
FLOOR = 1e-6
"""Smaller errors count as this one, so that they have a logarithm."""
GROUPS, FEWEST, PAIRS = 20, 4, 25
_BLOCK = 1 << 16
_MEAN = "mean_error"  # saved in states; do not rename
# The cell of a float32 is its exponent and the top three bits of its fraction: eight cells per octave. The
# last cell begins at 1, the largest error.
_SHIFT, CELLS = np.uint32(20), 0x3F9


def expected_errors(
    inputs: PolicyInput, back: NDArray[np.bool_], weight: float
) -> NDArray[np.float32] | None:
    r"""Return the expected next error of each sample, :math:`E[e' \mid m_i]`, ``(N,)``.

    A single score is noisy: it comes from one state of the network and one augmentation. A very low score is
    usually higher the next time, especially early in training (regression to the mean). So a sample is judged
    by the mean of its errors, of which the recent ones count most: :math:`m \leftarrow m + 0.4 (e - m)` on
    each visit. And the data show what a mean is worth: each sample that trained in the epoch that just ended
    and had a mean before it is a pair :math:`(m, e)`. The pairs are sorted by m and split into at most
    ``GROUPS`` groups of similar size; means in the same eighth of an octave share a group. Isotonic
    regression makes the group means of e non-decreasing. Samples that came back count
    as all that were out, since the lowest means would have hardly any pairs otherwise. Between group centres
    the result is interpolated in log-log space; beyond the first and the last centre it is constant.

    It updates a column, so call it once per decision. Errors below ``FLOOR`` count as ``FLOOR``.

    References:
        Transforming Classifier Scores into Accurate Multiclass Probability Estimates (Zadrozny and
        Elkan, 2002), who calibrate classifiers by isotonic regression

    Args:
        inputs: the input of the policy; see its ``error_of``.
        back: the samples that the policy had left out and that trained nevertheless, ``(N,)``.
        weight: how many samples each of them stands for.

    Returns:
        The errors, NaN without a score. None if the pairs make fewer than ``FEWEST`` groups of ``PAIRS``
        pairs: on the first decision, with few samples, or if nearly all means are equal.
    """
    table = curve(*_pairs(inputs, back, weight))
    if table is None:
        return None
    means, expected = inputs.column(_MEAN, np.float32), np.empty(len(inputs), np.float32)
    for start, stop in blocks(len(inputs), _BLOCK):
        mean, scores = means[start:stop], inputs.scores[start:stop]
        known = (scores == scores) & (mean > 0)
        expected[start:stop] = np.where(known, table.take(_cells(mean)), np.float32(np.nan))
    return expected


def _cells(means: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the cell of each mean, ascending with the mean and at least 1: ``(n,)``."""
    # The bits of non-negative floats sort like the floats, so a shift makes logarithmic cells.
    return (np.maximum(means, np.float32(FLOOR)).view(np.uint32) >> _SHIFT).astype(np.intp)


def _pairs(
    inputs: PolicyInput, back: NDArray[np.bool_], weight: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return number, weight and weighted errors of the pairs of each cell of means: ``(CELLS,)`` each.

    Then bring the means up to date; 0 means none. A sample that was only measured makes no pair: it was left
    out because of its score, and may have been measured in evaluation mode.
    """
    means = inputs.column(_MEAN, np.float32)
    counts, more, sums = np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64), np.zeros(CELLS)
    for start, stop in blocks(len(inputs), _BLOCK):
        rows = slice(start, stop)
        mean, scores = means[rows], inputs.scores[rows]
        known, visited = scores == scores, mean > 0
        fresh = inputs.fresh[rows] & known
        error = np.maximum(inputs.error_of(without_nan(scores, known)), np.float32(FLOOR))
        # Cell 0 takes the samples that make no pair.
        cells = _cells(mean) * (fresh & visited & (inputs.reason[rows] == Reason.KEPT))
        counts += np.bincount(cells, minlength=CELLS)
        sums += np.bincount(cells, error, minlength=CELLS)
        if (at := np.flatnonzero(back[rows])).size:
            more += np.bincount(cells[at], minlength=CELLS)
            sums += (weight - 1) * np.bincount(cells[at], error[at], minlength=CELLS)
        # The first error is the first mean.
        mean += (error - mean) * (np.float32(RECENT) * visited + ~visited) * fresh
    counts[0], more[0], sums[0] = 0, 0, 0.0
    return counts, counts + (weight - 1) * more, sums


def curve(
    counts: NDArray[np.int64], weights: NDArray[np.float64], sums: NDArray[np.float64]
) -> NDArray[np.float32] | None:
    """Return the expected error of each cell, non-decreasing: ``(CELLS,)``; None for too few pairs."""
    used = np.flatnonzero(counts)
    group = _groups(counts[used], weights[used])
    if group is None:
        return None
    cells = np.arange(CELLS, dtype=np.uint32)
    middle = ((cells << _SHIFT) | (np.uint32(1) << (_SHIFT - np.uint32(1)))).view(np.float32)
    log_mean = np.log(np.maximum(middle, np.float32(FLOOR)), dtype=np.float64)
    size = np.bincount(group, weights[used]).astype(np.float64)
    mean = np.bincount(group, sums[used]) / size
    centre = np.bincount(group, weights[used] * log_mean[used]) / size
    return np.exp(np.interp(log_mean, centre, np.log(isotonic(mean, size)))).astype(np.float32)


def _groups(counts: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return the group of each cell, ascending, given the pairs per cell; None if there are too few groups.

    A group takes cells until it has its share of the remaining weight, and at least ``PAIRS`` pairs. So a
    cell with most of the pairs becomes a group by itself and does not use up the number of groups.
    """
    group = np.zeros(counts.size, np.int64)
    left, weight_left = int(counts.sum()), float(weights.sum())
    current, pairs, weight, share = 0, 0, 0.0, 0.0
    for cell, (count, heavy) in enumerate(zip(counts.tolist(), weights.tolist(), strict=True)):
        if pairs == 0:
            share = weight_left / max(1, GROUPS - current)
        group[cell] = current
        pairs, weight, left, weight_left = pairs + count, weight + heavy, left - count, weight_left - heavy
        # The last group needs enough pairs too.
        if weight >= share and min(pairs, left) >= PAIRS:
            current, pairs, weight = current + 1, 0, 0.0
    return group if current + 1 >= FEWEST else None


def isotonic(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the non-decreasing weighted least-squares fit to ``values``: ``(g,)``.

    .. math:: m_i = \max_{j \le i} \min_{k \ge i} \operatorname{mean}(v_j, \dots, v_k)

    It takes :math:`O(g^2)`, which is negligible for a few groups.

    References:
        Order Restricted Statistical Inference (Robertson, Wright and Dykstra, 1988)

    Example:
        >>> isotonic(np.array([1.0, 3.0, 2.0, 5.0]), np.ones(4)).tolist()
        [1.0, 2.5, 2.5, 5.0]
    """
    total = np.concatenate([[0.0], np.cumsum(values * weights)])
    weight = np.concatenate([[0.0], np.cumsum(weights)])
    first, last = np.ogrid[: values.size, 1 : values.size + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (total[last] - total[first]) / (weight[last] - weight[first])
    # Ranges that are empty must win neither the minimum nor, below, the maximum.
    means[last <= first] = np.inf
    least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    least[last <= first] = -np.inf
    return np.asarray(least.max(axis=0), np.float64)
