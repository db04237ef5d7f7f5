"""Parts of an epoch's file, read where they lie: its aggregates, its bits of use, the rows of some samples.

The checksum of the file is not compared, since that would read all of it. What is read is checked for itself:
shapes, counts and ranges. :meth:`fallow.runs.run_files.RunFiles.epoch` reads and compares everything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..core.history import EpochRecord
from ..errors import damaged
from ..files.array_file import Place, read_places
from ..files.regular_file import opened
from ..policies.base import Reason
from .epoch_file import FORMAT, LARGEST, check_counts, check_shapes, record_of
from .schema import EpochHeader

_STEP = "Put back a copy of it."
_PAGE = 4096
"""What the system reads at least, in bytes."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some samples in one epoch, in its own numbering.

    Attributes:
        scores: float32 ``(K,)``, the last score of each at the end of the epoch; NaN without one.
        reason: uint8 ``(K,)``, why each was left out of it.
    """

    scores: NDArray[np.float32]
    reason: NDArray[np.uint8]


def read_record(path: Path, epoch: int) -> EpochRecord:
    """Return the record of an epoch in ``RUN/history``, in its own numbering.

    Raises:
        DamagedData: if the file is missing or truncated, has another format, or contradicts itself.
        OSError: if it cannot be read.
    """
    with _opened(path) as file:
        header, places = read_places(file, str(path), FORMAT, EpochHeader, _STEP)
        counts = header.aggregates
        check_shapes(str(path), counts.n, {name: (at.kind, at.shape) for name, at in places.items()})
        used: NDArray[np.uint8] = _part(file, str(path), places["used"], 0, places["used"].shape[0])
        check_counts(str(path), counts, used, epoch)
        return record_of(counts, used)


def read_rows(path: Path, index: NDArray[np.int64]) -> Rows:
    """Return some samples of an epoch in ``RUN/history``.

    Args:
        path: of the file.
        index: int64 ``(K,)``, the samples in the numbering of the epoch, each below its number of samples.

    Raises:
        DamagedData, OSError: as :func:`read_record`.
    """
    with _opened(path) as file:
        header, places = read_places(file, str(path), FORMAT, EpochHeader, _STEP)
        n = header.aggregates.n
        check_shapes(str(path), n, {name: (at.kind, at.shape) for name, at in places.items()})
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < n:
            raise damaged(f"{path} must hold sample {int(index.max()):,}.", f"{n:,} samples", _STEP)
        scores = _rows(file, str(path), places["score"], index)
        reason = _rows(file, str(path), places["reason"], index)
    if np.isinf(scores).any() or int(reason.max(initial=0)) >= len(Reason):
        raise damaged(f"{path} must hold finite scores and known reasons.", "others", _STEP)
    return Rows(scores, reason)


def read_other(path: Path, sample: int) -> int | None:
    """Return which other class a sample was taken for in an epoch of ``RUN/history``.

    Args:
        path: of the file.
        sample: in the numbering of the epoch.

    Returns:
        The number of the class; None if it was taken for its own, or that is not known.

    Raises:
        DamagedData, OSError: as :func:`read_record`.
    """
    with _opened(path) as file:
        name, (header, places) = str(path), read_places(file, str(path), FORMAT, EpochHeader, _STEP)
        n, differs, other = header.aggregates.n, places.get("differs"), places.get("other")
        if differs is None or other is None:
            return None
        size = -(-n // 8)
        if differs.kind != np.uint8 or differs.shape != (size,) or other.kind != np.uint16 or sample >= n:
            raise damaged(f"{name} must hold `differs` and `other` of {n:,} samples.", "others", _STEP)
        bits = _part(file, name, differs, 0, size)
        byte, bit = int(bits[sample >> 3]), sample & 7
        if not byte >> bit & 1:
            return None
        # The classes of those that differ stand one after the other.
        before = int(np.bitwise_count(bits[: sample >> 3]).sum()) + (byte & (1 << bit) - 1).bit_count()
        if other.shape != (int(np.bitwise_count(bits).sum()),):
            raise damaged(f"{name} must hold `other` of those that differ.", f"{other.shape}", _STEP)
        return int(_part(file, name, other, before, 1)[0]) - 1


def _opened(path: Path) -> Any:
    return opened(path, path.parents[1], LARGEST)


def _rows(file: IO[bytes], name: str, place: Place, index: NDArray[np.int64]) -> NDArray[Any]:
    n = place.shape[0]
    if index.size * _PAGE > n * place.kind.itemsize:
        return _part(file, name, place, 0, n)[index]
    return np.concatenate(
        [np.zeros(0, place.kind), *(_part(file, name, place, at, 1) for at in index.tolist())]
    )


def _part(file: IO[bytes], name: str, place: Place, first: int, count: int) -> NDArray[Any]:
    """Return values ``first`` to ``first + count - 1`` of an array."""
    size = count * place.kind.itemsize
    # Not mapped into memory: a file that shrinks while it is mapped kills the process.
    data = os.pread(file.fileno(), size, place.start + first * place.kind.itemsize)
    if len(data) != size:
        raise damaged(f"{name} must be whole.", f"{len(data):,} bytes for {size:,}", _STEP)
    return np.frombuffer(data, place.kind)
