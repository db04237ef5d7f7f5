"""Does leaving samples out pay on this data? Several arms, the same seeds, two plain controls.

Names are imported when they are first used, so that the command line can show its help at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .running import Comparison as Comparison
    from .running import compare as compare

__all__ = ["Comparison", "compare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import running

    return getattr(running, name)
