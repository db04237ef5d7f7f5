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
    available = installed_memory()
    needed = n * (ROW + PLANNING)
    if available is not None and needed > available:
        raise invalid(
            f"{n:,} samples must fit into memory: their table takes {ROW + PLANNING} bytes per sample, "
            f"{_size(needed)} in all.",
            f"{_size(available)} in this machine",
            "Check `n`: it is the length of the training set.",
        )


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
