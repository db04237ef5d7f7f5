"""The file of one epoch: the last score of every sample, what was used, what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from ._checks import DamagedData, damaged
from .headed_file import dump_headed, parse_headed
from .history import EpochRecord
from .policies.base import Reason

FORMAT = "fallow-epoch-1"
_ARRAYS = {"score": np.float32, "reason": np.uint8, "used": np.uint8}
_STEP = "Put back a copy of it."
_UNREADABLE = (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class EpochFile:
    """One epoch as it lies in ``history/``.

    Attributes:
        record: what happened.
        scores: float32 ``(n,)``, the last score of each sample at the end of the epoch.
        reason: uint8 ``(n,)``, why each sample was left out of it.
    """

    record: EpochRecord
    scores: NDArray[np.float32]
    reason: NDArray[np.uint8]

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
        """Read the file of ``epoch``.

        Raises:
            DamagedData: where it is missing, cut short, of another format, or says what cannot be.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise damaged(f"{path} must be readable.", error.strerror, _STEP) from None
        return EpochFile.parse(data, str(path), epoch)

    @staticmethod
    def parse(data: bytes, path: str, epoch: int) -> EpochFile:
        """Return what the bytes of a file are; ``path`` names it in errors.

        Raises:
            DamagedData: as :meth:`read`.
        """
        try:
            header, arrays = parse_headed(data, path, FORMAT)
            record = _record(header["aggregates"], arrays["used"])
            _check(path, record, arrays, epoch)
        except DamagedData:
            raise
        except _UNREADABLE as error:
            raise damaged(f"{path} must be a readable epoch.", error, _STEP) from None
        return EpochFile(record, arrays["score"], arrays["reason"])


def _record(aggregates: dict[str, Any], used: NDArray[np.uint8]) -> EpochRecord:
    mean = aggregates["mean_score"]
    quantiles = [float("nan") if q is None else q for q in aggregates["score_quantiles"]]
    mean = float("nan") if mean is None else mean
    more = {"mean_score": mean, "score_quantiles": quantiles, "record_seconds": 0.0}
    return EpochRecord.restore(used, aggregates | more)


def _check(path: str, record: EpochRecord, arrays: dict[str, NDArray[Any]], epoch: int) -> None:
    """Raise where the parts of the file do not fit each other."""
    if record.epoch != epoch:
        raise damaged(f"{path} must be epoch {epoch}.", f"epoch {record.epoch}", _STEP)
    for name, kind in _ARRAYS.items():
        size = -(-record.n // 8) if name == "used" else record.n
        if arrays[name].dtype != kind or arrays[name].shape != (size,):
            found = f"{arrays[name].dtype} {arrays[name].shape}"
            raise damaged(f"{path} must hold `{name}`, {kind.__name__} ({size},).", found, _STEP)
    worst = int(arrays["reason"].max(initial=0))
    if worst >= len(Reason):
        raise damaged(f"{path} must hold reasons below {len(Reason)}.", worst, _STEP)
    backward = int(np.bitwise_count(record.used_bits).sum())
    if backward != record.backward:
        raise damaged(f"{path} must have used {record.backward:,} samples.", f"{backward:,}", _STEP)


def finite(value: Any) -> Any:
    """Return ``value`` with every number that JSON cannot hold as None."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
