"""The expected next error of a sample, given its last score."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import blocks
from .base import PolicyInput, Reason

Errors: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The error of each score, now or expected: ``(n,)`` to ``(n,)``."""

FLOOR = 1e-6
"""Smaller scores count as this one, so that they have a logarithm and a chance in every draw."""
GROUPS, FEWEST, PAIRS = 20, 4, 25
_BLOCK = 1 << 16
_BEFORE = "score_before"  # saved in states; do not rename
# The cell of a float32 is its exponent and the top three bits of its fraction: eight cells per octave.
_SHIFT, _CELLS, _INFINITE, _NAN = np.uint32(20), 1 << 11, 0x7F8, 0x7FC


def expectation(inputs: PolicyInput, error_of: Errors) -> Errors | None:
    r"""Return the function :math:`s \mapsto E[e(s') \mid s]`, from the last score to the next error.

    A single score is noisy: it comes from one state of the network and one augmentation. A very low score is
    usually higher the next time, especially early in training (regression to the mean). The data show by how
    much: each sample that trained in the epoch that just ended and had a score before it is a pair
    :math:`(s, s')`. The pairs are sorted by :math:`s` and split into at most ``GROUPS`` groups of similar
    size; scores in the same eighth of an octave share a group. Isotonic regression makes the group means of
    :math:`e(s')` non-decreasing. Between group centres the result is interpolated in log-log space; beyond
    the first and the last centre it is constant.

    It updates a column, so call it once per decision. Scores must be at least 0; scores below ``FLOOR``
    count as ``FLOOR``, and infinite ones make no pair.

    References:
        Transforming Classifier Scores into Accurate Multiclass Probability Estimates (Zadrozny and
        Elkan, 2002), who calibrate classifiers by isotonic regression

    Args:
        inputs: the input of the policy.
        error_of: e, from scores to errors above 0, non-decreasing: ``(n,)`` to ``(n,)``.

    Returns:
        The function; NaN stays NaN. None if the pairs make fewer than ``FEWEST`` groups of ``PAIRS`` pairs:
        on the first decision, with few samples, or if nearly all scores are equal.
    """
    curve = _curve(*_pairs(inputs, error_of))
    return None if curve is None else lambda scores: curve[_cells(scores)]


def _cells(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the cell of each score, ascending with the score: ``(n,)``; ``_NAN`` for NaN."""
    # The bits of non-negative floats sort like the floats, so a shift makes logarithmic cells.
    cells = np.maximum(scores, np.float32(FLOOR)).view(np.uint32) >> _SHIFT
    cells[scores != scores] = _NAN
    return cells


def _pairs(inputs: PolicyInput, error_of: Errors) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the number of pairs and the sum of their errors for each cell of previous scores: ``(_CELLS,)``.

    Then store the fresh scores as the previous ones; 0 means none. A sample that was only measured makes no
    pair: it was left out because of its score, and may have been measured in evaluation mode.
    """
    before = inputs.column(_BEFORE, np.float32)
    counts, sums = np.zeros(_CELLS, np.int64), np.zeros(_CELLS)
    for start, stop in blocks(len(inputs), _BLOCK):
        rows = slice(start, stop)
        last = before[rows]
        score = np.maximum(inputs.scores[rows], np.float32(FLOOR))
        fresh = inputs.fresh[rows] & np.isfinite(score)
        pair = fresh & (last > 0) & (inputs.reason[rows] == Reason.KEPT)
        cells = _cells(last[pair])
        counts += np.bincount(cells, minlength=_CELLS)
        sums += np.bincount(cells, error_of(score[pair]), minlength=_CELLS)
        np.copyto(last, score, where=fresh)
    return counts, sums


def _curve(counts: NDArray[np.int64], sums: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Return the expected error of each cell, non-decreasing: ``(_CELLS,)``; None for too few pairs."""
    used = np.flatnonzero(counts)
    group = _groups(counts[used])
    if group is None:
        return None
    # The cells of infinity and NaN take the last finite one, so that all have a logarithm.
    finite = np.minimum(np.arange(_CELLS, dtype=np.uint32), np.uint32(_INFINITE - 1))
    middle = ((finite << _SHIFT) | (np.uint32(1) << (_SHIFT - np.uint32(1)))).view(np.float32)
    log_score = np.log(np.maximum(middle, np.float32(FLOOR)), dtype=np.float64)
    size = np.bincount(group, counts[used]).astype(np.float64)
    mean = np.bincount(group, sums[used]) / size
    centre = np.bincount(group, counts[used] * log_score[used]) / size
    curve = np.exp(np.interp(log_score, centre, np.log(isotonic(mean, size)))).astype(np.float32)
    curve[_NAN:] = np.nan
    return curve


def _groups(counts: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the group of each cell, ascending, given the number of pairs per cell; None if too few groups.

    A group takes cells until it has its share of the remaining pairs, and at least ``PAIRS``. So a cell with
    most of the pairs becomes a group by itself and does not use up the number of groups.
    """
    group = np.zeros(counts.size, np.int64)
    remaining = int(counts.sum())
    current = 0
    size = 0
    share = 0.0
    for cell, count in enumerate(counts.tolist()):
        if size == 0:
            share = max(PAIRS, remaining / max(1, GROUPS - current))
        group[cell] = current
        size += count
        remaining -= count
        # The last group needs enough pairs too.
        if size >= share and remaining >= PAIRS:
            current += 1
            size = 0
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
