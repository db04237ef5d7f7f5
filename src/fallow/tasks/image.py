"""The LightningModule of ``fallow train --task image``."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.subsampler import Subsampler
from ..scores.base import Score
from ..step_rules import StepRule
from .base import adamw
from .classifier import Classifier
from .image_base import Batch, ImageModule
from .image_base import Recipe as Recipe


class ImageTask(Classifier, ImageModule):
    """Lightning module of an image classifier; see :class:`ImageModule`.

    Args:
        network: from normalised images ``(B, C, H, W)`` to logits ``(B, classes)``.
        mean: the mean of each channel, in [0, 1] units, ``(C,)``.
        std: the standard deviation of each channel, ``(C,)``.
        subsampler: its progress drives the learning rate.
        recipe: the hyper-parameters.
        score: the score to record; the loss is always the KL divergence.
        step_rule: chooses the rows of a batch that get a backward pass; None for all.
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
        ImageModule.__init__(self, network, mean, std, subsampler, recipe)
        self._measured_by(score, step_rule)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of images as they were read."""
        logits: Tensor = self.network(self.prepare(images))
        return logits

    def trained_losses(self, logits: Tensor, labels: Tensor, losses: Tensor) -> Tensor:
        """Return the losses under label smoothing, if the recipe has any."""
        share = self.recipe.label_smoothing
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=share) if share else losses

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW or SGD, as the recipe says."""
        return adamw(self.network, self.recipe) if self.recipe.adamw else super().configure_optimizers()

    def inputs(self, batch: Batch, key: int | None) -> Tensor:
        """Return normalised images, augmented if a key is given."""
        return self.prepare(batch[0]) if key is None else self._varied(batch[0], key)
