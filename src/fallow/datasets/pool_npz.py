"""A pool in a numpy archive, read in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedData, InvalidValue, invalid
from .class_names import WIDEST, as_ids
from .npz_file import MOST, ArrayHeader, NpzFile, open_npz
from .pool_part import PART, UNKNOWN, WHOLE, Kind, PoolPart, check_unchanged, shared

_SAVE = "Save it with `numpy.savez(path, x=...)`."


class NpzPool:
    """``x`` of a numpy archive, and ``y`` if all its values are classes of the run."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, kind: Kind) -> None:
        self.name = str(path.absolute())
        self._path = path
        self._kind = kind
        with open_npz(path, _SAVE) as file:
            (x,) = file.headers(["x"])
            if x.fortran or len(x.shape) < 3:
                rule = f"`x` in {path} must be images (N, H, W) or (N, C, H, W), row by row."
                raise invalid(rule, "Fortran order" if x.fortran else f"shape {x.shape}", _SAVE)
            if min(x.shape) < 1:
                raise invalid(f"`x` in {path} must hold images.", f"shape {x.shape}", _SAVE)
            kind.check("x", x.shape, x.dtype)
            self.total: int | None = x.shape[0]
            reason = self._unusable(file, x)
        self._labelled = reason is None
        if reason:
            self.notes = (f"`y` in {path} is not used: {reason}.",)

    def parts(
        self, index: NDArray[np.int64] | None = None, share: tuple[int, int] = WHOLE
    ) -> Iterator[PoolPart]:
        """See :class:`Pool`."""
        with open_npz(self._path, _SAVE) as file:
            x, *labels = file.headers(["x", "y"] if self._labelled else ["x"])
            check_unchanged(self._path, x.shape[0] if x.shape else 0, self.total or 0)
            size = math.prod(x.shape[1:]) * x.dtype.itemsize
            widths = [math.prod(y.shape[1:]) * y.dtype.itemsize for y in labels]
            step = max(1, min(PART, MOST // max([size, *widths])))
            # Of equal step, so that the blocks of both arrays hold the same samples.
            ids: Iterator[Any] = repeat((0, None))
            if labels:
                ids = file.blocks(labels[0], step)
            blocks = zip(file.blocks(x, step), ids, strict=False)
            for rows, (start, block), (_, given) in shared(_with_rows(blocks, index), share):
                classes = np.full(len(block), UNKNOWN) if given is None else self._classes(given, start)
                images = self._kind.images("x", block[rows - start], rows)
                yield PoolPart(rows, images, classes[rows - start])

    def _unusable(self, file: NpzFile, x: ArrayHeader) -> str | None:
        """Return why ``y`` cannot be used as the classes of ``x``: "" if it is missing, None if it can."""
        if "y" not in file.names:
            return ""
        try:
            (y,) = file.headers(["y"])
            if y.shape[:1] != x.shape[:1] or len(y.shape) > 2 or max(y.shape[1:], default=0) > WIDEST:
                return f"its shape is {y.shape}, and there are {x.shape[0]:,} images"
            if y.fortran:
                return "it is in Fortran order"
            for start, block in file.blocks(y):
                unknown = np.flatnonzero(self._classes(block, start) < 0)
                if unknown.size:
                    value = as_ids("y", block, start)[unknown[0]]
                    return f"{str(value)!r} at sample {start + unknown[0]} is no class of the run"
        except DamagedData:
            raise
        except InvalidValue as error:  # other arrays of a pool may be anything
            return str(error).removesuffix(".")
        return None

    def _classes(self, block: NDArray[np.generic], start: int) -> NDArray[np.int64]:
        """Return the class of each label, -1 for one that the run does not have."""
        ids, inverse = np.unique(as_ids("y", block, start), return_inverse=True)
        return np.array([self._kind.label(value) for value in ids.tolist()], np.int64)[inverse]


def _with_rows(blocks: Iterable[tuple[Any, Any]], index: NDArray[np.int64] | None) -> Iterator[Any]:
    """Yield the rows of an index, or all rows, with the blocks of both arrays that hold them."""
    for (start, block), given in blocks:
        if index is not None and start > index.max(initial=-1):
            return
        rows = np.arange(start, start + len(block))
        if index is not None:
            rows = index[(index >= start) & (index < start + len(block))]
        if rows.size:
            yield rows, (start, block), given
