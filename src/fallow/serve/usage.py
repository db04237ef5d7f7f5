"""The usage chart: shares of rows of samples for an overview of any part, single bits for a tile."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.history import EpochRecord
from ..errors import DamagedData
from ..policies.base import Reason
from ..report import text
from ..report.charts.usage_rows import Arrangement, Counts, arrange, row_counts
from ..report.source import Source
from ..report.usage import ABSENT, UNUSED, USED
from . import answers
from .bounded import Bounded
from .call import Call
from .errors import wrong
from .overview import source_of
from .served_run import ServedRun

SOME, ALL, NONE_THERE = 253, 254, 255
_ORDERS: Bounded[Ordered] = Bounded(1 << 26, lambda ordered: ordered.order.nbytes + 4096)
"""Orders that were asked for lately; one of 1.28 million samples takes 5 MB."""


@dataclass(frozen=True, eq=False)
class Ordered:
    """The samples of a run in an order.

    Attributes:
        order: integers ``(N,)``, the samples from the first place to the last.
        classes: name and first place of each class, if the order groups them.
        edges: the first place of each row of the report's chart, and N; None for other orders.
    """

    order: NDArray[np.integer]
    classes: list[tuple[str, int]]
    edges: NDArray[np.int64] | None = None


def ordered(run: ServedRun, order: str) -> Ordered:
    """Return the samples in an order: that of the report's chart, or by one value with ties by index.

    Args:
        run: the run.
        order: ``class`` (then times used, as in the report), ``index``, ``times`` (the most used first),
            ``first_left_out`` (the earliest first) or ``score`` (the highest first).
    """
    source = source_of(run)
    key: Hashable = (run.directory.path, run.stamp, order)
    found = _ORDERS.get(key)
    if found is None:
        found = _ordered(source, order)
        _ORDERS.put(key, found)
    return found


def _ordered(source: Source, order: str) -> Ordered:
    n = source.n
    if order == "class":
        chart: Arrangement = arrange(source.history, source.labels, source.last.scores)
        starts = [
            ("no class" if label < 0 else text.name(source.class_name(label), 32), int(chart.edges[row]))
            for label, row in chart.classes
        ]
        return Ordered(chart.order, starts, chart.edges)
    if order == "index":
        return Ordered(np.arange(n, dtype=np.int32 if n < 2**31 else np.int64), [])
    if order == "times":
        keys: NDArray[np.generic] = -source.times
    elif order == "score":
        scores = np.full(n, np.nan, np.float32)
        scores[: source.last.scores.size] = source.last.scores[:n]
        keys = np.where(np.isfinite(scores), -scores, np.float32(np.inf))
    else:
        keys = _first_left_out(source)
    return Ordered(np.argsort(keys, kind="stable").astype(np.int32 if n < 2**31 else np.int64), [])


def _first_left_out(source: Source) -> NDArray[np.int32]:
    """Return the place of the first epoch that did not use each sample, the number of epochs if all did."""
    first = np.full(source.n, len(source.history), np.int32)
    for place in range(len(source.history) - 1, -1, -1):
        record = source.history[place]
        size = min(source.n, record.remaining)
        first[:size][~record.used_mask[:size]] = place
    return first


def raster(call: Call) -> answers.Raster:
    """Return the shares of the rows of a part of the chart."""
    run, ask = call.run(), call.ask
    source = source_of(run)
    sorted_ = ordered(run, ask.order)
    n = source.n
    last = n if ask.last is None else min(ask.last, n)
    if not ask.first < last:
        raise wrong(f"`first` must be below `last`, both in [0, {n:,}]. Found {ask.first:,} and {last:,}.")
    whole = ask.first == 0 and last == n
    if whole and sorted_.edges is not None and len(sorted_.edges) - 1 <= ask.rows:
        edges = sorted_.edges
    else:
        size = last - ask.first
        count = min(ask.rows, size)
        edges = ask.first + np.arange(count + 1, dtype=np.int64) * size // count
    drawn = source.drawn
    part, inner = sorted_.order[ask.first : last], edges - ask.first
    shape = (len(edges) - 1, len(drawn))
    cells, odd = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    used_ever = np.zeros(n, np.bool_)
    for record in source.history:
        size = min(n, record.remaining)
        used_ever[:size] |= record.used_mask[:size]
    for column, record in enumerate(drawn):
        counts = _counts(run, record, part, inner, n)
        cells[:, column] = levels(counts.used, counts.total)
        odd[:, column] = levels(counts.outliers, counts.total)
    never = np.add.reduceat(~used_ever[part], inner[:-1], dtype=np.int64) > 0
    return answers.Raster(
        n=n,
        first=ask.first,
        last=last,
        order=ask.order,
        epochs=[record.epoch for record in drawn],
        sizes=[record.remaining for record in drawn],
        edges=edges.tolist(),
        classes=[answers.ClassStart(name=name, place=place) for name, place in sorted_.classes],
        cells=coded(cells),
        outliers=coded(odd) if ((odd > 0) & (odd < NONE_THERE)).any() else None,
        never=coded(np.packbits(never, bitorder="little")),
    )


def _counts(
    run: ServedRun, record: EpochRecord, part: NDArray[np.integer], edges: NDArray[np.int64], n: int
) -> Counts:
    """Return how many samples of each row an epoch used, left out as outliers, and had."""
    reason = None
    if record.outliers:
        # Outliers alone need the reasons, which lie on the disk.
        try:
            reason = run.rows(record.epoch, np.arange(record.remaining)).reason
        except DamagedData as error:
            run.damage[f"history/epoch-{record.epoch:05d}.safetensors"] = str(error)
    if part.size == n:
        return row_counts(part, edges, record, reason)
    starts = edges[:-1]
    here = part < record.remaining
    at = np.where(here, part, 0)
    used = here & record.used_mask[at] if record.remaining else here
    odd = np.zeros(part.size, np.bool_) if reason is None else here & (reason[at] == Reason.OUTLIER) & ~used
    return Counts(*(np.add.reduceat(rows, starts, dtype=np.int64) for rows in (used, odd, here)))


def levels(part: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return shares as bytes: 0 and 254 for exactly none and all, 255 where there is nothing.

    >>> levels(np.array([0, 1, 500, 999, 1000, 0]), np.array([1000] * 5 + [0])).tolist()
    [0, 1, 127, 253, 254, 255]
    """
    share = part / np.maximum(total, 1)
    inside = np.clip(np.round(share * ALL), 1, SOME)
    found = np.where(part == 0, 0, np.where(part == total, ALL, inside))
    return np.where(total == 0, NONE_THERE, found).astype(np.uint8)


