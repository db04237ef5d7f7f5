"""The data of the usage chart: which samples were used in which epoch, coarse to fine.

Samples stand by class, then by times used, as in :mod:`fallow.charts.usage`. Whole blocks of them are
counted; single ones are given with what became of them in each epoch: all, or evenly spaced ones.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bitset import unpack
from ..charts.usage import usage_order
from ..epoch_file import EpochFile
from ..history import EpochRecord, fitted
from ..policies.base import Reason
from . import text
from .source import Source

COARSE, FINE = 1024, 8192
"""Rows of the overview and of the zoom level beneath it."""
ENTRIES = 1 << 24
"""At most so many single marks are gathered before they are packed."""
ABSENT, USED, UNUSED = 0, 1, 2
"""What became of a sample in an epoch: not there yet, trained on, kept and not trained on; 2 + a
:class:`~fallow.policies.base.Reason` where it was left out."""
_NAMED = 2_000


@dataclass(frozen=True, eq=False)
class Rows:
    """Which samples stand where.

    Attributes:
        order: ``(N,)``, the sample in each place.
        first, step: single marks are given of the places ``first, first + step, ...``.
    """

    order: NDArray[np.integer]
    first: int
    step: int

    @property
    def single(self) -> NDArray[np.int64]:
        """The samples of which single marks are given: int64 ``(M,)``."""
        return self.order[self.first :: self.step].astype(np.int64)

    def thinned(self, factor: int) -> Rows:
        """Return rows with single marks of one in ``factor`` of those that these have."""
        return Rows(self.order, self.first + self.step * (factor // 2), self.step * factor)


def rows(source: Source) -> Rows:
    """Return the samples in the order of the chart, with as many single ones as are worth a try."""
    labels = source.labels
    if labels is not None and labels.size and labels.max() < 1 << 15:
        labels = labels.astype(np.int16)  # a radix sort
    order = usage_order(source.history, labels)
    step = max(1, -(-source.n * len(source.drawn) // ENTRIES))
    return Rows(order, step // 2 if step < source.n else 0, step)


def fates(file: EpochFile, samples: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return what became of some samples in an epoch: uint8 ``(M,)``."""
    record = file.record
    there = samples < record.n
    at = samples[there]
    used = unpack(record.used_bits, record.n)[at]
    found = np.full(samples.size, ABSENT, np.uint8)
    found[there] = np.where(used, USED, UNUSED + file.reason[at])
    return found


