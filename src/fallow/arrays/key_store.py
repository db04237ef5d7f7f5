"""Positions of samples that are known by a key: 20 bytes a sample, whatever the keys are."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from sys import byteorder
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid_type

Digests: TypeAlias = NDArray[np.uint64]
"""What stands for keys: ``(K, 2)``."""
_int = int.from_bytes
_WHOLE = 0x9E3779B97F4A7C15
"""The second word of a key that is a whole number, whose first word is the number itself."""


def digests(keys: Any) -> Digests:
    """Return 128 bits for each key: the BLAKE2 digest of a text, or a whole number as it is.

    Args:
        keys: texts or whole numbers; a tensor or an array of whole numbers will do.

    Raises:
        InvalidType: if a key is neither.
    """
    if hasattr(keys, "tolist"):
        keys = keys.tolist()
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise _wrong(keys)
    keys = [_plain(key) for key in keys]
    if all(type(key) is int for key in keys):
        if any(not -(1 << 63) <= key < 1 << 64 for key in keys):
            raise _wrong("a whole number of more than 64 bits")
        first = np.array([key & 0xFFFFFFFFFFFFFFFF for key in keys], np.uint64)
        # The bits of -1 are those of 2**64 - 1 too.
        second = np.array([_WHOLE + (key >> 63 == 1) for key in keys], np.uint64)
        return np.stack([first, second], axis=1)
    parts = []
    for key in keys:
        if type(key) is int:
            parts.append(digests([key]).tobytes())
        elif isinstance(key, str):
            parts.append(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest())
        else:
            raise _wrong(key)
    return np.frombuffer(b"".join(parts), np.uint64).reshape(-1, 2)


def _plain(key: Any) -> Any:
    """Return a number of numpy or torch as one of Python."""
    return key.item() if hasattr(key, "item") and getattr(key, "ndim", None) == 0 else key


def _wrong(key: Any) -> Exception:
    rule = "Keys must be texts or whole numbers of at most 64 bits, one for each sample."
    return invalid_type(rule, repr(key)[:80], "Pass the id of each sample, such as a file name.")


def digest(key: Any) -> tuple[int, int]:
    """Return the two words of one key, faster than :func:`digests`."""
    if isinstance(key, str):
        words = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return _int(words[:8], byteorder), _int(words[8:], byteorder)
    first, second = digests([key])[0].tolist()
    return first, second


def ascending(keys: Digests) -> NDArray[np.int64]:
    """Return the stable order in which digests ascend, by the first word and then by the second: ``(K,)``."""
    order = np.argsort(keys[:, 0], kind="stable")
    first, second = keys[order, 0], keys[order, 1]
    tied = first[1:] == first[:-1]
    # Keys that differ hardly ever share their first word.
    if (second[1:][tied] != second[:-1][tied]).any():
        order = np.lexsort((keys[:, 1], keys[:, 0]))
    return order.astype(np.int64, copy=False)


def unique(keys: Digests) -> tuple[Digests, NDArray[np.int64], NDArray[np.int64]]:
    """Return the different digests, ascending; where each is first; and which of them each key is.

    The shapes are ``(U, 2)``, ``(U,)`` and ``(K,)``.
    """
    order = ascending(keys)
    in_order = keys[order]
    is_first = np.ones(len(keys), np.bool_)
    is_first[1:] = (in_order[1:] != in_order[:-1]).any(axis=1)
    which = np.empty(len(keys), np.int64)
    which[order] = np.cumsum(is_first) - 1
    return in_order[is_first], order[is_first], which


class KeyStore:
    """The position of each key, from 0 in the order in which the keys were added.

    Example:
        >>> store = KeyStore()
        >>> store.add(digests(["a", "b"]))
        >>> store.find(digests(["b", "c"])).tolist()
        [1, -1]
    """

    def __init__(self) -> None:
        self._first, self._second = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        self._rows: NDArray[Any] = np.zeros(0, np.uint32)

    def __len__(self) -> int:
        return int(self._rows.size)

    @property
    def nbytes(self) -> int:
        """The bytes that the store takes."""
        return self._first.nbytes + self._second.nbytes + self._rows.nbytes

    def add(self, keys: Digests) -> None:
        """Add different keys that are not in the store yet: ``(K, 2)``."""
        total = len(self) + len(keys)
        kind = np.uint32 if total < 1 << 32 else np.uint64
        first, second = (
            np.concatenate([self._first, keys[:, 0]]),
            np.concatenate([self._second, keys[:, 1]]),
        )
        rows = np.concatenate([self._rows.astype(kind), np.arange(len(self), total, dtype=kind)])
        order = ascending(np.stack([first, second], axis=1))
        self._first, self._second, self._rows = first[order], second[order], rows[order]

    def find(self, keys: Digests) -> NDArray[np.int64]:
        """Return the position of each key, -1 for one that is not in the store: ``(K,)``."""
        found = np.full(len(keys), -1, np.int64)
        if not len(self):
            return found
        at = np.searchsorted(self._first, keys[:, 0])
        looking = np.arange(len(keys))
        # Keys with an equal first word lie side by side.
        while looking.size:
            place = at[looking]
            inside = place < len(self)
            inside[inside] = self._first[place[inside]] == keys[looking[inside], 0]
            looking, place = looking[inside], place[inside]
            hit = self._second[place] == keys[looking, 1]
            found[looking[hit]] = self._rows[place[hit]]
            looking = looking[~hit]
            at[looking] += 1
        return found

    def row(self, first: int, second: int) -> int:
        """Return the position of one key, given its two words, or -1; faster than :meth:`find`."""
        at, n = int(self._first.searchsorted(np.uint64(first))), len(self)
        while at < n and self._first[at] == first:
            if self._second[at] == second:
                return int(self._rows[at])
            at += 1
        return -1

    def digests(self) -> Digests:
        """Return the digests of all keys by position: ``(N, 2)``."""
        by_row = np.empty((len(self), 2), np.uint64)
        by_row[self._rows] = np.stack([self._first, self._second], axis=1)
        return by_row
