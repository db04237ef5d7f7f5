"""The score that a sample is expected to have next, by the one it had last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..selection import blocks
from .base import Standing

FLOOR = 1e-6
"""A smaller score counts as this one, so that it has a logarithm, and every sample a chance in a draw."""
GROUPS = 20
PAIRS = 50
_BLOCK = 1 << 16
_BEFORE = "score_before"
# A float32 by its exponent and three bits of its fraction: eight cells an octave.
_SHIFT, _CELLS, _INFINITE, _NAN = np.uint32(20), 1 << 11, 0x7F8, 0x7FC


def expected_scores(standing: Standing) -> NDArray[np.float32]:
    r"""Return :math:`E[s' \mid s]`, the mean next score of the samples whose score was :math:`s`: ``(N,)``.

    A single score is a noisy reading, of the network at one moment and under one augmentation. One that is
    far below the others will mostly be higher the next time, the more so the less the network knows; so it
    says less than it seems to. How much, the data tell: the samples that were scored in the epoch that
    just ended and had been before are pairs :math:`(s, s')`. They are parted into up to ``GROUPS`` groups
    of like count by :math:`s`, ``PAIRS`` pairs a group at least; the mean :math:`s'` of each is made
    non-decreasing (isotonic regression), and between the middles of the groups it is read off in logarithms.
    Beyond the first and last middle it stays what it is there.

    It reads and brings up to date a column of its own: ask once a decision. Scores must be at least 0; those
    below ``FLOOR`` count as it, and infinite ones make no pair.

    References:
        Transforming Classifier Scores into Accurate Multiclass Probability Estimates (Zadrozny and
        Elkan, 2002), who calibrate classifiers by isotonic regression

    Args:
        standing: what the policy sees.

    Returns:
        float32, in the unit of the score, NaN where there is no score; the scores themselves while there are
        too few pairs for two groups, or all pairs had the same score.
    """
    counts, sums = _pairs(standing)
    curve = _curve(counts, sums)
    expected = standing.scores.copy()
    if curve is not None:
        for start, stop in blocks(expected.size, _BLOCK):
            expected[start:stop] = curve[_cells(expected[start:stop])]
    return expected


def _cells(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the cell of each score, ascending with it: ``(n,)``; ``_NAN`` where there is none."""
    cells = np.maximum(scores, np.float32(FLOOR)).view(np.uint32) >> _SHIFT
    cells[scores != scores] = _NAN
    return cells


def _pairs(standing: Standing) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many pairs each cell of the score before has, and the sum of their scores: ``(_CELLS,)``.

    Fresh scores then become the scores before. 0 stands for none.
    """
    before = standing.column(_BEFORE, np.float32)
    counts, sums = np.zeros(_CELLS, np.int64), np.zeros(_CELLS)
    for start, stop in blocks(len(standing), _BLOCK):
        rows = slice(start, stop)
        now, known = standing.scores[rows], before[rows]
        fresh = standing.fresh[rows] & np.isfinite(now)
        pair = fresh & (known > 0)
        cells = _cells(known[pair])
        counts += np.bincount(cells, minlength=_CELLS)
        sums += np.bincount(cells, now[pair], minlength=_CELLS)
        np.copyto(known, np.maximum(now, np.float32(FLOOR)), where=fresh)
    return counts, sums


def _curve(counts: NDArray[np.int64], sums: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Return the expected score of each cell, non-decreasing: ``(_CELLS,)``; None where nothing tells."""
    total = int(counts.sum())
    groups = min(GROUPS, total // PAIRS)
    used = np.flatnonzero(counts)
    if groups < 2 or used.size < 2:
        return None
    finite = np.minimum(np.arange(_CELLS, dtype=np.uint32), np.uint32(_INFINITE - 1))
    middle = ((finite << _SHIFT) | (np.uint32(1) << (_SHIFT - np.uint32(1)))).view(np.float32)
    place = np.log(np.maximum(middle, np.float32(FLOOR)), dtype=np.float64)
    weight = counts[used]
    group = ((np.cumsum(weight) - (weight + 1) / 2) * groups / total).astype(np.int64)
    size = np.bincount(group, weight).astype(np.float64)
    kept = size > 0
    mean = np.bincount(group, sums[used])[kept] / size[kept]
    at = np.bincount(group, weight * place[used])[kept] / size[kept]
    rising = np.log(np.maximum(isotonic(mean, size[kept]), FLOOR))
    curve = np.exp(np.interp(place, at, rising)).astype(np.float32)
    curve[_NAN:] = np.nan
    return curve


def isotonic(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the non-decreasing numbers closest to ``values`` in weighted squares: ``(g,)``.

    .. math:: m_i = \max_{j \le i} \min_{k \ge i} \operatorname{mean}(v_j, \dots, v_k)

    It takes :math:`O(g^2)`, which for a handful of groups is nothing.

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
    means[last <= first] = np.inf
    least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    least[last <= first] = -np.inf
    return np.asarray(least.max(axis=0), np.float64)
