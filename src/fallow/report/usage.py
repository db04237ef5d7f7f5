"""The data of the usage chart: which samples were used in which epoch, coarse to fine.

The rows are those of ``usage.png``, from :mod:`fallow.report.charts.usage_rows`. Zooming in shows finer
blocks, and then the fate of single samples in each epoch: of all, or of evenly spaced ones.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..policies.base import Reason
from ..runs.epoch_file import EpochFile
from . import text
from .charts.usage_rows import DARKER, PALEST, Arrangement, arrange, row_counts
from .epochs import accuracy
from .source import Source

FINE = 8192
"""Number of finer blocks, nearly equal in size."""
ENTRIES = 1 << 24
"""Maximum number of single marks in memory, before they are packed."""
ABSENT, USED, UNUSED = 0, 1, 2
"""The fate of a sample in an epoch: not added yet, trained on, kept but not trained on; 2 + a
:class:`~fallow.policies.base.Reason` if it was left out."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The order of the samples in the chart.

    Attributes:
        arrangement: of all samples in the rows of the overview.
        first, step: the places ``first, first + step, ...`` have single marks.
    """

    arrangement: Arrangement
    first: int
    step: int

    @property
    def order(self) -> NDArray[np.integer]:
        """The sample in each place: ``(N,)``."""
        return self.arrangement.order

    @property
    def fine(self) -> NDArray[np.int64]:
        """The first place of each finer block, and N."""
        n = self.order.size
        return np.arange(min(FINE, n) + 1) * n // min(FINE, n)

    @property
    def single(self) -> NDArray[np.int64]:
        """The samples with single marks: int64 ``(M,)``."""
        return self.order[self.first :: self.step].astype(np.int64)

    def thinned(self, factor: int) -> Rows:
        """Return rows with one in ``factor`` of these single marks."""
        return Rows(self.arrangement, self.first + self.step * (factor // 2), self.step * factor)


def rows(source: Source) -> Rows:
    """Return the order of the chart, with at most :data:`ENTRIES` single marks."""
    arrangement = arrange(source.history, source.labels, source.last.scores)
    step = max(1, -(-source.n * len(source.drawn) // ENTRIES))
    return Rows(arrangement, step // 2 if step < source.n else 0, step)


class Tally:
    """Counts, per row and finer block, of the samples that each epoch used or left out as outliers.

    Args:
        rows: of the chart.
        epochs: the number of drawn epochs.
    """

    def __init__(self, rows: Rows, epochs: int) -> None:
        self._order = rows.order
        self._edges = {"rows": rows.arrangement.edges}
        if not rows.arrangement.single:
            self._edges["fine"] = rows.fine
        self._counts = {
            name: np.zeros((2, epochs, len(edges) - 1), np.uint32) for name, edges in self._edges.items()
        }

    def add(self, place: int, file: EpochFile) -> None:
        """Count one epoch."""
        for name, edges in self._edges.items():
            counts = row_counts(self._order, edges, file.record, file.reason)
            self._counts[name][:, place] = counts.used, counts.outliers

    def used(self) -> NDArray[np.uint32]:
        """Return the number of used samples per epoch and row: ``(E, R)``."""
        used: NDArray[np.uint32] = self._counts["rows"][0]
        return used

    def blobs(self) -> dict[str, bytes]:
        """Return the deflated counts; those of outliers only if there are any."""
        blobs = {}
        for name, (used, outliers) in self._counts.items():
            blobs[name] = _planes(used)
            if outliers.any():
                blobs[f"{name}-outliers"] = _planes(outliers)
        return blobs


def fates(file: EpochFile, samples: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the fate of some samples in an epoch: uint8 ``(M,)``."""
    existing = samples < file.record.remaining
    at = samples[existing]
    fate = np.full(samples.size, ABSENT, np.uint8)
    fate[existing] = np.where(file.record.used_mask[at], USED, UNUSED + file.reason[at])
    return fate


