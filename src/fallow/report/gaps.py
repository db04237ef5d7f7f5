"""The result of ``fallow gaps``: regions that the training set lacks, thin ones, and outliers."""

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
"""Samples above this percentile are thin: a copy of :data:`fallow.gaps.THIN`, whose import loads torch."""
SMALL = 0.01
"""Smaller changes of a percentile are ignored."""
ENOUGH = 50
"""Minimum number of reference samples to conclude that nothing is missing."""
CARDS, OUTLIERS = 40, 50
"""Maximum number of regions per kind, and of outliers per kind and side."""
_EXAMPLES, _PROTOTYPES = 9, 3
_REASON = 500
_SIDES = "training", "reference"


def section(source: Source) -> dict[str, Any] | None:
    """Return the gaps for the page; None if the run has no list of gaps.

    Raises:
        DamagedData: if the file cannot be read, or its pictures are invalid.
    """
    file = source.run.gaps
    if file is None:
        return None
    pictures = _Pictures(file)
    gaps = file.gaps
    reference = _Reference(gaps, source.folder)
    outliers = (
        (gaps.alone, gaps.alone_count, "lie by themselves, far from every group"),
        (gaps.strange, gaps.strange_count, "are made unlike the training samples"),
    )
    missing = [
        _card(card, f"gap {n}", pictures, reference, slim=False)
        for n, card in enumerate(gaps.gaps[:CARDS], 1)
    ]
    thin = [
        _card(card, f"thin {n}", pictures, reference, slim=True)
        for n, card in enumerate(gaps.thin[:CARDS], 1)
    ]
    return {
        "pool": reference.pool,
        "compared": reference.comparison,
        "sentence": sentence(source, gaps),
        "stale": stale(source, gaps),
        "missing": missing,
        "thin": thin,
        "thin_sentence": _of_thin(thin),
        "outliers": [part for kind in outliers if (part := _outliers(*kind, reference))],
        "before": _before(gaps.before),
        "pictured": any(card["pictured"] for card in (*missing, *thin)),
    }


def standing(was: float, now: float) -> str:
    """Return the change of a gap, given the median percentile of its samples then and now.

    >>> standing(0.98, 0.95), standing(0.98, 0.6), standing(0.98, 0.981), standing(0.95, 0.98)
    ('filling', 'filled', 'as thin as before', 'thinner than before')
    """
    if now <= THIN:
        return "filled"
    if abs(now - was) < SMALL:
        return "as thin as before"
    return "filling" if now < was else "thinner than before"


class _Reference:
    """The names of the reference: a pool, or the held-out samples of the run.

    Attributes:
        pool: the name of the pool, or None.
        comparison: the beginning of a sentence about the two sets; the name of the pool follows.
        whose: the reference as the owner of samples or regions.
        side: the adjective for its samples.
        folders: the folder to which file names of each side are relative.
    """

    def __init__(self, gaps: Gaps, folder: str | None) -> None:
        pool = gaps.reference
        self.folders = dict(zip(_SIDES, (folder, folder if pool is None else pool), strict=True))
        self.pool = None if pool is None else text.path(pool)
        training, size, read = gaps.training_samples, gaps.reference_samples, gaps.reference_looked_at
        part = ""
        if read is not None and size is not None and read < size:
            part, size = f", drawn evenly from {size:,},", read
        sizes = ["" if number is None else f"{number:,} " for number in (training, size)]
        if pool is None:
            self.whose, self.side = "the held-out samples", "held-out"
            samples = "held-out samples, which its accuracy is measured on"
        else:
            self.whose, self.side = "the reference", "reference"
            samples = f"samples{part} of"
        self.comparison = f"{sizes[0]}training samples were compared with {sizes[1]}{samples}"

    def of(self, side: str) -> str:
        """Return the name of a side: ``training``, ``reference`` or ``held-out``."""
        return self.side if side == _SIDES[1] else side


def too_few(gaps: Gaps) -> bool:
    """Return whether too few samples of the reference resemble the training samples to judge."""
    return gaps.reference_judged is not None and gaps.reference_judged < ENOUGH


