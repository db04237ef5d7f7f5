"""What a person is told of a region: its size, how thin it is, its class, error, neighbours and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.shares import fisher_p_value
from .regions import SMALLEST, TIMES, Region, Regions
from .survey import Survey

EXAMPLES, PROTOTYPES, SHOWN = 9, 3, 8
"""Examples and prototypes of a card; thin regions that are told of."""
_WRONG, _WORSE, _CHANCE = 0.3, 2.0, 0.005
"""An error calls for something if it is so large a share, so many times that of the samples elsewhere, and so
unlikely to be as large by chance; several regions are looked at, so this is less than the usual 0.05."""
_TREND, _CHUNK = 20, 8192
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Errors:
    """Errors of one kind of samples, of the training set or of the reference: in a region and elsewhere.

    Attributes:
        wrong, judged: how many of the region's are wrong, of those with a label and a prediction.
        wrong_elsewhere, judged_elsewhere: the same of all others.
    """

    wrong: int
    judged: int
    wrong_elsewhere: int
    judged_elsewhere: int

    @staticmethod
    def of(inside: Survey, every: Survey) -> Errors:
        """Count those of a region, and what is left of every sample of the kind."""
        (here, known), (all_, together) = _counts(inside), _counts(every)
        return Errors(here, known, all_ - here, together - known)

    @property
    def share(self) -> float | None:
        """The share of wrong ones in the region; None if none is judged."""
        return self.wrong / self.judged if self.judged else None

    @property
    def elsewhere(self) -> float | None:
        """The share of wrong ones elsewhere; None if none is judged."""
        return self.wrong_elsewhere / self.judged_elsewhere if self.judged_elsewhere else None

    @property
    def high(self) -> bool:
        """Whether the region's share is so much higher that it calls for something, and not by chance."""
        here, there = self.share, self.elsewhere
        if here is None or there is None or here < max(_WRONG, _WORSE * there):
            return False
        return self.sure

    @property
    def sure(self) -> bool:
        """Whether chance hardly puts so many wrong ones into the region."""
        counts = (self.wrong, self.judged, self.wrong_elsewhere, self.judged_elsewhere)
        return self.judged >= SMALLEST and fisher_p_value(*counts) < _CHANCE

    @property
    def lower(self) -> bool:
        """Whether the region's share is below that of the others."""
        here, there = self.share, self.elsewhere
        return here is not None and there is not None and self.judged >= SMALLEST and here < there

    def sentence(self, what: str) -> str:
        """Return in words how many are wrong here, and which share elsewhere; ``what``: held-out samples."""
        if not self.judged:
            return f"none of the {what} here can be called right or wrong"
        wrong = "1 is" if self.wrong == 1 else f"{self.wrong:,} are"
        said = f"of the {self.judged:,} {what} here {wrong} wrong"
        if self.judged == 1:
            said = f"the only one of the {what} here is {'wrong' if self.wrong else 'right'}"
        return said if self.elsewhere is None else f"{said}, and {self.elsewhere:.1%} of those elsewhere"


@dataclass(frozen=True, eq=False)
class CardMaker:
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
        thin.sort(key=lambda one: (urgent[one[1]["action"]], -_worst(one[1]), -one[1]["size"]))
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
        }
        learned, met = Errors.of(t, self.training), Errors.of(r, self.reference)
        for name, errors in (("", met), ("training_", learned)):
            facts[f"{name}error"] = errors.share
            facts[f"{name}wrong"], facts[f"{name}judged"] = errors.wrong, errors.judged
            facts[f"{name}error_elsewhere"] = errors.elsewhere
        action, reason = self._advice(region, facts, learned, met)
        return {**facts, "action": action, "reason": reason}

    def _name(self, label: int) -> str | None:
        if label < 0:
            return None
        return self.names[label] if self.names and label < len(self.names) else str(label)

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

    def _advice(
        self, region: Region, facts: Mapping[str, Any], learned: Errors, met: Errors
    ) -> tuple[str, str]:
        """Return what to do, and why.

        Training samples and those of the reference are each held against others of their kind, as a network
        errs less on what it was trained on.
        """
        what = "held-out samples" if self.held_out else "samples of the reference"
        if learned.high:
            return "relabel", (
                f"The network calls {learned.share:.0%} of the {learned.judged} training samples here by "
                f"another class than their label, and {learned.elsewhere:.1%} of those elsewhere: look at "
                "their labels."
            )
        said = met.sentence(what)
        if region.missing:
            theirs, ours = facts["share_of_reference"], facts["share_of_training"]
            found = (
                f"{theirs:.1%} of the {what} lie here and {ours:.1%} of the training set: "
                f"{region.factor:.1f} times too few, {region.least:.1f} at least."
            )
            if met.lower:
                return "ignore", f"{found} Yet the network does not err more here: {said}."
            return "collect", f"{found[:-1]}; {said}." if met.judged else found
        if met.high:
            return "collect", f"The network errs here: {said}. Few training samples say what they are."
        unsure = ": too few to tell" if (met.share or 0) > (met.elsewhere or 0) and not met.sure else ""
        if region.factor >= TIMES:
            return "ignore", (
                f"Rare, and too few to tell whether any are missing: {_counted(facts['training'])} and "
                f"{facts['reference']} {what} lie here; {said}."
            )
        return (
            "ignore",
            f"Rare, and not shown to be missing: {_counted(facts['training'])} here; {said}{unsure}.",
        )


def _counted(training: int) -> str:
    return "1 training sample" if training == 1 else f"{training:,} training samples"


def _worst(facts: Mapping[str, Any]) -> float:
    """Return the higher error of a region, of those that are known."""
    return max(facts["error"] or 0.0, facts["training_error"] or 0.0)


def _counts(survey: Survey) -> tuple[int, int]:
    """Return how many are wrong of the samples with a label and a prediction, and how many these are."""
    known = int(((survey.labels >= 0) & (survey.predicted >= 0)).sum())
    return int(survey.wrong.sum()), known


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
