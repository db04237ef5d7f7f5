"""What ``fallow gaps`` found: the regions that the training set lacks, the thin ones, and outliers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.thumbnails import SIDE
from ..errors import damaged
from ..runs.gaps_file import GapsFile
from ..runs.schema import GapCard, Gaps, GapSample, GapsBefore
from . import text
from .pictures import picture
from .samples import file_names
from .source import COLUMNS, Source

THIN = 0.9
"""Above this percentile a sample lies thin: as :data:`fallow.gaps.THIN`, which would load torch."""
SMALL = 0.01
"""A change of a percentile that is none."""
ENOUGH = 50
"""Nothing is said to be covered by fewer samples of a reference."""
CARDS, OUTLIERS = 40, 50
"""At most so many regions of a kind, and outliers of a kind and a side, are shown."""
_EXAMPLES, _PROTOTYPES = 9, 3
_REASON = 500
_SIDES = "training", "reference"


def section(source: Source) -> dict[str, Any] | None:
    """Return the gaps for the page; None where they were not looked for.

    Raises:
        DamagedData: where the file cannot be read, or its pictures are not what they should be.
    """
    file = source.run.gaps
    if file is None:
        return None
    drawn = _Pictures(file)
    found = file.gaps
    against = _Against(found, source.folder)
    outliers = (
        (found.alone, found.alone_count, "lie by themselves, far from every group"),
        (found.strange, found.strange_count, "are made unlike the training samples"),
    )
    missing = [_card(one, f"gap {n}", drawn, against) for n, one in enumerate(found.gaps[:CARDS], 1)]
    thin = [_card(one, f"thin {n}", drawn, against, slim=True) for n, one in enumerate(found.thin[:CARDS], 1)]
    return {
        "pool": against.pool,
        "compared": against.words,
        "said": f"{_said(found, len(missing), against)} {not_judged(found)}".strip(),
        "stale": _stale(source, found),
        "missing": missing,
        "thin": thin,
        "thin_said": _of_thin(thin),
        "outliers": [part for kind in outliers if (part := _outliers(*kind, against))],
        "before": _before(found.before),
        "pictured": any(one["pictured"] for one in (*missing, *thin)),
    }


def standing(was: float, now: float) -> str:
    """Return in words how a gap stands: by the median percentile of its samples then and now.

    >>> standing(0.98, 0.95), standing(0.98, 0.6), standing(0.98, 0.981), standing(0.95, 0.98)
    ('filling', 'filled', 'as thin as before', 'thinner than before')
    """
    if now <= THIN:
        return "filled"
    if abs(now - was) < SMALL:
        return "as thin as before"
    return "filling" if now < was else "thinner than before"


class _Against:
    """What was compared with what.

    Attributes:
        pool: the name of the reference; None where it is what the run's accuracy is measured on.
        words: what was compared, in words that the pool's name follows.
        whose, have, side: how the reference is called.
        folders: from which the files of each side are shown.
    """

    def __init__(self, found: Gaps, folder: str | None) -> None:
        pool = found.reference
        self.folders = dict(zip(_SIDES, (folder, folder if pool is None else pool), strict=True))
        self.pool = None if pool is None else text.path(pool)
        ours, theirs, looked = found.training_samples, found.reference_samples, found.reference_looked_at
        part = ""
        if looked is not None and theirs is not None and looked < theirs:
            part, theirs = f", drawn evenly from {theirs:,},", looked
        sizes = ["" if size is None else f"{size:,} " for size in (ours, theirs)]
        which = f"samples{part} of"
        if self.pool is None:
            which = "held-out samples, which its accuracy is measured on"
        self.words = f"{sizes[0]}training samples were held against {sizes[1]}{which}"
        self.whose, self.have, self.side = (
            ("the reference", "the reference has", "reference")
            if self.pool is not None
            else ("the held-out samples", "the held-out samples have", "held-out")
        )

    def of(self, side: str) -> str:
        """Return whose a sample is: ``training``, ``reference`` or ``held-out``."""
        return self.side if side == _SIDES[1] else side


def too_few(found: Gaps) -> bool:
    """Return whether too few samples of the reference are made as the training samples are, to tell."""
    return found.reference_judged is not None and found.reference_judged < ENOUGH


def judged(found: Gaps, whose: str) -> str:
    """Return how many samples of the reference say what they say: ``360 held-out samples``."""
    count = found.reference_judged
    if whose != "the reference":
        return "the held-out samples" if count is None else text.plural(count, "held-out sample")
    return f"the samples of {whose}" if count is None else f"{text.plural(count, 'sample')} of {whose}"


def of_class(card: GapCard, limit: int = text.NAME) -> str:
    """Return the most frequent class of a region with its share; nothing if no class is known."""
    if card.class_name is None:
        return ""
    part = card.class_share
    how = "mostly" if part is not None and part > 0.5 else "most often"
    how += " predicted as" if card.class_is_predicted else ""
    named = f"{how} {text.name(card.class_name, limit)}"
    return named if part is None else f"{named} ({text.share(part, 0)})"


def of_errors(card: GapCard, *, training: bool) -> str:
    """Return the errors of a region and elsewhere, of training samples or else of the reference's."""
    wrong, known, elsewhere = card.wrong, card.judged, card.error_elsewhere
    if training:
        wrong, known, elsewhere = card.training_wrong, card.training_judged, card.training_error_elsewhere
    if not known or wrong > known:
        return ""
    said = f"{wrong:,} of {known:,} here ({text.share(wrong / known, 0)})"
    return said if elsewhere is None else f"{said}, {text.share(elsewhere)} elsewhere"


