"""Predicting the next token: the LightningModule behind ``fallow train --task language-model``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..arrays.distributed import gather_rows, rank_and_size
from ..core.subsampler import Subsampler
from ..runs.training_state import TASK
from ..scores.base import is_no_score
from ..scores.linear import Measured, linear_kl
from ..scores.sequence import token_kl
from ..step_rules import TokenThreshold
from .base import Recipe, TaskModule, adamw

_IGNORED = -100


class LanguageModelTask(TaskModule):
    """Trains a language model on windows of text, with AdamW; see :class:`TaskModule`.

    A sample is a window; its score is the mean surprise of its tokens, in nats.

    Args:
        network: token ids ``(B, T)`` to logits ``(B, T, V)``; with a method ``hidden`` and an ``nn.Linear``
            called ``head``, as :class:`~fallow.models.SmallGPT` has them, loss and score come from one pass
            over blocks of logits.
        tokens_per_character: of the text that it is evaluated on.
        subsampler: whose progress drives the learning rate.
        recipe: how to train.
        token_rule: which tokens of a window are trained on; None for all.

    Attributes:
        token_counts: int64 ``(3,)``, tokens of this epoch on this rank: all, learned, outliers.
    """

    def __init__(
        self,
        network: nn.Module,
        tokens_per_character: float,
        subsampler: Subsampler,
        recipe: Recipe,
        token_rule: TokenThreshold | None = None,
    ) -> None:
        super().__init__(network, subsampler, recipe)
        self.tokens_per_character, self.token_rule = tokens_per_character, token_rule
        # No buffer: with several ranks those are made equal to the first rank's.
        self.token_counts = self._counted = torch.zeros(3, dtype=torch.int64)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the logits ``(B, T, V)`` of windows ``(B, T + 1)``."""
        logits: Tensor = self.network(windows[:, :-1].clamp_min(0))
        return logits

    def token_mask(self, batch: Tensor) -> Tensor:
        """Return which tokens are no filling, bool ``(B, T)``."""
        return batch[:, :-1] != _IGNORED

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and the score of each window."""
        rule = self.token_rule
        acts = rule is not None and rule.acts(self.subsampler.progress)
        found = self.measured(batch, rule if acts else None)
        if acts and rule is not None:
            there = ~is_no_score(found.tokens)
            parts = (there, there & rule.learned(found.tokens), there & rule.outliers(found.tokens))
            self.token_counts = self.token_counts + torch.stack([part.sum() for part in parts])
        return {"loss": found.loss, "per_sample_loss": found.scores}

    def measured(self, batch: Tensor, rule: TokenThreshold | None = None) -> Measured:
        """Return loss and scores of windows ``(B, T + 1)``, each after the token before its first."""
        tokens, targets = batch[:, :-1].clamp_min(0), batch[:, 1:]
        weights = self.sample_weights if torch.is_grad_enabled() else None
        head, states = getattr(self.network, "head", None), getattr(self.network, "hidden", None)
        if isinstance(head, nn.Linear) and callable(states):
            hidden = states(tokens)
            return linear_kl(hidden, head.weight, targets, bias=head.bias, weights=weights, keep=rule)
        logits = self.network(tokens)
        values = token_kl(logits, targets)
        there = ~is_no_score(values.detach())
        counts = there.sum(1).clamp_min(1)
        trained = there if rule is None else there & rule(values.detach())
        losses = values.where(trained, 0.0).sum(1) / counts
        if weights is not None:
            losses = losses * weights
        scores = (values.detach().where(there, 0.0).sum(1) / counts).where(
            there.any(1), values.detach()[:, 0]
        )
        predicted = None if torch.is_grad_enabled() else logits.argmax(2)
        return Measured(losses.sum() / there.any(1).sum().clamp_min(1), scores, values.detach(), predicted)

    def score_batch(self, batch: Tensor) -> Tensor:
        """Return the scores of windows, ``(B,)``, as in training."""
        return self.measured(batch).scores

    def on_train_epoch_start(self) -> None:
        """Count the tokens anew, or go on counting."""
        counted = self._counted if self._before() else torch.zeros_like(self._counted)
        self.token_counts = counted.to(self.device)

    def told_of_epoch(self) -> dict[str, Any]:
        """Return how many tokens of the epoch were left out and why, over all ranks; every rank calls it."""
        if self.token_rule is None:
            return {}
        counts = self.trainer.strategy.reduce(self.token_counts.clone(), reduce_op="sum")
        every, learned, outliers = (int(count) for count in counts.tolist())
        return {"tokens": every, "tokens_learned": learned, "tokens_outliers": outliers}

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the mean surprise of a token in nats, bits a character, and how often its guess is right."""
        found = self.measured(batch)
        there = ~is_no_score(found.tokens)
        count = int(there.sum())
        if not count:
            return
        loss = found.tokens.where(there, 0.0).double().sum() / count
        self.log("test_loss", loss, batch_size=count, sync_dist=True)
        bits = loss / math.log(2) * self.tokens_per_character
        self.log("test_bits_per_character", bits, batch_size=count, sync_dist=True)
        assert found.predicted is not None
        right = (found.predicted == batch[:, 1:]).sum() / count
        self.log("test_accuracy", right, batch_size=count, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the counts of the epoch under way too, of all ranks; every rank calls it."""
        super().on_save_checkpoint(checkpoint)
        counts = gather_rows(self.token_counts.cpu().numpy())
        checkpoint[TASK]["token_counts"] = sum(torch.from_numpy(part) for (part,) in counts)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what :meth:`on_save_checkpoint` saved."""
        super().on_load_checkpoint(checkpoint)
        counted = checkpoint[TASK]["token_counts"]
        self._counted = counted if rank_and_size()[0] == 0 else torch.zeros_like(counted)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return adamw(self.network, self.recipe)
