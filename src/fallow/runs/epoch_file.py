"""The file of one epoch: the last score of every sample, what was used, what was left out and why."""

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
"""Bytes of the file, at most; each sample takes about five."""


@dataclass(frozen=True)
class EpochFile:
    """One epoch as it lies in ``history/``.

    Attributes:
        record: what happened.
        scores: float32 ``(remaining,)``, the last score of each sample at the end of the epoch.
        reason: uint8 ``(remaining,)``, why each sample was left out of it.
    """

    record: EpochRecord
    scores: NDArray[np.float32]
    reason: NDArray[np.uint8]

    def renumbered(self, numbering: Numbering) -> EpochFile:
        """Return the epoch with everything in the present numbering of the samples.

        Those that are not there any more are left out.
        """
        record = self.record
        places = numbering.places(record.epoch, record.n)
        if places is None:
            return self
        scores, reason = in_present_order(self.scores, places), in_present_order(self.reason, places)
        return EpochFile(record.renumbered(places), scores, reason)

    def dump(self) -> bytes:
        """Return the bytes of the file. Equal runs give equal bytes, so no times are in it."""
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
            DamagedData: if it is missing, cut short, of another format, or says what cannot be.
        """
        return EpochFile.parse(read_headed(path, LARGEST, _STEP, path.parents[1]), str(path), epoch)

    @staticmethod
    def parse(data: bytes, path: str, epoch: int) -> EpochFile:
        """Return the epoch that the bytes of a file hold; ``path`` names it in errors.

        Raises:
            DamagedData: as :meth:`read`.
        """
        header, arrays = parse_headed(data, path, FORMAT, EpochHeader, _STEP)
        _check(path, header.aggregates, arrays, epoch)
        return EpochFile(_record(header.aggregates, arrays["used"]), arrays["score"], arrays["reason"])


def _record(found: Aggregates, used: NDArray[np.uint8]) -> EpochRecord:
    parts = {name: getattr(found, name) for name in found.__struct_fields__}
    parts["mean_score"] = _number(found.mean_score)
    parts["score_quantiles"] = [_number(value) for value in found.score_quantiles]
    parts["notes"] = {name: _number(value) for name, value in found.notes.items()}
    return EpochRecord.restore(used, parts | {"record_seconds": 0.0})


def _number(value: float | None) -> float:
    """Return a number; JSON holds null in place of NaN."""
    return float("nan") if value is None else float(value)


def _check(path: str, said: Aggregates, arrays: dict[str, NDArray[Any]], epoch: int) -> None:
    """Raise if the parts of the file do not fit each other."""
    if said.epoch != epoch:
        raise damaged(f"{path} must hold epoch number {epoch}, from 0.", f"number {said.epoch}", _STEP)
    for name, kind in _ARRAYS.items():
        size = -(-said.n // 8) if name == "used" else said.n
        found = arrays.get(name)
        if found is None or found.dtype != kind or found.shape != (size,):
            what = "none" if found is None else f"{found.dtype} {found.shape}"
            raise damaged(f"{path} must hold `{name}`, {kind.__name__} ({size},).", what, _STEP)
    worst = int(arrays["reason"].max(initial=0))
    if worst >= len(Reason):
        raise damaged(f"{path} must hold reasons below {len(Reason)}.", worst, _STEP)
    backward = int(np.bitwise_count(arrays["used"]).sum())
    if backward != said.backward or (said.n % 8 and arrays["used"][-1] >> said.n % 8):
        raise damaged(f"{path} must have used {said.backward:,} samples.", f"{backward:,}", _STEP)
    if np.isinf(arrays["score"]).any():
        raise damaged(f"{path} must hold finite scores, or NaN for none.", "an infinite one", _STEP)
    apart = said.kept + said.learned + said.outliers + said.not_drawn + said.by_hand
    if apart != said.n or max(said.forward_only, said.readmitted) > said.n:
        rule = f"{path} must count each of its {said.n:,} samples once as kept or left out."
        raise damaged(rule, f"{apart:,}, {said.forward_only:,} measured, {said.readmitted:,} back", _STEP)
    if len(said.score_histogram) != len(EDGES):
        found_bins = len(said.score_histogram)
        raise damaged(f"{path} must hold a histogram of {len(EDGES)} bins.", found_bins, _STEP)
