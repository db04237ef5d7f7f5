"""Charts over the epochs: kept and removed samples by reason, accuracy, and scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.history import EDGES, EpochRecord
from . import text
from .charts.usage_rows import came_back, epoch_ticks
from .pictures import png
from .source import FIELDS, REASONS, Source

_BLUE = (47, 137, 201)
_FAINT = 0.001
_LINES = (("median", [2]), ("25 and 75 %", [1, 3]), ("5 and 95 %", [0, 4]))
_ROWS = 200
"""Maximum number of rows in the table of the epochs."""


def ticks(drawn: Sequence[EpochRecord]) -> list[tuple[str, str]]:
    """Return position and label of the ticks on an axis of epochs, at most eleven."""
    numbers = np.array([record.epoch + 1 for record in drawn])
    first, last = int(numbers[0]), int(numbers[-1])
    if len(drawn) == last - first + 1:
        at = np.array(epoch_ticks(first, last)) - first
    else:
        at = _spread(len(drawn), 8)
    return [(text.percent((i + 0.5) / len(drawn)), str(numbers[i])) for i in at]


def _spread(size: int, limit: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, size - 1, min(size, limit)).round().astype(np.int64))


def reasons(source: Source) -> dict[str, Any]:
    """Return the stacked bars of each epoch, their legend, and the epochs with re-admission."""
    drawn = source.drawn
    top = max(record.n for record in drawn)
    width = 1 / len(drawn)
    gap = 0.1 * width if len(drawn) <= 60 else 0.0
    bars = []
    for place, record in enumerate(drawn):
        below = 0
        for reason, field in zip(REASONS, FIELDS, strict=True):
            size = getattr(record, field)
            below += size
            if size:
                bars.append(
                    {
                        "kind": field,
                        "x": text.percent(place * width + gap / 2),
                        "w": text.percent(width - gap),
                        "y": text.percent(1 - below / top),
                        "h": text.percent(size / top),
                        "sentence": f"epoch {record.epoch + 1}: {size:,} {reason.text}"
                        if len(drawn) <= 60
                        else "",
                    }
                )
    ever = [field for field in FIELDS if any(getattr(record, field) for record in source.history)]
    last = source.history[-1]
    names = dict(zip(FIELDS, (reason.text for reason in REASONS), strict=True))
    parts = range(5) if top >= 4 else (0, 4)
    return {
        "bars": bars,
        "legend": [(field, names[field], text.count(getattr(last, field))) for field in ever],
        "back": [text.percent((place + 0.5) * width) for place in came_back(drawn)],
        "ticks": ticks(drawn),
        "levels": [(text.percent(1 - part / 4), text.count(top * part / 4)) for part in parts],
        "sentence": sentence(last, source.run.ended),
    }


def sentence(last: EpochRecord, ended: int) -> str:
    """Return sentences about what an epoch kept and left out, and the error that this holds.

    Args:
        last: the last epoch that can be read.
        ended: how many epochs have finished.
    """
    ways = {
        "learned": "as learned",
        "outliers": "as outliers",
        "not_drawn": "not drawn",
        "by_hand": "by hand",
    }
    parts = [f"{size:,} {way}" for field, way in ways.items() if (size := getattr(last, field))]
    number = last.epoch + 1
    subject = (
        f"Epoch {number}, the last that can be read," if number < ended else f"The last epoch, {number},"
    )
    kept = f"{subject} kept {last.kept:,} of {text.plural(last.n, 'sample')}"
    return f"{kept} and left out {', '.join(parts) if parts else 'none'}.{_held(last)}"


def _held(last: EpochRecord) -> str:
    """Return a sentence about the error that the learned samples hold, if the policy noted it."""
    if not last.learned or not math.isfinite(held := last.notes.get("error", math.nan)):
        return ""
    sentence = f" The learned ones hold {text.share(held, 1)} of the error still to be learned"
    found = last.notes.get("error_found", math.nan)
    if not math.isfinite(found):
        return f"{sentence}, as their scores tell."
    return f"{sentence}, as their scores tell, and {text.share(found, 1)} as those that came back tell."


def accuracy(source: Source) -> dict[str, Any] | None:
    """Return the line of accuracies, or of bits per character; None without any."""
    bits = source.bits
    known = _known(source, bits or source.accuracies)
    if not known:
        return None
    trained = [] if bits else _known(source, source.train_accuracies)
    values = [value for _, value in known]
    every = values + [value for _, value in trained]
    low, high, levels = _range(min(every), max(every))
    size = len(source.drawn)

    def placed(line: list[tuple[int, float]]) -> list[tuple[float, float]]:
        return [((place + 0.5) / size, (high - value) / (high - low)) for place, value in line]

    def drawn(line: list[tuple[int, float]]) -> str:
        return " ".join(f"{text.number(1000 * x)},{text.number(100 * y)}" for x, y in placed(line))

    part = "test" if source.run.summary is None else source.run.summary.evaluated_on
    best = known[int(np.argmin(values) if bits else np.argmax(values))]
    name = "bits a character" if bits else "accuracy"

    def shown(value: float) -> str:
        return f"{value:.4f}" if bits else text.share(value, 2)

    return {
        "line": drawn(known),
        "train_line": drawn(trained),
        "dots": [(text.percent(x), text.percent(y)) for x, y in placed(known)] if size <= 60 else [],
        "levels": [
            (text.percent((high - v) / (high - low)), f"{v:.4g}" if bits else f"{100 * v:.4g}%")
            for v in levels
        ],
        "part": part,
        "name": name,
        "sentence": f"{part.capitalize()} {name}: {shown(values[-1])} in the last epoch, best "
        f"{shown(best[1])} in epoch {source.drawn[best[0]].epoch + 1}."
        + (f" Train accuracy: {shown(trained[-1][1])}." if trained else ""),
    }


def _known(source: Source, values: dict[int, float]) -> list[tuple[int, float]]:
    """Return the values of drawn epochs, each with the place of its epoch."""
    return [(i, values[record.epoch]) for i, record in enumerate(source.drawn) if record.epoch in values]


def _range(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return the ends of an axis, and two to five round values on it."""
    wide = max(high - low, 0.002)
    # Up to the largest float, since the values of a diverged run may be anything.
    step = next(s * 10.0**k for k in range(-4, 308) for s in (1, 2, 5) if s * 10.0**k * 4 >= wide)
    # Rounding must not add a step for a value that lies on one.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last <= first:
        first, last = (first - 1, first) if first > 0 else (first, first + 1)  # no accuracy is above 100 %
    return first * step, last * step, [i * step for i in range(first, last + 1)]


