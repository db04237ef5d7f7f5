"""The scores of a run over its epochs: histograms, quantiles, thresholds; or those of one class."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.history import EDGES, QUANTILES
from ..report import epochs
from . import answers
from .call import Call
from .errors import Refused, unknown
from .overview import number, source_of


def scores(call: Call) -> answers.Scores:
    """Return the scores of a run."""
    run, label = call.run(), call.ask.label
    source = source_of(run)
    common: dict[str, Any] = {
        "unit": source.unit,
        "edges": list(EDGES),
        "levels": list(QUANTILES),
        "thresholds": [
            answers.Threshold(name=name, value=value) for name, value in epochs.thresholds(source)
        ],
    }
    if label is None:
        drawn = source.drawn
        return answers.Scores(
            **common,
            epochs=[record.epoch for record in drawn],
            histogram=[record.score_histogram.tolist() for record in drawn],
            quantiles=[[number(value) for value in record.score_quantiles] for record in drawn],
            mean=[number(record.mean_score) for record in drawn],
            bad=[record.bad for record in drawn],
            stale=[
                1 - min(1.0, (record.backward + record.forward_only) / max(1, record.n)) for record in drawn
            ],
        )
    if source.labels is None:
        raise Refused(404, "none", "The samples of this run have no labels.")
    if not (members := source.labels == label).any():
        raise unknown("The class", str(label))
    last = source.last
    found = last.scores[members[: last.scores.size].nonzero()[0]]
    found = np.maximum(found[np.isfinite(found)], 0)
    at = np.searchsorted(EDGES, found, side="right") - 1
    quantiles = np.quantile(found, QUANTILES).tolist() if found.size else [None] * len(QUANTILES)
    return answers.Scores(
        **common,
        epochs=[last.record.epoch],
        histogram=[np.bincount(at, minlength=len(EDGES)).tolist()],
        quantiles=[quantiles],
        mean=[float(found.mean()) if found.size else None],
        bad=[int(np.count_nonzero(members)) - found.size],
        stale=[0.0],
        of_class=label,
    )
