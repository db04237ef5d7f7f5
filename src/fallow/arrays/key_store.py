"""Positions of samples that are known by a key: 20 bytes a sample, whatever the keys are."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid_type

Digests: TypeAlias = NDArray[np.uint64]
"""What stands for keys: ``(K, 2)``."""
_WHOLE = np.uint64(0x9E3779B97F4A7C15)
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
    keys = list(keys)
    if all(type(key) is int for key in keys):
        if any(not -(1 << 63) <= key < 1 << 64 for key in keys):
            raise _wrong("a whole number of more than 64 bits")
        first = np.array([key & 0xFFFFFFFFFFFFFFFF for key in keys], np.uint64)
        return np.stack([first, np.full(first.size, _WHOLE)], axis=1)
    parts = []
    for key in keys:
        if type(key) is int:
            parts.append(digests([key]).tobytes())
        elif isinstance(key, str):
            parts.append(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest())
        else:
            raise _wrong(key)
    return np.frombuffer(b"".join(parts), np.uint64).reshape(-1, 2)


def _wrong(key: Any) -> Exception:
    rule = "Keys must be texts or whole numbers of at most 64 bits, one for each sample."
    return invalid_type(rule, repr(key)[:80], "Pass the id of each sample, such as a file name.")


def unique(keys: Digests) -> tuple[Digests, NDArray[np.int64]]:
    """Return the different digests, ascending, and for each where it is first: ``(U, 2)``, ``(U,)``."""
    order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
    ascending = keys[order]
    first = np.ones(len(keys), np.bool_)
    first[1:] = (ascending[1:] != ascending[:-1]).any(axis=1)
    return ascending[first], order[first].astype(np.int64)


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
        order = np.lexsort((second, first))
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

    def digests(self) -> Digests:
        """Return the digests of all keys by position: ``(N, 2)``."""
        by_row = np.empty((len(self), 2), np.uint64)
        by_row[self._rows] = np.stack([self._first, self._second], axis=1)
        return by_row
