"""Classifying images: the LightningModule behind ``fallow train --task image``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ..forward_only import forward_only
from ..keyed import mix
from ..recording import mean_loss
from ..scores.base import Score
from ..scores.kl import KLDivergence, kl_divergence
from ..step_rules import StepRule, chosen_rows
from ..subsampler import Subsampler
from .augment import shift_and_flip
from .class_accuracy import ClassAccuracy

Batch = tuple[Tensor, Tensor]
_STEP_RULE = 0x57E9
_OURS = "image_task"


@dataclass(frozen=True)
class Recipe:
    """How the network is trained.

    Attributes:
        learning_rate: the highest.
        weight_decay: of all parameters.
        rising_share: share of the training in which the rate rises from 0; then it falls to 0.
        augment: ``"none"``, ``"crop"`` or ``"crop-flip"``.
        seed: of the augmentation.
    """

    learning_rate: float
    weight_decay: float = 5e-4
    rising_share: float = 0.2
    augment: str = "none"
    seed: int = 0

    def rate(self, progress: float) -> float:
        """Return the learning rate at a ``progress`` in [0, 1]: linear up, then linear down to 0."""
        rise = self.rising_share
        shape = progress / rise if progress < rise else (1 - progress) / (1 - rise)
        return self.learning_rate * shape


class ImageTask(LightningModule):
    """Trains a classifier of images with SGD and Nesterov momentum, on whatever samples it is given.

    The learning rate follows the subsampler's progress, so that it fits the number of steps that
    really happen.

    Args:
        network: ``(B, C, H, W)`` normalised images to logits ``(B, classes)``.
        mean: of each channel, in [0, 1] units, ``(C,)``.
        std: of each channel, ``(C,)``.
        subsampler: whose progress drives the learning rate.
        recipe: how to train.
        score: what is recorded; the loss is the KL divergence in any case.
        step_rule: which rows of a batch get a backward pass; None for all.
    """

    mean: Tensor
    std: Tensor
    sample_weights: Tensor | None = None

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
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("std", std.reshape(1, -1, 1, 1))
        self.subsampler, self.recipe, self.score = subsampler, recipe, score
        self.class_accuracy = ClassAccuracy()
        self.step_rule = step_rule
        self._resumed = (0, 0)

    def prepare(self, images: Tensor) -> Tensor:
        """Return uint8 or float images ``(B, C, H, W)`` as normalised floats."""
        unit = 255.0 if images.dtype == torch.uint8 else 1.0
        return (images.to(torch.float32) / unit - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of images as they were read."""
        logits: Tensor = self.network(self.prepare(images))
        return logits

    def _varied(self, images: Tensor, key: int) -> Tensor:
        """Return the normalised images of a training batch, shifted as the recipe says."""
        images = self.prepare(images)
        if self.recipe.augment != "none":
            images = shift_and_flip(images, key, flip=self.recipe.augment == "crop-flip")
        return images

    def _before(self) -> int:
        """Return how many batches of this epoch were done when it was stopped."""
        epoch, batches = self._resumed
        return batches if epoch == self.subsampler.epoch else 0

    def _key(self, turn: int) -> int:
        return mix(self.recipe.seed, self.global_rank, self.subsampler.epoch, turn)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        rate = self.recipe.rate(self.subsampler.progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

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
        """Save what is not in the weights: how far the epoch is, and the counts of the last evaluation."""
        here = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        done = (self.subsampler.epoch, self._before() + here)
        checkpoint[_OURS] = {"done": done, "class_accuracy": self.class_accuracy.counts}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what :meth:`on_save_checkpoint` saved."""
        self._resumed = checkpoint[_OURS]["done"]
        self.class_accuracy.counts = checkpoint[_OURS]["class_accuracy"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD with Nesterov momentum 0.9."""
        return torch.optim.SGD(
            self.parameters(),
            lr=self.recipe.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.recipe.weight_decay,
        )
