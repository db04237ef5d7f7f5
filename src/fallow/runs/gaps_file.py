"""The result of ``fallow gaps``, kept in the run for its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import damaged
from ..files.array_file import dump_headed, parse_headed, read_headed
from ..files.checked_json import check_kind, finite
from .schema import Gaps, GapsHeader

FORMAT = "fallow-gaps-1"
_STEP = "Run fallow gaps again."
_LARGEST = 1 << 28
"""Maximum size of the file in bytes."""


@dataclass(frozen=True, eq=False)
class GapsFile:
    """``gaps.safetensors``.

    Attributes:
        gaps: the gaps.
        pictures: uint8 ``(K, H, W, C)``, C 1 or 3, or None. ``picture`` of a sample is an index into it.
    """

    gaps: Gaps
    pictures: NDArray[np.uint8] | None = None

    @staticmethod
    def read(path: Path) -> GapsFile:
        """Read the file.

        Raises:
            DamagedData: if it cannot be read, or is in another format.
        """
        return GapsFile.parse(read_headed(path, _LARGEST, _STEP), str(path))

    @staticmethod
    def parse(data: bytes, path: str) -> GapsFile:
        """Return the content of a file's bytes; ``path`` names it in errors.

        Raises:
            DamagedData: as :meth:`read`.
        """
        header, arrays = parse_headed(data, path, FORMAT, GapsHeader, _STEP)
        gaps = gaps_of(header.told, path)
        pictures = arrays.get("pictures")
        if pictures is not None and (
            pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in (1, 3)
        ):
            rule = f"{path} must hold pictures, uint8 (K, H, W, C) with C 1 or 3."
            raise damaged(rule, f"{pictures.dtype} {pictures.shape}", _STEP)
        return GapsFile(gaps, pictures)


def dump_gaps(output: dict[str, Any], pictures: NDArray[np.uint8] | None = None) -> bytes:
    """Return the bytes of the file, with the output of ``fallow gaps --json``."""
    arrays = {"there": np.ones(1, np.uint8)}  # part of the format since its first version
    if pictures is not None:
        arrays["pictures"] = np.ascontiguousarray(pictures)
    return dump_headed(arrays, {"format": FORMAT, "told": output})


def gaps_of(output: dict[str, Any], name: str = "The list of gaps") -> Gaps:
    """Return the output of ``fallow gaps --json`` as an object; ``name`` names it in errors.

    Raises:
        DamagedData: if a value has another type or is out of range.
    """
    return check_kind(Gaps, finite(output), name, _STEP)
