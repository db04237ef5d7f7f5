"""Decoding of image files into one array: a common shape is chosen, and a few threads decode.

Pixels are grey if all images are grey, else RGB. Transparent parts are laid on white. Pixels of more than 8
bits are scaled by the range of the training images (:mod:`~fallow.datasets.pixel_range`). The first frame of
an animation or of a file of many pages is taken. Images are turned by their EXIF orientation. An image of
another size is scaled to cover the common one (bilinear, averaging if it shrinks) and cropped at its centre.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import isqrt, prod
from pathlib import Path
from statistics import median_low
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch.utils.data import get_worker_info

from ..errors import invalid, missing_extra
from ..files.regular_file import opened
from .image_files import (
    GREY_MODES,
    PHOTO_FORMATS,
    RAW_SUFFIXES,
    SUFFIXES,
    NotAnImage,
    deep_values,
    depth_of,
    has_more,
    kind_by_name,
    largest_of,
    lies_on_its_side,
    open_image,
    orientation,
    shallow,
    upright,
)
from .images import Progress, Shape
from .messages import LONGEST, shown
from .pixel_range import NO_RANGES, Depth, Extremes, PixelRanges

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

T = TypeVar("T")
Opener = Callable[[], AbstractContextManager[IO[bytes]]]

MEMORY_LIMIT = 4 * 2**30
DEFAULT_SIDE = 64
BLOCK = 32
"""Images that a thread reads between two calls of ``progress``."""


@dataclass(frozen=True)
class Header:
    """The properties of an image file that are known before its pixels are decoded.

    Attributes:
        width, height: as the image is displayed.
        grey: whether it has no colours.
        depth: the kind of its pixels if they have more than 8 bits, else None.
        several: whether more frames or pages follow the first.
    """

    width: int
    height: int
    grey: bool
    depth: Depth | None = None
    several: bool = False


@dataclass(frozen=True)
class Other:
    """A file that is no image, or an image of a format that is not read, and whose name says so.

    Attributes:
        kind: the name of such files in messages, such as ``.txt``.
    """

    kind: str


def read_headers(paths: Sequence[Path]) -> list[Header | Other | str]:
    """Return the header of each image, the kind of each other file, or why an image cannot be read."""

    def header(row: int) -> Header | Other:
        path = paths[row]
        suffix = path.suffix.lower()
        with opened(path) as file:
            try:
                image = open_image(file)
            except (NotAnImage, ValueError, OSError, EOFError):
                # A text may begin as an image does, so only files with the suffix of an image must be one.
                if suffix in SUFFIXES:
                    raise
                return Other(kind_by_name(path))
            with image:
                if suffix in RAW_SUFFIXES and image.format == "TIFF":
                    return Other(suffix)  # only the preview of a raw photo can be read
                return _header(image, file)

    return _each(header, len(paths))


def headers_of(files: Sequence[Opener]) -> list[Header | str]:
    """Return the header of each image, or why it cannot be read."""

    def header(row: int) -> Header:
        with files[row]() as file, open_image(file) as image:
            return _header(image, file)

    return _each(header, len(files))


def _header(image: Picture, file: IO[bytes]) -> Header:
    width, height = image.size
    if lies_on_its_side(image, file):
        width, height = height, width
    return Header(width, height, image.mode in GREY_MODES, depth_of(image), has_more(image))


def choose_shape(headers: Sequence[Header], image_size: int | None = None) -> Shape:
    """Return the common shape of all images.

    It is a square of the side ``image_size``, if given. Else it is the most common size if at least half of
    the images have it, or else a square of the median shorter side, at most 64.

    >>> choose_shape([Header(32, 24, True), Header(32, 24, True), Header(500, 400, False)])
    (3, 24, 32)
    """
    channels = 1 if all(header.grey for header in headers) else 3
    sizes = Counter((header.height, header.width) for header in headers)
    (height, width), count = sizes.most_common(1)[0]
    # The common size changes no pixels of the images that have it.
    if image_size is None and 2 * count < len(headers):
        shorter = median_low(min(header.height, header.width) for header in headers)
        image_size = min(DEFAULT_SIDE, shorter)
    if image_size is not None:
        height = width = image_size
    return channels, height, width


def fits_memory(count: int, shape: Shape) -> bool:
    """Return whether decoded images take at most 4 GiB."""
    return count * prod(shape) <= MEMORY_LIMIT


def check_fits(count: int, shape: Shape) -> None:
    """Raise if decoded images take more than 4 GiB.

    Raises:
        InvalidValue: if they do.
    """
    if not fits_memory(count, shape):
        channels, height, width = shape
        rule = f"The decoded images must fit {MEMORY_LIMIT / 2**30:.0f} GiB of memory."
        found = f"{count} images of {width}×{height}, {count * prod(shape) / 2**30:.1f} GiB"
        side = isqrt(MEMORY_LIMIT // (count * channels))
        raise invalid(rule, found, f"Pass `--image_size {side}` or less.")


def read_extremes(paths: Sequence[Path]) -> list[Extremes | str]:
    """Return the extremes of each image of deep pixels, or why it cannot be read."""

    def extremes(row: int) -> Extremes:
        with opened(paths[row]) as file, open_image(file) as image:
            largest = largest_of(image)
            values, _ = deep_values(image, file)
            return values.min().item(), values.max().item(), largest

    return _each(extremes, len(paths))


def decode(
    paths: Sequence[Path],
    shape: Shape,
    progress: Progress | None = None,
    ranges: PixelRanges = NO_RANGES,
    inside: Path | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode image files into one array.

    Deep pixels are scaled by ``ranges``. If ``inside`` is given, the files lie in this folder, which is not
    trusted: no links are followed below it.

    Returns:
        The images ``(N, C, H, W)`` in uint8, and the reason for each row that could not be read.
    """
    return decode_opened([partial(opened, path, inside) for path in paths], shape, ranges, progress)