def not_judged(found: Gaps) -> str:
    """Return a sentence where many samples of the reference could not be judged; else nothing."""
    looked, judged, unreadable = found.reference_looked_at, found.reference_judged, found.reference_unreadable
    said = f"{unreadable:,} file{'s'[: unreadable != 1]} could not be read." if unreadable else ""
    if looked is None or judged is None or looked - judged <= looked // 5:
        return said
    odd = f"{looked - judged:,} of {looked:,} samples are made unlike the training samples and are not judged"
    return f"{odd}: noise, other pictures, or the same ones taken in another way. {said}".strip()


def _said(found: Gaps, shown: int, against: _Against) -> str:
    count = len(found.gaps)
    if not shown and too_few(found):
        return "There are too few samples to tell whether anything is missing."
    if not shown:
        return f"Nothing is missing as far as {judged(found, against.whose)} show."
    who = text.plural(shown, f"region of {against.whose} is", f"regions of {against.whose} are")
    said = f"{who} missing in the training set."
    return said if count <= shown else f"{said} These are the first of {count:,}."


def _stale(source: Source, found: Gaps) -> str:
    """Return a sentence where the run has gone on since its gaps were looked for."""
    then, now = found.epochs, source.run.epochs_done
    if (then is None or now is None or then == now) and found.training_samples in (None, source.n):
        return ""
    when = "" if then is None else f" after {text.plural(then, 'epoch')}"
    return f"They were looked for{when}, and the run has gone on since: call fallow gaps again."


class _Pictures:
    """The pictures of the file as data URIs, each drawn once."""

    def __init__(self, file: GapsFile) -> None:
        self._rows, self._drawn = file.pictures, dict[int, str]()
        if self._rows is not None and not all(1 <= side <= SIDE for side in self._rows.shape[1:3]):
            rule = f"The pictures of gaps.safetensors must have sides of 1 to {SIDE}."
            raise damaged(rule, f"shape {self._rows.shape}", "Call fallow gaps again.")

    def of(self, sample: GapSample) -> str | None:
        """Return the picture that a sample names, or None."""
        place = sample.picture
        if self._rows is None or place is None or place >= len(self._rows):
            return None
        if place not in self._drawn:
            self._drawn[place] = picture(self._rows[place])
        return self._drawn[place]


def _card(
    card: GapCard, name: str, drawn: _Pictures, against: _Against, *, slim: bool = False
) -> dict[str, Any]:
    """Return what is shown of a region."""
    examples = [_sample(sample, against, drawn) for sample in card.examples[:_EXAMPLES]]
    prototypes = [_sample(sample, against, drawn) for sample in card.prototypes[:_PROTOTYPES]]
    return {
        "name": text.name(card.name) or name,
        "action": card.action,
        "reason": text.passage(card.reason, _REASON),
        "facts": _facts(card, against, slim=slim),
        "trend": _trend(card.trend),
        "examples": examples,
        "prototypes": prototypes,
        "pictured": any(row["picture"] is not None for row in (*examples, *prototypes)),
    }


