"""Pictures or texts of the samples that a report shows, kept beside the history."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.thumbnails import SIDE
from ..errors import damaged, invalid
from ..files.array_file import dump_headed, parse_headed, read_headed
from ..files.checked_json import check_kind, parse_json
from .schema import ShownHeader

FORMAT = "fallow-shown-1"
EXCERPT = 500
"""The longest text, in characters."""
_STEP = "Put back a copy of it, or remove it: a report works without pictures."
_LARGEST = 1 << 26
"""Maximum size of the file in bytes."""


@dataclass(frozen=True, eq=False)
class ThumbnailsFile:
    """``history/shown.safetensors``: K samples at the end of an epoch.

    Attributes:
        epoch: its number, from 0.
        index: int64 ``(K,)``, the samples.
        predicted: int32 ``(K,)``, the class last predicted for each, -1 if unknown.
        pictures: uint8 ``(K, H, W, C)``, C 1 or 3, no side longer than 96; or None.
        texts: K excerpts of at most 500 characters, or None.
    """

    epoch: int
    index: NDArray[np.int64]
    predicted: NDArray[np.int32]
    pictures: NDArray[np.uint8] | None = None
    texts: tuple[str, ...] | None = None

    def renumbered(self, index: NDArray[np.int64]) -> ThumbnailsFile:
        """Return the file with new sample numbers ``(K,)``; samples with a negative number are dropped."""
        kept = np.flatnonzero(index >= 0)
        pictures = None if self.pictures is None else self.pictures[kept]
        texts = None if self.texts is None else tuple(self.texts[row] for row in kept.tolist())
        return ThumbnailsFile(self.epoch, index[kept], self.predicted[kept], pictures, texts)

    def dump(self) -> bytes:
        """Return the bytes of the file; long texts are cut.

        Raises:
            InvalidValue: if the arrays do not match each other.
        """
        if problem := self._problem():
            raise invalid(*problem)
        arrays: dict[str, NDArray[Any]] = {"index": self.index, "predicted": self.predicted}
        if self.pictures is not None:
            arrays["pictures"] = np.ascontiguousarray(self.pictures)
        if self.texts is not None:
            packed = zlib.compress(json.dumps([text[:EXCERPT] for text in self.texts]).encode(), 6)
            arrays["texts"] = np.frombuffer(packed, np.uint8)
        return dump_headed(arrays, {"format": FORMAT, "epoch": self.epoch})

    @staticmethod
    def read(path: Path) -> ThumbnailsFile:
        """Read the file in ``RUN/history``.

        Raises:
            DamagedData: if it is missing, truncated, in another format or inconsistent.
        """
        return ThumbnailsFile.parse(read_headed(path, _LARGEST, _STEP, path.parents[1]), str(path))

    @staticmethod
    def parse(data: bytes, path: str) -> ThumbnailsFile:
        """Return the content of a file's bytes; ``path`` names it in errors.

        Raises:
            DamagedData: as :meth:`read`.
        """
        header, arrays = parse_headed(data, path, FORMAT, ShownHeader, _STEP)
        for name in ("index", "predicted"):
            if name not in arrays:
                raise damaged(f"{path} must hold `{name}`.", ", ".join(arrays) or "no arrays", _STEP)
        texts = _texts(path, arrays["texts"], arrays["index"].size) if "texts" in arrays else None
        pictures = arrays.get("pictures")
        file = ThumbnailsFile(header.epoch, arrays["index"], arrays["predicted"], pictures, texts)
        if problem := file._problem():
            raise damaged(f"{path} must be consistent: {problem[0]}", problem[1], _STEP)
        return file

    def _problem(self) -> tuple[str, str] | None:
        """Return a violated rule and the value found, or None."""
        k = self.index.size
        rules: list[tuple[str, NDArray[Any], type[np.generic], tuple[int, ...]]] = [
            ("`index` must be int64 (K,), not negative.", self.index, np.int64, (k,)),
            (f"`predicted` must be int32 ({k},).", self.predicted, np.int32, (k,)),
        ]
        if self.pictures is not None:
            shape = (k, *self.pictures.shape[1:])
            rule = f"`pictures` must be uint8 ({k}, H, W, 1 or 3), sides 1 to {SIDE}."
            sides = self.pictures.shape[1:3]
            fits = self.pictures.ndim == 4 and self.pictures.shape[3] in (1, 3)
            if not (fits and min(sides) >= 1 and max(sides) <= SIDE):
                return rule, f"shape {self.pictures.shape}"
            rules += [(rule, self.pictures, np.uint8, shape)]
        for rule, rows, kind, shape in rules:
            if rows.dtype != kind or rows.shape != shape:
                return rule, f"{rows.dtype} {rows.shape}"
        if k and self.index.min() < 0:
            return rules[0][0], str(self.index.min())
        if self.texts is not None and len(self.texts) != k:
            return f"`texts` must be {k}.", str(len(self.texts))
        return None


def _texts(path: str, packed: NDArray[Any], count: int) -> tuple[str, ...]:
    """Return the texts, each cut to the maximum length. A zip bomb unpacks no further than they need."""
    limit = 64 + 16 * EXCERPT * count  # a character takes at most twelve bytes of JSON
    try:
        data = zlib.decompressobj().decompress(packed.tobytes(), limit)
    except zlib.error as error:
        raise damaged(f"{path} must be readable.", error, _STEP) from None
    texts = check_kind(list[str], parse_json(data, f"`texts` in {path}", _STEP), path, _STEP)
    return tuple(text[:EXCERPT] for text in texts)
