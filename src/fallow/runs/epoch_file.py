"""The file of one epoch: the last score of each sample, its use, and the reason why it was left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.history import EDGES, Aggregates, EpochRecord
from ..core.numbering import Numbering, in_present_order
from ..errors import damaged
from ..files.array_file import dump_headed, parse_headed, read_headed
from ..files.checked_json import finite
from ..policies.base import Reason
from .schema import EpochHeader

FORMAT = "fallow-epoch-1"
_ARRAYS = {"score": np.float32, "reason": np.uint8, "used": np.uint8}
_STEP = "Put back a copy of it."
LARGEST = 1 << 31
"""Maximum size of the file in bytes; a sample takes about five."""


@dataclass(frozen=True)
class EpochFile:
    """One epoch in ``history/``.

    Attributes:
        record: the use of the samples, and aggregates.
        scores: float32 ``(remaining,)``, the last score of each sample at the end of the epoch.
        reason: uint8 ``(remaining,)``, why each sample was left out of it.
    """

    record: EpochRecord
    scores: NDArray[np.float32]
    reason: NDArray[np.uint8]

    def renumbered(self, numbering: Numbering) -> EpochFile:
        """Return the epoch in the present numbering, without samples that no longer exist."""
        record = self.record
        places = numbering.places(record.epoch, record.n)
        if places is None:
            return self
        scores, reason = in_present_order(self.scores, places), in_present_order(self.reason, places)
        return EpochFile(record.renumbered(places), scores, reason)

    def dump(self) -> bytes:
        """Return the bytes of the file. Equal runs give equal bytes, so it holds no times."""
        arrays: dict[str, NDArray[Any]] = {
            "score": self.scores,
            "reason": self.reason,
            "used": self.record.used_bits,
        }
        aggregates = {k: v for k, v in self.record.aggregates().items() if k != "record_seconds"}
        header = {"format": FORMAT, "aggregates": finite(aggregates)}
        return dump_headed(arrays, header)

    @staticmethod
    def read(path: Path, epoch: int) -> EpochFile:
        """Read the file of ``epoch`` in ``RUN/history``.

        Raises:
            DamagedData: if it is missing, truncated, in another format or inconsistent.
        """
        return EpochFile.parse(read_headed(path, LARGEST, _STEP, path.parents[1]), str(path), epoch)

    @staticmethod
    def parse(data: bytes, path: str, epoch: int) -> EpochFile:
        """Return the epoch in a file's bytes; ``path`` names it in errors.

        Raises:
            DamagedData: as :meth:`read`.
        """
        header, arrays = parse_headed(data, path, FORMAT, EpochHeader, _STEP)
        _check(path, header.aggregates, arrays, epoch)
        return EpochFile(_record(header.aggregates, arrays["used"]), arrays["score"], arrays["reason"])


def _record(aggregates: Aggregates, used: NDArray[np.uint8]) -> EpochRecord:
    parts = {name: getattr(aggregates, name) for name in aggregates.__struct_fields__}
    parts["mean_score"] = _number(aggregates.mean_score)
    parts["score_quantiles"] = [_number(value) for value in aggregates.score_quantiles]
    parts["notes"] = {name: _number(value) for name, value in aggregates.notes.items()}
    return EpochRecord.restore(used, parts | {"record_seconds": 0.0})


def _number(value: float | None) -> float:
    """Return a number; JSON has null in place of NaN."""
    return float("nan") if value is None else float(value)


def _check(path: str, counts: Aggregates, arrays: dict[str, NDArray[Any]], epoch: int) -> None:
    """Raise if the aggregates and the arrays contradict each other."""
    n = counts.n
    if counts.epoch != epoch:
        raise damaged(f"{path} must hold epoch number {epoch}, from 0.", f"number {counts.epoch}", _STEP)
    for name, kind in _ARRAYS.items():
        size = -(-n // 8) if name == "used" else n
        array = arrays.get(name)
        if array is None or array.dtype != kind or array.shape != (size,):
            value = "none" if array is None else f"{array.dtype} {array.shape}"
            raise damaged(f"{path} must hold `{name}`, {kind.__name__} ({size},).", value, _STEP)
    worst = int(arrays["reason"].max(initial=0))
    if worst >= len(Reason):
        raise damaged(f"{path} must hold reasons below {len(Reason)}.", worst, _STEP)
    backward = int(np.bitwise_count(arrays["used"]).sum())
    # The last byte of the bits is padded with zeros; a one there would be a sample that does not exist.
    if backward != counts.backward or (n % 8 and arrays["used"][-1] >> n % 8):
        raise damaged(f"{path} must have used {counts.backward:,} samples.", f"{backward:,}", _STEP)
    if np.isinf(arrays["score"]).any():
        raise damaged(f"{path} must hold finite scores, or NaN for none.", "an infinite one", _STEP)
    total = counts.kept + counts.learned + counts.outliers + counts.not_drawn + counts.by_hand
    if total != n or max(counts.forward_only, counts.readmitted) > n:
        rule = f"{path} must count each of its {n:,} samples once as kept or left out."
        value = f"{total:,}, {counts.forward_only:,} measured, {counts.readmitted:,} readmitted"
        raise damaged(rule, value, _STEP)
    if (bins := len(counts.score_histogram)) != len(EDGES):
        raise damaged(f"{path} must hold a histogram of {len(EDGES)} bins.", bins, _STEP)
