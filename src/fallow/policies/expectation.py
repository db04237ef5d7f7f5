"""The score that a sample is expected to have next, by the one it had last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays.selection import blocks
from .base import PolicyInput, Reason

Expectation: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The expected next scores of a block of scores: ``(n,)`` to ``(n,)``; NaN stays NaN."""

FLOOR = 1e-6
"""A smaller score counts as this one, so that it has a logarithm, and every sample a chance in a draw."""
GROUPS, FEWEST, PAIRS = 20, 4, 25
_BLOCK = 1 << 16
_BEFORE = "score_before"
# A float32 by its exponent and three bits of its fraction: eight cells an octave.
_SHIFT, _CELLS, _INFINITE, _NAN = np.uint32(20), 1 << 11, 0x7F8, 0x7FC


def expectation(inputs: PolicyInput, power: float) -> Expectation | None:
    r"""Return the function :math:`s \mapsto E[s'^{\,p} \mid s]^{1/p}`, from the last score to the next.

    A single score is a noisy reading, of the network at one moment and under one augmentation. One that is
    far below the others will mostly be higher the next time, the more so the less the network knows; so it
    says less than it seems to. How much, the data tell: the samples that trained in the epoch that just
    ended and had a score before it are pairs :math:`(s, s')`. They are sorted by :math:`s` and parted into
    up to ``GROUPS`` groups of like size, scores in the same eighth of an octave in the same group; the mean
    :math:`s'^{\,p}` of each is made non-decreasing (isotonic regression), and between the middles of the
    groups it is read off in logarithms. Beyond the first and the last middle it stays what it is there.

    With odds :math:`\propto s^a` and p = a, these are the expected odds, which a few scores far above all
    others move less than the mean. A power above 1, which they would move more, counts as 1.

    It reads and brings up to date a column of its own: ask once a decision. Scores must be at least 0; those
    below ``FLOOR`` count as it, and infinite ones make no pair.

    References:
        Transforming Classifier Scores into Accurate Multiclass Probability Estimates (Zadrozny and
        Elkan, 2002), who calibrate classifiers by isotonic regression

    Args:
        inputs: what the policy sees.
        power: p, above 0.

    Returns:
        The function, in the unit of the score; None while the pairs make fewer than ``FEWEST`` groups of
        ``PAIRS`` pairs: a first decision, few samples, or nearly all with the same score.
    """
    power = min(power, 1.0)
    curve = _curve(*_pairs(inputs, power), power)
    return None if curve is None else lambda scores: curve[_cells(scores)]


def _cells(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the cell of each score, ascending with it: ``(n,)``; ``_NAN`` where there is none."""
    cells = np.maximum(scores, np.float32(FLOOR)).view(np.uint32) >> _SHIFT
    cells[scores != scores] = _NAN
    return cells


def _pairs(inputs: PolicyInput, power: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many pairs each cell of the score before has, and the sum of their powers: ``(_CELLS,)``.

    Fresh scores then become the scores before. 0 stands for none. A sample that was only measured makes no
    pair: it was left out for what it scored, and may have been measured in another mode.
    """
    before = inputs.column(_BEFORE, np.float32)
    counts, sums = np.zeros(_CELLS, np.int64), np.zeros(_CELLS)
    for start, stop in blocks(len(inputs), _BLOCK):
        rows = slice(start, stop)
        known, now = before[rows], np.maximum(inputs.scores[rows], np.float32(FLOOR))
        fresh = inputs.fresh[rows] & np.isfinite(now)
        pair = fresh & (known > 0) & (inputs.reason[rows] == Reason.KEPT)
        cells = _cells(known[pair])
        counts += np.bincount(cells, minlength=_CELLS)
        sums += np.bincount(cells, now[pair].astype(np.float64) ** power, minlength=_CELLS)
        np.copyto(known, now, where=fresh)
    return counts, sums


def _curve(counts: NDArray[np.int64], sums: NDArray[np.float64], power: float) -> NDArray[np.float32] | None:
    """Return the expected score of each cell, non-decreasing: ``(_CELLS,)``; None where too little tells."""
    used = np.flatnonzero(counts)
    group = _groups(counts[used])
    if group is None:
        return None
    finite = np.minimum(np.arange(_CELLS, dtype=np.uint32), np.uint32(_INFINITE - 1))
    middle = ((finite << _SHIFT) | (np.uint32(1) << (_SHIFT - np.uint32(1)))).view(np.float32)
    place = np.log(np.maximum(middle, np.float32(FLOOR)), dtype=np.float64)
    size = np.bincount(group, counts[used]).astype(np.float64)
    mean = np.bincount(group, sums[used]) / size
    at = np.bincount(group, counts[used] * place[used]) / size
    curve = np.exp(np.interp(place, at, np.log(isotonic(mean, size)) / power)).astype(np.float32)
    curve[_NAN:] = np.nan
    return curve


def _groups(counts: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the group of each cell, ascending, for the numbers of their pairs; None for too few groups.

    A group takes cells until it has its share of the pairs that are left, and ``PAIRS`` at least. So one
    cell with most of the pairs is a group, and leaves the others to the rest.
    """
    group = np.zeros(counts.size, np.int64)
    left, made, inside = int(counts.sum()), 0, 0
    share = 0.0
    for cell, count in enumerate(counts.tolist()):
        if inside == 0:
            share = max(PAIRS, left / max(1, GROUPS - made))
        group[cell] = made
        inside, left = inside + count, left - count
        if inside >= share and left >= PAIRS:
            made, inside = made + 1, 0
    return group if made + 1 >= FEWEST else None


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
