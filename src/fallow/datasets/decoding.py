"""Image files become one array: find a common shape, decode on a few threads, check everything.

Pixels: grey only where all images are grey, else RGB. Transparent parts are laid on white, as a
page shows them; 16-bit grey keeps its upper 8 bits; of an animation the first frame is taken;
photos are turned as their EXIF orientation says. An image of another size is scaled until it
covers the common one (bilinear, averaging where it shrinks) and cropped around its centre.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import chain
from math import isqrt
from pathlib import Path
from statistics import median_low
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np

from .._checks import invalid, missing_extra
from .images import Progress

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

T = TypeVar("T")
Shape = tuple[int, int, int]
"""Channels, height, width."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
GREY_MODES = frozenset({"L", "1", "I", "I;16", "I;16B", "I;16L", "I;16N"})
PHOTO_FORMATS = ("JPEG", "MPO")
ORIENTATION = 0x0112
MEMORY_LIMIT = 4 * 2**30
DEFAULT_SIDE = 64
BLOCK = 32
"""Images that a thread reads between two calls of ``progress``."""


@dataclass(frozen=True)
class Header:
    """What an image file says before its pixels are decoded."""

    width: int
    height: int
    grey: bool


def read_headers(paths: Sequence[Path]) -> list[Header | str]:
    """Return the header of each image, or the reason why it has none."""

    def header(row: int) -> Header:
        with paths[row].open("rb") as file, _open(file) as image:
            width, height = image.size
            # Only for photos: for a PNG file, asking would decode it.
            if image.format in PHOTO_FORMATS and image.getexif().get(ORIENTATION, 1) >= 5:
                width, height = height, width
            return Header(width, height, image.mode in GREY_MODES)

    return _each(header, len(paths))


def choose_shape(headers: Sequence[Header], image_size: int | None = None) -> Shape:
    """Return the shape that all images get.

    With ``image_size`` a square of that side. Else the most common size, where at least half of
    the images have it; else a square of the median shorter side, at most 64.

    Raises:
        InvalidValue: All images in that shape take more than 4 GiB.

    >>> choose_shape([Header(32, 24, True), Header(32, 24, True), Header(500, 400, False)])
    (3, 24, 32)
    """
    channels = 1 if all(header.grey for header in headers) else 3
    sizes = Counter((header.height, header.width) for header in headers)
    (height, width), count = sizes.most_common(1)[0]
    if image_size is None and 2 * count < len(headers):
        shorter = median_low(min(header.height, header.width) for header in headers)
        image_size = min(DEFAULT_SIDE, shorter)
    if image_size is not None:
        height = width = image_size
    size = len(headers) * channels * height * width
    if size > MEMORY_LIMIT:
        rule = f"The decoded images must fit {MEMORY_LIMIT / 2**30:.0f} GiB of memory."
        found = f"{len(headers)} images of {width}×{height}, {size / 2**30:.1f} GiB"
        side = isqrt(MEMORY_LIMIT // (len(headers) * channels))
        raise invalid(rule, found, f"Pass `--image_size {side}` or less.")
    return channels, height, width


def decode(
    paths: Sequence[Path], shape: Shape, progress: Progress | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode image files into one array.

    Returns:
        The images ``(N, C, H, W)`` in uint8, and for each row that could not be read the reason.
    """
    return _decoded([partial(_opened, path) for path in paths], shape, progress)


def decode_bytes(files: Sequence[bytes], shape: Shape) -> tuple[np.ndarray, dict[int, str]]:
    """Decode the bytes of image files, as :func:`decode` does."""
    return _decoded([partial(BytesIO, data) for data in files], shape)


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _decoded(
    files: Sequence[Callable[[], IO[bytes]]], shape: Shape, progress: Progress | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    images = np.zeros((len(files), *shape), dtype=np.uint8)

    def fill(row: int) -> None:
        with files[row]() as file, _open(file) as image:
            pixels = _pixels(image, shape)
        images[row] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    reasons = _each(fill, len(files), progress)
    return images, {row: reason for row, reason in enumerate(reasons) if reason is not None}


def _open(file: IO[bytes]) -> Picture:
    from PIL import Image

    return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


def _pixels(image: Picture, shape: Shape) -> np.ndarray:
    from PIL import Image, ImageOps

    channels, height, width = shape
    if image.format in PHOTO_FORMATS:
        # A JPEG decoder can shrink by 2, 4 or 8 at almost no cost; twice the size stays for the
        # bilinear filter.
        side = 2 * max(height, width)
        image.draft(None, (side, side))
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floats, of which the range is not known")
    if image.mode in GREY_MODES - {"L", "1"}:
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _each(work: Callable[[int], T], count: int, progress: Progress | None = None) -> list[T | str]:
    """Return ``work(row)`` of each row below ``count``, or in its place why it failed."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError:
        raise missing_extra("A folder of images", "pillow") from None

    def attempt(row: int) -> T | str:
        try:
            return work(row)
        except UnidentifiedImageError:
            return "its bytes are of no known image format"
        except Exception as error:  # decoders raise many kinds on damaged bytes
            return f"{error}" or type(error).__name__

    def block(start: int) -> list[T | str]:
        return [attempt(row) for row in range(start, min(start + BLOCK, count))]

    Image.init()  # not safe on several threads
    workers = min(8, os.cpu_count() or 1)
    done: list[list[T | str]] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for results in pool.map(block, range(0, count, BLOCK)):
            done.append(results)
            if progress is not None:
                progress(min(len(done) * BLOCK, count), count)
    return list(chain.from_iterable(done))
