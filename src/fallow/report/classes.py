"""Classes and their exposure: which share of all the uses it could have had each class got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..policies.base import Reason
from . import text
from .source import Source

FEW = 40
"""So many classes are shown at once."""
ENDS = 20
"""Of more, so many least and most exposed ones."""
LISTED = 2_000
"""At most so many rows in the full list."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """What became of each of C classes.

    Attributes:
        label: ``(C,)`` class ids.
        samples, kept, outliers: ``(C,)`` counts, the latter two in the last epoch.
        share: ``(C,)``, uses / possible uses.
        score: ``(C,)``, the mean last score; NaN without one.
    """

    label: NDArray[np.int64]
    samples: NDArray[np.int64]
    kept: NDArray[np.int64]
    outliers: NDArray[np.int64]
    share: NDArray[np.float64]
    score: NDArray[np.float64]


def exposure(source: Source) -> Exposure | None:
    """Return what became of each class; None without labels."""
    if source.labels is None:
        return None
    there = source.labels >= 0
    label, of = np.unique(source.labels[there], return_inverse=True)
    size = label.size

    def total(rows: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(of, weights=rows[there], minlength=size).astype(np.float64)

    scores = source.last.scores
    finite = np.isfinite(scores)
    possible = np.zeros(size)
    counted: dict[int, NDArray[np.float64]] = {}
    for record in source.history:  # samples may have joined
        if record.remaining not in counted:
            counted[record.remaining] = total(np.arange(source.n) < record.remaining)
        possible += counted[record.remaining]
    with np.errstate(invalid="ignore", divide="ignore"):
        return Exposure(
            label=label.astype(np.int64),
            samples=np.bincount(of, minlength=size),
            kept=total(source.last.reason == Reason.KEPT).astype(np.int64),
            outliers=total(source.last.reason == Reason.OUTLIER).astype(np.int64),
            share=total(source.times) / possible,
            score=total(np.where(finite, scores, 0).astype(np.float64)) / total(finite),
        )


def tables(source: Source) -> dict[str, Any] | None:
    """Return the rows that are shown at once, in groups, and those behind *show all*; None without labels."""
    found = exposure(source)
    if found is None:
        return None
    order = np.argsort(found.share, kind="stable")
    rows = [_row(source, found, i) for i in (order if order.size <= LISTED else order[:LISTED])]
    groups: list[tuple[str, list[dict[str, str]]]] = [("", rows)]
    rest: list[dict[str, str]] = []
    if order.size > FEW:
        most = [_row(source, found, i) for i in order[-ENDS:][::-1]]
        groups = [(f"The {ENDS} least exposed", rows[:ENDS]), (f"The {ENDS} most exposed", most)]
        rest = rows
    return {
        "count": order.size,
        "groups": groups,
        "rest": rest,
        "listed": len(rows),
        "least": _spoken(source, found, order[0]) if order.size > 1 else "",
        "most": _spoken(source, found, order[-1]) if order.size > 1 else "",
    }


def _spoken(source: Source, found: Exposure, at: int) -> str:
    return f"{source.class_name(int(found.label[at]))} ({text.share(found.share[at])})"


def _row(source: Source, found: Exposure, at: int) -> dict[str, str]:
    return {
        "name": source.class_name(int(found.label[at])),
        "samples": text.count(found.samples[at]),
        "share": text.share(found.share[at]),
        "bar": text.percent(found.share[at]),
        "kept": text.count(found.kept[at]),
        "outliers": text.count(found.outliers[at]),
        "score": text.score(found.score[at]),
    }