def judged(gaps: Gaps, whose: str) -> str:
    """Return the judged samples of the reference, such as ``360 held-out samples``."""
    count = gaps.reference_judged
    if whose != "the reference":
        return "the held-out samples" if count is None else text.plural(count, "held-out sample")
    return f"the samples of {whose}" if count is None else f"{text.plural(count, 'sample')} of {whose}"


def of_class(card: GapCard, limit: int = text.NAME) -> str:
    """Return the most frequent class of a region with its share; nothing if no class is known."""
    if card.class_name is None:
        return ""
    part = card.class_share
    adverb = "mostly" if part is not None and part > 0.5 else "most often"
    verb = " predicted as" if card.class_is_predicted else ""
    phrase = f"{adverb}{verb} {text.name(card.class_name, limit)}"
    return phrase if part is None else f"{phrase} ({text.share(part, 0)})"


def of_errors(card: GapCard, *, training: bool) -> str:
    """Return the errors in a region and elsewhere, of training samples or of the reference."""
    if training:
        wrong, known, elsewhere = card.training_wrong, card.training_judged, card.training_error_elsewhere
    else:
        wrong, known, elsewhere = card.wrong, card.judged, card.error_elsewhere
    if not known or wrong > known:
        return ""
    sentence = f"{wrong:,} of {known:,} here ({text.share(wrong / known, 0)})"
    return sentence if elsewhere is None else f"{sentence}, {text.share(elsewhere)} elsewhere"


def not_judged(gaps: Gaps) -> str:
    """Return sentences about unreadable files, and about more than a fifth of samples that are not judged."""
    looked, judged, unreadable = gaps.reference_looked_at, gaps.reference_judged, gaps.reference_unreadable
    sentence = f"{unreadable:,} file{'s'[: unreadable != 1]} could not be read." if unreadable else ""
    if looked is None or judged is None or looked - judged <= looked // 5:
        return sentence
    odd = f"{looked - judged:,} of {looked:,} samples are made unlike the training samples and are not judged"
    return f"{odd}: noise, other pictures, or the same ones taken in another way. {sentence}".strip()


def sentence(source: Source, gaps: Gaps) -> str:
    """Return sentences about what is missing, and what could not be judged."""
    reference = _Reference(gaps, source.folder)
    shown = min(len(gaps.gaps), CARDS)
    return f"{_sentence(gaps, shown, reference)} {not_judged(gaps)}".strip()


def _sentence(gaps: Gaps, shown: int, reference: _Reference) -> str:
    count, whose = len(gaps.gaps), reference.whose
    if not shown and too_few(gaps):
        return "There are too few samples to tell whether anything is missing."
    if not shown:
        return f"Nothing is missing as far as {judged(gaps, whose)} show."
    subject = text.plural(shown, f"region of {whose} is", f"regions of {whose} are")
    sentence = f"{subject} missing in the training set."
    return sentence if count <= shown else f"{sentence} These are the first of {count:,}."


def stale(source: Source, gaps: Gaps) -> str:
    """Return a sentence if the run has trained since its gaps were found."""
    then, now = gaps.epochs, source.run.epochs_done
    if (then is None or now is None or then == now) and gaps.training_samples in (None, source.n):
        return ""
    when = "" if then is None else f" after {text.plural(then, 'epoch')}"
    return f"They were found{when}, and the run has trained since: run fallow gaps again."


class _Pictures:
    """The pictures of the file as data URIs, each encoded once."""

    def __init__(self, file: GapsFile) -> None:
        self._rows, self._encoded = file.pictures, dict[int, str]()
        if self._rows is not None and not all(1 <= side <= SIDE for side in self._rows.shape[1:3]):
            rule = f"The pictures of gaps.safetensors must have sides of 1 to {SIDE}."
            raise damaged(rule, f"shape {self._rows.shape}", "Run fallow gaps again.")

    def of(self, sample: GapSample) -> str | None:
        """Return the picture of a sample, or None."""
        place = sample.picture
        if self._rows is None or place is None or place >= len(self._rows):
            return None
        if place not in self._encoded:
            self._encoded[place] = picture(self._rows[place])
        return self._encoded[place]


