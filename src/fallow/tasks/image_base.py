"""The base of the tasks on images: normalisation and augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.subsampler import Subsampler
from .augment import shift_and_flip
from .base import Recipe as Recipe
from .base import TaskModule

Batch = tuple[Tensor, Tensor]


class ImageModule(TaskModule):
    """Lightning module of a network on images, trained by SGD by default; see :class:`TaskModule`.

    Args:
        network: takes normalised images ``(B, C, H, W)``.
        mean: the mean of each channel, in [0, 1] units, ``(C,)``.
        std: the standard deviation of each channel, ``(C,)``.
        subsampler: its progress drives the learning rate.
        recipe: the hyper-parameters.

    Attributes:
        frozen: parts of the network that stay in evaluation: those that are not trained, and batch norms that
            keep their mean and variance.
    """

    mean: Tensor
    std: Tensor
    frozen: Sequence[nn.Module] = ()

    def __init__(
        self, network: nn.Module, mean: Tensor, std: Tensor, subsampler: Subsampler, recipe: Recipe
    ) -> None:
        super().__init__(network, subsampler, recipe)
        # Buffers are saved with the weights, and move to the device with them.
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("std", std.reshape(1, -1, 1, 1))

    def on_train_epoch_start(self) -> None:
        """Set the frozen parts to evaluation."""
        # Not before, since Lightning warns of such parts when a training starts.
        for part in self.frozen:
            part.eval()

    def prepare(self, images: Tensor) -> Tensor:
        """Return uint8 or float images ``(B, C, H, W)`` as normalised floats.

        Grey images become three equal channels if there are three means.
        """
        unit = 255.0 if images.dtype == torch.uint8 else 1.0
        return (images.to(torch.float32) / unit - self.mean) / self.std

    def _varied(self, images: Tensor, key: int) -> Tensor:
        """Return the normalised and augmented images of a training batch."""
        images = self.prepare(images)
        if self.recipe.augment != "none":
            images = shift_and_flip(images, key, flip=self.recipe.augment == "crop-flip")
        return images
