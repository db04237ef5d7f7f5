"""Find where data are missing, and choose what to collect, by a trained network and its density."""

from .choosing import Choice, Plan, choose
from .novelty import LIMIT, InputNovelty
from .regions import THIN, Region, Regions, find_regions
from .survey import Survey, Surveyor

__all__ = [
    "LIMIT",
    "THIN",
    "Choice",
    "InputNovelty",
    "Plan",
    "Region",
    "Regions",
    "Survey",
    "Surveyor",
    "choose",
    "find_regions",
]
