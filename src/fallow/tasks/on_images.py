"""What every training on images shares: how they are prepared, varied and stepped through, and resumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ..keyed import mix
from ..subsampler import Subsampler
from .augment import shift_and_flip

Batch = tuple[Tensor, Tensor]
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


class OnImages(LightningModule):
    """Trains a network on images, on whatever samples it is given, with SGD and Nesterov momentum by default.

    The learning rate follows the subsampler's progress, so that it fits the number of steps that
    really happen.

    Args:
        network: takes ``(B, C, H, W)`` normalised images.
        mean: of each channel, in [0, 1] units, ``(C,)``.
        std: of each channel, ``(C,)``.
        subsampler: whose progress drives the learning rate.
        recipe: how to train.
    """

    mean: Tensor
    std: Tensor
    sample_weights: Tensor | None = None

    def __init__(
        self, network: nn.Module, mean: Tensor, std: Tensor, subsampler: Subsampler, recipe: Recipe
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("std", std.reshape(1, -1, 1, 1))
        self.subsampler, self.recipe = subsampler, recipe
        self._resumed = (0, 0)

    def prepare(self, images: Tensor) -> Tensor:
        """Return uint8 or float images ``(B, C, H, W)`` as normalised floats."""
        unit = 255.0 if images.dtype == torch.uint8 else 1.0
        return (images.to(torch.float32) / unit - self.mean) / self.std

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what is not in the weights: how far the epoch is."""
        here = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        checkpoint[_OURS] = {"done": (self.subsampler.epoch, self._before() + here)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what :meth:`on_save_checkpoint` saved."""
        self._resumed = checkpoint[_OURS]["done"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD with Nesterov momentum 0.9."""
        return torch.optim.SGD(
            self.parameters(),
            lr=self.recipe.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.recipe.weight_decay,
        )
