"""Cards that describe regions: size, density, class, error, neighbours, examples and advice."""

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
"""Examples and prototypes on a card; thin regions with a card."""
_WRONG, _WORSE, _CHANCE = 0.3, 2.0, 0.005
"""An error is high if it is at least this share, this multiple of the share elsewhere, and less likely by
chance than this. The last is below the usual 0.05, as several regions are tested."""
_TREND, _CHUNK = 20, 8192
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Errors:
    """Errors among training samples or reference samples, in a region and elsewhere.

    Attributes:
        wrong, judged: the wrong samples in the region, and those with a label and a prediction.
        wrong_elsewhere, judged_elsewhere: the same numbers for all other samples.
    """

    wrong: int
    judged: int
    wrong_elsewhere: int
    judged_elsewhere: int

    @staticmethod
    def of(inside: Survey, every: Survey) -> Errors:
        """Count the errors in a region, and in the rest of all samples."""
        wrong, judged = _count_wrong(inside)
        wrong_in_all, judged_in_all = _count_wrong(every)
        return Errors(wrong, judged, wrong_in_all - wrong, judged_in_all - judged)

    @property
    def share(self) -> float | None:
        """The share of wrong samples in the region; None if none is judged."""
        return self.wrong / self.judged if self.judged else None

    @property
    def elsewhere(self) -> float | None:
        """The share of wrong samples elsewhere; None if none is judged."""
        return self.wrong_elsewhere / self.judged_elsewhere if self.judged_elsewhere else None

    @property
    def high(self) -> bool:
        """Whether the region's share is large, much larger than elsewhere, and not so by chance."""
        if self.share is None or self.elsewhere is None:
            return False
        return self.share >= max(_WRONG, _WORSE * self.elsewhere) and self.significant

    @property
    def significant(self) -> bool:
        """Whether chance is unlikely to put as many wrong samples into the region."""
        counts = (self.wrong, self.judged, self.wrong_elsewhere, self.judged_elsewhere)
        return self.judged >= SMALLEST and fisher_p_value(*counts) < _CHANCE

    @property
    def lower(self) -> bool:
        """Whether the region's share is below the share elsewhere."""
        if self.share is None or self.elsewhere is None:
            return False
        return self.judged >= SMALLEST and self.share < self.elsewhere

    def sentence(self, kind: str) -> str:
        """Return in words how many samples are wrong here, and which share elsewhere.

        Args:
            kind: the plural of the samples: "held-out samples".
        """
        if not self.judged:
            return f"none of the {kind} here has a label and a prediction"
        if self.judged == 1:
            here = f"the only one of the {kind} here is {'wrong' if self.wrong else 'right'}"
        else:
            verb = "is" if self.wrong == 1 else "are"
            here = f"of the {self.judged:,} {kind} here {self.wrong:,} {verb} wrong"
        return here if self.elsewhere is None else f"{here}, and {self.elsewhere:.1%} of those elsewhere"


