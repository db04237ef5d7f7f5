"""Random numbers and permutations that are pure functions of a key and a position.

They have no state: the same key and position give the same value in any process, in any order of calls and
for any number of ranks. So nothing has to be saved or kept in step.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

UInt32: TypeAlias = NDArray[np.uint32]
UInt64: TypeAlias = NDArray[np.uint64]

ROUNDS, SMALL, SMALL_ROUNDS = 6, 1 << 14, 16
TABLE = 1 << 17
"""Round functions of up to this many values are tabulated: 17 billion positions, 1 MB per round."""

_MASK = (1 << 64) - 1


def mix(*words: int) -> int:
    """Combine integers into one 64-bit key by chaining the finaliser of SplitMix64.

    References:
        Fast splittable pseudorandom number generators (Steele, Lea and Flood, 2014)

    >>> mix(0, 1) != mix(1, 0)
    True
    """
    state = 0x9E3779B97F4A7C15
    for word in words:
        state = (state ^ (word & _MASK)) * 0xBF58476D1CE4E5B9 & _MASK
        state ^= state >> 27
        state = state * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def _hash(x: UInt32, key: int) -> UInt32:
    """Return a 32-bit hash of each element: two multiply-xorshift rounds."""
    # A new array, so that the lines below can work in place.
    x = x ^ np.uint32(key & 0xFFFFFFFF)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def uniform(key: int, start: int, stop: int) -> NDArray[np.float32]:
    r"""Return one draw in (0, 1] for each position of ``[start, stop)``.

    Args:
        key: any integer, best made by :func:`mix`.
        start: the first position, at least 0.
        stop: one past the last position.

    Returns:
        float32 ``(stop - start,)``; never 0, so that a logarithm may follow.

    >>> bool((uniform(7, 0, 10)[4:] == uniform(7, 4, 10)).all())
    True
    """
    position = np.arange(start, stop, dtype=np.uint64)
    high = (position >> np.uint64(32)).astype(np.uint32)
    bits = _hash(_hash(position.astype(np.uint32), key) ^ high, key >> 32)
    # 24 bits fill the fraction of a float32 exactly; adding 1 excludes 0 and includes 1.
    return ((bits >> np.uint32(8)).astype(np.float32) + np.float32(1.0)) * np.float32(2.0**-24)


class Permutation:
    r"""A keyed permutation of ``range(n)``, evaluated lazily.

    A position is a pair on an :math:`a \times b` grid with :math:`a b \ge n`. A Feistel network over the
    two coordinates shuffles the grid:
    :math:`(l, r) \mapsto ((l + F_k(r)) \bmod a,\; r)` and the same for :math:`r`, in turn. A result
    outside ``range(n)`` follows its cycle until it falls inside, which is rare since
    :math:`a b - n < a`. Time is O(1) per position; memory is one table of :math:`\sqrt n` values per
    round. A small grid needs more rounds to separate neighbours: ``SMALL_ROUNDS`` up to ``SMALL``
    positions, ``ROUNDS`` above.

    References:
        Ciphers with Arbitrary Finite Domains (Black and Rogaway, 2002)

    Args:
        n: the number of positions, from 0 to 2^62.
        key: any integer, best made by :func:`mix`.

    Example:
        >>> sorted(Permutation(5, key=3)(np.arange(5)).tolist())
        [0, 1, 2, 3, 4]
    """

    def __init__(self, n: int, key: int) -> None:
        self.n = n
        columns = max(1, math.isqrt(max(n - 1, 0)) + 1)
        self._sides = columns, max(1, -(-n // columns))
        rounds = SMALL_ROUNDS if n <= SMALL else ROUNDS
        self._keys = [mix(key, turn) for turn in range(rounds)]
        self._tables: list[UInt64] | None = None
        if columns <= TABLE:
            values = [np.arange(side, dtype=np.uint64) for side in self._sides]
            self._tables = [
                _steps(values[1 - turn % 2], k, self._sides[turn % 2]) for turn, k in enumerate(self._keys)
            ]

    def __call__(self, position: NDArray[np.integer]) -> UInt64:
        """Return the image of each position: ``(K,) -> (K,)`` uint64, all below ``n``."""
        image = self._grid(position.astype(np.uint64))
        outside = np.flatnonzero(image >= np.uint64(self.n))
        while outside.size:
            image[outside] = self._grid(image[outside])
            outside = outside[image[outside] >= np.uint64(self.n)]
        return image

    def _grid(self, position: UInt64) -> UInt64:
        columns = np.uint64(self._sides[0])
        row = position // columns
        at = [position - row * columns, row]
        for turn, key in enumerate(self._keys):
            moved = turn % 2
            fixed = 1 - moved
            size = np.uint64(self._sides[moved])
            if self._tables is None:
                step = _steps(at[fixed], key, self._sides[moved])
            else:
                step = self._tables[turn].take(at[fixed].view(np.int64), mode="clip")
            step += at[moved]
            at[moved] = np.minimum(step, step - size, out=step)  # below 0 wraps to the top
        image: UInt64 = at[1] * columns + at[0]
        return image


def _steps(x: UInt64, key: int, size: int) -> UInt64:
    """Return a draw from ``range(size)`` for each ``x``: the round function."""
    draw = _hash(x.astype(np.uint32), key).astype(np.uint64)
    # Scaling by a product and a shift needs no division.
    return (draw * np.uint64(size)) >> np.uint64(32)
