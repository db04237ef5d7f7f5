"""Step rules: each decides which rows or tokens of a batch a training step uses."""

from .base import StepRule as StepRule
from .base import chosen_rows as chosen_rows
from .selective_backprop import SelectiveBackprop as SelectiveBackprop
from .token_threshold import TokenThreshold as TokenThreshold

__all__ = ["SelectiveBackprop", "StepRule", "TokenThreshold", "chosen_rows"]