def block_counts(
    drawn: list[EpochRecord], order: NDArray[np.integer], blocks: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Return where nearly equal blocks of the order begin, and how many samples of each every epoch used.

    Returns:
        int64 ``(B + 1,)`` and uint32 ``(B, E)``, B at most ``blocks``.
    """
    n = order.size
    size = min(blocks, n)
    edges = np.arange(size + 1) * n // size
    counts = np.zeros((size, len(drawn)), np.uint32)
    for place, record in enumerate(drawn):
        used = fitted(unpack(record.used_bits, record.n), n, False)
        counts[:, place] = np.add.reduceat(used[order], edges[:-1], dtype=np.uint32)
    return edges, counts


def chart(source: Source, rows: Rows, single: NDArray[np.uint8], budget: int) -> dict[str, Any]:
    """Return what the chart is drawn from.

    Args:
        source: the run.
        rows: of the chart.
        single: uint8 ``(M, E)``, what became of each sample of ``rows.single``.
        budget: bytes, deflated, that single marks may take.
    """
    rows, marks, ids = _fitting(rows, single, budget)
    _, fine = block_counts(list(source.drawn), rows.order, FINE)
    coarse = _coarser(fine)
    blobs = {"marks": marks, "ids": ids, "coarse": _planes(coarse)}
    if len(fine) > len(coarse):
        blobs["fine"] = _planes(fine)
    about = {
        "n": source.n,
        "epochs": [record.epoch + 1 for record in source.drawn],
        "there": [record.n for record in source.drawn],
        "coarse": len(coarse),
        "fine": len(fine),
        "first": rows.first,
        "step": rows.step,
        "classes": _classes(source, rows.order),
        "reasons": ["not there yet", "used", "kept, not used", *(r.words for r in list(Reason)[1:])],
    }
    return {
        "about": about,
        "blobs": {name: b64encode(data).decode() for name, data in blobs.items()},
        "rows": _table(source, coarse),
    }


def _fitting(rows: Rows, single: NDArray[np.uint8], budget: int) -> tuple[Rows, bytes, bytes]:
    """Return as many single marks as fit: their rows, their fates and their samples, both deflated."""
    factor = 1
    while True:
        thin = rows.thinned(factor)
        part = single[factor // 2 :: factor]
        columns = np.ascontiguousarray(part.T)
        if columns.shape[1] % 2:
            columns = np.pad(columns, ((0, 0), (0, 1)))
        halves = columns[:, ::2] | (columns[:, 1::2] << np.uint8(4))
        marks = zlib.compress(halves.tobytes(), 6)
        ids = zlib.compress(_bytes(thin.single.astype(np.uint32)), 6)
        size = len(marks) + len(ids)
        if size <= budget or len(part) <= 1:
            return thin, marks, ids
        factor = max(factor + 1, int(factor * size / budget))


def _bytes(values: NDArray[np.uint32]) -> bytes:
    """Return the values a byte plane at a time: those that hardly change pack well."""
    return np.ascontiguousarray(values.astype("<u4").view(np.uint8).reshape(-1, 4).T).tobytes()


def _planes(counts: NDArray[np.uint32]) -> bytes:
    return zlib.compress(_bytes(np.ascontiguousarray(counts.T).reshape(-1)), 6)


def _coarser(fine: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the counts of the overview: its blocks begin where some of the fine ones do."""
    if len(fine) <= COARSE:
        return fine
    edges = np.arange(COARSE) * len(fine) // COARSE  # where 8,192 are eighths, or blocks are samples
    coarse: NDArray[np.uint32] = np.add.reduceat(fine, edges, axis=0, dtype=np.uint32)
    return coarse


def _classes(source: Source, order: NDArray[np.integer]) -> list[list[Any]]:
    """Return name and first place of each class, where there are not too many."""
    if source.labels is None:
        return []
    sorted_labels = source.labels[order]
    starts = np.flatnonzero(np.diff(sorted_labels, prepend=sorted_labels[0] - 1 if order.size else 0))
    if starts.size > _NAMED:
        return []
    return [
        ["no class" if label < 0 else text.name(source.class_name(label), 32), start]
        for start, label in zip(starts.tolist(), sorted_labels[starts].tolist(), strict=True)
    ]


def _table(source: Source, coarse: NDArray[np.uint32]) -> dict[str, Any]:
    """Return the aggregates as a table: sixteenths of the chart by epochs, in shares."""
    size = min(16, len(coarse))
    starts = np.arange(size) * len(coarse) // size
    used = np.add.reduceat(coarse, starts, axis=0, dtype=np.uint64)
    edges = np.arange(len(coarse) + 1) * source.n // len(coarse)
    bounds = [*edges[starts].tolist(), source.n]
    at = np.unique(np.linspace(0, len(source.drawn) - 1, min(len(source.drawn), 60)).round().astype(int))
    body = []
    for row, (low, high) in enumerate(pairwise(bounds)):
        shares = [_rounded(used[row, epoch] / (high - low)) for epoch in at]
        body.append((f"{low:,} – {high - 1:,}", shares))
    return {"epochs": [str(source.drawn[i].epoch + 1) for i in at], "body": body}


def _rounded(share: float) -> str:
    """Return a share in whole percents; none and all are said of none and all only."""
    return text.share(min(0.99, max(0.01, share)) if 0 < share < 1 else share, 0)
