"""Comparisons: arms are trained with the same seeds and judged against full training and plain controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .running import Comparison as Comparison
    from .running import compare as compare

__all__ = ["Comparison", "compare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import running  # loads numpy and matplotlib, which --help does without

    return getattr(running, name)
