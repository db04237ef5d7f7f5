"""The LightningModule of ``fallow train --task autoencoder``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..arrays.no_score import NO_SCORE
from ..core.batch_checks import mean_loss
from ..datasets.images import UNREADABLE
from ..errors import invalid
from ..scores._logits import one_tensor
from .image_base import Batch, ImageModule


class AutoencoderTask(ImageModule):
    """Lightning module of an autoencoder of images, without labels; see :class:`ImageModule`.

    The loss of a sample is the mean squared error of its normalised pixels.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised reconstructions ``(B, C, H, W)`` of images as they were read."""
        outputs: Tensor = self.network(self.prepare(images))
        return outputs

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and the loss of each sample."""
        images = self._varied(batch[0], self._key(self._before() + batch_idx))
        losses = _of_readable(self._losses(images), batch)
        return {"loss": mean_loss(losses, self.sample_weights), "per_sample_loss": losses}

    def score_batch(self, batch: Batch) -> Tensor:
        """Return the losses of a batch, ``(B,)``, as in training."""
        # Negative, so that the key differs from those of all training batches.
        images = self._varied(batch[0], self._key(-1 - int(batch[0].shape[0])))
        return _of_readable(self._losses(images), batch)

    def _losses(self, images: Tensor) -> Tensor:
        errors = reconstruction(self.network(images), images) - images
        return errors.square().flatten(1).mean(1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the mean error."""
        losses = _of_readable(self._losses(self.prepare(batch[0])), batch)
        self.log("test_loss", mean_loss(losses, None), batch_size=len(losses), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW: its step size does not depend on the scale of the loss."""
        recipe = self.recipe
        return torch.optim.AdamW(self.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _of_readable(losses: Tensor, batch: Batch) -> Tensor:
    """Return the losses ``(B,)``, with NO_SCORE for images that could not be read."""
    return losses.masked_fill(batch[1] == UNREADABLE, NO_SCORE)


def reconstruction(outputs: Any, images: Tensor, name: str = "The network") -> Tensor:
    """Return the output of an autoencoder; raise if its shape is not that of the images."""
    rule = f"{name} must return images of the shape that it gets, {tuple(images.shape)}."
    result = one_tensor(outputs, rule)
    # The difference to the images would broadcast other shapes without an error.
    if result.shape != images.shape:
        step = "Let its last layer return channels, height and width."
        raise invalid(rule, f"the shape {tuple(result.shape)}", step)
    return result
