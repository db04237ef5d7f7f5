"""The LightningModule of ``fallow train --task image``."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..core.subsampler import Subsampler
from ..scores.base import Score
from ..step_rules import StepRule
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

    def inputs(self, batch: Batch, key: int | None) -> Tensor:
        """Return normalised images, augmented if a key is given."""
        return self.prepare(batch[0]) if key is None else self._varied(batch[0], key)
