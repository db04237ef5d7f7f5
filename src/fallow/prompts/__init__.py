"""Prompts of a post-training with rewards: which to draw, and which are solved or hopeless."""

from .prompts import Prompts as Prompts
from .reasons import PromptReason as PromptReason
from .rule import chance_of_mixed as chance_of_mixed
from .tally import PromptEpoch as PromptEpoch
from .tally import PromptSummary as PromptSummary
