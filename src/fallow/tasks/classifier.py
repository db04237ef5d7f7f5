"""The base of the classifiers, whatever their samples are."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ..arrays.forward_only import forward_only
from ..arrays.keyed import mix
from ..core.batch_checks import mean_loss
from ..datasets.images import UNREADABLE
from ..runs.training_state import TASK
from ..scores._logits import class_logits
from ..scores.base import Score
from ..scores.kl import KLDivergence, kl_divergence
from ..step_rules import StepRule, chosen_rows
from .base import TaskModule
from .class_accuracy import ClassAccuracy

# Keeps the rule's draws apart from those of the augmentation, which has the same key.
_STEP_RULE = 0x57E9


class Classifier(TaskModule):
    """Lightning module of a classifier; the loss is the KL divergence, whatever score is recorded.

    A batch is a pair of inputs and class ids ``(B,)`` or probabilities ``(B, C)``.

    Attributes:
        classes: the number of outputs that the network must have; None for any.
        named: the name of the network in errors.
        score: the score to record; None for the loss.
        step_rule: chooses the rows of a batch that get a backward pass; None for all.
        class_accuracy: the counts of the last evaluation.
        skips_unreadable: whether the evaluation leaves out samples with the label of an image that could not
            be read.
    """

    classes: int | None = None
    named: str = "The network"
    skips_unreadable: bool = False
    score: Score | Any
    step_rule: StepRule | None
    class_accuracy: ClassAccuracy

    def _measured_by(self, score: Score | Any, step_rule: StepRule | None) -> None:
        self.score, self.step_rule = score, step_rule
        self.class_accuracy = ClassAccuracy()

    @abstractmethod
    def inputs(self, batch: Any, key: int | None) -> Tensor:
        """Return the network's inputs from a batch, augmented if a key is given."""

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of the network's inputs."""
        return class_logits(self.network(inputs), len(inputs), self.classes, self.named)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and the loss, score and predicted class of each sample."""
        labels = batch[1]
        key = self._key(self._before() + batch_idx)
        inputs = self.inputs(batch, key)
        if self.step_rule is not None and self.step_rule.acts(self.subsampler.progress):
            return self._selective_step(self.step_rule, inputs, labels, key)
        logits = self.logits(inputs)
        losses = kl_divergence(logits, labels)
        loss = mean_loss(self.trained_losses(logits, labels, losses), self.sample_weights)
        return {"loss": loss, **self._outputs(logits, labels, losses)}

    def trained_losses(self, logits: Tensor, labels: Tensor, losses: Tensor) -> Tensor:
        """Return the losses to descend, ``(B,)``, from the KL divergences ``losses``; by default these."""
        return losses

    def _selective_step(self, rule: StepRule, inputs: Tensor, labels: Tensor, key: int) -> dict[str, Tensor]:
        """Measure the whole batch by a forward pass, then train on the rows that the rule chooses."""
        with forward_only():
            logits = self.logits(inputs)
            losses = kl_divergence(logits, labels)
        # Autocast caches the weights that it cast without gradients, and the next pass would get these.
        torch.clear_autocast_cache()
        chosen = rule.choose(losses, mix(_STEP_RULE, key))
        # The count depends on the batch size alone, so no step waits for the device.
        rows = chosen_rows(chosen, rule.count(int(labels.shape[0])))
        again = self.logits(inputs[rows])
        trained = self.trained_losses(again, labels[rows], kl_divergence(again, labels[rows]))
        weights = None if self.sample_weights is None else self.sample_weights[rows]
        loss = mean_loss(trained, weights)
        return {"loss": loss, "backward": chosen, **self._outputs(logits, labels, losses)}

    def _outputs(self, logits: Tensor, labels: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return the values to record, ``(B,)`` each."""
        outputs = {"per_sample_loss": losses, "predicted": logits.detach().argmax(dim=1)}
        # The loss is the KL divergence already.
        if self.score is not None and not isinstance(self.score, KLDivergence):
            with torch.no_grad():
                outputs["scores"] = self.score(logits, labels)
        return outputs

    def score_batch(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the scores and predicted classes of a batch, ``(B,)`` each, augmented as in training."""
        labels = batch[1]
        # Negative, so that the key differs from those of all training batches.
        logits = self.logits(self.inputs(batch, self._key(-1 - int(labels.shape[0]))))
        score = self.score or KLDivergence()
        return score(logits, labels), logits.argmax(dim=1)

    def on_validation_epoch_start(self) -> None:
        """Reset the counts by class."""
        self.class_accuracy.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the accuracy, of soft labels against the likeliest class, and the mean loss in nats."""
        labels = batch[1]
        logits = self.logits(self.inputs(batch, None))
        losses = kl_divergence(logits, labels)
        predicted = logits.argmax(dim=1)
        ids = labels.argmax(dim=1) if labels.dim() == 2 else labels
        if self.skips_unreadable:
            readable = ids != UNREADABLE
            losses, predicted, ids = losses[readable], predicted[readable], ids[readable]
        if count := len(ids):
            self.class_accuracy.add(predicted, ids, logits.shape[1])
            right = (predicted == ids).float().mean()
            self.log("test_accuracy", right, batch_size=count, sync_dist=True)
            self.log("test_loss", losses.mean(), batch_size=count, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the counts of the last evaluation as well."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[TASK]["class_accuracy"] = self.class_accuracy.counts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the entries of :meth:`on_save_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        self.class_accuracy.counts = checkpoint[TASK]["class_accuracy"]
