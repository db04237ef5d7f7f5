"""What ``fallow gaps`` found, kept in the run for its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from ._checks import DamagedData, damaged
from .headed_file import dump_headed, parse_headed

FORMAT = "fallow-gaps-1"
_STEP = "Call fallow gaps again."
_UNREADABLE = (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, eq=False)
class GapsFile:
    """``gaps.safetensors``.

    Attributes:
        told: what ``fallow gaps --json`` prints: an object whose ``gaps`` and ``thin`` are lists of cards.
        pictures: uint8 ``(K, H, W, C)``, C 1 or 3, which the cards' examples and prototypes name by
            ``picture``; or None.
    """

    told: Mapping[str, Any]
    pictures: NDArray[np.uint8] | None = None

    def dump(self) -> bytes:
        """Return the bytes of the file."""
        arrays = {"there": np.ones(1, np.uint8)}
        if self.pictures is not None:
            arrays["pictures"] = np.ascontiguousarray(self.pictures)
        return dump_headed(arrays, {"format": FORMAT, "told": dict(self.told)})

    @staticmethod
    def read(path: Path) -> GapsFile:
        """Read the file.

        Raises:
            DamagedData: where it cannot be read, or is of another format.
        """
        try:
            header, arrays = parse_headed(path.read_bytes(), str(path), FORMAT)
            told, pictures = header["told"], arrays.get("pictures")
            sound = all(isinstance(told[name], list) for name in ("gaps", "thin"))
            sound = sound and all(isinstance(card, dict) for card in [*told["gaps"], *told["thin"]])
            if pictures is not None:
                sound &= pictures.dtype == np.uint8 and pictures.ndim == 4 and pictures.shape[3] in (1, 3)
        except DamagedData:
            raise
        except _UNREADABLE as error:
            raise damaged(f"{path} must be readable.", error, _STEP) from None
        if not sound:
            raise damaged(f"{path} must hold lists of cards.", "something else", _STEP)
        return GapsFile(told, pictures)