def _card(
    card: GapCard, name: str, pictures: _Pictures, reference: _Reference, *, slim: bool
) -> dict[str, Any]:
    examples = [_sample(sample, reference, pictures) for sample in card.examples[:_EXAMPLES]]
    prototypes = [_sample(sample, reference, pictures) for sample in card.prototypes[:_PROTOTYPES]]
    return {
        "name": text.name(card.name) or name,
        "action": card.action,
        "reason": text.passage(card.reason, _REASON),
        "facts": _facts(card, reference, slim=slim),
        "trend": _trend(card.trend),
        "examples": examples,
        "prototypes": prototypes,
        "pictured": any(row["picture"] is not None for row in (*examples, *prototypes)),
    }


def _facts(card: GapCard, reference: _Reference, *, slim: bool) -> list[tuple[str, str]]:
    """Return name and value of the known facts about a region."""
    rows: list[tuple[str, str]] = []
    if card.size:
        sides = f"{card.training:,} of the training set, {card.reference:,} of {reference.whose}"
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
        (f"{reference.side.capitalize()} error", of_errors(card, training=False)),
        ("Training error", of_errors(card, training=True)),
    ]
    return [(name, value) for name, value in rows if value]


def _times(value: float) -> str:
    return f"{value:,.0f}\u00a0×" if abs(value) >= 100 else f"{value:.1f}\u00a0×"


def _sample(sample: GapSample, reference: _Reference, pictures: _Pictures | None = None) -> dict[str, Any]:
    label, predicted = sample.label, sample.predicted
    return {
        "of": reference.of(sample.of),
        "index": text.count(sample.index),
        "given": None if label is None else text.name(label),
        "predicted": None if predicted is None else text.name(predicted),
        "wrong": None not in (label, predicted) and label != predicted,
        **file_names(sample.file, reference.folders[sample.of]),
        "picture": None if pictures is None else pictures.of(sample),
    }


def _trend(values: list[float | None]) -> dict[str, Any] | None:
    """Return the line of a region's trend in a box of E x 40; None without values."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    at = np.unique(np.linspace(0, len(values) - 1, min(len(values), COLUMNS)).round().astype(int))
    sentence = f"The nearest training samples score higher than {text.share(known[0], 0)} of all"
    if len(known) > 1:
        sentence += f" at first, than {text.share(known[-1], 0)} at last"
    return {"line": _line([values[i] for i in at.tolist()]), "size": len(at), "sentence": f"{sentence}."}


def _line(values: Sequence[float | None]) -> str:
    steps, pen = [], False
    for place, value in enumerate(values):
        if value is not None:
            steps.append(f"{'L' if pen else 'M'}{place}.5 {38 - 36 * value:.1f}" + ("" if pen else "h0"))
        pen = value is not None
    return "".join(steps)


def _of_thin(cards: list[dict[str, Any]]) -> str:
    """Return a sentence about the number of thin regions and those that need an action."""
    if not cards:
        return ""
    subject = text.plural(len(cards), "region is", "regions are")
    sentence = f"{subject} thin in the training set too, but not missing"
    todo = [f"{card['name']}: {card['action']}" for card in cards if card["action"] in ("collect", "relabel")]
    return f"{sentence}. Something to do: {', '.join(todo)}." if todo else f"{sentence}: nothing to do."


def _outliers(
    listed: list[GapSample], counts: tuple[int, int], predicate: str, reference: _Reference
) -> dict[str, Any] | None:
    """Return the outliers of a kind; None without any."""
    listed = listed[: 2 * OUTLIERS]
    parts = [[_sample(item, reference) for item in listed if item.of == side][:OUTLIERS] for side in _SIDES]
    sizes = [max(size, len(part)) for size, part in zip(counts, parts, strict=True)]
    if not sum(sizes):
        return None
    lists = [
        (f"{reference.of(side)} samples", part, size - len(part))
        for side, part, size in zip(_SIDES, parts, sizes, strict=True)
        if part
    ]
    sentence = f"{sizes[0]:,} training and {sizes[1]:,} {reference.side} samples {predicate}."
    return {"sentence": sentence, "lists": lists}


def _before(before: GapsBefore | None) -> dict[str, Any] | None:
    """Return the present state of gaps that were found with other training samples; None without any."""
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
