"""What every training of a classifier shares, whatever its samples are."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ..arrays.forward_only import forward_only
from ..arrays.keyed import mix
from ..core.batch_checks import mean_loss
from ..runs.training_state import TASK
from ..scores._logits import class_logits
from ..scores.base import Score
from ..scores.kl import KLDivergence, kl_divergence
from ..step_rules import StepRule, chosen_rows
from .base import TaskModule
from .class_accuracy import ClassAccuracy

_STEP_RULE = 0x57E9


class Classifier(TaskModule):
    """Trains a classifier; the loss is the KL divergence, whichever score is recorded.

    A batch is a pair: what the network is to look at, and class ids ``(B,)`` or probabilities ``(B, C)``.

    Attributes:
        classes: how many there are, if it is known; then a network must have as many outputs.
        named: what the network is called in errors.
        score: what is recorded; None for the loss.
        step_rule: which rows of a batch get a backward pass; None for all.
        class_accuracy: of the last evaluation.
    """

    classes: int | None = None
    named: str = "The network"
    score: Score | Any
    step_rule: StepRule | None
    class_accuracy: ClassAccuracy

    def _measured_by(self, score: Score | Any, step_rule: StepRule | None) -> None:
        """Say what is recorded, and which rows are trained on."""
        self.score, self.step_rule = score, step_rule
        self.class_accuracy = ClassAccuracy()

    @abstractmethod
    def inputs(self, batch: Any, key: int | None) -> Tensor:
        """Return what the network takes of a batch, varied by a key where there is one."""

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of what the network takes."""
        return class_logits(self.network(inputs), len(inputs), self.classes, self.named)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and for each sample its loss, score and predicted class."""
        labels = batch[1]
        key = self._key(self._before() + batch_idx)
        inputs = self.inputs(batch, key)
        if self.step_rule is not None and self.step_rule.acts(self.subsampler.progress):
            return self._selective_step(self.step_rule, inputs, labels, key)
        logits = self.logits(inputs)
        losses = kl_divergence(logits, labels)
        return {"loss": mean_loss(losses, self.sample_weights), **self._outputs(logits, labels, losses)}

    def _selective_step(self, rule: StepRule, inputs: Tensor, labels: Tensor, key: int) -> dict[str, Tensor]:
        """Measure the whole batch by a forward pass, then train on the rows that the rule chooses."""
        with forward_only():
            logits = self.logits(inputs)
            losses = kl_divergence(logits, labels)
        # Autocast would hand the weights that it cast without gradients to the next pass.
        torch.clear_autocast_cache()
        chosen = rule.choose(losses, mix(_STEP_RULE, key))
        rows = chosen_rows(chosen, rule.count(int(labels.shape[0])))
        trained = kl_divergence(self.logits(inputs[rows]), labels[rows])
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

    def score_batch(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the scores and the predicted classes of a batch, ``(B,)`` each, as in training."""
        labels = batch[1]
        logits = self.logits(self.inputs(batch, self._key(-1 - int(labels.shape[0]))))
        score = self.score or KLDivergence()
        return score(logits, labels), logits.argmax(dim=1)

    def on_validation_epoch_start(self) -> None:
        """Count the classes anew."""
        self.class_accuracy.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the test accuracy and the mean loss, in nats; of several annotators the most count."""
        labels = batch[1]
        logits = self.logits(self.inputs(batch, None))
        count = len(labels)
        losses = kl_divergence(logits, labels)
        predicted = logits.argmax(dim=1)
        given = labels.argmax(dim=1) if labels.dim() == 2 else labels
        self.class_accuracy.add(predicted, given, logits.shape[1])
        right = (predicted == given).float().mean()
        self.log("test_accuracy", right, batch_size=count, sync_dist=True)
        self.log("test_loss", losses.mean(), batch_size=count, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the counts of the last evaluation too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[TASK]["class_accuracy"] = self.class_accuracy.counts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what :meth:`on_save_checkpoint` saved."""
        super().on_load_checkpoint(checkpoint)
        self.class_accuracy.counts = checkpoint[TASK]["class_accuracy"]