def scores(source: Source) -> dict[str, Any] | None:
    """Return the heat map of the scores with quantile lines; None without scores."""
    drawn = source.drawn
    counts = np.stack([record.score_histogram for record in drawn], axis=1)
    shares = counts / np.maximum(counts.sum(0), 1)
    filled = np.flatnonzero((shares >= _FAINT).any(1))
    if not filled.size:
        return None
    low, high = max(int(filled[0]) - 1, 0), min(int(filled[-1]) + 2, len(EDGES))
    part = shares[low:high][::-1]
    pixels = np.zeros((*part.shape, 4), np.uint8)
    pixels[..., :3] = _BLUE
    # The colour is in the opacity, so that the picture fits a light and a dark page.
    pixels[..., 3] = np.where(part >= _FAINT / 4, 255 * (part / part.max()) ** 0.6, 0)

    def height(values: NDArray[np.floating]) -> NDArray[np.float64]:
        edges = np.log([EDGES[1] / 2, *EDGES[1:], EDGES[-1] * 1.5])
        bins = np.interp(np.log(np.maximum(values, EDGES[1] / 2)), edges, np.arange(edges.size))
        heights: NDArray[np.float64] = np.clip((high - bins) / (high - low), 0, 1)
        return heights

    quantiles = np.array([record.score_quantiles for record in drawn], np.float64)
    lines = [
        (label, " ".join(_path(height(quantiles[:, column])) for column in columns))
        for label, columns in _LINES
    ]
    powers = 10.0 ** np.arange(-6, 2)
    inside = [(float(y), v) for y, v in zip(height(powers), powers, strict=True) if 0.03 < y < 0.97]
    levels = [(text.percent(y), f"{v:g}".replace("e-0", "e-")) for y, v in inside]
    first, last = (float(quantiles[i, 2]) for i in (0, -1))
    return {
        "image": png(pixels),
        "lines": lines,
        "levels": levels,
        "thresholds": _thresholds(source, height),
        "ticks": ticks(drawn),
        "sentence": _median(source, first, last),
    }


