"""A numpy archive of a stranger: what its arrays say of themselves is checked before any is read.

An archive of a few kilobytes can say that it holds an array of terabytes, and one of a few megabytes can
hold one of gigabytes. So the headers of all arrays that are wanted come first; each is held against the
archive, and whoever reads holds them against each other. Then an array is read in blocks of rows. Nothing
is ever unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import FallowError, damaged, invalid
from ..files.regular_file import opened

MOST = 1 << 25
"""So many bytes are read at a time, where that is a row at least."""
LARGE, RATIO = 1 << 26, 200
"""An array of more bytes than LARGE is refused if it is RATIO times as large as its packed bytes."""
PIECE = 1 << 20
"""So many bytes are asked of the archive at once; the list of its arrays may not have more."""
_HEADER = 1024
"""The most bytes of the header of an array; one of plain numbers has some hundred."""
_VERSIONS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""The versions of numpy's format, and in how many bytes each gives the length of a header."""
_COPY = "The file is damaged: save or copy it again."
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHERS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}


@dataclass(frozen=True)
class ArrayHeader:
    """What an array in an archive says of itself; it is as large as it says.

    Attributes:
        name: of the array.
        shape, dtype: of the array.
        fortran: whether its last axis varies slowest.
        packed: how many bytes it has in the archive.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    packed: int

    @property
    def size(self) -> int:
        """How many bytes it has in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """An open numpy archive.

    Args:
        path: for errors.
        archive: the zip archive.
        size: how many bytes the file has.
        save: how such a file is saved, for errors.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int, save: str) -> None:
        self.path, self.save = path, save
        self._archive, self._size = archive, size
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
            InvalidValue: if one is missing, or holds Python objects.
            DamagedData: if one is not what it says.
        """
        missing = [name for name in names if name not in self._members]
        if missing:
            wanted = ", ".join(f"`{name}`" for name in missing)
            more = f" and {len(self.names) - 10:,} more" if len(self.names) > 10 else ""
            found = ", ".join(self.names[:10])[:300] + more or "no arrays"
            raise invalid(f"{self.path} must hold {wanted}.", found, self.save)
        return [self._header(name) for name in names]

    def blocks(self, header: ArrayHeader, rows: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the rows of an array, some at a time, with the place of the first.

        Args:
            header: of the array, which must not be in Fortran order.
            rows: how many at a time; by default as many as have 32 MB.

        Raises:
            DamagedData: if the bytes are not what the header says.
        """
        row = math.prod(header.shape[1:]) * header.dtype.itemsize
        step = max(1, MOST // max(1, row)) if rows is None else rows
        with self._stream(header.name) as stream:
            self._skip_header(stream, header.name)
            for start in range(0, header.shape[0], step):
                count = min(step, header.shape[0] - start)
                data = self._read(stream, header, count * row, last=start + count == header.shape[0])
                yield start, np.frombuffer(data, header.dtype).reshape(count, *header.shape[1:])

    def whole(self, header: ArrayHeader) -> NDArray[Any]:
        """Return an array, in either order.

        Raises:
            DamagedData: if the bytes are not what the header says.
        """
        flat = np.empty(math.prod(header.shape), header.dtype)
        for start, block in self.blocks(
            ArrayHeader(header.name, flat.shape, flat.dtype, False, header.packed)
        ):
            flat[start : start + len(block)] = block
        return flat.reshape(header.shape, order="F" if header.fortran else "C")

    def check(self, header: ArrayHeader) -> None:
        """Read an array without keeping it: what is badly packed is refused before it fills the memory.

        Raises:
            DamagedData: if the bytes are not what the header says.
        """
        flat = ArrayHeader(header.name, (header.size,), np.dtype(np.uint8), False, header.packed)
        for _ in self.blocks(flat):
            pass

    def _header(self, name: str) -> ArrayHeader:
        member = self._member(name)
        with self._stream(name) as stream:
            shape, fortran, dtype = self._parsed(name, self._skip_header(stream, name))
            held = member.file_size - stream.tell()
        if dtype.hasobject:
            step = "Save plain numbers: pickled objects can run code and are never loaded."
            raise invalid(f"`{name}` must hold numbers.", "Python objects", step)
        if dtype.kind == "V" or not dtype.itemsize:
            raise invalid(f"`{name}` must hold numbers.", f"the type {dtype}"[:200], self.save)
        found = ArrayHeader(name, shape, dtype, fortran, member.compress_size)
        if held != found.size:
            sizes = f"{held:,} of {found.size:,} bytes"
            raise damaged(f"`{name}` in {self.path} must be whole.", sizes, _COPY)
        if held > LARGE and held > RATIO * member.compress_size:
            packed = (
                f"{held:,} bytes packed in {member.compress_size:,}, {held // member.compress_size:,} times"
            )
            rule = f"A large array, `{name}` in {self.path}, must not be packed more than {RATIO} times."
            raise damaged(rule, packed, f"`numpy.savez` keeps it plain. {self.save}")
        return found

    def _member(self, name: str) -> zipfile.ZipInfo:
        members = self._members[name]
        if len(members) > 1:
            rule = f"{self.path} must hold `{name}` once."
            raise damaged(rule, f"{len(members)} arrays of that name", self.save)
        member, what = members[0], f"`{name}` in {self.path}"
        if member.flag_bits & 0x41:
            raise damaged(f"{what} must not be encrypted.", "a password is needed", self.save)
        if member.compress_type not in _METHODS:
            method = _OTHERS.get(member.compress_type, f"method {member.compress_type}")
            raise damaged(f"{what} must be plain or deflated, as numpy saves it.", method, self.save)
        stored = member.compress_type == zipfile.ZIP_STORED
        if stored and member.compress_size != member.file_size:
            sizes = f"{member.compress_size:,} of {member.file_size:,} bytes"
            raise damaged(f"{what} must be whole.", sizes, _COPY)
        if member.header_offset + member.compress_size > self._size:
            end = f"bytes to {member.header_offset + member.compress_size:,} of {self._size:,}"
            raise damaged(f"{what} must lie in the file.", end, _COPY)
        return member

    @contextmanager
    def _stream(self, name: str) -> Iterator[IO[bytes]]:
        """Yield the bytes of a member; what is wrong with them is damage."""
        member = self._member(name)
        try:
            with self._archive.open(member) as stream:
                yield stream
        except FallowError:
            raise
        except Exception as error:  # each way to pack has kinds of its own
            raise damaged(f"`{name}` in {self.path} must be readable.", said(error), _COPY) from None

    def _read(self, stream: IO[bytes], header: ArrayHeader, size: int, *, last: bool) -> bytearray:
        data, at = bytearray(size), 0
        while at < size and (piece := stream.read(min(PIECE, size - at))):
            data[at : at + len(piece)] = piece
            at += len(piece)
        if last:
            stream.read(1)  # only at the end of a file is its checksum looked at
        if at < size:
            what = f"`{header.name}` in {self.path}"
            raise damaged(f"{what} must be whole.", f"{at:,} of {size:,} bytes", _COPY)
        return data

    def _skip_header(self, stream: IO[bytes], name: str) -> tuple[tuple[int, int], bytes]:
        """Read the header of an array; return the version of its format and its bytes."""
        what = f"`{name}` in {self.path}"
        start = stream.read(8)
        if len(start) < 8 or not start.startswith(b"\x93NUMPY"):
            raise damaged(f"{what} must be an array.", "another file", self.save)
        version = start[6], start[7]
        if version not in _VERSIONS:
            raise damaged(f"{what} must be an array of numpy's format 1 to 3.", version, self.save)
        length = stream.read(_VERSIONS[version])
        size = int.from_bytes(length, "little")
        if size > _HEADER:
            rule = f"{what} must have a header of at most {_HEADER:,} bytes."
            raise damaged(rule, f"{size:,}", self.save)
        return version, length + stream.read(size)

    def _parsed(
        self, name: str, header: tuple[tuple[int, int], bytes]
    ) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        version, data = header
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        try:
            shape, fortran, dtype = read(io.BytesIO(data))
        except Exception as error:  # it is Python that somebody else wrote
            rule = f"`{name}` in {self.path} must be an array."
            raise damaged(rule, said(error), self.save) from None
        if any(isinstance(length, bool) or length < 0 for length in shape):
            raise damaged(f"`{name}` in {self.path} must be an array.", f"shape {shape}"[:200], self.save)
        return shape, fortran, dtype


class _Bounded:
    """A file of which little is read at once: the list of an archive is as long as the file says."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read some bytes, or all that are left."""
        left = max(0, self._size - self._file.tell())
        wanted = left if size < 0 else min(size, left)
        if wanted > PIECE:
            raise ValueError(f"a list of arrays of {wanted:,} bytes, of at most {PIECE:,}")
        return self._file.read(wanted)

    def seekable(self) -> bool:
        """Whether places can be gone to."""
        return True


@contextmanager
def open_npz(path: Path, save: str) -> Iterator[NpzFile]:
    """Open a numpy archive.

    Args:
        path: a regular file.
        save: how such a file is saved, for errors.

    Raises:
        DamagedData: if it is none.
    """
    rule = f"{path} must be a numpy archive (.npz)."
    with opened(path) as file:
        size = file.seek(0, io.SEEK_END)
        if not size:
            raise damaged(rule, "an empty file", save)
        try:
            archive = zipfile.ZipFile(_Bounded(file, size))
        except Exception as error:  # as many kinds as there are damages
            found = f"another or a cut-off file: {said(error)}"
            raise damaged(rule, found, save) from None
        with archive:
            yield NpzFile(path, archive, size, save)


def said(error: BaseException) -> str:
    """Return what an error says in one line, or its kind where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__
