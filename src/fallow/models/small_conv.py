"""A convolutional network small enough for a CPU: an epoch of Fashion-MNIST takes seconds."""

from __future__ import annotations

from math import ceil
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import pad

from ..errors import check_integer
from .batch_norm import BatchNorm

POOLED = 4
"""Maximum number of positions per side in the input of the linear layers."""


class SmallConvNet(nn.Module):
    """Two convolutions on unshuffled pixels, then two linear layers.

    ``PixelUnshuffle(r)`` moves each r×r square of pixels into the channels; r leaves about eight
    positions per side (28 or 32 pixels: r = 4; 8 pixels: r = 2; at most 8). So the convolutions run
    on few positions, which is cheap. Images whose sides are not multiples of r are padded with zeros
    at the right and bottom. If more than 4×4 positions are left, they are averaged down to 4×4.

    Args:
        channels: channels of the images.
        size: side in pixels, or height and width.
        classes: the number of classes.
        width: channels of the convolutions; the hidden linear layer has four times as many.

    Shape:
        ``(B, channels, H, W)`` floats, normalised, to logits ``(B, classes)``.

    Raises:
        InvalidValue: if a number is too small.

    Source: PixelUnshuffle is the inverse of the sub-pixel layer of W. Shi et al., "Real-Time Single
    Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network",
    CVPR 2016.

    >>> import torch
    >>> SmallConvNet(channels=1, size=28, classes=10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int, size: int | tuple[int, int], classes: int, width: int = 64) -> None:
        super().__init__()
        height, columns = (size, size) if isinstance(size, int) else size
        for name, value in [("channels", channels), ("classes", classes), ("width", width)]:
            check_integer(name, value, 1)
        shorter = min(check_integer("size", side, 1) for side in (height, columns))
        self.factor = unshuffle_factor(shorter)
        positions = [ceil(ceil(side / self.factor) / 2) for side in (height, columns)]
        pooled = [min(side, POOLED) for side in positions]
        self.convolutions = nn.Sequential(
            nn.PixelUnshuffle(self.factor),
            nn.Conv2d(channels * self.factor**2, width, 3, padding=1, bias=False),
            BatchNorm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            BatchNorm(width),
            nn.ReLU(),
            nn.Identity() if pooled == positions else nn.AdaptiveAvgPool2d((pooled[0], pooled[1])),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * pooled[0] * pooled[1], 4 * width, bias=False),
            BatchNorm(4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of ``images (B, channels, H, W)``."""
        height, columns = images.shape[-2:]
        padding = -columns % self.factor, -height % self.factor
        # PixelUnshuffle accepts only multiples of its factor.
        if any(padding):
            images = pad(images, (0, padding[0], 0, padding[1]))
        return cast("Tensor", self.head(self.convolutions(images)))


def unshuffle_factor(size: int) -> int:
    """Return how many pixels per side become one position, for images of ``size`` pixels per side.

    >>> [unshuffle_factor(size) for size in (5, 8, 16, 28, 32, 64, 224)]
    [1, 2, 2, 4, 4, 8, 8]
    """
    return 1 if size < 8 else min(max(round(size / 8), 2), 8)
