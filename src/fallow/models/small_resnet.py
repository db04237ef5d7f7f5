"""A residual network small enough for a CPU."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.functional import pad

from ..errors import check_integer
from .resnet import Residual, convolution


class SmallResNet(nn.Module):
    """Two residual blocks on unshuffled pixels, at about 1/70 of the cost of :class:`ResNet9`.

    ``PixelUnshuffle(r) → conv(w) → conv(2w), pool → residual → conv(4w), pool → residual →`` the mean of
    each channel ``→ linear``; each ``conv`` is 3×3 with batch norm and ReLU. The factor r leaves about
    16 positions a side (28 or 32 pixels: r = 2), and is at most 8.

    Args:
        channels: channels of the images.
        size: side in pixels, or height and width.
        classes: the number of classes.
        width: channels ``w`` after the first convolution.

    Shape:
        ``(B, channels, H, W)`` floats, normalised, to logits ``(B, classes)``.

    Raises:
        InvalidValue: if a number is too small.

    Source: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

    >>> import torch
    >>> SmallResNet(channels=3, size=32, classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int, size: int | tuple[int, int], classes: int, width: int = 16) -> None:
        super().__init__()
        for name, value in [("channels", channels), ("classes", classes), ("width", width)]:
            check_integer(name, value, 1)
        height, columns = (size, size) if isinstance(size, int) else size
        shorter = min(check_integer("size", side, 1) for side in (height, columns))
        self.factor = min(max(shorter // 14, 1), 8)
        self.features = nn.Sequential(
            nn.PixelUnshuffle(self.factor),
            convolution(channels * self.factor**2, width),
            convolution(width, 2 * width, pool=shorter >= 4 * self.factor),
            Residual(2 * width),
            convolution(2 * width, 4 * width, pool=shorter >= 8 * self.factor),
            Residual(4 * width),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of ``images (B, channels, H, W)``."""
        height, columns = images.shape[-2:]
        padding = -columns % self.factor, -height % self.factor
        # PixelUnshuffle accepts only multiples of its factor.
        if any(padding):
            images = pad(images, (0, padding[0], 0, padding[1]))
        return cast("Tensor", self.head(self.features(images).mean((2, 3))))
