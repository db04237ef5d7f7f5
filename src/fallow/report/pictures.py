"""Pictures as data URIs."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import missing_extra

SMALL = 64
"""Pictures with sides up to this many pixels are stored without loss."""


def png(pixels: NDArray[np.uint8]) -> str:
    """Return a picture without loss: ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``."""
    return _encoded(pixels, "png", optimize=True)


def picture(pixels: NDArray[np.uint8]) -> str:
    """Return the picture of a sample, ``(H, W, 1)`` or ``(H, W, 3)``: PNG if it is small, else WebP."""
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    if max(pixels.shape[:2]) <= SMALL:
        return png(pixels)
    return _encoded(pixels, "webp", quality=75, method=4)


def _encoded(pixels: NDArray[np.uint8], form: str, **options: Any) -> str:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise missing_extra("A report with pictures", "pillow") from None
    drawn = BytesIO()
    Image.fromarray(pixels).save(drawn, form, **options)
    return f"data:image/{form};base64," + b64encode(drawn.getvalue()).decode()
