"""What a person is told of a region: its size, how thin it is, its class, error, neighbours and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .regions import SMALLEST, TIMES, Region, Regions
from .survey import Survey

EXAMPLES, PROTOTYPES, SHOWN = 9, 3, 8
"""Examples and prototypes of a card; thin regions that are told of."""
_WRONG, _WORSE = 0.3, 2.0
_TREND, _CHUNK = 20, 8192
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Telling:
    """Makes cards.

    Attributes:
        training, reference: as they look.
        names: names of the classes, or None.
        files: of the training samples and of the reference, by row; or None.
        index: int64, where each row of the reference stands in its pool.
        scores: of each epoch ``(N,)``, NaN where none, for the trend.
        held_out: whether the reference is what the run's accuracy is measured on.
    """

    training: Survey
    reference: Survey
    names: Sequence[str] | None
    index: Rows
    files: tuple[Sequence[str] | None, Mapping[int, str] | None] = (None, None)
    scores: Sequence[NDArray[np.float32]] = field(default_factory=list)
    held_out: bool = True

    def cards(self, regions: Regions) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the cards of what is missing, and of the thin regions that most need a look."""
        thin = [(region, self._facts(region)) for region in regions.thin]
        urgent = {"relabel": 0, "collect": 1, "ignore": 2}
        thin.sort(key=lambda one: (urgent[one[1]["action"]], -(one[1]["error"] or 0), -one[1]["size"]))
        missing = [(region, self._facts(region)) for region in regions.missing]
        return self._cards("gap", missing), self._cards("thin", thin[:SHOWN])

    def _cards(self, name: str, regions: list[tuple[Region, dict[str, Any]]]) -> list[dict[str, Any]]:
        return [
            {
                "name": f"{name} {number}",
                **facts,
                "prototypes": self._prototypes(region),
                "examples": self._examples(region),
                "trend": self._trend(region),
            }
            for number, (region, facts) in enumerate(regions, 1)
        ]

    def _facts(self, region: Region) -> dict[str, Any]:
        t, r = self.training[region.training], self.reference[region.reference]
        both = Survey.joined([t, r])
        known = both.labels >= 0
        classes = np.where(known, both.labels, both.predicted)
        there = classes[classes >= 0]
        ids, counts = np.unique(there, return_counts=True)
        top = int(ids[counts.argmax()]) if counts.size else None
        facts = {
            "size": len(region),
            "training": int(t.surprise.size),
            "reference": int(r.surprise.size),
            "share_of_training": t.surprise.size / max(1, len(self.training)),
            "share_of_reference": r.surprise.size / max(1, len(self.reference)),
            "times": region.factor,
            "at_least": region.least,
            "stability": region.stability,
            "lacking": max(0.0, region.lack),
            "percentile": float(np.median(both.percentile)),
            "class": None if top is None else self._name(top),
            "class_share": None if top is None else float(counts.max() / there.size),
            "class_is_predicted": bool(not known.all()),
            "error": _error(both)[0],
            "error_overall": self._overall,
        }
        action, reason = self._advice(region, facts, t, r)
        return {**facts, "action": action, "reason": reason}

    def _name(self, label: int) -> str | None:
        if label < 0:
            return None
        return self.names[label] if self.names and label < len(self.names) else str(label)

    @cached_property
    def _overall(self) -> float | None:
        return _error(Survey.joined([self.training, self.reference]))[0]

    @cached_property
    def _sorted(self) -> list[NDArray[np.float32]]:
        return [np.sort(scores[np.isfinite(scores)]) for scores in self.scores]

    def sample(self, row: int, of: str) -> dict[str, Any]:
        """Return what is told of one sample; ``of``: ``training`` or ``reference``."""
        survey, files = (
            (self.training, self.files[0]) if of == "training" else (self.reference, self.files[1])
        )
        index = row if of == "training" else int(self.index[row])
        percentile, file = float(survey.percentile[row]), None
        if files is not None:
            file = files.get(index) if isinstance(files, Mapping) else files[index]
        return {
            "of": of,
            "index": index,
            "label": self._name(int(survey.labels[row])),
            "predicted": self._name(int(survey.predicted[row])),
            "percentile": percentile if np.isfinite(percentile) else None,
            "file": file,
        }

    def _examples(self, region: Region) -> list[dict[str, Any]]:
        """Return the sample nearest to the centre, then those that lie farthest from the ones before."""
        rows = [(int(row), "reference") for row in region.reference]
        rows += [(int(row), "training") for row in region.training]
        places = np.concatenate(
            [self.reference.places[region.reference], self.training.places[region.training]]
        )
        order = [int(_distances(places, region.centre).argmin())]
        near = np.full(len(places), np.inf)
        while len(order) < min(EXAMPLES, len(rows)):
            near = np.minimum(near, _distances(places, places[order[-1]]))
            near[order[-1]] = -1.0
            order.append(int(near.argmax()))
        return [self.sample(*rows[place]) for place in order]

    def _prototypes(self, region: Region) -> list[dict[str, Any]]:
        """Return the nearest training samples that lie dense, with their distance from the centre."""
        dense = np.flatnonzero(self.training.percentile < 0.5)
        far = _distances(self.training.places[dense], region.centre)
        nearest = np.argsort(far, kind="stable")[:PROTOTYPES]
        return [
            {**self.sample(int(dense[place]), "training"), "distance": float(far[place])} for place in nearest
        ]

    def _trend(self, region: Region) -> list[float | None]:
        """Return in which share of the scores of each epoch the nearest training samples lay, on average."""
        if not self.scores:
            return []
        nearest = np.argsort(_distances(self.training.places, region.centre), kind="stable")[:_TREND]
        return [
            _standing(scores, finite, nearest)
            for scores, finite in zip(self.scores, self._sorted, strict=True)
        ]

    def _advice(self, region: Region, facts: Mapping[str, Any], t: Survey, r: Survey) -> tuple[str, str]:
        """Return what to do, and why."""
        (learned, judged), (met, seen) = _error(t), _error(r)
        overall = facts["error_overall"] or 0.0
        bad = max(_WRONG, _WORSE * overall)
        n = facts["training"]
        what = "held-out samples" if self.held_out else "samples of the reference"
        if learned is not None and judged >= SMALLEST and learned >= bad:
            return "relabel", (
                f"The network calls {learned:.0%} of the {judged} training samples here by another class "
                "than their label, though it was trained on them: look at their labels."
            )
        if region.missing:
            theirs, ours = facts["share_of_reference"], facts["share_of_training"]
            return "collect", (
                f"{theirs:.1%} of the {what} lie here and {ours:.1%} of the training set: "
                f"{region.factor:.1f} times too few, {region.least:.1f} at least."
            )
        if met is not None and seen >= SMALLEST and met >= bad:
            return "collect", (
                f"Of the {seen} {what} here {met:.0%} are wrong, {overall:.0%} of all: few "
                "training samples say what they are."
            )
        wrong = (
            f"{facts['error']:.0%} of all here are wrong" if facts["error"] is not None else "not labelled"
        )
        if region.factor >= TIMES:
            return "ignore", (
                f"Rare, and too few to tell whether any are missing: {n} training samples and "
                f"{facts['reference']} {what} lie here; {wrong}."
            )
        return "ignore", f"Rare, and covered: {n} training samples lie here; {wrong}."


def _error(survey: Survey) -> tuple[float | None, int]:
    """Return the share of wrong ones among samples with a label and a prediction, and how many these are."""
    known = int(((survey.labels >= 0) & (survey.predicted >= 0)).sum())
    return (float(survey.wrong.sum() / known) if known else None), known


def _distances(places: NDArray[np.float32], centre: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance of each place to one, ``(N,)``; infinite where it is none."""
    far = np.empty(len(places))
    for start in range(0, len(places), _CHUNK):
        part = places[start : start + _CHUNK]
        far[start : start + _CHUNK] = np.sqrt(((part - centre.astype(np.float64)) ** 2).sum(1))
    return np.where(np.isnan(far), np.inf, far)


def _standing(scores: NDArray[np.float32], finite: NDArray[np.float32], rows: Rows) -> float | None:
    """Return the mean share of the finite scores, sorted, that lie below those of rows; None without any."""
    mine = scores[rows[rows < scores.size]]
    mine = mine[np.isfinite(mine)]
    if not mine.size:
        return None
    return float((np.searchsorted(finite, mine) / finite.size).mean())