def _median(source: Source, first: float, last: float) -> str:
    """Return a sentence about the median scores of the first and the last drawn epoch."""
    medians = {source.drawn[0].epoch + 1: first, source.drawn[-1].epoch + 1: last}
    parts = [
        f"{text.score(value)} in epoch {epoch}" for epoch, value in medians.items() if math.isfinite(value)
    ]
    sentences = []
    if parts:
        unit = f", in {source.unit}" if source.unit else ""
        sentences.append(f"The median score of the samples trained on was {' and '.join(parts)}{unit}.")
    if not math.isfinite(last):
        sentences.append(f"No score of the last epoch, {source.drawn[-1].epoch + 1}, is finite.")
    return " ".join(sentences)


def thresholds(source: Source) -> list[tuple[str, float]]:
    """Return name and value of the thresholds that the options give as scores."""
    options = source.run.shown_options
    if options.policy != "threshold" or options.quantiles:
        return []
    named = ("low", options.low), ("high", options.high)
    return [(name, float(value)) for name, value in named if isinstance(value, int | float) and value > 0]


def _thresholds(source: Source, height: Any) -> list[tuple[str, str]]:
    """Return position and label of each threshold."""
    known = thresholds(source)
    return [(text.percent(float(height(np.array([v]))[0])), f"{n} {v:g}") for n, v in known]


def _path(heights: NDArray[np.float64]) -> str:
    """Return the SVG path of a line over the epochs, 1000 x 100, with a gap for each missing value."""
    size, steps, pen = heights.size, [], False
    for place, y in enumerate(heights.tolist()):
        if y != y:  # NaN: a gap in the line
            pen = False
            continue
        x = 1000 * (place + 0.5) / size
        steps.append(f"{'L' if pen else 'M'}{text.number(x)} {text.number(100 * y)}")
        if not pen:  # a dot, in case the next value is missing
            steps.append("h0")
        pen = True
    return "".join(steps)


def table(source: Source) -> dict[str, Any]:
    """Return the numbers of the charts, a row per epoch; of many epochs, evenly spaced ones."""
    bits = source.bits
    values, trained = bits or source.accuracies, source.train_accuracies
    at = _spread(len(source.history), _ROWS)
    counts = {"trained on": "backward", "measured only": "forward_only"}
    counts |= {reason.text: field for reason, field in zip(REASONS, FIELDS, strict=True)}
    counts |= {"re-admitted": "readmitted", "bad scores": "bad"}
    # A column of zeros, or of what another one says, takes the room of others.
    if all(record.kept == record.backward for record in source.history):
        counts = {head: field for head, field in counts.items() if field != "kept"}
    counts = {
        head: field
        for head, field in counts.items()
        if field == "backward" or any(getattr(record, field) for record in source.history)
    }
    notes = {"error, expected": "error", "error, measured": "error_found"}
    notes = {
        head: note for head, note in notes.items() if any(note in record.notes for record in source.history)
    }
    body = []
    for record in (source.history[i] for i in at):
        cells = [str(record.epoch + 1), *(text.count(getattr(record, field)) for field in counts.values())]
        if notes:
            cells.append(text.share(1 - record.kept / record.n, 1))
            cells += [text.share(record.notes.get(note), 1) for note in notes.values()]
        cells += [text.score(record.mean_score), text.score(record.score_quantiles[2])]
        if trained:
            cells.append(text.share(trained.get(record.epoch), 2))
        value = values.get(record.epoch)
        cells.append(text.share(value, 2) if value is None or not bits else f"{value:.4f}")
        body.append(cells)
    head = ["epoch", *counts, *(["left out", *notes] if notes else [])]
    head += ["mean score", "median", *(["train accuracy"] if trained else [])]
    return {"head": [*head, "bits a character" if bits else "accuracy"], "body": body}
