"""A pool in a numpy archive, read as a stream."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import damaged, invalid
from .pool_part import PART, UNKNOWN, Kind, PoolPart


class NpzPool:
    """``x`` of a numpy archive, read as a stream, and ``y`` where its values are class ids of the run."""

    def __init__(self, path: Path, kind: Kind) -> None:
        self.name, self._path, self._kind = str(path.absolute()), path, kind
        with self._reading() as (_, shape, _):
            self.total: int | None = shape[0]
        if not self.total:
            raise invalid(f"`x` in {path} must hold samples.", "none")
        self._labels = self._known_labels()

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`."""
        with self._reading() as (stream, shape, dtype):
            size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
            for start in range(0, shape[0], PART):
                count = min(PART, shape[0] - start)
                data = self._read(stream, count * size)
                rows = np.arange(start, start + count)
                if index is not None:
                    rows = index[(index >= start) & (index < start + count)]
                    if start > index.max(initial=-1):
                        return
                if rows.size:
                    array = np.frombuffer(data, dtype).reshape(count, *shape[1:])[rows - start]
                    yield PoolPart(rows, self._kind.images("x", array), self._labels[rows])

    def _read(self, stream: Any, size: int) -> bytes:
        try:
            data: bytes = stream.read(size)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise damaged(f"`x` in {self._path} must be readable.", error, "Copy it again.") from None
        if len(data) < size:
            raise damaged(f"`x` in {self._path} must be whole.", f"{len(data):,} of {size:,} bytes")
        return data

    def _known_labels(self) -> NDArray[np.int64]:
        unknown = np.full(self.total or 0, UNKNOWN, np.int64)
        try:
            with np.load(self._path, allow_pickle=False) as archive:
                found = archive["y"] if "y" in archive.files else None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            return unknown
        if found is None or found.shape != unknown.shape:
            return unknown
        labels = np.array([self._kind.label(value) for value in found.tolist()], np.int64)
        return labels if (labels >= 0).all() else unknown

    def _reading(self) -> _NpzStream:
        return _NpzStream(self._path)


class _NpzStream:
    """The bytes of ``x`` in a numpy archive, and what they are."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[Any, tuple[int, ...], np.dtype[Any]]:
        path = self._path
        step = "Save it with `numpy.savez(path, x=...)`."
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise damaged(f"{path} must be a numpy archive (.npz).", error, step) from None
        names = [name.removesuffix(".npy") for name in self._archive.namelist()]
        if "x" not in names:
            self._archive.close()
            raise invalid(f"{path} must hold `x`.", ", ".join(names[:5]) or "no arrays", step)
        try:
            stream = self._archive.open("x.npy" if "x.npy" in self._archive.namelist() else "x")
            version = np.lib.format.read_magic(stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(stream)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            self._archive.close()
            raise damaged(f"`x` in {path} must be an array.", error, step) from None
        if dtype.hasobject or fortran or len(shape) < 3:
            self._archive.close()
            found = "Python objects" if dtype.hasobject else "Fortran order" if fortran else f"shape {shape}"
            raise invalid(f"`x` in {path} must be images (N, H, W) or (N, C, H, W), row by row.", found, step)
        return stream, shape, dtype

    def __exit__(self, *_: object) -> None:
        self._archive.close()
