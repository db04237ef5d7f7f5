"""Step rules: they act inside a batch and say which of its rows a step trains on."""

from .base import StepRule as StepRule
from .base import chosen_rows as chosen_rows
from .selective_backprop import SelectiveBackprop as SelectiveBackprop

__all__ = ["SelectiveBackprop", "StepRule", "chosen_rows"]
