"""Classifying images: the LightningModule behind ``fallow train --task image``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..forward_only import forward_only
from ..keyed import mix
from ..recording import mean_loss
from ..scores.base import Score
from ..scores.kl import KLDivergence, kl_divergence
from ..step_rules import StepRule, chosen_rows
from ..subsampler import Subsampler
from .class_accuracy import ClassAccuracy
from .on_images import _OURS, Batch, OnImages
from .on_images import Recipe as Recipe

_STEP_RULE = 0x57E9


class ImageTask(OnImages):
    """Trains a classifier of images; see :class:`OnImages`.

    Args:
        network: ``(B, C, H, W)`` normalised images to logits ``(B, classes)``.
        mean: of each channel, in [0, 1] units, ``(C,)``.
        std: of each channel, ``(C,)``.
        subsampler: whose progress drives the learning rate.
        recipe: how to train.
        score: what is recorded; the loss is the KL divergence in any case.
        step_rule: which rows of a batch get a backward pass; None for all.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Tensor,
        std: Tensor,
        subsampler: Subsampler,
        recipe: Recipe,
        score: Score | Callable[[Tensor, Tensor], Tensor] | None = None,
        step_rule: StepRule | None = None,
    ) -> None:
        super().__init__(network, mean, std, subsampler, recipe)
        self.score, self.step_rule = score, step_rule
        self.class_accuracy = ClassAccuracy()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of images as they were read."""
        logits: Tensor = self.network(self.prepare(images))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and for each sample its loss, score and predicted class."""
        images, labels = batch
        key = self._key(self._before() + batch_idx)
        images = self._varied(images, key)
        if self.step_rule is not None and self.step_rule.acts(self.subsampler.progress):
            return self._selective_step(self.step_rule, images, labels, key)
        logits = self.network(images)
        losses = kl_divergence(logits, labels)
        return {"loss": mean_loss(losses, self.sample_weights), **self._outputs(logits, labels, losses)}

    def _selective_step(self, rule: StepRule, images: Tensor, labels: Tensor, key: int) -> dict[str, Tensor]:
        """Measure the whole batch by a forward pass, then train on the rows that the rule chooses."""
        with forward_only():
            logits = self.network(images)
            losses = kl_divergence(logits, labels)
        # Autocast would hand the weights that it cast without gradients to the next pass.
        torch.clear_autocast_cache()
        chosen = rule.choose(losses, mix(_STEP_RULE, key))
        rows = chosen_rows(chosen, rule.count(int(labels.shape[0])))
        trained = kl_divergence(self.network(images[rows]), labels[rows])
        weights = None if self.sample_weights is None else self.sample_weights[rows]
        loss = mean_loss(trained, weights)
        return {"loss": loss, "backward": chosen, **self._outputs(logits, labels, losses)}

    def _outputs(self, logits: Tensor, labels: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return what is recorded of a batch: one value a sample, ``(B,)`` each."""
        found = {"per_sample_loss": losses, "predicted": logits.detach().argmax(dim=1)}
        if self.score is not None and not isinstance(self.score, KLDivergence):
            with torch.no_grad():
                found["scores"] = self.score(logits, labels)
        return found

    def score_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the scores and the predicted classes of a batch, ``(B,)`` each, as in training."""
        images, labels = batch
        logits = self.network(self._varied(images, self._key(-1 - int(labels.shape[0]))))
        score = self.score or KLDivergence()
        return score(logits, labels), logits.argmax(dim=1)

    def on_validation_epoch_start(self) -> None:
        """Count the classes anew."""
        self.class_accuracy.clear()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the test accuracy and the mean loss, in nats."""
        images, labels = batch
        logits = self(images)
        count = len(labels)
        losses = kl_divergence(logits, labels)
        predicted = logits.argmax(dim=1)
        self.class_accuracy.add(predicted, labels, logits.shape[1])
        right = (predicted == labels).float().mean()
        self.log("test_accuracy", right, batch_size=count, sync_dist=True)
        self.log("test_loss", losses.mean(), batch_size=count, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the counts of the last evaluation too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_OURS]["class_accuracy"] = self.class_accuracy.counts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what :meth:`on_save_checkpoint` saved."""
        super().on_load_checkpoint(checkpoint)
        self.class_accuracy.counts = checkpoint[_OURS]["class_accuracy"]
