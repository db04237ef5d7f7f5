"""How much memory a number of samples takes, and whether this machine has it."""

from __future__ import annotations

import os

from ..errors import invalid

ROW = 8
"""Bytes that the table keeps of each sample: score 4, epoch of it 2, reason 1, seen 1."""
PLANNING = 2
"""Bytes a sample that planning an epoch takes on top: masks, and the bits of the plan."""


def check_memory(n: int) -> None:
    """Raise for more samples than fit into the memory of this machine, as far as it tells how much it has.

    Without this a table would fail half made, or the system would end the process.

    Raises:
        InvalidValue: naming what they would take, and what there is.
    """
    there = installed()
    needed = n * (ROW + PLANNING)
    if there is not None and needed > there:
        raise invalid(
            f"{n:,} samples must fit into memory: their table takes {ROW + PLANNING} bytes a sample, "
            f"{_size(needed)} in all.",
            f"{_size(there)} in this machine",
            "Check `n`: it is the length of the training set.",
        )


def installed() -> int | None:
    """Return the bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _size(count: int) -> str:
    """Return a number of bytes as people write it.

    >>> _size(10**13), _size(5 * 10**8)
    ('10,000 GB', '0.5 GB')
    """
    giga = count / 1e9
    return f"{giga:,.0f} GB" if giga >= 10 else f"{giga:.1g} GB"
