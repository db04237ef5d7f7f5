"""Paths of many files in two arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16
"""Names that are copied at a time."""


class Paths(Sequence[Path]):
    """A sequence of paths that takes as many bytes as their names, and 8 more for each.

    A list would hold two objects a path, ten times as large. A worker that was forked would also copy each
    page of them that it reads, because Python counts references in the objects.

    Args:
        names: the names as the system encodes them, a NUL after each, uint8.
        ends: the end of each name among them, after its NUL, int64 ``(N,)``.

    >>> paths = Paths.of(["a/1.png", "b/2.png"])
    >>> [path.name for path in paths], len(paths.take([1]))
    (['1.png', '2.png'], 1)
    """

    def __init__(self, names: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._names, self._ends = names, ends

    @staticmethod
    def of(names: Iterable[str | os.PathLike[str]]) -> Paths:
        """Return the paths with these names."""
        text = "".join(f"{os.fspath(name)}\0" for name in names)
        encoded = np.frombuffer(os.fsencode(text), np.uint8)
        return Paths(encoded, np.flatnonzero(encoded == 0) + 1)

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
        return os.fsdecode(self._names[start : int(self._ends[row]) - 1].tobytes())

    def names(self) -> list[str]:
        """Return all paths as strings."""
        return os.fsdecode(self._names.tobytes()).split("\0")[:-1]

    def take(self, rows: Iterable[int]) -> Paths:
        """Return some of the paths."""
        index = rows if isinstance(rows, np.ndarray) else np.fromiter(rows, np.int64)
        ends = self._ends[index]
        lengths = ends - (np.where(index > 0, self._ends[index - 1], 0) if len(self) else ends)
        taken = np.cumsum(lengths)
        names = np.empty(int(lengths.sum()), np.uint8)
        # In blocks: the place of each byte takes eight times its memory.
        for first in range(0, index.size, _BLOCK):
            block = slice(first, first + _BLOCK)
            shift = np.repeat(ends[block] - taken[block], lengths[block])
            start = int(taken[first] - lengths[first])
            stop = start + shift.size
            names[start:stop] = self._names[np.arange(start, stop) + shift]
        return Paths(names, taken)
