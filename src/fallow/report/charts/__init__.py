"""Charts: the use of the samples in a run, and the arms of a comparison."""

from .frontier import frontier_chart as frontier_chart
from .frontier import save_frontier as save_frontier
from .usage import Reached as Reached
from .usage import reached_of as reached_of
from .usage import save_usage as save_usage
from .usage import usage_chart as usage_chart
from .usage_rows import arrange as arrange
from .usage_rows import row_shares as row_shares
from .usage_rows import usage_order as usage_order

__all__ = [
    "Reached",
    "arrange",
    "frontier_chart",
    "reached_of",
    "row_shares",
    "save_frontier",
    "save_usage",
    "usage_chart",
    "usage_order",
]
