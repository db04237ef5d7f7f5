"""Scores on their way to the ranks that hold their samples."""

from __future__ import annotations

import io
import os
import weakref
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .shard import scratch_file

Chunk: TypeAlias = tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float16]]
"""How many scores each rank gets, their places there, and the scores."""
ROW = 6
"""Bytes of a score on its way."""


class Outbox:
    """Scores in chunks that are sorted by rank; in memory, or in a file without a name.

    Args:
        directory: a folder for the file; None for memory.
        rows: the number of scores of an epoch; the file has room for them from the beginning.
    """

    def __init__(self, directory: str | os.PathLike[str] | None, rows: int) -> None:
        self._file: Any = io.BytesIO() if directory is None else scratch_file(directory, rows * ROW)
        weakref.finalize(self, self._file.close)
        self.clear()

    def clear(self) -> None:
        """Forget all chunks."""
        self._chunks: list[tuple[int, NDArray[np.int64]]] = []
        self._file.seek(0)

    def __len__(self) -> int:
        return len(self._chunks)

    def put(self, counts: NDArray[np.int64], place: NDArray[np.uint32], scores: NDArray[np.float16]) -> None:
        """Add a chunk."""
        at = self._file.tell()
        self._file.write(place.tobytes() + scores.tobytes())
        self._chunks.append((at, counts))

    def take(self, number: int, ranks: int) -> Chunk:
        """Return a chunk; an empty one behind the last."""
        if number >= len(self):
            return np.zeros(ranks, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float16)
        at, counts = self._chunks[number]
        size = int(counts.sum())
        self._file.seek(at)
        place = np.frombuffer(bytearray(self._file.read(4 * size)), np.uint32)
        return counts, place, np.frombuffer(bytearray(self._file.read(2 * size)), np.float16)
