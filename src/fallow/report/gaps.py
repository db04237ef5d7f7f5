"""What ``fallow gaps`` found: the regions that the training set lacks, the thin ones, and outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays.thumbnails import SIDE
from ..errors import damaged
from ..runs.gaps_file import GapsFile
from . import text, told
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
ACTIONS = "collect", "relabel", "ignore"
_EXAMPLES, _PROTOTYPES = 9, 3
_REASON = 500
_SIDES = "training", "reference"
_OUTLIERS = (
    ("alone", "lie by themselves, far from every group"),
    ("strange", "are made unlike the training samples"),
)

Object = Mapping[str, Any]


def section(source: Source) -> dict[str, Any] | None:
    """Return the gaps for the page; None where they were not looked for.

    Raises:
        DamagedData: where the file cannot be read, or its pictures are not what they should be.
    """
    file = source.run.gaps
    if file is None:
        return None
    drawn = _Pictures(file)
    found = file.told
    against = _Against(found, source.folder)
    missing = [_card(one, f"gap {n}", drawn, against) for n, one in _numbered(found["gaps"])]
    thin = [_card(one, f"thin {n}", drawn, against, slim=True) for n, one in _numbered(found["thin"])]
    return {
        "pool": against.pool,
        "compared": against.words,
        "said": f"{_said(found, len(missing), against)} {not_judged(found)}".strip(),
        "stale": _stale(source, found),
        "missing": missing,
        "thin": thin,
        "thin_said": _of_thin(thin),
        "outliers": [part for name, words in _OUTLIERS if (part := _outliers(found, name, words, against))],
        "before": _before(found.get("before")),
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

    def __init__(self, found: Object, folder: str | None) -> None:
        pool = found.get("reference")
        self.folders = dict(zip(_SIDES, (folder, pool if isinstance(pool, str) else folder), strict=True))
        self.pool = text.path(pool) if isinstance(pool, str) else None
        ours, theirs = (told.whole(found.get(f"{side}_samples")) for side in _SIDES)
        looked = told.whole(found.get("reference_looked_at"))
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


def too_few(found: Object) -> bool:
    """Return whether too few samples of the reference are made as the training samples are, to tell."""
    judged = told.whole(found.get("reference_judged"))
    return judged is not None and judged < ENOUGH


def judged(found: Object, whose: str) -> str:
    """Return how many samples of the reference say what they say: ``360 held-out samples``."""
    count = told.whole(found.get("reference_judged"))
    if whose != "the reference":
        return "the held-out samples" if count is None else text.plural(count, "held-out sample")
    return f"the samples of {whose}" if count is None else f"{text.plural(count, 'sample')} of {whose}"


def of_class(one: Object) -> str:
    """Return the most frequent class of a region with its share; it must be known."""
    part = told.share(one.get("class_share"))
    how = "mostly" if part is not None and part > 0.5 else "most often"
    how += " predicted as" if one.get("class_is_predicted") is True else ""
    return f"{how} {one['class']}" + ("" if part is None else f" ({text.share(part, 0)})")


def of_errors(one: Object, kind: str) -> str:
    """Return the errors of a region and of samples elsewhere; ``kind``: ``training_`` or nothing."""
    names = (f"{kind}wrong", f"{kind}judged")
    wrong, known = (told.whole(one.get(name)) for name in names)
    if not known or wrong is None or wrong > known:
        return ""
    elsewhere = told.share(one.get(f"{kind}error_elsewhere"))
    said = f"{wrong:,} of {known:,} here ({text.share(wrong / known, 0)})"
    return said if elsewhere is None else f"{said}, {text.share(elsewhere)} elsewhere"


def not_judged(found: Object) -> str:
    """Return a sentence where many samples of the reference could not be judged; else nothing."""
    names = ("reference_looked_at", "reference_judged", "reference_unreadable")
    looked, judged, unreadable = (told.whole(found.get(name)) for name in names)
    said = f"{unreadable:,} file{'s'[: unreadable != 1]} could not be read." if unreadable else ""
    if looked is None or judged is None or looked - judged <= looked // 5:
        return said
    odd = f"{looked - judged:,} of {looked:,} samples are made unlike the training samples and are not judged"
    return f"{odd}: noise, other pictures, or the same ones taken in another way. {said}".strip()


def _numbered(value: Any) -> list[tuple[int, Object]]:
    return list(enumerate(told.rows(value, CARDS), 1))


def _said(found: Object, shown: int, against: _Against) -> str:
    count = len(found["gaps"])
    if not shown and too_few(found):
        return "There are too few samples to tell whether anything is missing."
    if not shown:
        return f"Nothing is missing as far as {judged(found, against.whose)} show."
    who = text.plural(shown, f"region of {against.whose} is", f"regions of {against.whose} are")
    said = f"{who} missing in the training set."
    return said if count <= shown else f"{said} These are the first of {count:,}."


def _stale(source: Source, found: Object) -> str:
    """Return a sentence where the run has gone on since its gaps were looked for."""
    then, now = told.whole(found.get("epochs")), told.whole(source.run.about.get("epoch"))
    size = told.whole(found.get("training_samples"))
    if (then is None or now is None or then == now) and size in (None, source.n):
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

    def of(self, one: Object) -> str | None:
        """Return the picture that a sample names, or None."""
        place = told.whole(one.get("picture"))
        if self._rows is None or place is None or place >= len(self._rows):
            return None
        if place not in self._drawn:
            self._drawn[place] = picture(self._rows[place])
        return self._drawn[place]


def _card(
    one: Object, name: str, drawn: _Pictures, against: _Against, *, slim: bool = False
) -> dict[str, Any]:
    """Return what is shown of a region."""
    action = one.get("action")
    examples = [_sample(row, against, drawn) for row in _samples(one.get("examples"), _EXAMPLES)]
    prototypes = [_sample(row, against, drawn) for row in _samples(one.get("prototypes"), _PROTOTYPES)]
    return {
        "name": told.name(one.get("name")) or name,
        "action": action if action in ACTIONS else None,
        "reason": text.passage(reason, _REASON) if isinstance(reason := one.get("reason"), str) else "",
        "facts": _facts(one, against, slim=slim),
        "trend": _trend(one.get("trend")),
        "examples": examples,
        "prototypes": prototypes,
        "pictured": any(row["picture"] is not None for row in (*examples, *prototypes)),
    }


def _facts(one: Object, against: _Against, *, slim: bool) -> list[tuple[str, str]]:
    """Return what is known of a region, each with its name."""
    rows: list[tuple[str, str]] = []
    size, training, reference = (told.whole(one.get(name)) for name in ("size", *_SIDES))
    if size is not None and training is not None and reference is not None:
        rows.append(("Size", f"{size:,} thin samples: {training:,} of the training set, {reference:,} of "
                     f"{against.whose}"))  # fmt: skip
    if (thin := told.share(one.get("percentile"))) is not None:
        rows.append(("How thin", f"{text.share(thin, 0)} of the training set lie denser"))
    lacking = told.number(one.get("lacking"))
    if lacking is not None and (lacking >= 0.5 or not slim):
        rows.append(("Lacking", f"about {lacking:,.0f} such samples"))
    times, least = told.number(one.get("times")), told.number(one.get("at_least"))
    if times is not None:
        bound = "" if least is None else f", {_times(least)} at least"
        rows.append(("Share", f"{_times(times)} that of the training set{bound}"))
    if not slim and (stable := told.share(one.get("stability"))) is not None:
        rows.append(("Stability", f"{text.share(stable, 0)} of it found again in resampled data"))
    return rows + _of_class(one, against)


def _of_class(one: Object, against: _Against) -> list[tuple[str, str]]:
    rows = []
    if (name := told.name(one.get("class"))) is not None:
        rows.append(("Class", of_class({**one, "class": name})))
    for kind, words in (("", f"{against.side.capitalize()} error"), ("training_", "Training error")):
        if error := of_errors(one, kind):
            rows.append((words, error))
    return rows


def _times(value: float) -> str:
    return f"{value:,.0f}\u00a0×" if abs(value) >= 100 else f"{value:.1f}\u00a0×"


def _samples(value: Any, most: int) -> list[Object]:
    found = told.rows(value, 4 * most)
    there = [one for one in found if one.get("of") in _SIDES and told.whole(one.get("index")) is not None]
    return there[:most]


def _sample(one: Object, against: _Against, drawn: _Pictures | None = None) -> dict[str, Any]:
    """Return what is shown of a sample."""
    given, predicted, file = told.name(one.get("label")), told.name(one.get("predicted")), one.get("file")
    return {
        "of": against.of(one["of"]),
        "index": text.count(one["index"]),
        "given": given,
        "predicted": predicted,
        "wrong": None not in (given, predicted) and one.get("label") != one.get("predicted"),
        **file_names(file if isinstance(file, str) else None, against.folders[one["of"]]),
        "picture": None if drawn is None else drawn.of(one),
    }


def _trend(value: Any) -> dict[str, Any] | None:
    """Return the line of a region's trend in a box of E x 40; None where nothing is known."""
    values = [told.share(one) for one in value] if isinstance(value, list) else []
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
    todo = [f"{one['name']}: {one['action']}" for one in cards if one["action"] in ACTIONS[:2]]
    return f"{said}. Something to do: {', '.join(todo)}." if todo else f"{said}: nothing to do."


