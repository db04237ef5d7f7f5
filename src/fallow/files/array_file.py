"""A safetensors file of arrays with one JSON object in its header: what every file of a run begins with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import damaged
from .checked_json import check_kind, parse_json
from .regular_file import read_regular

KEY = "fallow"
"""The one entry of the metadata: safetensors writes several in any order."""
_LONGEST = 1 << 24
"""Bytes of a header, at most."""
_MOST_ARRAYS = 200
_UNREADABLE = (SafetensorError, LookupError, ValueError, TypeError, OverflowError)

Header = TypeVar("Header")


def dump_headed(arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> bytes:
    """Return the bytes of a file; ``header`` has ``format`` and is JSON."""
    data: bytes = save(arrays, metadata={KEY: json.dumps(header)})
    return data


def read_headed(path: Path, limit: int, step: str, inside: Path | None = None) -> bytes:
    """Return the bytes of a file in the folder of a run; see :func:`fallow.files.regular_file.opened`.

    Args:
        path: of the file.
        limit: the most bytes that it may have.
        step: what to do about a damaged one, for errors.
        inside: the folder of the run; that of the file by default.

    Raises:
        DamagedData: if it is missing or cannot be read.
    """
    try:
        return read_regular(path, inside or path.parent, limit)
    except FileNotFoundError:
        raise damaged(f"{path} must be there.", "no such file", step) from None
    except OSError as error:
        raise damaged(f"{path} must be readable.", error.strerror, step) from None


def parse_headed(
    data: bytes, name: str, format: str, kind: type[Header], step: str
) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Return header and arrays of a file.

    Args:
        data: the whole file.
        name: of the file, for errors.
        format: what it says of itself.
        kind: the class of :mod:`fallow.files.schema` that its header has.
        step: what to do about a damaged one, for errors.

    Raises:
        DamagedData: if it is another file, or its header is not what it should be.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_LONGEST, len(data) - 8):
        raise damaged(f"{name} must be readable.", "a file cut short, or another one", step)
    outer = parse_json(data[8 : 8 + length], f"The header of {name}", step)
    if isinstance(outer, dict) and len(outer) > _MOST_ARRAYS:
        raise damaged(f"{name} must hold a few arrays.", f"{len(outer):,}", step)
    metadata = outer.get("__metadata__") if isinstance(outer, dict) else None
    inner = metadata.get(KEY) if isinstance(metadata, dict) else None
    header = parse_json(inner.encode(), f"The header of {name}", step) if isinstance(inner, str) else {}
    if not isinstance(header, dict) or header.get("format") != format:
        found = header.get("format", "another file") if isinstance(header, dict) else "another file"
        raise damaged(
            f"{name} must be of the format {format}.", f"{found!s:.60}", "A newer fallow may read it."
        )
    checked = check_kind(kind, header, f"The header of {name}", step)
    try:
        return checked, load(data)
    except _UNREADABLE as error:
        raise damaged(f"{name} must be readable.", error, step) from None
