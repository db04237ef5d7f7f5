"""A residual network for small images that trains in few epochs."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ..errors import check_integer, invalid
from .batch_norm import BatchNorm

SMALLEST = 8
"""Minimum side in pixels: halved three times, it leaves one position."""

LOGIT_SCALE = 0.125
"""Factor of the logits: it keeps early steps small at high learning rates."""


class ResNet9(nn.Module):
    """Eight convolutions and one linear layer, with two residual blocks.

    ``conv(w) → conv(2w), pool → residual → conv(4w), pool → conv(8w), pool → residual →`` the
    largest value of each channel ``→ linear``; each ``conv`` is 3×3 with batch norm and ReLU. The
    logits are scaled by 1/8, which keeps early steps small at high learning rates.

    Args:
        channels: channels of the images.
        size: side in pixels, or height and width; at least 8. It is only checked.
        classes: the number of classes.
        width: channels ``w`` after the first convolution.

    Shape:
        ``(B, channels, H, W)`` floats, normalised, to logits ``(B, classes)``.

    Raises:
        InvalidValue: if a number is too small.

    Source: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; the nine-layer
    form is that of D. Page, "How to Train Your ResNet", 2018.

    >>> import torch
    >>> ResNet9(channels=3, size=32, classes=10, width=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int, size: int | tuple[int, int], classes: int, width: int = 64) -> None:
        super().__init__()
        for name, value in [("channels", channels), ("classes", classes), ("width", width)]:
            check_integer(name, value, 1)
        shorter = size if isinstance(size, int) else min(size)
        if shorter < SMALLEST:
            rule = f"Images for `resnet` must have at least {SMALLEST} pixels a side."
            raise invalid(rule, shorter, "Use the model `small-conv`.")
        self.features = nn.Sequential(
            convolution(channels, width),
            convolution(width, 2 * width, pool=True),
            Residual(2 * width),
            convolution(2 * width, 4 * width, pool=True),
            convolution(4 * width, 8 * width, pool=True),
            Residual(8 * width),
        )
        self.head = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of ``images (B, channels, H, W)``."""
        features = self.features(images).amax((2, 3))
        return cast("Tensor", self.head(features)) * LOGIT_SCALE


class Residual(nn.Module):
    """Two convolutions whose output is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features + inner(features)``, ``(B, channels, H, W)``."""
        return features + cast("Tensor", self.inner(features))


def convolution(channels: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    """Return a 3×3 convolution with batch norm and ReLU, followed by a 2×2 max pool if ``pool``."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, outputs, 3, padding=1, bias=False),  # the batch norm has a bias
        BatchNorm(outputs),
        nn.ReLU(),
    ]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
