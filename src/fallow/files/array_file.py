"""The format of a run's array files: safetensors with one JSON object in the metadata."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import damaged
from .checked_json import Count, check_kind, parse_json
from .regular_file import read_regular

KEY = "fallow"
"""The only metadata entry: safetensors writes several in arbitrary order, so bytes would differ."""
_MAX_HEADER = 1 << 24
"""Maximum length of a header in bytes."""
_MAX_ARRAYS = 200
_UNREADABLE = (SafetensorError, LookupError, ValueError, TypeError, OverflowError)

Header = TypeVar("Header")


def dump_headed(arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> bytes:
    """Return the bytes of a file; ``header`` is a JSON object with an entry ``format``."""
    data: bytes = save(arrays, metadata={KEY: json.dumps(header)})
    return data


def read_headed(path: Path, limit: int, step: str, inside: Path | None = None) -> bytes:
    """Return the bytes of a file in a run; see :func:`fallow.files.regular_file.opened`.

    Args:
        path: the file.
        limit: its maximum size in bytes.
        step: the next step if the file is damaged, for errors.
        inside: the folder of the run; by default the folder of the file.

    Raises:
        DamagedData: if it is missing or cannot be read.
    """
    try:
        return read_regular(path, inside or path.parent, limit)
    except FileNotFoundError:
        raise damaged(f"{path} must exist.", "no such file", step) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, step) from None


def parse_headed(
    data: bytes, name: str, format: str, kind: type[Header], step: str
) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Return the header and the arrays of a file.

    Args:
        data: the whole file.
        name: the name of the file, for errors.
        format: the expected ``format`` in its header.
        kind: the msgspec class of its header.
        step: the next step if the file is damaged, for errors.

    Raises:
        DamagedData: if the file has another format, or its header is invalid.
    """
    length = _header_length(data[:8], len(data), name, step)
    # safetensors loads bytes without their metadata, so the header is read here.
    _, checked = _headers(data[8 : 8 + length], name, format, kind, step)
    try:
        return checked, load(data)
    except _UNREADABLE as error:
        raise damaged(f"{name} must be readable.", error, step) from None


class Place(NamedTuple):
    """Where an array lies in a file.

    Attributes:
        kind: the type of its values.
        shape: of the array.
        start: of its first byte in the file.
    """

    kind: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


def read_places(
    file: IO[bytes], name: str, format: str, kind: type[Header], step: str
) -> tuple[Header, dict[str, Place]]:
    """Return the header of an open file, and where its arrays lie, without reading these.

    Args:
        file: the file, at its beginning.
        name: the name of the file, for errors.
        format: the expected ``format`` in its header.
        kind: the msgspec class of its header.
        step: the next step if the file is damaged, for errors.

    Raises:
        DamagedData: if the file has another format, its header is invalid, or an array is not whole.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = _header_length(file.read(8), size, name, step)
    outer, checked = _headers(file.read(length), name, format, kind, step)
    begin, places = 8 + length, dict[str, Place]()
    for array, found in outer.items():
        if array == "__metadata__":
            continue
        entry = check_kind(_Entry, found, f"The header of {name}", step)
        dtype = np.dtype(_KINDS[entry.dtype])
        start, stop = entry.data_offsets
        bytes_ = math.prod(entry.shape) * dtype.itemsize
        if stop - start != bytes_ or begin + stop > size:
            raise damaged(f"{name} must hold the whole of `{array}`.", f"{size:,} bytes in all", step)
        places[array] = Place(dtype, tuple(entry.shape), begin + start)
    return checked, places


_KINDS = {
    "U8": np.uint8,
    "U16": np.uint16,
    "F32": np.float32,
    "I32": np.int32,
    "I64": np.int64,
    "U64": np.uint64,
}


class _Entry(msgspec.Struct):
    """What the header of a safetensors file says of an array, if it is of a type that runs have."""

    dtype: Literal["U8", "U16", "F32", "I32", "I64", "U64"]
    shape: Annotated[list[Count], msgspec.Meta(max_length=8)]
    data_offsets: tuple[Count, Count]


def _header_length(first: bytes, size: int, name: str, step: str) -> int:
    """Return the length of the header of a file of ``size`` bytes, from its first 8 bytes."""
    # A safetensors file starts with the length of its header, 8 bytes, and the header, JSON.
    length = int.from_bytes(first, "little")
    if size < 8 or length > min(_MAX_HEADER, size - 8):
        raise damaged(f"{name} must be readable.", "a truncated file, or another format", step)
    return length


def _headers(
    data: bytes, name: str, format: str, kind: type[Header], step: str
) -> tuple[dict[str, Any], Header]:
    """Return the header of safetensors, and ours inside it."""
    outer = parse_json(data, f"The header of {name}", step)
    if isinstance(outer, dict) and len(outer) > _MAX_ARRAYS:
        raise damaged(f"{name} must hold at most {_MAX_ARRAYS} arrays.", f"{len(outer):,}", step)
    metadata = outer.get("__metadata__") if isinstance(outer, dict) else None
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    header = parse_json(text.encode(), f"The header of {name}", step) if isinstance(text, str) else {}
    saved_format = header.get("format", "another file") if isinstance(header, dict) else "another file"
    if saved_format != format:
        raise damaged(
            f"{name} must be of the format {format}.", f"{saved_format!s:.60}", "A newer fallow may read it."
        )
    return outer, check_kind(kind, header, f"The header of {name}", step)
