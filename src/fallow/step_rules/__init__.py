"""Step rules: they act inside a batch and say which of its rows, or tokens, a step trains on."""

from .base import StepRule as StepRule
from .base import chosen_rows as chosen_rows
from .selective_backprop import SelectiveBackprop as SelectiveBackprop
from .token_threshold import TokenThreshold as TokenThreshold

__all__ = ["SelectiveBackprop", "StepRule", "TokenThreshold", "chosen_rows"]
