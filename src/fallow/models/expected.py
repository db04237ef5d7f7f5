"""The images that a network of another library expects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """The images on which a network was trained, or for which it is made.

    Attributes:
        side: in pixels; None if any will do.
        mean, std: of the channels, in [0, 1] units, by which they were normalised; empty if unknown.
    """

    side: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