@dataclass(frozen=True, eq=False)
class CardMaker:
    """Makes cards.

    Attributes:
        training, reference: surveys of the two sets.
        names: names of the classes, or None.
        files: the file names of the training samples and of the reference, by row; or None.
        index: int64, the position of each row of the reference in its pool.
        scores: ``(N,)`` for each epoch, NaN for *no score*; for the trend.
        held_out: whether the reference is the held-out set of the run.
    """

    training: Survey
    reference: Survey
    names: Sequence[str] | None
    index: Rows
    files: tuple[Sequence[str] | None, Mapping[int, str] | None] = (None, None)
    scores: Sequence[NDArray[np.float32]] = field(default_factory=list)
    held_out: bool = True

    def cards(self, regions: Regions) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the cards of missing regions, and of the most urgent thin regions."""
        urgency = {"relabel": 0, "collect": 1, "ignore": 2}

        def rank(region_and_facts: tuple[Region, dict[str, Any]]) -> tuple[int, float, int]:
            facts = region_and_facts[1]
            worst = max(facts["error"] or 0.0, facts["training_error"] or 0.0)
            return urgency[facts["action"]], -worst, -facts["size"]

        thin = sorted(((region, self._facts(region)) for region in regions.thin), key=rank)
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
        training = self.training[region.training]
        reference = self.reference[region.reference]
        both = Survey.joined([training, reference])
        labelled = both.labels >= 0
        classes = np.where(labelled, both.labels, both.predicted)
        classes = classes[classes >= 0]
        ids, counts = np.unique(classes, return_counts=True)
        top = int(ids[counts.argmax()]) if counts.size else None
        facts = {
            "size": len(region),
            "training": len(training),
            "reference": len(reference),
            "share_of_training": len(training) / max(1, len(self.training)),
            "share_of_reference": len(reference) / max(1, len(self.reference)),
            "times": region.factor,
            "at_least": region.least,
            "stability": region.stability,
            "lacking": max(0.0, region.lack),
            "percentile": float(np.median(both.percentile)),
            "class": None if top is None else self._name(top),
            "class_share": None if top is None else float(counts.max() / classes.size),
            "class_is_predicted": bool(not labelled.all()),
        }
        training_errors = Errors.of(training, self.training)
        reference_errors = Errors.of(reference, self.reference)
        for prefix, errors in (("", reference_errors), ("training_", training_errors)):
            facts[f"{prefix}error"] = errors.share
            facts[f"{prefix}wrong"] = errors.wrong
            facts[f"{prefix}judged"] = errors.judged
            facts[f"{prefix}error_elsewhere"] = errors.elsewhere
        action, reason = self._advice(region, facts, training_errors, reference_errors)
        return {**facts, "action": action, "reason": reason}

    def _name(self, label: int) -> str | None:
        if label < 0:
            return None
        return self.names[label] if self.names and label < len(self.names) else str(label)

    @cached_property
    def _sorted(self) -> list[NDArray[np.float32]]:
        return [np.sort(scores[np.isfinite(scores)]) for scores in self.scores]

    def sample(self, row: int, of: str) -> dict[str, Any]:
        """Return the description of one sample; ``of``: ``training`` or ``reference``."""
        files: Sequence[str] | Mapping[int, str] | None
        if of == "training":
            survey, files, index = self.training, self.files[0], row
        else:
            survey, files, index = self.reference, self.files[1], int(self.index[row])
        percentile = float(survey.percentile[row])
        file = None
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
        """Return the sample nearest to the centre, then in turn the one farthest from those before."""
        rows = [(int(row), "reference") for row in region.reference]
        rows += [(int(row), "training") for row in region.training]
        places = np.concatenate(
            [self.reference.places[region.reference], self.training.places[region.training]]
        )
        order = [int(_distances(places, region.centre).argmin())]
        near = np.full(len(places), np.inf)
        while len(order) < min(EXAMPLES, len(rows)):
            near = np.minimum(near, _distances(places, places[order[-1]]))
            # Never taken again, even if others lie at the same place.
            near[order[-1]] = -1.0
            order.append(int(near.argmax()))
        return [self.sample(*rows[place]) for place in order]

    def _prototypes(self, region: Region) -> list[dict[str, Any]]:
        """Return the nearest well-covered training samples, with their distance from the centre."""
        dense = np.flatnonzero(self.training.percentile < 0.5)
        apart = _distances(self.training.places[dense], region.centre)
        return [
            {**self.sample(int(dense[place]), "training"), "distance": float(apart[place])}
            for place in np.argsort(apart, kind="stable")[:PROTOTYPES]
        ]

    def _trend(self, region: Region) -> list[float | None]:
        """Return the mean percentile of the nearest training samples among the scores of each epoch."""
        if not self.scores:
            return []
        nearest = np.argsort(_distances(self.training.places, region.centre), kind="stable")[:_TREND]
        return [
            _mean_percentile(scores, finite, nearest)
            for scores, finite in zip(self.scores, self._sorted, strict=True)
        ]

    def _advice(
        self, region: Region, facts: Mapping[str, Any], training: Errors, reference: Errors
    ) -> tuple[str, str]:
        """Return the action and its reason."""
        # Each kind is compared with others of its kind: a network errs less on what it was trained on.
        kind = "held-out samples" if self.held_out else "samples of the reference"
        if training.high:
            return "relabel", (
                f"The network predicts another class than the label for {training.share:.0%} of the "
                f"{training.judged} training samples here, and for {training.elsewhere:.1%} of those "
                "elsewhere: check their labels."
            )
        errors = reference.sentence(kind)
        if region.missing:
            shares = (
                f"{facts['share_of_reference']:.1%} of the {kind} lie here, but only "
                f"{facts['share_of_training']:.1%} of the training set: {region.factor:.1f} times too few "
                f"(at least {region.least:.1f})"
            )
            if reference.lower:
                return "ignore", f"{shares}. Yet the network does not err more here: {errors}."
            return "collect", f"{shares}; {errors}." if reference.judged else f"{shares}."
        if reference.high:
            return (
                "collect",
                f"The network errs here: {errors}. There are few training samples to learn from.",
            )
        count = facts["training"]
        samples = "1 training sample" if count == 1 else f"{count:,} training samples"
        if region.factor >= TIMES:
            return "ignore", (
                f"Rare, and too few to tell whether any are missing: {samples} and "
                f"{facts['reference']} {kind} lie here; {errors}."
            )
        higher = (reference.share or 0) > (reference.elsewhere or 0)
        doubt = ": too few to tell" if higher and not reference.significant else ""
        return "ignore", f"Rare, and not shown to be missing: {samples} here; {errors}{doubt}."


def _count_wrong(survey: Survey) -> tuple[int, int]:
    """Return the number of wrong samples, and of samples with a label and a prediction."""
    judged = int(((survey.labels >= 0) & (survey.predicted >= 0)).sum())
    return int(survey.wrong.sum()), judged


def _distances(places: NDArray[np.float32], centre: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance of each place from a centre, ``(N,)``; infinite for a place with NaN."""
    apart = np.empty(len(places))
    for start in range(0, len(places), _CHUNK):
        part = places[start : start + _CHUNK]
        apart[start : start + _CHUNK] = np.sqrt(((part - centre.astype(np.float64)) ** 2).sum(1))
    return np.where(np.isnan(apart), np.inf, apart)


def _mean_percentile(scores: NDArray[np.float32], finite: NDArray[np.float32], rows: Rows) -> float | None:
    """Return the mean percentile of some rows among the sorted finite scores; None without a score."""
    # Samples that joined later have no place in the scores of earlier epochs.
    asked = scores[rows[rows < scores.size]]
    asked = asked[np.isfinite(asked)]
    if not asked.size:
        return None
    return float((np.searchsorted(finite, asked) / finite.size).mean())
