"""The samples that a report shows, with picture or text and their history."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..policies.base import Reason
from ..runs.epoch_file import EpochFile
from ..runs.highlights import Highlights, candidates, choose
from ..runs.thumbnails_file import ThumbnailsFile
from . import suspects, text
from .groups import group
from .pictures import picture
from .source import Source
from .usage import USED

_TEXT = 500
FILE, WHOLE = 40, 400
"""Maximum length of a file name on a card, and in its tooltip."""
_OR_WRONG = ": hard samples, or wrong labels that were not detected"


def chosen(source: Source) -> Highlights:
    """Return the samples that are shown."""
    shown = choose(source.last.scores, source.reason, source.times, source.labels, source.predicted)
    if source.suspects is None:
        return shown
    return replace(shown, suspects=np.array([one.index for one in source.suspects.suspects], np.int64))


def scores_of(file: EpochFile, samples: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the scores of some samples at the end of an epoch; NaN before they were added."""
    scores = np.full(samples.size, np.nan, np.float32)
    existing = samples < file.record.remaining
    scores[existing] = file.scores[samples[existing]]
    return scores


def groups(
    source: Source,
    shown: Highlights,
    scores: NDArray[np.float32],
    fates: NDArray[np.uint8],
    *,
    pictures: bool,
) -> list[dict[str, Any]]:
    """Return the groups of samples for the page, each with a sentence and cards.

    Args:
        source: the run.
        shown: the samples.
        scores: float32 ``(K, E)``, after each drawn epoch, of the samples of ``shown.index``.
        fates: uint8 ``(K, E)``, their fates.
        pictures: whether to show pictures and texts, if there are any.
    """
    cards = _cards(source, shown.index, scores, fates, _media(source.shown if pictures else None))
    total = int(np.count_nonzero(source.reason == Reason.OUTLIER))
    wrong = candidates(source.reason, source.labels, source.predicted)
    return [
        *suspects.groups(source, cards),
        group("outliers", "Removed as outliers", _of_outliers(source, shown, total, wrong),
               [cards[i] for i in shown.outliers.tolist()]),
        group("surprising", "Most surprising", "Kept samples with the highest last scores"
               f"{'' if source.labels is None else _OR_WRONG}.",
               [cards[i] for i in shown.surprising.tolist()]),
        group("unneeded", "Used least", _of_unneeded(source, shown),
               [cards[i] for i in shown.unneeded.tolist()]),
    ]  # fmt: skip


def _of_outliers(source: Source, shown: Highlights, total: int, wrong: int) -> str:
    if not total:
        return "No sample was removed as an outlier in any epoch so far."
    subject = text.plural(total, "sample was", "samples were")
    sentence = f"{subject} left out as outliers in epoch {source.reason_epoch + 1}"
    if source.reason_epoch != source.last.record.epoch:
        sentence += ", the last epoch that left any out"
    if source.predicted is None or source.labels is None:
        sentence += ". The predictions of the network are not known, so no wrong label can be found."
    elif wrong:
        which = "all of them" if wrong == total else f"{wrong:,} of them"
        sentence += (
            f". The network predicts another class than the label for {which}: they may have a wrong label "
            "and are shown first."
        )
    else:
        sentence += "; the network predicts the given label of each."
    if total > shown.outliers.size:
        sentence += f" The {shown.outliers.size} with the highest scores are shown."
    return sentence


def _of_unneeded(source: Source, shown: Highlights) -> str:
    if not shown.unneeded.size:
        return "Every sample was left out as an outlier or by hand."
    epochs, fewest = len(source.history), shown.fewest
    if fewest == epochs:
        return "Every sample was used in every epoch; these have the lowest scores."
    return (
        f"The samples with the fewest uses, from {fewest} of {text.plural(epochs, 'epoch')} upwards; ties by "
        "last score, the lowest first. All samples train in the first epochs, so few are never used."
    )


def _cards(
    source: Source,
    index: NDArray[np.int64],
    scores: NDArray[np.float32],
    fates: NDArray[np.uint8],
    media: dict[int, tuple[str | None, str | None]],
) -> dict[int, dict[str, Any]]:
    """Return the card of each sample, by its index."""
    # One scale for all cards, so that their lines can be compared.
    top = float(np.nanmax(scores, initial=0, where=np.isfinite(scores))) or 1.0
    files, labels, predicted = source.run.data.files, source.labels, source.predicted
    cards = {}
    for row, sample in enumerate(index.tolist()):
        given = None if labels is None or labels[sample] < 0 else int(labels[sample])
        guess = None if predicted is None or predicted[sample] < 0 else int(predicted[sample])
        drawn, excerpt = media.get(sample, (None, None))
        cards[sample] = {
            "row": row,
            "index": sample,
            "picture": drawn,
            "text": excerpt,
            "given": None if given is None else source.class_name(given),
            "predicted": None if guess is None else source.class_name(guess),
            "wrong": None not in (given, guess) and given != guess,
            "sure": None,
            "score": text.score(float(source.last.scores[sample])),
            "times": int(source.times[sample]),
            **file_names(files[sample] if files and sample < len(files) else None, source.folder),
            "line": _line(scores[row], top),
            "marks": _runs(fates[row] == USED),
        }
    return cards


def file_names(file: str | None, folder: str | None) -> dict[str, str | None]:
    """Return the name of a file for a card, relative to a folder, and for its tooltip."""
    if not file:
        return {"file": None, "whole": None}
    return {"file": text.path(file, FILE, folder), "whole": text.path(file, WHOLE)}


def _line(scores: NDArray[np.float32], top: float) -> str:
    """Return the SVG path of a sample's scores in a box of E x 30, on a square-root scale."""
    height = 29 - 28 * np.sqrt(np.clip(scores, 0, top) / top)
    steps, pen = [], False
    for place, y in enumerate(height.tolist()):
        if y != y:  # NaN: a gap in the line
            pen = False
            continue
        steps.append(f"{'L' if pen else 'M'}{place}.5 {y:.1f}" + ("" if pen else "h0"))
        pen = True
    return "".join(steps)


def _runs(used: NDArray[np.bool_]) -> str:
    """Return the SVG path of the epochs that used a sample, with one stroke for consecutive epochs."""
    steps, at = [], 0
    for value, run in groupby(used.tolist()):
        length = len(list(run))
        if value:
            steps.append(f"M{at} 36h{length}")
        at += length
    return "".join(steps)


def _media(shown: ThumbnailsFile | None) -> dict[int, tuple[str | None, str | None]]:
    """Return a picture as a data URI, or a text, for each sample that has one."""
    if shown is None:
        return {}
    media = {}
    for row, sample in enumerate(shown.index.tolist()):
        drawn = None if shown.pictures is None else picture(shown.pictures[row])
        excerpt = None if shown.texts is None else text.passage(shown.texts[row], _TEXT)
        media[sample] = drawn, excerpt
    return media
