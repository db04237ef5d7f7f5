"""Paths of many files in two arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Paths(Sequence[Path]):
    """A sequence of paths that takes as many bytes as their names, and 8 more for each.

    A list would hold two objects a path, ten times as large. A worker that was forked would also copy each
    page of them that it reads, because Python counts references in the objects.

    Args:
        names: the names one after the other, as the system encodes them, uint8.
        ends: the end of each name among them, int64 ``(N,)``.

    >>> paths = Paths.of(["a/1.png", "b/2.png"])
    >>> [path.name for path in paths], len(paths.take([1]))
    (['1.png', '2.png'], 1)
    """

    def __init__(self, names: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._names, self._ends = names, ends

    @staticmethod
    def of(names: Iterable[str | os.PathLike[str]]) -> Paths:
        """Return the paths with these names."""
        encoded = [os.fsencode(name) for name in names]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        return Paths(np.frombuffer(b"".join(encoded), np.uint8), ends)

    @staticmethod
    def joined(parts: Iterable[Paths]) -> Paths:
        """Return the paths of several sequences, one after the other."""
        parts = list(parts)
        if not parts:
            return Paths.of(())
        starts = np.cumsum([0, *(part._names.size for part in parts[:-1])])
        ends = [part._ends + start for part, start in zip(parts, starts.tolist(), strict=True)]
        return Paths(np.concatenate([part._names for part in parts]), np.concatenate(ends))

    def __len__(self) -> int:
        return int(self._ends.size)

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> Paths: ...
    def __getitem__(self, row: int | slice) -> Path | Paths:
        """Return one path, or the paths of a slice."""
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        return Path(self.name(row))

    def __iter__(self) -> Iterator[Path]:
        return (self[row] for row in range(len(self)))

    def name(self, row: int) -> str:
        """Return a path as a string."""
        row = range(len(self))[row]
        start = int(self._ends[row - 1]) if row else 0
        return os.fsdecode(self._names[start : int(self._ends[row])].tobytes())

    def names(self) -> list[str]:
        """Return all paths as strings."""
        data, ends = self._names.tobytes(), self._ends.tolist()
        return [os.fsdecode(data[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def take(self, rows: Iterable[int]) -> Paths:
        """Return some of the paths."""
        index = rows if isinstance(rows, np.ndarray) else np.fromiter(rows, np.int64)
        starts = np.concatenate([[0], self._ends[:-1]])[index] if len(self) else index
        lengths = self._ends[index] - starts
        ends = np.cumsum(lengths)
        # The place of each byte: counted from the start of its name.
        within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        return Paths(self._names[np.repeat(starts, lengths) + within], ends)
