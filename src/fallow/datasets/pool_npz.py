"""A pool in a numpy archive, read as a stream."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._checks import DamagedData, InvalidValue, damaged, invalid
from .pool_part import PART, UNKNOWN, Kind, PoolPart, said

_MOST = 1 << 25
"""So many bytes are read at a time, where that is a sample at least."""
_SAVE = "Save it with `numpy.savez(path, x=...)`."
_COPY = "Copy it again."


class NpzPool:
    """``x`` of a numpy archive, read as a stream, and ``y`` where its values are class ids of the run."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, kind: Kind) -> None:
        self.name, self._path, self._kind = str(path.absolute()), path, kind
        with _opened(path, "x") as (_, shape, fortran, dtype):
            if dtype.hasobject or fortran or len(shape) < 3:
                found = "Python objects" if dtype.hasobject else f"shape {shape}"
                rule = f"`x` in {path} must be images (N, H, W) or (N, C, H, W), row by row."
                raise invalid(rule, "Fortran order" if fortran else found, _SAVE)
            if min(shape) < 1:
                raise invalid(f"`x` in {path} must hold images.", f"shape {shape}", _SAVE)
            kind.check("x", shape, dtype)
            self.total: int | None = shape[0]
        self._labels = self._known_labels(shape[0])

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`."""
        with _opened(self._path, "x") as (stream, shape, _, dtype):
            size = math.prod(shape[1:]) * dtype.itemsize
            step = max(1, min(PART, _MOST // size))
            for start in range(0, shape[0], step):
                if index is not None and start > index.max(initial=-1):
                    return
                count = min(step, shape[0] - start)
                data = self._read(stream, count * size, last=start + count == shape[0])
                rows = np.arange(start, start + count)
                if index is not None:
                    rows = index[(index >= start) & (index < start + count)]
                if rows.size:
                    array = np.frombuffer(data, dtype).reshape(count, *shape[1:])[rows - start]
                    yield PoolPart(rows, self._kind.images("x", array, rows), self._labels[rows])

    def _read(self, stream: IO[bytes], size: int, *, last: bool) -> bytes:
        try:
            data = stream.read(size)
            if last:
                stream.read(1)  # only at the end of a file is its checksum looked at
        except Exception as error:  # each way to compress has kinds of its own
            raise damaged(f"`x` in {self._path} must be readable.", said(error), _COPY) from None
        if len(data) < size:
            raise damaged(f"`x` in {self._path} must be whole.", f"{len(data):,} of {size:,} bytes", _COPY)
        return data

    def _known_labels(self, total: int) -> NDArray[np.int64]:
        unknown = np.full(total, UNKNOWN, np.int64)
        try:
            with _opened(self._path, "y") as (stream, shape, _, dtype):
                if shape != unknown.shape or dtype.kind not in "iuU" or not dtype.itemsize:
                    return unknown
                found = np.frombuffer(stream.read(), dtype)
        except DamagedData:
            raise
        except InvalidValue:  # there is none
            return unknown
        except Exception as error:
            raise damaged(f"`y` in {self._path} must be readable.", said(error), _COPY) from None
        labels = np.array([self._kind.label(value) for value in found.tolist()], np.int64)
        return labels if (labels >= 0).all() else unknown


@contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
    """Yield the bytes of an array in a numpy archive, its shape, whether it is in Fortran order, its type.

    Raises:
        InvalidValue: where there is no such array.
        DamagedData: where the archive or the array is none.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            members = {member.removesuffix(".npy"): member for member in archive.namelist()}
        except Exception as error:  # as many kinds as there are damages
            raise damaged(f"{path} must be a numpy archive (.npz).", said(error), _SAVE) from None
        if name not in members:
            raise invalid(f"{path} must hold `{name}`.", ", ".join([*members][:5]) or "no arrays", _SAVE)
        try:
            stream = stack.enter_context(archive.open(members[name]))
            first = np.lib.format.read_magic(stream) == (1, 0)
            header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = header(stream)
            held = archive.getinfo(members[name]).file_size - stream.tell()
        except Exception as error:
            raise damaged(f"`{name}` in {path} must be an array.", said(error), _SAVE) from None
        size = math.prod(shape) * dtype.itemsize
        if held != size and not dtype.hasobject:
            raise damaged(f"`{name}` in {path} must be whole.", f"{held:,} of {size:,} bytes", _COPY)
        yield stream, shape, fortran, dtype
