"""What a person is told of a region: its size, how thin it is, its class, error, neighbours and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .regions import Region, Regions
from .survey import Survey

EXAMPLES, PROTOTYPES, SHOWN = 9, 3, 8
"""Examples and prototypes of a card; thin regions that are told of."""
_WRONG, _WORSE = 0.3, 2.0
_TREND = 20
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
        missing = [self._card(f"gap {place}", region) for place, region in enumerate(regions.missing, 1)]
        thin = [self._card("", region) for region in regions.thin]
        urgent = {"relabel": 0, "collect": 1, "ignore": 2}
        thin.sort(key=lambda card: (urgent[card["action"]], -(card["error"] or 0), -card["size"]))
        return missing, [{**card, "name": f"thin {n}"} for n, card in enumerate(thin[:SHOWN], 1)]

    def _card(self, name: str, region: Region) -> dict[str, Any]:
        t, r = self.training[region.training], self.reference[region.reference]
        both = Survey.joined([t, r])
        known = both.labels >= 0
        classes = np.where(known, both.labels, both.predicted)
        there = classes[classes >= 0]
        counts = np.bincount(there) if there.size else np.zeros(0, int)
        top = int(counts.argmax()) if counts.size else None
        errors = [_share(part.wrong, part.labels >= 0) for part in (both, t, r)]
        card = {
            "name": name,
            "size": len(region),
            "training": int(t.surprise.size),
            "reference": int(r.surprise.size),
            "share_of_training": t.surprise.size / len(self.training),
            "share_of_reference": r.surprise.size / len(self.reference),
            "times": region.factor,
            "at_least": region.least,
            "stability": region.stability,
            "lacking": max(0.0, region.lack),
            "percentile": float(np.median(both.percentile)),
            "class": None if top is None else self._name(top),
            "class_share": None if top is None else float(counts[top] / there.size),
            "class_is_predicted": bool(not known.all()),
            "error": errors[0],
            "error_overall": self._overall(),
            "prototypes": self._prototypes(region),
            "examples": self._examples(region),
            "trend": self._trend(region),
        }
        action, reason = self._advice(region, card, errors[1], errors[2])
        return {**card, "action": action, "reason": reason}

    def _name(self, label: int) -> str | None:
        if label < 0:
            return None
        return self.names[label] if self.names and label < len(self.names) else str(label)

    def _overall(self) -> float | None:
        both = [(part.wrong, part.labels >= 0) for part in (self.training, self.reference)]
        return _share(*(np.concatenate(parts) for parts in zip(*both, strict=True)))

    def sample(self, row: int, of: str) -> dict[str, Any]:
        """Return what is told of one sample; ``of``: ``training`` or ``reference``."""
        survey, files = (
            (self.training, self.files[0]) if of == "training" else (self.reference, self.files[1])
        )
        index = row if of == "training" else int(self.index[row])
        file = None
        if files is not None:
            file = files.get(index) if isinstance(files, Mapping) else files[index]
        return {
            "of": of,
            "index": index,
            "label": self._name(int(survey.labels[row])),
            "predicted": self._name(int(survey.predicted[row])),
            "percentile": float(survey.percentile[row]),
            "file": file,
        }

    def _examples(self, region: Region) -> list[dict[str, Any]]:
        """Return the sample nearest to the centre, then those that lie farthest from the ones before."""
        rows = [(int(row), "reference") for row in region.reference]
        rows += [(int(row), "training") for row in region.training]
        places = torch.from_numpy(
            np.concatenate([self.reference.places[region.reference], self.training.places[region.training]])
        )
        order = [int((places - torch.from_numpy(region.centre).float()).square().sum(1).argmin())]
        near = torch.cdist(places, places[order])[:, 0]
        while len(order) < min(EXAMPLES, len(rows)):
            order.append(int(near.argmax()))
            near = torch.minimum(near, torch.cdist(places, places[order[-1:]])[:, 0])
        return [self.sample(*rows[place]) for place in order]

    def _prototypes(self, region: Region) -> list[dict[str, Any]]:
        """Return the nearest training samples that lie dense, with their distance from the centre."""
        dense = np.flatnonzero(self.training.percentile < 0.5)
        far = np.sqrt(((self.training.places[dense] - region.centre) ** 2).sum(1))
        nearest = np.argsort(far, kind="stable")[:PROTOTYPES]
        return [
            {**self.sample(int(dense[place]), "training"), "distance": float(far[place])} for place in nearest
        ]

    def _trend(self, region: Region) -> list[float | None]:
        """Return in which share of the scores of each epoch the nearest training samples lay, on average."""
        far = ((self.training.places - region.centre) ** 2).sum(1)
        nearest = np.argsort(far, kind="stable")[:_TREND]
        return [_standing(scores, nearest) for scores in self.scores]

    def _advice(
        self, region: Region, card: Mapping[str, Any], learned: float | None, met: float | None
    ) -> tuple[str, str]:
        """Return what to do, and why."""
        overall = card["error_overall"] or 0.0
        bad = max(_WRONG, _WORSE * overall)
        n = card["training"]
        what = "held-out samples" if self.held_out else "samples of the reference"
        if learned is not None and n >= 5 and learned >= bad:
            return "relabel", (
                f"The network calls {learned:.0%} of the {n} training samples here by another class than "
                "their label, though it was trained on them: look at their labels."
            )
        if region.missing:
            theirs, ours = card["share_of_reference"], card["share_of_training"]
            return "collect", (
                f"{theirs:.1%} of the {what} lie here and {ours:.1%} of the training set: "
                f"{region.factor:.1f} times too few, {region.least:.1f} at least."
            )
        if met is not None and card["reference"] >= 5 and met >= bad:
            return "collect", (
                f"Of the {card['reference']} {what} here {met:.0%} are wrong, {overall:.0%} of all: few "
                "training samples say what they are."
            )
        wrong = f"{card['error']:.0%} of them are wrong" if card["error"] is not None else "not labelled"
        return "ignore", f"Rare, and covered: {n} training samples lie here; {wrong}."


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float | None:
    return float(part.sum() / whole.sum()) if whole.any() else None


def _standing(scores: NDArray[np.float32], rows: Rows) -> float | None:
    """Return the mean share of finite scores that lie below those of some samples; None without any."""
    finite = np.sort(scores[np.isfinite(scores)])
    mine = scores[rows[rows < scores.size]]
    mine = mine[np.isfinite(mine)]
    if not mine.size or not finite.size:
        return None
    return float((np.searchsorted(finite, mine) / finite.size).mean())
