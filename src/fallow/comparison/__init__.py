"""Does leaving samples out pay on this data? Several arms, the same seeds, two plain controls."""

from .running import Comparison as Comparison
from .running import compare as compare

__all__ = ["Comparison", "compare"]
