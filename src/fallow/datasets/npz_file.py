"""A numpy archive of unknown origin: the headers of its arrays are checked before any array is read.

An archive of a few kilobytes can claim an array of terabytes, and one of a few megabytes can hold one of
gigabytes. So the headers of the required arrays are read first and compared with the archive, and the caller
compares them with each other. Then an array is read in blocks of rows. Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import FallowError, damaged, invalid
from ..files.regular_file import opened
from .messages import error_text

MOST = 1 << 25
"""Bytes read at a time; a longer row is read at once."""
# Deflate packs constant data some 1,000 times, but real images only a few times.
LARGE, RATIO = 1 << 26, 200
"""An array above LARGE bytes is refused if it is more than RATIO times as large as its packed bytes."""
PIECE = 1 << 20
"""Bytes requested from the archive at once; also the maximum size of its list of arrays."""
_HEADER = 1024
"""Maximum size of the header of an array; that of plain numbers has some hundred bytes."""
_VERSIONS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""The versions of numpy's format, and the number of bytes in which each stores the length of a header."""
_COPY = "The file is damaged: save or copy it again."
# zipfile can also read the others, but numpy does not write them.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHERS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}


@dataclass(frozen=True)
class ArrayHeader:
    """The header of an array in an archive, whose size has been checked.

    Attributes:
        name, shape, dtype: of the array.
        fortran: whether its last axis varies slowest.
        packed: its size in the archive, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    packed: int

    @property
    def size(self) -> int:
        """The size in memory, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """An open numpy archive of ``size`` bytes; see :func:`open_npz`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int, save: str) -> None:
        self.path = path
        self.save = save
        self._archive = archive
        self._size = size
        self._members: dict[str, list[zipfile.ZipInfo]] = {}
        for member in archive.infolist():
            self._members.setdefault(member.filename.removesuffix(".npy"), []).append(member)

    @property
    def names(self) -> list[str]:
        """The names of the arrays."""
        return list(self._members)

    def headers(self, names: Sequence[str]) -> list[ArrayHeader]:
        """Return the headers of some arrays.

        Raises:
            InvalidValue: if an array is missing, or holds Python objects.
            DamagedData: if a header is damaged, or does not match the archive.
        """
        missing = [name for name in names if name not in self._members]
        if missing:
            wanted = ", ".join(f"`{name}`" for name in missing)
            more = f" and {len(self.names) - 10:,} more" if len(self.names) > 10 else ""
            present = ", ".join(self.names[:10])[:300] + more or "no arrays"
            raise invalid(f"{self.path} must hold {wanted}.", present, self.save)
        return [self._header(name) for name in names]

    def blocks(self, header: ArrayHeader, rows: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield blocks of the rows of an array, each with the position of its first row.

        The array must not be in Fortran order. By default a block has as many rows as fit 32 MB.

        Raises:
            DamagedData: if the bytes do not match the header.
        """
        row = math.prod(header.shape[1:]) * header.dtype.itemsize
        step = max(1, MOST // max(1, row)) if rows is None else rows
        with self._stream(header.name) as stream:
            self._read_header(stream, header.name)
            for start in range(0, header.shape[0], step):
                count = min(step, header.shape[0] - start)
                data = self._read(stream, header, count * row, last=start + count == header.shape[0])
                yield start, np.frombuffer(data, header.dtype).reshape(count, *header.shape[1:])

    def whole(self, header: ArrayHeader) -> NDArray[Any]:
        """Return an array, in either order.

        Raises:
            DamagedData: if the bytes do not match the header.
        """
        flat = np.empty(math.prod(header.shape), header.dtype)
        for start, block in self.blocks(replace(header, shape=flat.shape, fortran=False)):
            flat[start : start + len(block)] = block
        return flat.reshape(header.shape, order="F" if header.fortran else "C")

    def check(self, header: ArrayHeader) -> None:
        """Read an array without keeping it, to refuse a damaged one before memory is reserved for it.

        Raises:
            DamagedData: if the bytes do not match the header.
        """
        as_bytes = replace(header, shape=(header.size,), dtype=np.dtype(np.uint8), fortran=False)
        for _ in self.blocks(as_bytes):
            pass

    def _header(self, name: str) -> ArrayHeader:
        member = self._member(name)
        with self._stream(name) as stream:
            shape, fortran, dtype = self._parsed(name, *self._read_header(stream, name))
            size = member.file_size - stream.tell()
        if dtype.hasobject:
            step = "Save plain numbers: pickled objects can run code and are never loaded."
            raise invalid(f"`{name}` must hold numbers.", "Python objects", step)
        if dtype.kind == "V" or not dtype.itemsize:
            raise invalid(f"`{name}` must hold numbers.", f"the type {dtype}"[:200], self.save)
        packed = member.compress_size
        header = ArrayHeader(name, shape, dtype, fortran, packed)
        if size != header.size:
            sizes = f"{size:,} of {header.size:,} bytes"
            raise damaged(f"`{name}` in {self.path} must be whole.", sizes, _COPY)
        if size > LARGE and size > RATIO * packed:
            sizes = f"{size:,} bytes packed in {packed:,}, {size // packed:,} times"
            rule = f"A large array, `{name}` in {self.path}, must not be packed more than {RATIO} times."
            raise damaged(rule, sizes, f"`numpy.savez` does not pack it. {self.save}")
        return header

    def _member(self, name: str) -> zipfile.ZipInfo:
        member, *others = self._members[name]
        if others:
            rule = f"{self.path} must hold `{name}` once."
            raise damaged(rule, f"{len(others) + 1} arrays of that name", self.save)
        array = f"`{name}` in {self.path}"
        if member.flag_bits & 0x41:  # plain and strong encryption
            raise damaged(f"{array} must not be encrypted.", "a password is needed", self.save)
        if member.compress_type not in _METHODS:
            method = _OTHERS.get(member.compress_type, f"method {member.compress_type}")
            raise damaged(f"{array} must be plain or deflated, as numpy saves it.", method, self.save)
        stored = member.compress_type == zipfile.ZIP_STORED
        if stored and member.compress_size != member.file_size:
            sizes = f"{member.compress_size:,} of {member.file_size:,} bytes"
            raise damaged(f"{array} must be whole.", sizes, _COPY)
        if member.header_offset + member.compress_size > self._size:
            end = f"bytes to {member.header_offset + member.compress_size:,} of {self._size:,}"
            raise damaged(f"{array} must lie in the file.", end, _COPY)
        return member

    @contextmanager
    def _stream(self, name: str) -> Iterator[IO[bytes]]:
        """Yield the bytes of a member; any error in reading them is raised as damage."""
        member = self._member(name)
        try:
            with self._archive.open(member) as stream:
                yield stream
        except FallowError:
            raise
        except Exception as error:  # each compression method raises other kinds
            raise damaged(f"`{name}` in {self.path} must be readable.", error_text(error), _COPY) from None

    def _read(self, stream: IO[bytes], header: ArrayHeader, size: int, *, last: bool) -> bytearray:
        data = bytearray(size)
        at = 0
        while at < size and (piece := stream.read(min(PIECE, size - at))):
            data[at : at + len(piece)] = piece
            at += len(piece)
        if last:
            stream.read(1)  # zipfile compares the checksum only at the end of a member
        if at < size:
            rule = f"`{header.name}` in {self.path} must be whole."
            raise damaged(rule, f"{at:,} of {size:,} bytes", _COPY)
        return data

    def _read_header(self, stream: IO[bytes], name: str) -> tuple[tuple[int, int], bytes]:
        """Read the header of an array; return the version of its format and its bytes."""
        array = f"`{name}` in {self.path}"
        start = stream.read(8)
        if len(start) < 8 or not start.startswith(b"\x93NUMPY"):
            raise damaged(f"{array} must be an array.", "another file", self.save)
        version = start[6], start[7]
        if version not in _VERSIONS:
            raise damaged(f"{array} must be an array of numpy's format 1 to 3.", version, self.save)
        length = stream.read(_VERSIONS[version])
        size = int.from_bytes(length, "little")
        if size > _HEADER:
            rule = f"{array} must have a header of at most {_HEADER:,} bytes."
            raise damaged(rule, f"{size:,}", self.save)
        return version, length + stream.read(size)

    def _parsed(
        self, name: str, version: tuple[int, int], data: bytes
    ) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        v1, v2 = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
        read = v1 if version == (1, 0) else v2  # version 3 differs from 2 in names of fields alone
        rule = f"`{name}` in {self.path} must be an array."
        try:
            shape, fortran, dtype = read(io.BytesIO(data))
        except Exception as error:  # numpy evaluates the text as a Python literal
            raise damaged(rule, error_text(error), self.save) from None
        if any(isinstance(length, bool) or length < 0 for length in shape):
            raise damaged(rule, f"shape {shape}"[:200], self.save)
        return shape, fortran, dtype


class _Bounded:
    """A file that refuses long reads, because zipfile reads the list of an archive at its claimed length."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, or all that are left."""
        left = max(0, self._size - self._file.tell())
        wanted = left if size < 0 else min(size, left)
        if wanted > PIECE:
            raise ValueError(f"a list of arrays of {wanted:,} bytes, of at most {PIECE:,}")
        return self._file.read(wanted)

    def seekable(self) -> bool:
        """Return True."""
        return True


@contextmanager
def open_npz(path: Path, save: str) -> Iterator[NpzFile]:
    """Open a numpy archive; ``save`` is the next step in errors: how such a file is saved.

    Raises:
        DamagedData: if it is not a regular file, or not a numpy archive.
    """
    rule = f"{path} must be a numpy archive (.npz)."
    with opened(path) as file:
        size = file.seek(0, io.SEEK_END)
        if not size:
            raise damaged(rule, "an empty file", save)
        try:
            archive = zipfile.ZipFile(_Bounded(file, size))
        except Exception as error:  # zipfile raises many kinds
            raise damaged(rule, f"another or a cut-off file: {error_text(error)}", save) from None
        with archive:
            yield NpzFile(path, archive, size, save)
