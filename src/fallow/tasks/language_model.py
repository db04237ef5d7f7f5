"""The LightningModule of ``fallow train --task language-model``."""

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

_IGNORED = -100  # the default `ignore_index` of torch's cross-entropy


class LanguageModelTask(TaskModule):
    """Lightning module of a language model on windows of text, with AdamW; see :class:`TaskModule`.

    A sample is a window; its score is the mean cross-entropy of its tokens, in nats.

    Args:
        network: from token ids ``(B, T)`` to logits ``(B, T, V)``. If it has a method ``hidden`` and an
            ``nn.Linear`` called ``head``, like :class:`~fallow.models.SmallGPT`, loss and score come from one
            pass over blocks of logits.
        tokens_per_character: the ratio in the text that it is evaluated on.
        subsampler: its progress drives the learning rate.
        recipe: the hyper-parameters.
        token_rule: chooses the tokens of a window that are trained on; None for all.

    Attributes:
        token_counts: the tokens of this epoch on this rank: all, learned, outliers; int64 ``(3,)``.
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
        # Not a buffer: DDP would overwrite it with the first rank's.
        self.token_counts = self._counted = torch.zeros(3, dtype=torch.int64)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the logits ``(B, T, V)`` of windows ``(B, T + 1)``."""
        logits: Tensor = self.network(windows[:, :-1].clamp_min(0))
        return logits

    def token_mask(self, batch: Tensor) -> Tensor:
        """Return the mask of the tokens that are not padding, bool ``(B, T)``."""
        return batch[:, :-1] != _IGNORED

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and the score of each window."""
        rule = self.token_rule
        acts = rule is not None and rule.acts(self.subsampler.progress)
        measured = self.measured(batch, rule if acts else None)
        if acts and rule is not None:
            scored = ~is_no_score(measured.tokens)
            parts = (scored, scored & rule.learned(measured.tokens), scored & rule.outliers(measured.tokens))
            self.token_counts = self.token_counts + torch.stack([part.sum() for part in parts])
        return {"loss": measured.loss, "per_sample_loss": measured.scores}

    def measured(self, batch: Tensor, rule: TokenThreshold | None = None) -> Measured:
        """Return loss and scores of windows ``(B, T + 1)``; the first token is only an input."""
        # Padding is -100, which an embedding cannot look up.
        tokens, targets = batch[:, :-1].clamp_min(0), batch[:, 1:]
        # A measurement, which needs no gradient, must not depend on weights.
        weights = self.sample_weights if torch.is_grad_enabled() else None
        head, states = getattr(self.network, "head", None), getattr(self.network, "hidden", None)
        if isinstance(head, nn.Linear) and callable(states):
            hidden = states(tokens)
            return linear_kl(hidden, head.weight, targets, bias=head.bias, weights=weights, keep=rule)
        logits = self.network(tokens)
        values = token_kl(logits, targets)
        scored = ~is_no_score(values.detach())
        counts = scored.sum(1).clamp_min(1)
        trained = scored if rule is None else scored & rule(values.detach())
        # Over all tokens, whichever are trained on: docs/decisions/019.
        losses = values.where(trained, 0.0).sum(1) / counts
        if weights is not None:
            losses = losses * weights
        scores = values.detach().where(scored, 0.0).sum(1) / counts
        # A window without a scored token keeps the mark of no score.
        scores = scores.where(scored.any(1), values.detach()[:, 0])
        predicted = None if torch.is_grad_enabled() else logits.argmax(2)
        return Measured(losses.sum() / scored.any(1).sum().clamp_min(1), scores, values.detach(), predicted)

    def score_batch(self, batch: Tensor) -> Tensor:
        """Return the scores of windows, ``(B,)``, as in training."""
        return self.measured(batch).scores

    def on_train_epoch_start(self) -> None:
        """Reset the counts of tokens, or continue them in a resumed epoch."""
        counted = self._counted if self._before() else torch.zeros_like(self._counted)
        self.token_counts = counted.to(self.device)

    def epoch_tokens(self) -> dict[str, Any]:
        """Return the counts of tokens in the epoch, over all ranks; a collective call."""
        if self.token_rule is None:
            return {}
        # A copy, since the ranks are summed in place.
        counts = self.trainer.strategy.reduce(self.token_counts.clone(), reduce_op="sum")
        total, learned, outliers = (int(count) for count in counts.tolist())
        return {"tokens": total, "tokens_learned": learned, "tokens_outliers": outliers}

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the mean loss of a token in nats, the bits per character, and the accuracy."""
        measured = self.measured(batch)
        scored = ~is_no_score(measured.tokens)
        count = int(scored.sum())
        # Padding alone has no mean.
        if not count:
            return
        # Sums over many tokens lose digits in float32.
        loss = measured.tokens.where(scored, 0.0).double().sum() / count
        self.log("test_loss", loss, batch_size=count, sync_dist=True)
        bits = loss / math.log(2) * self.tokens_per_character
        self.log("test_bits_per_character", bits, batch_size=count, sync_dist=True)
        assert measured.predicted is not None
        right = (measured.predicted == batch[:, 1:]).sum() / count
        self.log("test_accuracy", right, batch_size=count, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the counts of tokens over all ranks; a collective call."""
        super().on_save_checkpoint(checkpoint)
        counts = gather_rows(self.token_counts.cpu().numpy())
        checkpoint[TASK]["token_counts"] = sum(torch.from_numpy(part) for (part,) in counts)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the entries of :meth:`on_save_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        counted = checkpoint[TASK]["token_counts"]
        # Summed over the ranks later, so that only one may hold the saved sum.
        self._counted = counted if rank_and_size()[0] == 0 else torch.zeros_like(counted)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return adamw(self.network, self.recipe)
