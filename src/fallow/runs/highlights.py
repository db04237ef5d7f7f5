"""Which samples of a run are worth a look: outliers, the most surprising, the never needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid
from ..policies.base import Reason

OUTLIERS, SURPRISING, UNNEEDED = 60, 24, 24


@dataclass(frozen=True, eq=False)
class Showcase:
    """A choice of samples, each list from the first to be shown to the last.

    Attributes:
        outliers: int64 ``(<= 60,)``, left out as outliers: wrong-label candidates first, by score.
        candidates: how many of ``outliers``, the first ones, are wrong-label candidates.
        surprising: int64 ``(<= 24,)``, kept, by score, the highest first.
        unneeded: int64 ``(<= 24,)``, used least often, then by score, the lowest first.
        fewest: how often the first of ``unneeded`` was used; 0 where there is none.
    """

    outliers: NDArray[np.int64]
    candidates: int
    surprising: NDArray[np.int64]
    unneeded: NDArray[np.int64]
    fewest: int

    @property
    def index(self) -> NDArray[np.int64]:
        """Every sample of the lists once, in their order: int64 ``(K,)``."""
        every = np.concatenate([self.outliers, self.surprising, self.unneeded])
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
) -> Showcase:
    """Choose the samples to show of a run with N samples; equal ones are taken by index.

    Args:
        scores: ``(N,)``, the last score of each sample; one that is not finite ranks last.
        reason: ``(N,)``, why each sample is left out.
        times_used: ``(N,)``, in how many epochs each was trained on.
        labels: ``(N,)`` class ids, negative where unknown, or None.
        predicted: ``(N,)``, the class last predicted, -1 where unknown, or None.
        outliers: at most so many samples left out as outliers.
        surprising: at most so many kept samples with the highest scores.
        unneeded: at most so many samples that were used least often. Those left out as outliers or by hand
            are not among them: they were left out for another reason than that nothing needed them.

    Raises:
        InvalidValue: where the arrays are not of one length.
    """
    n = len(scores)
    for name, rows in (
        ("reason", reason),
        ("times_used", times_used),
        ("labels", labels),
        ("predicted", predicted),
    ):
        if rows is not None and rows.shape != (n,):
            raise invalid(f"`{name}` must be one value a sample, ({n},).", f"shape {rows.shape}")
    finite = np.isfinite(scores)
    high = np.where(finite, -scores, np.float32(np.inf))
    low = np.where(finite, scores, np.float32(np.inf))
    out = np.flatnonzero(reason == Reason.OUTLIER)
    wrong = _is_candidate(out, labels, predicted)
    first = _least(out[wrong], high, outliers)
    others = _least(out[~wrong], high, outliers - first.size)
    needless = np.flatnonzero((reason != Reason.OUTLIER) & (reason != Reason.BY_HAND))
    fewest = _used_least(needless, times_used, low, unneeded)
    return Showcase(
        outliers=np.concatenate([first, others]),
        candidates=first.size,
        surprising=_least(np.flatnonzero((reason == Reason.KEPT) & finite), high, surprising),
        unneeded=fewest,
        fewest=int(times_used[fewest[0]]) if fewest.size else 0,
    )


def candidates(
    reason: NDArray[np.uint8], labels: NDArray[np.integer] | None, predicted: NDArray[np.integer] | None
) -> int:
    """Return how many of all samples left out as outliers were predicted to be of another class."""
    out = np.flatnonzero(reason == Reason.OUTLIER)
    return int(np.count_nonzero(_is_candidate(out, labels, predicted)))


def _is_candidate(
    index: NDArray[np.int64], labels: NDArray[np.integer] | None, predicted: NDArray[np.integer] | None
) -> NDArray[np.bool_]:
    """Return which of the samples have a known class, and another one was predicted: bool ``(K,)``."""
    if labels is None or predicted is None:
        return np.zeros(index.size, np.bool_)
    given, told = labels[index], predicted[index]
    wrong: NDArray[np.bool_] = (given >= 0) & (told >= 0) & (given != told)
    return wrong


def _least(index: NDArray[np.int64], key: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the ``count`` samples of ``index``, ascending, with the smallest key; equal ones by index."""
    if count <= 0 or not index.size:
        return index[:0]
    keys = key[index]
    if index.size > count:
        last = np.partition(keys, count - 1)[count - 1]
        below, equal = np.flatnonzero(keys < last), np.flatnonzero(keys == last)
        chosen = np.sort(np.concatenate([below, equal[: count - below.size]]))
        index, keys = index[chosen], keys[chosen]
    return index[np.argsort(keys, kind="stable")]


def _used_least(
    index: NDArray[np.int64], times: NDArray[np.integer], low: NDArray[np.floating], count: int
) -> NDArray[np.int64]:
    """Return ``count`` samples of ``index``: used least often, then those with the lowest score."""
    if count <= 0 or not index.size:
        return index[:0]
    used = times[index]
    limit = np.partition(used, min(count, index.size) - 1)[min(count, index.size) - 1]
    below, equal = index[used < limit], index[used == limit]
    chosen = np.concatenate([below, _least(equal, low, count - below.size)])
    return chosen[np.lexsort((chosen, low[chosen], times[chosen]))]
