"""``samples.csv``: one line a sample, for people and spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .policies.base import Reason

COLUMNS = ("index", "label", "score", "perplexity", "reason", "times_used", "file", "predicted")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)


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
    """Return the table as text, a row a sample, with the columns of ``COLUMNS``.

    Args:
        labels: the class of each sample by name, or None.
        scores: ``(N,)``; NaN is left empty.
        reason: ``(N,)``, why each sample was left out at the end.
        times_used: ``(N,)``, in how many epochs it was trained on.
        nats: whether ``exp(score)`` is a perplexity.
        files: the file of each sample, or None.
        predicted: the class that was last predicted for each sample, by name; None where there is none.
    """
    words = [r.words for r in Reason]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for i, (score, why, used) in enumerate(
        zip(scores.tolist(), reason.tolist(), times_used.tolist(), strict=True)
    ):
        known = score == score
        shown = f"{score:.6g}" if known else ""
        perplexity = f"{np.exp(min(score, 700.0)):.6g}" if known and nats else ""
        label = "" if labels is None else safe_cell(labels[i])
        file = "" if files is None else safe_cell(files[i])
        told = "" if predicted is None else safe_cell(predicted[i] or "")
        writer.writerow((i, label, shown, perplexity, words[why], used, file, told))
    return text.getvalue()


def safe_cell(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula; a number below zero is none.

    >>> safe_cell("-1"), safe_cell("-1+1")
    ('-1', "'-1+1")
    """
    formula = text.startswith(tuple("=+-@\t\r|")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else text