def _outliers(found: Object, name: str, words: str, against: _Against) -> dict[str, Any] | None:
    """Return the outliers of a kind; None where there are none."""
    listed = _samples(found.get(name), 2 * OUTLIERS)
    parts = [[_sample(one, against) for one in listed if one["of"] == side][:OUTLIERS] for side in _SIDES]
    counts = found.get(f"{name}_count")
    if not isinstance(counts, list) or len(counts) != 2:
        counts = [None, None]
    sizes = [max(told.whole(size) or 0, len(part)) for size, part in zip(counts, parts, strict=True)]
    if not sum(sizes):
        return None
    lists = [
        (f"{against.of(side)} samples", part, size - len(part))
        for side, part, size in zip(_SIDES, parts, sizes, strict=True)
        if part
    ]
    said = f"{sizes[0]:,} training and {sizes[1]:,} {against.side} samples {words}."
    return {"said": said, "lists": lists}


def _before(value: Any) -> dict[str, Any] | None:
    """Return how gaps that were found with other training samples stand now; None without any."""
    if not isinstance(value, dict):
        return None
    rows = []
    for n, one in _numbered(value.get("gaps")):
        was, now = told.share(one.get("percentile")), told.share(one.get("now"))
        if was is None or now is None:
            continue
        word = standing(was, now)
        named = told.name(one.get("name")) or f"gap {n}"
        rows.append((named, told.name(one.get("class")) or "–", text.share(was, 0), text.share(now, 0), word))
    size = told.whole(value.get("training_samples"))
    return {"size": "other" if size is None else f"{size:,}", "rows": rows} if rows else None