def decode_opened(
    files: Sequence[Opener],
    shape: Shape,
    ranges: PixelRanges = NO_RANGES,
    progress: Progress | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode image files as :func:`decode` does; each is opened when it is read, by a call."""
    # Rows that cannot be read stay black; the caller takes them out.
    images = np.zeros((len(files), *shape), dtype=np.uint8)

    def fill(row: int) -> None:
        with files[row]() as file, open_image(file) as image:
            pixels = _pixels(image, file, shape, ranges)
        images[row] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    reasons = _each(fill, len(files), progress)
    return images, {row: reason for row, reason in enumerate(reasons) if reason is not None}


def _pixels(image: Picture, file: IO[bytes], shape: Shape, ranges: PixelRanges) -> np.ndarray:
    from PIL import Image, ImageOps

    channels, height, width = shape
    if image.format in PHOTO_FORMATS:
        # A JPEG decoder shrinks by 2, 4 or 8 at almost no cost. The bilinear filter needs twice the size.
        side = 2 * max(height, width)
        image.draft(None, (side, side))
    depth = depth_of(image)
    picture: Picture = image
    if depth is None:
        image.load()
    else:
        picture = shallow(image, file, ranges, depth)
    # Only after loading is a TIFF file upright, and the metadata behind the pixels of a PNG file known.
    picture = upright(picture, orientation(image))
    if picture.mode == "LAB":
        picture = _from_lab(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _from_lab(picture: Picture) -> Picture:
    # `convert` refuses LAB.
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, *profiles, outputMode="RGB")
    assert converted is not None
    return converted


def _each(work: Callable[[int], T], count: int, progress: Progress | None = None) -> list[T | str]:
    """Return ``work(row)`` for each row below ``count``, or the reason why it failed."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise missing_extra("A folder of images", "pillow") from None

    def attempt(row: int) -> T | str:
        try:
            return work(row)
        except Exception as error:  # decoders raise many kinds on damaged bytes
            message = (isinstance(error, OSError) and error.strerror) or " ".join(f"{error}".split())
            return shown(message[:LONGEST]) or type(error).__name__

    def block(start: int) -> list[T | str]:
        return [attempt(row) for row in range(start, min(start + BLOCK, count))]

    Image.init()  # not safe on several threads
    done: list[list[T | str]] = []
    with warnings.catch_warnings(), _mapping(count) as mapped:
        # Pillow's warnings name no file. Damage is found by decoding, and the rest is harmless.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for results in mapped(block, range(0, count, BLOCK)):
            done.append(results)
            if progress is not None:
                progress(min(len(done) * BLOCK, count), count)
    return list(chain.from_iterable(done))


@contextmanager
def _mapping(count: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield a function like ``map`` for ``count`` images, which uses several threads if it pays."""
    # The workers of a loader share the processors already.
    if count <= BLOCK or get_worker_info() is not None:
        yield map
        return
    # Threads suffice, because Pillow releases the interpreter while it decodes.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield pool.map
