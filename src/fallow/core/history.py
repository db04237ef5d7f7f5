"""The record of each epoch: one bit per sample for *used*, and aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from ..arrays.bitset import unpack
from ..arrays.selection import blocks
from ..files.checked_json import Count, Epoch, Name, Real
from ..policies.base import Reason
from .numbering import in_present_order
from .table import TRAINED, Table

if TYPE_CHECKING:
    from torch import Tensor

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
EDGES: tuple[float, ...] = (0.0, *(s * 2.0**k for k in range(-20, 6) for s in (1.0, 1.5)), 64.0)
"""Edges of the histogram of scores: 0, then two per octave from 2^-20 to 64; the last bin is open."""

FORWARD_SHARE = 1 / 3
"""Cost of a forward pass as a share of a training step: a backward pass takes about twice as long."""

_FINE = np.uint32(16)


class EpochCounts(Struct, frozen=True):
    """The number of an epoch, and how many samples it had; see :class:`fallow.core.history.EpochRecord`."""

    epoch: Epoch
    n: Count
    backward: Count
    forward_only: Count
    kept: Count
    learned: Count
    outliers: Count
    not_drawn: Count
    by_hand: Count
    readmitted: Count
    bad: Count


class Aggregates(EpochCounts, frozen=True):
    """The plain values in the file of an epoch."""

    mean_score: Real | None
    score_quantiles: Annotated[list[Real | None], Meta(min_length=5, max_length=5)]
    score_histogram: Annotated[list[Count], Meta(max_length=1 << 10)]
    notes: dict[Name, Real | None] = {}


@dataclass(frozen=True, eq=False)
class EpochRecord:
    """The record of one epoch.

    Attributes:
        epoch: the number of the epoch, from 0.
        n: the number of samples at that time.
        used_bits: uint8 ``(ceil(remaining / 8),)``, samples trained on, least significant bit first.
        backward: the number of samples trained on.
        forward_only: the number of samples measured without training.
        kept: the number of samples kept; ``learned``, ``outliers``, ``not_drawn`` and ``by_hand`` are the
            numbers of samples left out, by reason.
        readmitted: the number of samples that came back for this epoch.
        bad: the number of scores that were not finite.
        mean_score: the mean over the samples trained on; NaN without a score.
        score_quantiles: at 5, 25, 50, 75 and 95 %, to within 1 %.
        score_histogram: int64, counts between ``EDGES`` and above.
        record_seconds: the time spent inside ``record``.
        notes: the policy's notes from planning the epoch, such as thresholds that it chose.
        gone: the number of samples that were removed from the data since. Counts include them, ``used_bits``
            does not.
    """

    epoch: int
    n: int
    used_bits: NDArray[np.uint8]
    backward: int
    forward_only: int
    kept: int
    learned: int
    outliers: int
    not_drawn: int
    by_hand: int
    readmitted: int
    bad: int
    mean_score: float
    score_quantiles: tuple[float, ...]
    score_histogram: NDArray[np.int64]
    record_seconds: float
    notes: dict[str, float] = field(default_factory=dict)
    gone: int = 0

    @property
    def remaining(self) -> int:
        """The number of samples that still exist. They are the first of the present ones."""
        return self.n - self.gone

    def renumbered(self, places: NDArray[np.int64] | None) -> EpochRecord:
        """Return the record with its bits in the present numbering; see :mod:`fallow.core.numbering`."""
        if places is None:
            return self
        bits = np.packbits(in_present_order(unpack(self.used_bits, self.n), places), bitorder="little")
        return replace(self, used_bits=bits, gone=self.n - places.size)

    @property
    def used_mask(self) -> NDArray[np.bool_]:
        """The samples trained on: bool ``(remaining,)``."""
        return unpack(self.used_bits, self.remaining)

    @property
    def used(self) -> Tensor:
        """The samples trained on: bool ``(remaining,)``."""
        import torch  # here, because reading commands use this module without torch

        return torch.from_numpy(self.used_mask)

    def aggregates(self) -> dict[str, Any]:
        """Return everything but the bits as plain Python values."""
        plain = {k: v for k, v in asdict(self).items() if k != "used_bits" and (k != "gone" or v)}
        plain["score_quantiles"] = list(self.score_quantiles)
        plain["score_histogram"] = self.score_histogram.tolist()
        return plain

    @staticmethod
    def restore(used_bits: NDArray[np.uint8], aggregates: dict[str, Any]) -> EpochRecord:
        """Return the record with the given bits and :meth:`aggregates`."""
        values = dict(aggregates)
        values["score_quantiles"] = tuple(values["score_quantiles"])
        values["score_histogram"] = np.asarray(values["score_histogram"], np.int64)
        return EpochRecord(used_bits=used_bits, **values)


def times_used(history: Sequence[EpochRecord]) -> NDArray[np.int32]:
    """Return the number of epochs that trained on each sample of the last epoch: ``(n,)``."""
    n = history[-1].remaining
    times = np.zeros(n, np.int32)
    for record in history:
        # Samples that were added later have no bits in earlier epochs.
        size = min(n, record.remaining)
        times[:size] += record.used_mask[:size]
    return times


def resized(rows: NDArray[Any], n: int, nothing: Any) -> NDArray[Any]:
    """Cut rows to ``n`` samples, or pad them with ``nothing``: ``(m, ...) -> (n, ...)``."""
    padded = np.full((n, *rows.shape[1:]), nothing, rows.dtype)
    padded[: rows.shape[0]] = rows[:n]
    return padded


def describe(
    table: Table, epoch: int, readmitted: int, record_seconds: float, notes: dict[str, float] | None = None
) -> EpochRecord:
    """Return the record of the epoch that just ended."""
    left_out = int(np.count_nonzero(table.reason))
    # A full epoch, with nothing to count, is spared a pass over all samples for each reason.
    by_reason = {r: int(np.count_nonzero(table.reason == r)) if left_out else 0 for r in Reason}
    used = table.seen == TRAINED
    backward = int(np.count_nonzero(used))
    mean, fine = _spread(table, epoch)
    return EpochRecord(
        epoch=epoch,
        n=len(table),
        used_bits=np.packbits(used, bitorder="little"),
        backward=backward,
        forward_only=int(np.count_nonzero(table.seen)) - backward,
        kept=len(table) - left_out,
        learned=by_reason[Reason.LEARNED],
        outliers=by_reason[Reason.OUTLIER],
        not_drawn=by_reason[Reason.NOT_DRAWN],
        by_hand=by_reason[Reason.BY_HAND],
        readmitted=readmitted,
        bad=table.bad,
        mean_score=mean,
        score_quantiles=_quantiles(fine),
        score_histogram=_coarse(fine),
        record_seconds=record_seconds,
        notes=dict(notes or {}),
    )


def _spread(table: Table, epoch: int) -> tuple[float, NDArray[np.int64]]:
    """Return the mean and a fine histogram of the scores of the samples trained on.

    Bins are the upper 16 bits of a float32, which grow with its value: 128 bins per octave. Negative scores
    count as 0.
    """
    total, fine = 0.0, np.zeros(1 << 16, np.int64)
    for start, stop in blocks(len(table)):
        rows = slice(start, stop)
        scores = table.scores[rows]
        fresh = (table.seen[rows] == TRAINED) & (table.scored_in[rows] == epoch + 1) & (scores == scores)
        scores = scores if fresh.all() else scores[fresh]
        total += float(scores.sum())  # numpy sums a block pairwise in float32; blocks are added in float64
        fine += np.bincount(np.maximum(scores, 0).view(np.uint32) >> _FINE, minlength=1 << 16)
    count = int(fine.sum())
    return (total / count if count else float("nan")), fine


def _bin_middle(fine_bin: NDArray[np.integer]) -> NDArray[np.float32]:
    # Half of the 16 bits that the shift has cut off.
    middle = (fine_bin.astype(np.uint32) << _FINE) + np.uint32(1 << 15)
    # Bin 0 is nearly always a score of exactly 0.
    return np.where(fine_bin == 0, np.float32(0), middle.view(np.float32))


def _quantiles(fine: NDArray[np.int64]) -> tuple[float, ...]:
    up_to = np.cumsum(fine)
    if not up_to[-1]:
        return tuple(float("nan") for _ in QUANTILES)
    at = np.searchsorted(up_to, np.asarray(QUANTILES) * up_to[-1])
    return tuple(float(v) for v in _bin_middle(at))


def _coarse(fine: NDArray[np.int64]) -> NDArray[np.int64]:
    used = np.flatnonzero(fine)
    at = np.searchsorted(EDGES, _bin_middle(used), side="right") - 1
    # Weights are summed in float64, which is exact up to 2^53 samples.
    return np.bincount(at, weights=fine[used], minlength=len(EDGES)).astype(np.int64)
