"""Where data are missing, and what to collect: how samples look to a trained network and its density."""

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
