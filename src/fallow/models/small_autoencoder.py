"""An autoencoder small enough for a CPU."""

from __future__ import annotations

from math import ceil
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import pad

from ..errors import check_integer
from .batch_norm import BatchNorm
from .small_conv import unshuffle_factor


class SmallAutoencoder(nn.Module):
    """Two convolutions on unshuffled pixels, a code of a few numbers, and the mirror image as decoder.

    Args:
        channels: channels of the images.
        size: side in pixels, or height and width.
        width: channels of the convolutions.
        code: size of the code.

    Shape:
        ``(B, channels, H, W)`` floats, normalised, to the same.

    Raises:
        InvalidValue: if a number is too small.

    >>> import torch
    >>> SmallAutoencoder(channels=1, size=28)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, channels: int, size: int | tuple[int, int], width: int = 64, code: int = 32) -> None:
        super().__init__()
        height, columns = (size, size) if isinstance(size, int) else size
        for name, value in [("channels", channels), ("width", width), ("code", code)]:
            check_integer(name, value, 1)
        self.factor = unshuffle_factor(min(check_integer("size", side, 1) for side in (height, columns)))
        grid = ceil(height / self.factor), ceil(columns / self.factor)
        half = ceil(grid[0] / 2), ceil(grid[1] / 2)
        pixels = channels * self.factor**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(self.factor),
            nn.Conv2d(pixels, width, 3, padding=1, bias=False),
            BatchNorm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            BatchNorm(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * half[0] * half[1], code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, width * grid[0] * grid[1], bias=False),
            nn.Unflatten(1, (width, *grid)),
            BatchNorm(width),
            nn.ReLU(),
            nn.Conv2d(width, pixels, 3, padding=1),
            nn.PixelShuffle(self.factor),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return reconstructions of ``images (B, channels, H, W)``, of the same shape."""
        height, columns = images.shape[-2:]
        padding = -columns % self.factor, -height % self.factor
        # PixelUnshuffle accepts only multiples of its factor.
        if any(padding):
            images = pad(images, (0, padding[0], 0, padding[1]))
        reconstruction = cast("Tensor", self.decoder(self.encoder(images)))
        return reconstruction[..., :height, :columns]
