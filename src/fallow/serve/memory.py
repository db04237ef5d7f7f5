"""Memory that work has let go of, for the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _found() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another system than Linux with glibc
        return None
    return trim


_trim = _found()


def give_back() -> None:
    """Give back to the system what is free; else each thread keeps what it once used."""
    if _trim is not None:
        _trim(0)
