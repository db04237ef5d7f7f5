"""``samples.csv``: one line a sample, for people and spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from ..files.csv_table import Plain, names, table
from ..policies.base import Reason

LARGEST = 700.0
"""Nats of which the exponential is still a float."""


def samples_csv(
    labels: Sequence[str] | None,
    scores: NDArray[np.float32],
    reason: NDArray[np.uint8],
    times_used: NDArray[np.integer],
    *,
    nats: bool,
    files: Sequence[str] | None = None,
    predicted: Sequence[str | None] | None = None,
) -> str:
    """Return the table as text, a row a sample.

    The first six columns keep their names and places, whatever is added after them.

    Args:
        labels: the class of each sample by name, or None.
        scores: ``(N,)``; what is not finite is left empty.
        reason: ``(N,)``, why each sample was left out at the end.
        times_used: ``(N,)``, in how many epochs it was trained on.
        nats: whether ``exp(score)`` is a perplexity.
        files: the file of each sample, or None.
        predicted: the class that was last predicted for each sample, by name; None where there is none.
    """
    n, words = len(scores), [r.text for r in Reason]
    known = scores.astype(np.float64) if nats else np.full(n, np.nan)
    perplexities = np.exp(np.where(np.isfinite(known) & (known < LARGEST), known, np.nan))
    return table(
        {
            "index": range(n),
            "label": [None] * n if labels is None else names(labels),
            "score": _shown(scores),
            "perplexity": _shown(perplexities),
            "reason": [words[why] for why in reason.tolist()],
            "times_used": times_used.tolist(),
            "file": [None] * n if files is None else names(files),
            "predicted": [None] * n if predicted is None else names(predicted),
        }
    )


def _shown(values: NDArray[np.floating]) -> list[Plain]:
    """Return numbers to six digits, nothing for what is not finite."""
    nothing = Plain("")
    return [Plain(f"{value:.6g}") if isfinite(value) else nothing for value in values.tolist()]
