"""Rows of a table as bytes, for the way between ranks: 5 to 7 bytes a sample in a usual epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bitset import unpack as unpack_bits

_HEADER = 5
_WIDTHS: tuple[type[np.unsignedinteger], ...] = (np.uint8, np.uint16, np.uint32)


@dataclass(frozen=True)
class Rows:
    """Rows of some samples.

    Attributes:
        index: int64 ``(K,)``.
        scores: float32 ``(K,)``.
        kinds: uint8 ``(K,)``.
        classes: int32 ``(K,)``, of at least 0.
    """

    index: NDArray[np.int64]
    scores: NDArray[np.float32]
    kinds: NDArray[np.uint8]
    classes: NDArray[np.int32]


def pack(rows: Rows, distinct: int, n: int) -> NDArray[np.uint8]:
    """Return rows as bytes.

    The samples are one bit each of ``n``, or their numbers if that is shorter; kinds that are all equal, and
    classes that are all 0, take nothing.

    Args:
        rows: of which the first ``distinct`` are of different samples, ascending, and the others may be of
            any.
        distinct: their number.
        n: the number of samples of the table.
    """
    index, scores, kinds, classes = rows.index, rows.scores, rows.kinds, rows.classes
    numbers = index[:distinct].astype(np.uint32 if n <= 1 << 32 else np.uint64)
    as_bits = -(-n // 8) < numbers.nbytes
    if as_bits:
        mask = np.zeros(n, np.bool_)
        mask[index[:distinct]] = True
        numbers = np.packbits(mask, bitorder="little")
    kind = -1 if not kinds.size or (kinds != kinds[0]).any() else int(kinds[0])
    highest = int(classes.max(initial=0))
    width = next((at for at, kind_of in enumerate(_WIDTHS) if highest <= np.iinfo(kind_of).max), 2)
    header = np.array([distinct, len(index) - distinct, as_bits, kind, width if highest else -1], np.int64)
    parts = [header, numbers, index[distinct:], scores]
    parts += [] if kind >= 0 else [kinds]
    parts += [classes.astype(_WIDTHS[width])] if highest else []
    return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts])


def unpack(packed: NDArray[np.uint8], n: int) -> Rows:
    """Return the rows of :func:`pack`, given the same ``n``."""
    at = 0

    def take(kind: type[np.generic], count: int) -> NDArray[Any]:
        nonlocal at
        size = count * np.dtype(kind).itemsize
        # A copy, since the place of a part need not suit its type.
        part, at = packed[at : at + size].copy().view(kind), at + size
        return part

    distinct, more, as_bits, kind, width = take(np.int64, _HEADER).tolist()
    if as_bits:
        bits = take(np.uint8, -(-n // 8))
        first: NDArray[Any] = np.flatnonzero(unpack_bits(bits, n))
    else:
        first = take(np.uint32 if n <= 1 << 32 else np.uint64, distinct)
    count = distinct + more
    index = np.concatenate([first.astype(np.int64), take(np.int64, more)])
    scores = take(np.float32, count)
    kinds = take(np.uint8, count) if kind < 0 else np.full(count, kind, np.uint8)
    classes = np.zeros(count, np.int32) if width < 0 else take(_WIDTHS[width], count).astype(np.int32)
    return Rows(index, scores, kinds, classes)
