"""Classes and their exposure: the share of its possible uses that each class got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.occurring import occurring
from ..policies.base import Reason
from . import text
from .source import Source

FEW = 40
"""Maximum number of classes in one visible table."""
ENDS = 20
"""If there are more, this many of the least and of the most exposed classes are visible."""
LISTED = 2_000
"""Maximum number of rows in the full list."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """The use of C classes.

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
    """Return the use of each class; None without labels."""
    if source.labels is None:
        return None
    labelled = source.labels >= 0
    label, of = occurring(source.labels[labelled])
    size = label.size

    def total(rows: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(of, weights=rows[labelled], minlength=size).astype(np.float64)

    scores = source.last.scores
    finite = np.isfinite(scores)
    possible = np.zeros(size)
    counted: dict[int, NDArray[np.float64]] = {}
    for record in source.history:  # samples may have been added
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
    """Return the visible rows, in groups, and those behind *show all*; None without labels."""
    classes = exposure(source)
    if classes is None:
        return None
    order = np.argsort(classes.share, kind="stable")
    rows = [_row(source, classes, i) for i in order[:LISTED]]
    groups: list[tuple[str, list[dict[str, str]]]] = [("", rows)]
    rest: list[dict[str, str]] = []
    if order.size > FEW:
        most = [_row(source, classes, i) for i in order[-ENDS:][::-1]]
        groups = [(f"The {ENDS} least exposed", rows[:ENDS]), (f"The {ENDS} most exposed", most)]
        rest = rows
    return {
        "count": order.size,
        "groups": groups,
        "rest": rest,
        "listed": len(rows),
        "least": _named(source, classes, order[0]) if order.size > 1 else "",
        "most": _named(source, classes, order[-1]) if order.size > 1 else "",
    }


def _named(source: Source, classes: Exposure, at: int) -> str:
    return f"{source.class_name(int(classes.label[at]))} ({text.share(classes.share[at])})"


def _row(source: Source, classes: Exposure, at: int) -> dict[str, str]:
    return {
        "name": source.class_name(int(classes.label[at])),
        "samples": text.count(classes.samples[at]),
        "share": text.share(classes.share[at]),
        "bar": text.percent(classes.share[at]),
        "kept": text.count(classes.kept[at]),
        "outliers": text.count(classes.outliers[at]),
        "score": text.score(classes.score[at]),
    }
