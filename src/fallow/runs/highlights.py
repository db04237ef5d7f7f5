"""Samples of a run that are worth a look: suspects, outliers, the most surprising, the least used."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid
from ..policies.base import Reason

SUSPECTS, OUTLIERS, SURPRISING, UNNEEDED = 60, 60, 24, 24


@dataclass(frozen=True, eq=False)
class Highlights:
    """A choice of samples, each list in the order in which it is shown.

    Attributes:
        outliers: int64 ``(<= 60,)``, left out as outliers: wrong-label candidates first, by score.
        candidates: the number of wrong-label candidates; they come first in ``outliers``.
        surprising: int64 ``(<= 24,)``, kept, by score, the highest first.
        unneeded: int64 ``(<= 24,)``, used least often, then by score, the lowest first.
        fewest: the number of uses of the first of ``unneeded``; 0 if there is none.
        suspects: int64 ``(<= 60,)``, whose labels look wrong over all passes, the surest first.
    """

    outliers: NDArray[np.int64]
    candidates: int
    surprising: NDArray[np.int64]
    unneeded: NDArray[np.int64]
    fewest: int
    suspects: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def index(self) -> NDArray[np.int64]:
        """All samples of the lists, each once, in their order: int64 ``(K,)``."""
        every = np.concatenate([self.suspects, self.outliers, self.surprising, self.unneeded])
        _, first = np.unique(every, return_index=True)
        return every[np.sort(first)]


def choose(
    scores: NDArray[np.float32],
    reason: NDArray[np.uint8],
    times_used: NDArray[np.integer],
    labels: NDArray[np.integer] | None = None,
    predicted: NDArray[np.integer] | None = None,
    *,
    outliers: int = OUTLIERS,
    surprising: int = SURPRISING,
    unneeded: int = UNNEEDED,
) -> Highlights:
    """Choose the samples to show of a run with N samples; ties go to the lower index.

    Args:
        scores: ``(N,)``, the last score of each sample; one that is not finite ranks last.
        reason: ``(N,)``, why each sample is left out.
        times_used: ``(N,)``, the number of epochs that trained on each.
        labels: ``(N,)`` class ids, negative if unknown, or None.
        predicted: ``(N,)``, the class last predicted, -1 if unknown, or None.
        outliers: the maximum number of samples left out as outliers.
        surprising: the maximum number of kept samples with the highest scores.
        unneeded: the maximum number of samples that were used least often. It excludes samples left out as
            outliers or by hand, which were not left out because they were learned.

    Raises:
        InvalidValue: if the arrays differ in length.
    """
    n = len(scores)
    for name, rows in (
        ("reason", reason),
        ("times_used", times_used),
        ("labels", labels),
        ("predicted", predicted),
    ):
        if rows is not None and rows.shape != (n,):
            raise invalid(f"`{name}` must have one value per sample, ({n},).", f"shape {rows.shape}")
    finite = np.isfinite(scores)
    high = np.where(finite, -scores, np.float32(np.inf))
    low = np.where(finite, scores, np.float32(np.inf))
    out = np.flatnonzero(reason == Reason.OUTLIER)
    wrong = _is_candidate(out, labels, predicted)
    first = _least(out[wrong], high, outliers)
    others = _least(out[~wrong], high, outliers - first.size)
    others_left = np.flatnonzero((reason != Reason.OUTLIER) & (reason != Reason.BY_HAND))
    least_used = _used_least(others_left, times_used, low, unneeded)
    return Highlights(
        outliers=np.concatenate([first, others]),
        candidates=first.size,
        surprising=_least(np.flatnonzero((reason == Reason.KEPT) & finite), high, surprising),
        unneeded=least_used,
        fewest=int(times_used[least_used[0]]) if least_used.size else 0,
    )


def candidates(
    reason: NDArray[np.uint8], labels: NDArray[np.integer] | None, predicted: NDArray[np.integer] | None
) -> int:
    """Return the number of outliers that were predicted to be of another class."""
    out = np.flatnonzero(reason == Reason.OUTLIER)
    return int(np.count_nonzero(_is_candidate(out, labels, predicted)))


def _is_candidate(
    index: NDArray[np.int64], labels: NDArray[np.integer] | None, predicted: NDArray[np.integer] | None
) -> NDArray[np.bool_]:
    """Return which samples have a known class that differs from the predicted one: bool ``(K,)``."""
    if labels is None or predicted is None:
        return np.zeros(index.size, np.bool_)
    given, guess = labels[index], predicted[index]
    wrong: NDArray[np.bool_] = (given >= 0) & (guess >= 0) & (given != guess)
    return wrong


def _least(index: NDArray[np.int64], key: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the ``count`` samples of ``index`` with the smallest keys, ascending; ties by index."""
    if count <= 0 or not index.size:
        return index[:0]
    keys = key[index]
    if index.size > count:  # a partition is linear; a run may have millions of samples
        last = np.partition(keys, count - 1)[count - 1]
        below, equal = np.flatnonzero(keys < last), np.flatnonzero(keys == last)
        chosen = np.sort(np.concatenate([below, equal[: count - below.size]]))
        index, keys = index[chosen], keys[chosen]
    return index[np.argsort(keys, kind="stable")]


def _used_least(
    index: NDArray[np.int64], times: NDArray[np.integer], low: NDArray[np.floating], count: int
) -> NDArray[np.int64]:
    """Return the ``count`` samples of ``index`` that were used least often; ties by the lowest score."""
    if count <= 0 or not index.size:
        return index[:0]
    used = times[index]
    limit = np.partition(used, min(count, index.size) - 1)[min(count, index.size) - 1]
    below, equal = index[used < limit], index[used == limit]
    chosen = np.concatenate([below, _least(equal, low, count - below.size)])
    return chosen[np.lexsort((chosen, low[chosen], times[chosen]))]
