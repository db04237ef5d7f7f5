"""A memory of bounded size: what was used longest ago goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Bounded(Generic[Value]):
    """Values by key, of at most so many bytes in all.

    Args:
        most: the largest sum of sizes.
        size: the size of a value, in bytes.
    """

    def __init__(self, most: int, size: Callable[[Value], int]) -> None:
        self._most, self._size = most, size
        self._values: OrderedDict[Hashable, tuple[int, Value]] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """Return a value that was put, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][1]

    def put(self, key: Hashable, value: Value) -> None:
        """Remember a value, unless it alone is too large."""
        size = self._size(value)
        with self._lock:
            self._total -= self._values.pop(key, (0, value))[0]
            if size > self._most:
                return
            self._values[key] = size, value
            self._total += size
            while self._total > self._most:
                _, (gone, _) = self._values.popitem(last=False)
                self._total -= gone
