"""The number that arms are judged by: accuracy, or bits a character for language models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .statistics import Difference

TINY = 1e-12
"""Fewest bits that are counted, since 0 has no logarithm."""


@dataclass(frozen=True)
class Measure:
    """One number that each run ends with.

    Attributes:
        name: in ``summary.json`` and ``results.json``.
        words: its name for people.
        relative: if true, differences are shares of the other's value, and less is better; otherwise they
            are differences of shares, and more is better.
    """

    name: str
    words: str
    relative: bool

    def of(self, row: Mapping[str, Any]) -> float | None:
        """Return the number to subtract, seed by seed: the value, or its logarithm if ``relative``."""
        value = row.get(self.name)
        if value is None:
            return None
        return math.log(max(value, TINY)) if self.relative else float(value)

    def to_dict(self, difference: Difference) -> dict[str, Any]:
        """Return a mean difference for ``results.json``; a difference of logarithms becomes a share."""
        values = asdict(difference) | {"relative": self.relative}
        if self.relative:
            for name in ("mean", "low", "high"):
                values[name] = None if values[name] is None else math.expm1(values[name])
        return values

    def show(self, value: float) -> str:
        """Return a value with its unit.

        >>> ACCURACY.show(0.9034), BITS.show(2.21561)
        ('90.34%', '2.2156 bits a character')
        """
        return f"{value:.4f} {self.words}" if self.relative else f"{value:.2%}"


ACCURACY = Measure("accuracy", "accuracy", relative=False)
BITS = Measure("bits_per_character", "bits a character", relative=True)


def measure_in(rows: Iterable[Mapping[str, Any]]) -> Measure:
    """Return bits a character if any summary is that of a language model; else accuracy."""
    return BITS if any(BITS.name in row for row in rows) else ACCURACY


def measure_of(results: Mapping[str, Any]) -> Measure:
    """Return the measure that a ``results.json`` names."""
    return BITS if results["measure"] == BITS.name else ACCURACY


def gain(difference: dict[str, Any]) -> dict[str, Any]:
    """Return a difference with its sign chosen so that above 0 is better."""
    if not difference["relative"]:
        return difference
    low, high = difference["low"], difference["high"]
    turned = {"low": None if high is None else -high, "high": None if low is None else -low}
    return difference | turned | {"mean": -difference["mean"]}


def gains(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of an arm with the :func:`gain` of each difference."""
    return row | {"against": {name: gain(d) for name, d in row["against"].items()}}


def rate_text(rate: float | None, factor: float) -> str:
    """Return a chosen learning rate, and how it differs from the usual one.

    >>> rate_text(0.15, 0.5), rate_text(0.3, 1.0)
    ('0.15 (x0.5)', '0.3')
    """
    if rate is None:
        return "-"
    return f"{rate:g}" if factor == 1 else f"{rate:g} (x{factor:g})"
