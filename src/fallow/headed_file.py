"""A safetensors file of arrays with one JSON object in its header: what every file of a run begins with."""

from __future__ import annotations

import json
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load, save

from ._checks import damaged

KEY = "fallow"
"""The one entry of the metadata: safetensors writes several in any order."""


def dump_headed(arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> bytes:
    """Return the bytes of a file; ``header`` has ``format`` and is JSON."""
    data: bytes = save(arrays, metadata={KEY: json.dumps(header)})
    return data


def parse_headed(data: bytes, name: str, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return header and arrays of a file of the format ``kind``; ``name`` is for the error.

    Raises:
        DamagedData: for another format.
        SafetensorError, ValueError, TypeError, AttributeError, RecursionError: for another file.
    """
    arrays: dict[str, NDArray[Any]] = load(data)
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(
        json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(KEY, "{}")
    )
    if header.get("format") != kind:
        found = header.get("format", "another file")
        raise damaged(f"{name} must be of the format {kind}.", found, "A newer fallow may read it.")
    return header, arrays
