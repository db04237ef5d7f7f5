"""What arms are judged by: accuracy, or bits a character where language models are compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .statistics import Difference

TINY = 1e-12
"""Bits that count as none: a text that says nothing new has no logarithm."""


@dataclass(frozen=True)
class Measure:
    """One number that each run ends with.

    Attributes:
        name: in ``summary.json`` and ``results.json``.
        words: what it is called.
        relative: differences are shares of the other's value, and less is better; otherwise they are
            differences of shares, and more is better.
    """

    name: str
    words: str
    relative: bool

    def of(self, row: Mapping[str, Any]) -> float | None:
        """Return what is subtracted, seed by seed: the value; its logarithm where differences are shares."""
        value = row.get(self.name)
        return None if value is None else math.log(max(value, TINY)) if self.relative else float(value)

    def to_dict(self, found: Difference) -> dict[str, Any]:
        """Return a mean difference as ``results.json`` has it; of logarithms it becomes a share."""
        told = asdict(found) | {"relative": self.relative}
        ends = {name: told[name] for name in ("mean", "low", "high") if told[name] is not None}
        return told | ({name: math.expm1(end) for name, end in ends.items()} if self.relative else {})

    def show(self, value: float) -> str:
        """Return a value as people read it.

        >>> ACCURACY.show(0.9034), BITS.show(2.21561)
        ('90.34%', '2.2156 bits a character')
        """
        return f"{value:.4f} {self.words}" if self.relative else f"{value:.2%}"


ACCURACY = Measure("accuracy", "accuracy", relative=False)
BITS = Measure("bits_per_character", "bits a character", relative=True)


def measure_in(rows: Iterable[Mapping[str, Any]]) -> Measure:
    """Return bits a character if any summary is of a language model, diverged or not; else accuracy."""
    return BITS if any(BITS.name in row for row in rows) else ACCURACY


def measure_of(results: Mapping[str, Any]) -> Measure:
    """Return what the arms of a ``results.json`` are judged by."""
    return BITS if results["measure"] == BITS.name else ACCURACY


def gain(difference: dict[str, Any]) -> dict[str, Any]:
    """Return a difference turned so that above 0 is better."""
    if not difference["relative"]:
        return difference
    low, high = difference["low"], difference["high"]
    turned = {"low": None if high is None else -high, "high": None if low is None else -low}
    return difference | turned | {"mean": -difference["mean"]}


def gains(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of an arm with its differences turned so that above 0 is better."""
    return row | {"against": {name: gain(d) for name, d in row["against"].items()}}
