"""A set of samples as one bit each, with rank and select.

``select(r)`` is the r-th member. It turns a permutation of ``range(len(set))`` into an order of the members
without a list of N indices. Memory: N/8 bytes of bits, N/16 bytes of directory, 4 bytes per 64 members.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .keyed import UInt64

_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_STEPS = 6
LISTED = 1 << 22
"""Sets of up to this many members also keep a list (at most 16 MB): a look-up is faster than a select."""


def _bit_of_rank() -> NDArray[np.uint8]:
    """Return a table: ``[rank * 256 + byte]`` is the position of the ``rank``-th set bit of the byte."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    table = np.zeros((8, 256), np.uint8)
    byte, position = np.nonzero(bits)
    rank = (bits.cumsum(axis=1) - 1)[byte, position]
    table[rank, byte] = position
    return table.reshape(-1)


_BIT_OF_RANK = _bit_of_rank()


class Bitset:
    """The subset of ``range(n)`` given by a mask.

    Args:
        mask: bool ``(n,)``.

    Example:
        >>> kept = Bitset(np.array([False, True, False, True, True]))
        >>> len(kept), kept.select(np.array([0, 2])).tolist()
        (3, [1, 4])
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        packed = np.packbits(mask, bitorder="little")
        words = np.zeros(-(-packed.size // 8) * 8, np.uint8)
        words[: packed.size] = packed
        self._index(words.view(np.uint64), int(mask.size))

    @staticmethod
    def of_words(words: UInt64, n: int) -> Bitset:
        """Return the set whose bits are ``words``, uint64 ``(ceil(n / 64),)``; it does not copy them."""
        bits = Bitset.__new__(Bitset)
        bits._index(words, n)
        return bits

    def _index(self, words: UInt64, n: int) -> None:
        """Make the list of the members, or the directory of the words."""
        self.n, self._words = n, words
        wide = np.uint64 if self.n >= 2**32 else np.uint32
        self._size = int(np.bitwise_count(words).sum(dtype=np.int64))
        self._members: NDArray[Any] | None = None
        if self._size <= LISTED:
            self._members = np.flatnonzero(unpack(words.view(np.uint8), n)).astype(wide)
            return
        self._before: NDArray[Any] = np.zeros(self._words.size + 1, wide)
        np.cumsum(np.bitwise_count(self._words), out=self._before[1:], dtype=wide)
        milestones = np.arange(0, self._size, 64, dtype=wide)
        self._near = (np.searchsorted(self._before, milestones, side="right") - 1).astype(wide)

    def __len__(self) -> int:
        return self._size

    def packed(self) -> NDArray[np.uint8]:
        """Return the bits, least significant first: uint8 ``(ceil(n / 8),)``."""
        return self._words.view(np.uint8)[: -(-self.n // 8)].copy()

    def contains(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each of ``(K,)`` numbers below ``n`` is a member: bool ``(K,)``."""
        bits = self._words[index >> 6] >> (index & 63).astype(np.uint64)
        return np.asarray((bits & np.uint64(1)).astype(np.bool_))

    def mask(self) -> NDArray[np.bool_]:
        """Return the set as a bool mask ``(n,)``."""
        return unpack(self._words.view(np.uint8), self.n)

    def select(self, rank: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the member of each rank: ``(K,)`` ranks below ``len(self)`` -> int64 ``(K,)``.

        Sets of up to ``LISTED`` members look it up in a list. Larger ones have a directory of the word of
        every 64th member. A few steps from there lead to the word of the rank, or a binary search if
        members are sparse; then that word is searched.

        References:
            Broadword Implementation of Rank/Select Queries (Vigna, 2008)
        """
        if self._members is not None:
            return self._members.take(rank.astype(np.int64, copy=False)).astype(np.int64)
        # searchsorted would convert the whole directory if the types differed.
        rank = rank.astype(self._before.dtype)
        word: NDArray[np.int64] = self._near[rank >> rank.dtype.type(6)].astype(np.int64)
        behind = np.flatnonzero(self._before[word + 1] <= rank)
        for _ in range(_STEPS):
            if not behind.size:
                break
            word[behind] += 1
            behind = behind[self._before[word[behind] + 1] <= rank[behind]]
        if behind.size:
            word[behind] = np.searchsorted(self._before, rank[behind], side="right") - 1
        inside = (rank - self._before[word]).astype(np.uint64)
        word *= 64
        word += _select_in_word(self._words[word >> 6], inside)
        return word


def unpack(packed: NDArray[np.uint8], n: int) -> NDArray[np.bool_]:
    """Return the mask that :meth:`Bitset.packed` wrote: bool ``(n,)``."""
    return np.unpackbits(packed, count=n, bitorder="little").view(np.bool_)


def _select_in_word(word: UInt64, rank: UInt64) -> NDArray[np.int64]:
    """Return the position of the ``rank``-th set bit of each word, from 0."""
    # Vigna's algorithm 2: sideways addition gives the number of set bits up to each byte, eight at a time.
    pairs = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + (
        (pairs >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    bytes_ = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    up_to = bytes_ * _ONES
    full = (((rank * _ONES) | _HIGHS) - up_to) & _HIGHS
    shift: UInt64 = np.bitwise_count(full).astype(np.uint64) << np.uint64(3)
    left = rank - (((up_to << np.uint64(8)) >> shift) & np.uint64(0xFF))
    byte = (word >> shift) & np.uint64(0xFF)
    shift += _BIT_OF_RANK[(left << np.uint64(8)) | byte]
    position: NDArray[np.int64] = shift.view(np.int64)
    return position
