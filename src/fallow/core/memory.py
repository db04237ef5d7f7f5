"""Check that the table of a number of samples fits into memory."""

from __future__ import annotations

import os

from ..errors import invalid

ROW = 8
"""Bytes per sample in the table: score 4, its epoch 2, reason 1, seen 1."""
PLANNING = 2
"""Further bytes per sample while an epoch is planned: masks, and the bits of the plan."""


def check_memory(n: int) -> None:
    """Raise if ``n`` samples do not fit into the memory of this machine.

    Otherwise allocating the table could fail half way, or the system could kill the process.

    Raises:
        InvalidValue: if the memory is known and too small.
    """
    step = "Check `n`, the length of the training set. ShardedSubsampler divides a large one among the ranks."
    check_fits(n * (ROW + PLANNING), f"{n:,} samples", step)


def check_fits(needed: int, what: str, step: str) -> None:
    """Raise if something does not fit into the memory of this machine.

    Args:
        needed: bytes.
        what: it, in words.
        step: what to do then.

    Raises:
        InvalidValue: if the memory is known and too small.
    """
    available = installed_memory()
    if available is not None and needed > available:
        rule = f"{what} must fit into memory: their table takes {_size(needed)}."
        raise invalid(rule, f"{_size(available)} in this machine", step)


def installed_memory() -> int | None:
    """Return the bytes of memory of this machine; None if the system does not say, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Windows has no sysconf; other systems may not know one of the names.
    except (AttributeError, ValueError, OSError):
        return None


def _size(count: int) -> str:
    """Return a number of bytes in GB.

    >>> _size(10**13), _size(5 * 10**8)
    ('10,000 GB', '0.5 GB')
    """
    giga = count / 1e9
    return f"{giga:,.0f} GB" if giga >= 10 else f"{giga:.1g} GB"
