"""Random shifts and flips of a whole batch, a pure function of a key."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shift_and_flip(images: Tensor, key: int, *, flip: bool) -> Tensor:
    """Return images shifted by up to 1/28 of their sides (at least one pixel) and flipped; zeros fill in.

    Args:
        images: ``(B, C, H, W)``, normalised, so that zero is the mean.
        key: of the random draw.
        flip: whether to mirror each image left to right with probability 1/2.

    Returns:
        ``(B, C, H, W)``.
    """
    count, _, height, width = images.shape
    reach = max(1, height // 28), max(1, width // 28)
    # Drawn on the CPU: generators of other devices give other numbers for the same seed.
    generator = torch.Generator().manual_seed(key & (2**63 - 1))
    down = torch.randint(0, 2 * reach[0] + 1, (count, 1), generator=generator)
    right = torch.randint(0, 2 * reach[1] + 1, (count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    row = down + torch.arange(height)
    column = torch.arange(width).expand(count, -1)
    if flip:
        column = torch.where(mirrored, width - 1 - column, column)
    column = right + column
    padded = F.pad(images, (reach[1], reach[1], reach[0], reach[0]))
    wide = width + 2 * reach[1]
    place = (row[:, :, None] * wide + column[:, None, :]).reshape(count, 1, -1).to(images.device)
    flat = padded.reshape(count, images.shape[1], -1)
    return flat.gather(2, place.expand(-1, images.shape[1], -1)).reshape(images.shape)
