"""Charts: which samples a run used, and what arms of a comparison reach with how many samples."""

from .frontier import frontier_chart as frontier_chart
from .frontier import save_frontier as save_frontier
from .usage import block_shares as block_shares
from .usage import save_usage as save_usage
from .usage import usage_chart as usage_chart
from .usage import usage_order as usage_order

__all__ = ["block_shares", "frontier_chart", "save_frontier", "save_usage", "usage_chart", "usage_order"]