def chart(source: Source, rows: Rows, single: NDArray[np.uint8], tally: Tally, budget: int) -> dict[str, Any]:
    """Return the data of the chart.

    Args:
        source: the run.
        rows: of the chart.
        single: uint8 ``(M, E)``, the fates of ``rows.single``.
        tally: of all drawn epochs.
        budget: the maximum size of single marks in deflated bytes.
    """
    rows, marks, ids = _fitting(rows, single, budget)
    blobs = {"marks": marks, "ids": ids, **tally.blobs()}
    edges = rows.arrangement.edges
    about = {
        "n": source.n,
        "epochs": [record.epoch + 1 for record in source.drawn],
        "sizes": [record.remaining for record in source.drawn],
        "edges": edges.tolist(),
        "fine": len(rows.fine) - 1,
        "first": rows.first,
        "step": rows.step,
        "classes": _classes(source, rows.arrangement),
        "reasons": ["not there yet", "used", "kept, not used", *(r.text for r in list(Reason)[1:])],
        "shades": [PALEST, DARKER],
        "reached": _reached(source),
    }
    return {
        "about": about,
        "blobs": {name: b64encode(data).decode() for name, data in blobs.items()},
        "rows": _table(source, edges, tally.used().T),
        "each": "" if rows.arrangement.single else text.plural(round(source.n / (len(edges) - 1)), "sample"),
        "outliers": "rows-outliers" in blobs,
    }


def _reached(source: Source) -> dict[str, Any] | None:
    """Return the line of the accuracy after each epoch, 1000 x 100, and its levels; None without any."""
    drawn = accuracy(source)
    if drawn is None:
        return None
    points = [[float(part) for part in point.split(",")] for point in drawn["line"].split()]
    return {"line": points, "levels": [[float(y[:-1]), label] for y, label in drawn["levels"]]}


def _fitting(rows: Rows, single: NDArray[np.uint8], budget: int) -> tuple[Rows, bytes, bytes]:
    """Return as many single marks as fit: their rows, and deflated fates and samples."""
    factor = 1
    while True:
        thin = rows.thinned(factor)
        part = single[factor // 2 :: factor]
        columns = np.ascontiguousarray(part.T)
        if columns.shape[1] % 2:
            columns = np.pad(columns, ((0, 0), (0, 1)))
        halves = columns[:, ::2] | (columns[:, 1::2] << np.uint8(4))  # two fates fit into a byte
        marks = zlib.compress(halves.tobytes(), 6)
        ids = zlib.compress(_bytes(thin.single.astype(np.uint32)), 6)
        size = len(marks) + len(ids)
        if size <= budget or len(part) <= 1:
            return thin, marks, ids
        # The size shrinks about in proportion; one more at least, so that the loop ends.
        factor = max(factor + 1, int(factor * size / budget))


def _bytes(values: NDArray[np.uint32]) -> bytes:
    """Return the byte planes of the values: deflate packs the nearly constant high bytes well."""
    # Little-endian on every machine, so that equal runs give equal pages.
    return np.ascontiguousarray(values.astype("<u4").view(np.uint8).reshape(-1, 4).T).tobytes()


def _planes(counts: NDArray[np.uint32]) -> bytes:
    return zlib.compress(_bytes(np.ascontiguousarray(counts).reshape(-1)), 6)


def _classes(source: Source, arrangement: Arrangement) -> list[list[Any]]:
    """Return name and first place of each class that has rows of its own."""
    return [
        ["no class" if label < 0 else text.name(source.class_name(label), 32), int(arrangement.edges[start])]
        for label, start in arrangement.classes
    ]


def _table(source: Source, edges: NDArray[np.int64], used: NDArray[np.uint32]) -> dict[str, Any]:
    """Return the shares of use as a table: at most 16 parts of the chart by at most 60 epochs."""
    size = min(16, len(used))
    starts = np.arange(size) * len(used) // size
    # Sums of uint32 counts may exceed 32 bits.
    used = np.add.reduceat(used, starts, axis=0, dtype=np.uint64)
    bounds = [*edges[starts].tolist(), source.n]
    at = np.unique(np.linspace(0, len(source.drawn) - 1, min(len(source.drawn), 60)).round().astype(int))
    body = []
    for row, (low, high) in enumerate(pairwise(bounds)):
        shares = [_rounded(used[row, epoch] / (high - low)) for epoch in at]
        body.append((f"{low:,} – {high - 1:,}", shares))
    return {"epochs": [str(source.drawn[i].epoch + 1) for i in at], "body": body}


def _rounded(share: float) -> str:
    """Return a share in whole percents: 0% and 100% only if exact."""
    return text.share(min(0.99, max(0.01, share)) if 0 < share < 1 else share, 0)
