"""The LightningModule of ``fallow train --task text``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..core.subsampler import Subsampler
from ..scores.base import Score
from ..step_rules import StepRule
from .base import Recipe, adamw
from .classifier import Classifier

Batch = tuple[Tensor, Tensor]
_GROUP = 16
"""Texts per forward pass if they are grouped by length."""


class TextTask(Classifier):
    """Lightning module of a text classifier, with AdamW; see :class:`TaskModule`.

    Args:
        network: from token ids ``(B, T)`` to logits ``(B, classes)``.
        pad: the id of padding.
        subsampler: its progress drives the learning rate.
        recipe: the hyper-parameters.
        score: the score to record; the loss is always the KL divergence.
        step_rule: chooses the rows of a batch that get a backward pass; None for all.
        by_length: on a CPU, pass texts of similar length together, so that short ones need less padding. Not
            for a network in which the rows of a batch interact, as with batch normalisation.
    """

    def __init__(
        self,
        network: nn.Module,
        pad: int,
        subsampler: Subsampler,
        recipe: Recipe,
        score: Score | Callable[[Tensor, Tensor], Tensor] | None = None,
        step_rule: StepRule | None = None,
        *,
        by_length: bool = False,
    ) -> None:
        super().__init__(network, subsampler, recipe)
        self._measured_by(score, step_rule)
        self.pad, self.by_length = pad, by_length

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of token ids ``(B, T)``."""
        return self.logits(tokens)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of token ids ``(B, T)``."""
        groups = self._groups(inputs)
        if groups is None:
            return super().logits(inputs)
        parts = [super(TextTask, self).logits(inputs[rows, :width]) for rows, width in groups]
        # Back into the order of the batch, by the inverse permutation.
        return torch.cat(parts)[torch.cat([rows for rows, _ in groups]).argsort()]

    def _groups(self, tokens: Tensor) -> list[tuple[Tensor, int]] | None:
        """Return the rows and the width of each pass, shortest texts first; None for a single pass."""
        if not self.by_length or tokens.device.type != "cpu" or len(tokens) < 2 * _GROUP:
            return None
        # Reading lengths would make a GPU wait; these are on the CPU.
        lengths = _lengths(tokens, self.pad)
        # Sorted by length, so the last row of a group is its longest.
        return [(rows, int(lengths[rows[-1]])) for rows in torch.split(lengths.argsort(), _GROUP)]

    def rows_of_passes(self, batch: Batch) -> list[Tensor] | None:
        """Return the rows of each forward pass in turn; None if one pass takes all."""
        groups = self._groups(batch[0])
        return None if groups is None else [rows for rows, _ in groups]

    def inputs(self, batch: Batch, key: int | None) -> Tensor:
        """Return the token ids."""
        return batch[0]

    def token_mask(self, batch: Batch) -> Tensor:
        """Return the mask of the tokens that are not padding, bool ``(B, T)``."""
        return batch[0] != self.pad

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return adamw(self.network, self.recipe)


def _lengths(tokens: Tensor, pad: int) -> Tensor:
    """Return the length of each row without padding at its end, at least 1: int64 ``(B,)``.

    >>> _lengths(torch.tensor([[5, 0, 6, 0], [0, 0, 0, 0]]), 0).tolist()
    [3, 1]
    """
    at = torch.arange(1, tokens.shape[1] + 1)
    return ((tokens != pad) * at).amax(1).clamp_min(1)
