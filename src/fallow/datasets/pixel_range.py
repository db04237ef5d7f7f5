"""Which values of deep pixels are black and white: grey of 10, 12, 16 or 32 bits, and floats.

The bits that a file reserves say nothing about the values in it: a 12-bit camera saves 16 bits a pixel, and
so does a program that means 0 to 255. The range is therefore found over the training images. It is rounded
outwards, so that an image more or less leaves it as it is:

- to 0 and the next of 255, 1023, 4095, 16383, 65535, ..., which are what cameras mean (floats: also 1; a type
  with a sign: at most its own largest value, as 32767);
- if the values fill less than a quarter of that, as a thermal camera's do, or some are below 0: to steps of
  an eighth to a quarter of what they fill. Whole numbers in 0..255 are 8-bit pixels and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log2
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Depth = Literal["whole", "floats"]
"""What deep pixels are: whole numbers of more than 8 bits, or floats."""
BITS = (8, 10, 12, 14, 16, 20, 24, 32)
LARGEST = 2**32 - 1
"""The largest whole number of a file that has no signs."""
Extremes = tuple[float, float, int]
"""The smallest and the largest value of some images, and the largest that the type in their files has."""
FILLED = 1 / 4
BLOCK = 1 << 22
"""Values that are widened to float64 at a time."""


@dataclass(frozen=True)
class PixelRange:
    """The values that become 0 and 255.

    >>> PixelRange(0, 4095).scaled(np.array([-7, 0, 2048, 5000]))
    array([  0,   0, 128, 255], dtype=uint8)
    """

    low: float
    high: float

    @staticmethod
    def around(low: float, high: float, depth: Depth, largest: int = LARGEST) -> PixelRange:
        """Return the range of images whose smallest and largest value are given, rounded outwards.

        Args:
            low: the smallest value.
            high: the largest.
            depth: what they are.
            largest: the largest value that their type has, if they are whole numbers.

        >>> PixelRange.around(12, 3871, "whole")
        PixelRange(low=0, high=4095)
        >>> PixelRange.around(0, 30_000, "whole", 2**15 - 1)
        PixelRange(low=0, high=32767)
        >>> PixelRange.around(28_112, 31_940, "whole")
        PixelRange(low=27648, high=32256)
        >>> PixelRange.around(0, 0.93, "floats")
        PixelRange(low=0, high=1)
        """
        tops = [2**bits - 1 for bits in BITS]
        if depth == "floats":
            tops.insert(0, 1)
        else:
            tops = [top for top in tops if top < largest] + [largest]
        top = next((top for top in tops if top >= high), None)
        span = high - low
        eight_bits = depth == "whole" and top == 255
        if low >= 0 and top is not None and (span == 0 or eight_bits or span >= FILLED * top):
            return PixelRange(0, top)
        if span == 0:
            return PixelRange(min(low, 0), high if top is None else top)
        step = max(2.0 ** (ceil(log2(span)) - 3), float(np.finfo(np.float64).tiny))
        if depth == "whole":
            step = max(1, round(step))
        return PixelRange(floor(low / step) * step, ceil(high / step) * step)

    def scaled(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return values of any type as uint8; those outside the range are clipped."""
        scaled = np.empty(values.shape, np.uint8)
        rows = max(1, BLOCK // max(1, values[:1].size))
        for start in range(0, len(values), rows):
            block = values[start : start + rows].astype(np.float64)
            block = (block - self.low) * (255 / (self.high - self.low))
            scaled[start : start + rows] = np.clip(np.rint(block), 0, 255)
        return scaled

    def __str__(self) -> str:
        whole = not (self.low % 1 or self.high % 1) and max(-self.low, self.high) < 2**33
        return f"{self.low:,.0f} to {self.high:,.0f}" if whole else f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class PixelRanges:
    """The ranges of the deep pixels of a training set; None if it has no such images."""

    whole: PixelRange | None = None
    floats: PixelRange | None = None

    def of(self, depth: Depth) -> PixelRange:
        """Return the range of one kind of pixels.

        Raises:
            ValueError: saying that no training image tells it.
        """
        found = self.whole if depth == "whole" else self.floats
        if found is None:
            kind = "floats" if depth == "floats" else "more than 8 bits deep"
            raise ValueError(f"its pixels are {kind}, and no training image tells which value is white")
        return found

    def dump(self) -> NDArray[np.float64] | None:
        """Return the ends of the two ranges, ``(4,)``, NaN for one that is missing; None if both are.

        >>> PixelRanges(PixelRange(0, 4095)).dump().tolist()
        [0.0, 4095.0, nan, nan]
        """
        if self == NO_RANGES:
            return None
        ends = [(np.nan, np.nan) if one is None else (one.low, one.high) for one in (self.whole, self.floats)]
        return np.array(ends, np.float64).ravel()

    @staticmethod
    def restore(ends: NDArray[np.float64] | None) -> PixelRanges:
        """Return the ranges that :meth:`dump` gave.

        >>> PixelRanges.restore(PixelRanges(PixelRange(0, 4095)).dump())
        PixelRanges(whole=PixelRange(low=0.0, high=4095.0), floats=None)
        """
        if ends is None:
            return NO_RANGES
        pairs = [(float(low), float(high)) for low, high in ends.reshape(2, 2)]
        whole, floats = (PixelRange(low, high) if low < high else None for low, high in pairs)
        return PixelRanges(whole, floats)


NO_RANGES = PixelRanges()


def joined(extremes: Iterable[Extremes]) -> Extremes | None:
    """Return the extremes of many images from those of each, or None.

    >>> joined([(3, 9, 127), (1, 4, 32767)])
    (1, 9, 32767)
    """
    lows, highs, types = list(zip(*extremes, strict=True)) or ((), (), ())
    return (min(lows), max(highs), max(types)) if lows else None