def _facts(card: GapCard, against: _Against, *, slim: bool) -> list[tuple[str, str]]:
    """Return what is known of a region, each with its name."""
    rows: list[tuple[str, str]] = []
    if card.size:
        sides = f"{card.training:,} of the training set, {card.reference:,} of {against.whose}"
        rows.append(("Size", f"{card.size:,} thin samples: {sides}"))
    if card.percentile is not None:
        rows.append(("How thin", f"{text.share(card.percentile, 0)} of the training set lie denser"))
    if card.lacking is not None and (card.lacking >= 0.5 or not slim):
        rows.append(("Lacking", f"about {card.lacking:,.0f} such samples"))
    if card.times is not None:
        bound = "" if card.at_least is None else f", {_times(card.at_least)} at least"
        rows.append(("Share", f"{_times(card.times)} that of the training set{bound}"))
    if not slim and card.stability is not None:
        rows.append(("Stability", f"{text.share(card.stability, 0)} of it found again in resampled data"))
    rows += [
        ("Class", of_class(card)),
        (f"{against.side.capitalize()} error", of_errors(card, training=False)),
        ("Training error", of_errors(card, training=True)),
    ]
    return [(name, value) for name, value in rows if value]


def _times(value: float) -> str:
    return f"{value:,.0f}\u00a0×" if abs(value) >= 100 else f"{value:.1f}\u00a0×"


def _sample(sample: GapSample, against: _Against, drawn: _Pictures | None = None) -> dict[str, Any]:
    """Return what is shown of a sample."""
    label, predicted = sample.label, sample.predicted
    return {
        "of": against.of(sample.of),
        "index": text.count(sample.index),
        "given": None if label is None else text.name(label),
        "predicted": None if predicted is None else text.name(predicted),
        "wrong": None not in (label, predicted) and label != predicted,
        **file_names(sample.file, against.folders[sample.of]),
        "picture": None if drawn is None else drawn.of(sample),
    }


def _trend(values: list[float | None]) -> dict[str, Any] | None:
    """Return the line of a region's trend in a box of E x 40; None where nothing is known."""
    known = [one for one in values if one is not None]
    if not known:
        return None
    at = np.unique(np.linspace(0, len(values) - 1, min(len(values), COLUMNS)).round().astype(int))
    said = f"The nearest training samples score higher than {text.share(known[0], 0)} of all"
    if len(known) > 1:
        said += f" at first, than {text.share(known[-1], 0)} at last"
    return {"line": _line([values[i] for i in at.tolist()]), "size": len(at), "said": f"{said}."}


def _line(values: Sequence[float | None]) -> str:
    steps, pen = [], False
    for place, value in enumerate(values):
        if value is not None:
            steps.append(f"{'L' if pen else 'M'}{place}.5 {38 - 36 * value:.1f}" + ("" if pen else "h0"))
        pen = value is not None
    return "".join(steps)


def _of_thin(cards: list[dict[str, Any]]) -> str:
    """Return in a sentence how many thin regions there are, and which of them call for something."""
    if not cards:
        return ""
    count = text.plural(len(cards), "region is", "regions are")
    said = f"{count} thin in the training set too, but not missing"
    todo = [f"{one['name']}: {one['action']}" for one in cards if one["action"] in ("collect", "relabel")]
    return f"{said}. Something to do: {', '.join(todo)}." if todo else f"{said}: nothing to do."


def _outliers(
    listed: list[GapSample], counts: tuple[int, int], words: str, against: _Against
) -> dict[str, Any] | None:
    """Return the outliers of a kind; None where there are none."""
    listed = listed[: 2 * OUTLIERS]
    parts = [[_sample(one, against) for one in listed if one.of == side][:OUTLIERS] for side in _SIDES]
    sizes = [max(size, len(part)) for size, part in zip(counts, parts, strict=True)]
    if not sum(sizes):
        return None
    lists = [
        (f"{against.of(side)} samples", part, size - len(part))
        for side, part, size in zip(_SIDES, parts, sizes, strict=True)
        if part
    ]
    said = f"{sizes[0]:,} training and {sizes[1]:,} {against.side} samples {words}."
    return {"said": said, "lists": lists}


def _before(before: GapsBefore | None) -> dict[str, Any] | None:
    """Return how gaps that were found with other training samples stand now; None without any."""
    if before is None:
        return None
    rows = []
    for n, gap in enumerate(before.gaps[:CARDS], 1):
        was, now = gap.percentile, gap.now
        if was is None or now is None:
            continue
        names = text.name(gap.name) or f"gap {n}", text.name(gap.class_name or "") or "–"
        rows.append((*names, text.share(was, 0), text.share(now, 0), standing(was, now)))
    size = f"{before.training_samples:,}" if before.training_samples else "other"
    return {"size": size, "rows": rows} if rows else None