def tile(call: Call) -> answers.Tile:
    """Return the use of single samples in each epoch."""
    run, ask = call.run(), call.ask
    source = source_of(run)
    n = source.n
    if ask.first >= n:
        raise wrong(f"`first` must be in [0, {n:,}). Found {ask.first:,}.")
    samples = ordered(run, ask.order).order[ask.first : ask.first + ask.count].astype(np.int64)
    drawn = source.drawn
    used = np.zeros((samples.size, len(drawn)), np.bool_)
    fates = np.full((samples.size, len(drawn)), ABSENT, np.uint8)
    for column, record in enumerate(drawn):
        here = np.flatnonzero(samples < record.remaining)
        at = samples[here]
        bits = (record.used_bits[at >> 3] >> (at & 7).astype(np.uint8) & 1).astype(np.bool_)
        used[here, column] = bits
        if ask.fates == "1":
            fates[here, column] = np.where(bits, USED, UNUSED + run.rows(record.epoch, at).reason)
    return answers.Tile(
        n=n,
        first=ask.first,
        order=ask.order,
        epochs=[record.epoch for record in drawn],
        samples=samples.tolist(),
        used=coded(np.packbits(used, axis=1, bitorder="little")),
        fates=coded(fates) if ask.fates == "1" else None,
    )


def coded(rows: NDArray[np.uint8]) -> str:
    """Return the bytes of an array as base64."""
    return b64encode(np.ascontiguousarray(rows).tobytes()).decode()
