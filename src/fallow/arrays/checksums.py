"""Checksums that identify samples independently of their position."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def row_checksums(rows: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Return the 64-bit BLAKE2b checksum of each row of an array: ``(N, ...) -> (N,)``."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return checksums(row.data for row in flat)


def checksums(rows: Iterable[bytes | memoryview]) -> NDArray[np.uint64]:
    """Return the 64-bit BLAKE2b checksum of each item: ``(N,)``."""
    digests = b"".join(blake2b(row, digest_size=8).digest() for row in rows)
    # Little-endian on any machine, since checksums are stored and compared elsewhere.
    return np.frombuffer(digests, "<u8").astype(np.uint64)
