"""The file of one epoch: the last score of each sample, its use, why it was left out, its predicted class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.bitset import unpack
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
"""Maximum size of the file in bytes; a sample takes about five to seven."""
MOST_CLASSES = (1 << 16) - 1
"""Predictions of more classes are not kept."""


@dataclass(frozen=True)
class EpochFile:
    """One epoch in ``history/``.

    Attributes:
        record: the use of the samples, and aggregates.
        scores: float32 ``(remaining,)``, the last score of each sample at the end of the epoch.
        reason: uint8 ``(remaining,)``, why each sample was left out of it.
        other: uint16 ``(remaining,)``, 1 + the class last predicted for each sample if that was another one
            than the given, else 0; None if no classes were predicted. Only the former are stored.
    """

    record: EpochRecord
    scores: NDArray[np.float32]
    reason: NDArray[np.uint8]
    other: NDArray[np.uint16] | None = None

    def renumbered(self, numbering: Numbering) -> EpochFile:
        """Return the epoch in the present numbering, without samples that no longer exist."""
        record = self.record
        places = numbering.places(record.epoch, record.n)
        if places is None:
            return self
        scores, reason = in_present_order(self.scores, places), in_present_order(self.reason, places)
        other = None if self.other is None else in_present_order(self.other, places)
        return EpochFile(record.renumbered(places), scores, reason, other)

    def dump(self) -> bytes:
        """Return the bytes of the file. Equal runs give equal bytes, so it holds no times."""
        arrays: dict[str, NDArray[Any]] = {
            "score": self.scores,
            "reason": self.reason,
            "used": self.record.used_bits,
        }
        if self.other is not None:
            differs = self.other > 0
            arrays |= {"differs": np.packbits(differs, bitorder="little"), "other": self.other[differs]}
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
        record = record_of(header.aggregates, arrays["used"])
        other = _other(path, header.aggregates.n, arrays)
        return EpochFile(record, arrays["score"], arrays["reason"], other)


def other_classes(
    predicted: NDArray[np.integer], labels: NDArray[np.integer] | None
) -> NDArray[np.uint16] | None:
    """Return :attr:`EpochFile.other`, ``(N,)``, for class numbers ``(N,)``, negative ones unknown; or None.

    >>> other_classes(np.array([2, 1, -1]), np.array([0, 1, 1])).tolist()
    [3, 0, 0]
    """
    if labels is None or not (predicted >= 0).any() or predicted.max() >= MOST_CLASSES:
        return None
    differs = (predicted >= 0) & (labels >= 0) & (predicted != labels)
    return np.where(differs, predicted + 1, 0).astype(np.uint16)


def _other(path: str, n: int, arrays: dict[str, NDArray[Any]]) -> NDArray[np.uint16] | None:
    """Return :attr:`EpochFile.other`; None for an epoch without it, as earlier versions wrote all."""
    differs, classes = arrays.get("differs"), arrays.get("other")
    if differs is None and classes is None:
        return None
    size = -(-n // 8)
    if differs is None or differs.dtype != np.uint8 or differs.shape != (size,):
        value = "none" if differs is None else f"{differs.dtype} {differs.shape}"
        raise damaged(f"{path} must hold `differs`, uint8 ({size},).", value, _STEP)
    mask = unpack(differs, n)
    count = int(np.count_nonzero(mask))
    if classes is None or classes.dtype != np.uint16 or classes.shape != (count,) or not classes.all():
        value = "none" if classes is None else f"{classes.dtype} {classes.shape}"
        raise damaged(f"{path} must hold `other`, uint16 ({count},), without 0.", value, _STEP)
    other = np.zeros(n, np.uint16)
    other[mask] = classes
    return other


def record_of(aggregates: Aggregates, used: NDArray[np.uint8]) -> EpochRecord:
    """Return the record of an epoch from the parts of its file, which the caller has checked."""
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
    check_shapes(path, counts.n, {name: (array.dtype, array.shape) for name, array in arrays.items()})
    check_counts(path, counts, arrays["used"], epoch)
    worst = int(arrays["reason"].max(initial=0))
    if worst >= len(Reason):
        raise damaged(f"{path} must hold reasons below {len(Reason)}.", worst, _STEP)
    if np.isinf(arrays["score"]).any():
        raise damaged(f"{path} must hold finite scores, or NaN for none.", "an infinite one", _STEP)


def check_shapes(path: str, n: int, found: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    """Raise DamagedData if a required array of an epoch of ``n`` samples is missing, or of another shape.

    Args:
        path: of the file, for errors.
        n: the number of samples.
        found: type and shape of each array, by name.
    """
    for name, kind in _ARRAYS.items():
        shape = (-(-n // 8) if name == "used" else n,)
        if name not in found or found[name] != (np.dtype(kind), shape):
            value = "none" if name not in found else f"{found[name][0]} {found[name][1]}"
            raise damaged(f"{path} must hold `{name}`, {kind.__name__} ({shape[0]},).", value, _STEP)


def check_counts(path: str, counts: Aggregates, used: NDArray[np.uint8], epoch: int) -> None:
    """Raise DamagedData if the aggregates of an epoch contradict each other, or its bits of use."""
    n = counts.n
    if counts.epoch != epoch:
        raise damaged(f"{path} must hold epoch number {epoch}, from 0.", f"number {counts.epoch}", _STEP)
    backward = int(np.bitwise_count(used).sum())
    # The last byte of the bits is padded with zeros; a one there would be a sample that does not exist.
    if backward != counts.backward or (n % 8 and used[-1] >> n % 8):
        raise damaged(f"{path} must have used {counts.backward:,} samples.", f"{backward:,}", _STEP)
    total = counts.kept + counts.learned + counts.outliers + counts.not_drawn + counts.by_hand
    if total != n or max(counts.forward_only, counts.readmitted) > n:
        rule = f"{path} must count each of its {n:,} samples once as kept or left out."
        value = f"{total:,}, {counts.forward_only:,} measured, {counts.readmitted:,} readmitted"
        raise damaged(rule, value, _STEP)
    if (bins := len(counts.score_histogram)) != len(EDGES):
        raise damaged(f"{path} must hold a histogram of {len(EDGES)} bins.", bins, _STEP)
