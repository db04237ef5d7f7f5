"""Learning to reconstruct images: the LightningModule behind ``fallow train --task autoencoder``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.batch_checks import mean_loss
from ..errors import invalid
from ..scores._logits import one_tensor
from .image_base import Batch, ImageModule


class AutoencoderTask(ImageModule):
    """Trains an autoencoder of images, without labels; see :class:`ImageModule`.

    The loss of a sample is the mean squared error of its normalised pixels.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstructions ``(B, C, H, W)``, normalised, of images as they were read."""
        made: Tensor = self.network(self.prepare(images))
        return made

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and that of each sample."""
        images = self._varied(batch[0], self._key(self._before() + batch_idx))
        losses = self._losses(images)
        return {"loss": mean_loss(losses, self.sample_weights), "per_sample_loss": losses}

    def score_batch(self, batch: Batch) -> Tensor:
        """Return the losses of a batch, ``(B,)``, as in training."""
        return self._losses(self._varied(batch[0], self._key(-1 - int(batch[0].shape[0]))))

    def _losses(self, images: Tensor) -> Tensor:
        errors = reconstruction(self.network(images), images) - images
        return errors.square().flatten(1).mean(1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the mean error."""
        images = batch[0]
        losses = self._losses(self.prepare(images))
        self.log("test_loss", losses.mean(), batch_size=len(images), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW: the sizes of its steps do not depend on those of an error."""
        recipe = self.recipe
        return torch.optim.AdamW(self.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def reconstruction(found: Any, images: Tensor, name: str = "The network") -> Tensor:
    """Return what an autoencoder made of images, if it has their shape: others would be stretched to it."""
    shape = tuple(images.shape)
    rule = f"{name} must return images of the shape that it gets, {shape}."
    made = one_tensor(found, rule)
    if made.shape != images.shape:
        step = "Let its last layer give back channels, height and width."
        raise invalid(rule, f"the shape {tuple(made.shape)}", step)
    return made
