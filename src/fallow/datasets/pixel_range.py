"""The values of deep pixels that become black and white: grey of 10, 12, 16 or 32 bits, and floats.

The bit depth of a file says nothing about its values: a 12-bit camera saves 16 bits a pixel, and so do some
programs for 0 to 255. So the range is found in the training images. It is rounded outwards, so that an image
more or less does not change it:

- to 0 and the next of 255, 1023, 4095, 16383, 65535, ..., the ranges of cameras (floats: also 1; a type with
  a sign: at most its own largest value, such as 32767);
- to steps of an eighth to a quarter of the range of the values, if they fill less than a quarter of the range
  above, as those of a thermal camera do, or some are negative.

Whole numbers in 0..255 are 8-bit pixels and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log2
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Depth = Literal["whole", "floats"]
"""The kind of deep pixels: whole numbers of more than 8 bits, or floats."""
BITS = (8, 10, 12, 14, 16, 20, 24, 32)
LARGEST = 2**32 - 1
"""The largest whole number without a sign that a file can hold."""
Extremes = tuple[float, float, int]
"""The smallest and the largest value of some images, and the largest value of the type in their files."""
FILLED = 1 / 4
BLOCK = 1 << 22
"""Values widened to float64 at a time."""


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
        """Return the range of images with values from ``low`` to ``high``, rounded outwards.

        Whole numbers are of a type whose largest value is ``largest``.

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
        # Not below the smallest normal number: `low / step` would be infinite.
        step = max(2.0 ** (ceil(log2(span)) - 3), float(np.finfo(np.float64).tiny))
        if depth == "whole":
            step = max(1, round(step))
        return PixelRange(floor(low / step) * step, ceil(high / step) * step)

    def scaled(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return values of any type as uint8; those outside the range are clipped."""
        scaled = np.empty(values.shape, np.uint8)
        # In blocks, because float64 takes eight times the memory of the result.
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
            ValueError: if no training image has such pixels.
        """
        pixel_range = self.whole if depth == "whole" else self.floats
        if pixel_range is None:
            kind = "floats" if depth == "floats" else "more than 8 bits deep"
            raise ValueError(f"its pixels are {kind}, and no training image tells which value is white")
        return pixel_range

    def dump(self) -> NDArray[np.float64] | None:
        """Return the ends of the two ranges, ``(4,)``, NaN for a missing one; None if both are missing.

        >>> PixelRanges(PixelRange(0, 4095)).dump().tolist()
        [0.0, 4095.0, nan, nan]
        """
        if self == NO_RANGES:
            return None
        ranges = [part or PixelRange(np.nan, np.nan) for part in (self.whole, self.floats)]
        return np.array([(part.low, part.high) for part in ranges], np.float64).ravel()

    @staticmethod
    def restore(ends: NDArray[np.float64] | None) -> PixelRanges:
        """Return the ranges that :meth:`dump` has written.

        >>> PixelRanges.restore(PixelRanges(PixelRange(0, 4095)).dump())
        PixelRanges(whole=PixelRange(low=0.0, high=4095.0), floats=None)
        """
        if ends is None:
            return NO_RANGES
        pairs = [(float(low), float(high)) for low, high in ends.reshape(2, 2)]
        # NaN is not below NaN.
        whole, floats = (PixelRange(low, high) if low < high else None for low, high in pairs)
        return PixelRanges(whole, floats)


NO_RANGES = PixelRanges()


def joined(extremes: Iterable[Extremes]) -> Extremes | None:
    """Return the joint extremes of many images, or None if there are no images.

    >>> joined([(3, 9, 127), (1, 4, 32767)])
    (1, 9, 32767)
    """
    lows, highs, types = list(zip(*extremes, strict=True)) or ((), (), ())
    return (min(lows), max(highs), max(types)) if lows else None
