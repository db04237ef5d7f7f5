"""Scale images down for a report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid

SIDE = 96
"""The longest side, in pixels."""


def thumbnails(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return small images: means over squares of pixels if a side is longer than 96.

    Args:
        images: ``(K, C, H, W)``, C 1, 3 or 4 (alpha is dropped); uint8, or floats in [0, 1].

    Returns:
        uint8 ``(K, h, w, C)``, no side longer than 96.

    Raises:
        InvalidValue: if shape or dtype is another one.

    Example:
        >>> thumbnails(np.zeros((2, 3, 200, 100), np.uint8)).shape
        (2, 66, 33, 3)
    """
    rule = "`images` must be (K, C, H, W), C 1, 3 or 4, uint8 or floats in [0, 1]."
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or 0 in images.shape[2:]:
        raise invalid(rule, f"shape {images.shape}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise invalid(rule, images.dtype)
    images = images[:, :3]
    factor = -(-max(images.shape[2:]) // SIDE)
    down, across = (min(factor, side) for side in images.shape[2:])
    height, width = images.shape[2] // down, images.shape[3] // across
    scale = 1.0 if images.dtype == np.uint8 else 255.0
    small = np.empty((len(images), height, width, images.shape[1]), np.uint8)
    for i, image in enumerate(images):  # one at a time: K large images as floats may not fit into memory
        cut = image[:, : height * down, : width * across].astype(np.float32)
        mean = cut.reshape(-1, height, down, width, across).mean((2, 4)) * scale
        small[i] = np.clip(np.nan_to_num(mean), 0, 255).round().transpose(1, 2, 0)
    return small
