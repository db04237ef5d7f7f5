"""Sizes of memory as people write them. Loads no torch."""

from __future__ import annotations

import re

from ..errors import invalid

_UNITS = {"b": 1} | {
    f"{letter}{kind}": base ** (power + 1)
    for power, letter in enumerate("kmgt")
    for kind, base in (("b", 1000), ("ib", 1024))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def bytes_of(name: str, text: str) -> int:
    """Return the number of bytes that a text names.

    Args:
        name: of the option, for the error.
        text: a number and a unit.

    Raises:
        InvalidValue: if the text is no size.

    >>> bytes_of("cache", "4GiB"), bytes_of("cache", "1.5 MB"), bytes_of("cache", "0")
    (4294967296, 1500000, 0)
    """
    match = _SIZE.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match is None or not (unit in _UNITS or (not unit and float(match[1]) == 0)):
        step = "Write for example 4GiB, 500MB, or 0."
        raise invalid(f"--{name} must be a number with the unit kB, MB, GB, KiB, MiB or GiB.", text, step)
    return int(float(match[1]) * _UNITS.get(unit, 1))
