"""The range of deep pixels, found in the training images, and the notes on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .decoding import Header, read_extremes
from .messages import plural
from .pixel_range import NO_RANGES, Depth, Extremes, PixelRange, PixelRanges, joined

_KINDS: tuple[Depth, ...] = ("whole", "floats")
_BLOCK = 1024
"""Images counted at a time."""
_RARE, _FEW, _WIDE = 0.001, 16, 64
"""A range of WIDE levels is crowded if all pixels but this share at either end lie in less than FEW."""


def find_extremes(training: Sequence[Path], headers: Mapping[Path, Header]) -> dict[Depth, Extremes]:
    """Return the extremes of the training images, for each kind of deep pixels that they have.

    An image that cannot be decoded is skipped here and reported when it is decoded.
    """
    extremes: dict[Depth, Extremes] = {}
    for depth in _KINDS:
        deep = [path for path in training if headers[path].depth == depth]
        pairs = joined(pair for pair in read_extremes(deep) if not isinstance(pair, str)) if deep else None
        if pairs is not None:
            extremes[depth] = pairs
    return extremes


def ranges_of(extremes: Mapping[Depth, Extremes], kept: PixelRanges = NO_RANGES) -> PixelRanges:
    """Return the ranges by which images are scaled: those that are kept, else those of the extremes.

    >>> ranges_of({"whole": (3, 1000, 65535)}).whole
    PixelRange(low=0, high=1023)
    """
    ranges = {depth: PixelRange.around(low, high, depth, top) for depth, (low, high, top) in extremes.items()}
    return PixelRanges(kept.whole or ranges.get("whole"), kept.floats or ranges.get("floats"))


def range_notes(
    extremes: Mapping[Depth, Extremes], ranges: PixelRanges, headers: Mapping[Path, Header]
) -> list[str]:
    """Return a note on each kind of deep pixels: the number of images, their range, and its scaling."""
    notes = []
    rest = "; those of 8 bits stay as they are" if any(h.depth is None for h in headers.values()) else ""
    for depth, (low, high, _) in extremes.items():
        used = ranges.of(depth)
        count = sum(header.depth == depth for header in headers.values())
        kind = "pixels of more than 8 bits" if depth == "whole" else "floats for pixels"
        unchanged = (used.low, used.high) == (0, 255)
        scaling = "they stay as they are" if unchanged else f"{used} becomes 0 to 255"
        if low < used.low or high > used.high:
            scaling += ", as before, and values outside are clipped"
        notes.append(
            f"{plural(count, 'image')} with {kind}: {PixelRange(low, high)} found in those to train on, "
            f"so {scaling}{rest}."
        )
    return notes


def crowding_notes(
    images: NDArray[np.uint8], training: Sequence[Path], headers: Mapping[Path, Header]
) -> list[str]:
    """Return a note for each kind of deep pixels if a few of them make the range too wide for the others.

    The images are those of ``training``, scaled, ``(N, C, H, W)``.
    """
    notes = []
    for depth in _KINDS:
        rows = np.array([row for row, path in enumerate(training) if headers[path].depth == depth], np.int64)
        counts = np.zeros(256, np.int64)
        for start in range(0, rows.size, _BLOCK):
            block = images[rows[start : start + _BLOCK]]
            counts += np.bincount(block.ravel(), minlength=256)
        if not rows.size:
            continue
        used = np.flatnonzero(counts)
        shares = counts.cumsum() / counts.sum()
        low, high = np.searchsorted(shares, [_RARE, 1 - _RARE])
        if used[-1] - used[0] >= _WIDE and high - low < _FEW:
            notes.append(
                f"{1 - 2 * _RARE:.1%} of their pixels lie between {low} and {high} of 0 to 255: a few others "
                "make the range so wide. If there is more to see, mend these images, or save all of "
                "them with 8 bits."
            )
    return notes
