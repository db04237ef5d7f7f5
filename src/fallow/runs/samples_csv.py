"""``samples.csv``: one line per sample, for people and spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from ..files.csv_table import Plain, names, table
from ..policies.base import Reason

LARGEST = 700.0
"""Scores in nats below this have an exponential that is a finite float."""


def samples_csv(
    labels: Sequence[str] | None,
    scores: NDArray[np.float32],
    reason: NDArray[np.uint8],
    times_used: NDArray[np.integer],
    *,
    nats: bool,
    files: Sequence[str] | None = None,
    predicted: Sequence[str | None] | None = None,
    findings: Sequence[str | None] | None = None,
) -> str:
    """Return the table as text, with a row per sample.

    The first six columns are a stable interface; new columns go after them.

    Args:
        labels: the name of each sample's class, or None.
        scores: ``(N,)``; a score that is not finite is left empty.
        reason: ``(N,)``, why each sample was left out at the end.
        times_used: ``(N,)``, the number of epochs that trained on each sample.
        nats: whether ``exp(score)`` is a perplexity.
        files: the file of each sample, or None.
        predicted: the name of the class last predicted for each sample, or None.
        findings: what a training that was only watched showed of each sample; without them the column
            ``finding`` is missing.
    """
    n, reasons = len(scores), [r.text for r in Reason]
    # In float32 exp() would overflow from 89 on.
    known = scores.astype(np.float64) if nats else np.full(n, np.nan)
    perplexities = np.exp(np.where(np.isfinite(known) & (known < LARGEST), known, np.nan))
    return table(
        {
            "index": range(n),
            "label": [None] * n if labels is None else names(labels),
            "score": _shown(scores),
            "perplexity": _shown(perplexities),
            "reason": [reasons[number] for number in reason.tolist()],
            "times_used": times_used.tolist(),
            "file": [None] * n if files is None else names(files),
            "predicted": [None] * n if predicted is None else names(predicted),
            **({} if findings is None else {"finding": findings}),
        }
    )


def _shown(values: NDArray[np.floating]) -> list[Plain]:
    """Return numbers to six digits; a value that is not finite is empty."""
    empty = Plain("")
    return [Plain(f"{value:.6g}") if isfinite(value) else empty for value in values.tolist()]
