"""The format of a run's array files: safetensors with one JSON object in the metadata."""

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
    # A safetensors file starts with the length of its header, 8 bytes, and the header, JSON.
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_HEADER, len(data) - 8):
        raise damaged(f"{name} must be readable.", "a truncated file, or another format", step)
    # safetensors loads bytes without their metadata, so the header is read here.
    outer = parse_json(data[8 : 8 + length], f"The header of {name}", step)
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
    checked = check_kind(kind, header, f"The header of {name}", step)
    try:
        return checked, load(data)
    except _UNREADABLE as error:
        raise damaged(f"{name} must be readable.", error, step) from None
