"""The range of deep pixels, found over the training images, and how it is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .decoding import Header, read_extremes
from .listing import number
from .pixel_range import NO_RANGES, Depth, Extremes, PixelRange, PixelRanges, joined

_KINDS: tuple[Depth, ...] = ("whole", "floats")
_BLOCK = 1024
"""Images that are counted at a time."""
_RARE, _FEW, _WIDE = 0.001, 16, 64
"""It is said if all pixels but a small share at either end lie in few levels of a wide range."""


def find_extremes(training: Sequence[Path], headers: Mapping[Path, Header]) -> dict[Depth, Extremes]:
    """Return the extremes of the training images, for each kind of deep pixels that they have.

    An image that cannot be decoded counts for nothing here; whoever decodes it finds out why.

    Args:
        training: the files.
        headers: of these, and of others.
    """
    found: dict[Depth, Extremes] = {}
    for depth in _KINDS:
        deep = [path for path in training if headers[path].depth == depth]
        pairs = joined(pair for pair in read_extremes(deep) if not isinstance(pair, str)) if deep else None
        if pairs is not None:
            found[depth] = pairs
    return found


def ranges_of(extremes: Mapping[Depth, Extremes], kept: PixelRanges = NO_RANGES) -> PixelRanges:
    """Return by which ranges images are scaled: those that are kept, else those found.

    >>> ranges_of({"whole": (3, 1000, 65535)}).whole
    PixelRange(low=0, high=1023)
    """
    found = {depth: PixelRange.around(low, high, depth, top) for depth, (low, high, top) in extremes.items()}
    return PixelRanges(kept.whole or found.get("whole"), kept.floats or found.get("floats"))


def range_notes(
    extremes: Mapping[Depth, Extremes], ranges: PixelRanges, headers: Mapping[Path, Header]
) -> list[str]:
    """Return a sentence on each kind of deep pixels: how many images, the range found, what becomes of it."""
    notes = []
    eight = sum(header.depth is None for header in headers.values())
    for depth, (low, high, _) in extremes.items():
        used = ranges.of(depth)
        count = sum(header.depth == depth for header in headers.values())
        kind = "pixels of more than 8 bits" if depth == "whole" else "floats for pixels"
        what = f"{number(count, 'image')} with {kind}"
        seen = f"{PixelRange(low, high)} found in those to train on"
        same = (used.low, used.high) == (0, 255)
        done = "they stay as they are" if same else f"{used} becomes 0 to 255"
        if low < used.low or high > used.high:
            done += ", as before, and what lies outside is clipped"
        rest = f"; the {eight:,} of 8 bits stay as they are" if eight else ""
        notes.append(f"{what}: {seen}, so {done}{rest}.")
    return notes


def crowding_notes(
    images: NDArray[np.uint8], training: Sequence[Path], headers: Mapping[Path, Header]
) -> list[str]:
    """Return a sentence for each kind of deep pixels of which a few make the range too wide for the others.

    Args:
        images: ``(N, C, H, W)``, those to train on, as they are read.
        training: their files.
        headers: of these, and of others.
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
            share = f"{1 - 2 * _RARE:.1%} of their pixels"
            notes.append(
                f"{share} lie between {low} and {high} of 0 to 255: a few others make the range so wide. "
                "Mend these images, or save all of them with 8 bits, if there is more to see."
            )
    return notes
