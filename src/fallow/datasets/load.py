"""From what the user names to a reader."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import invalid
from .cifar10 import load_cifar10
from .cifar10n import load_cifar10n
from .digits import load_digits
from .fashion_mnist import load_fashion_mnist
from .folder import load_folder
from .images import ImageData, Progress
from .names import IMAGES, TEST_SHARE, not_found
from .npz import load_npz
from .pixel_range import NO_RANGES, PixelRanges


def load_images(
    data: str | os.PathLike[str],
    *,
    seed: int = 0,
    test_share: float = TEST_SHARE,
    skip_corrupt: bool = False,
    image_size: int | None = None,
    ranges: PixelRanges = NO_RANGES,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ImageData:
    """Read images into memory, as a train and a test part.

    Args:
        data: ``digits``, ``fashion-mnist``, ``cifar10``, ``cifar10n``, a folder of images or a FILE.npz. A
            known name wins over a folder of that name, which is written ``./digits``.
        seed: draws the test part of a folder without one; the other splits are fixed.
        test_share: the share of such a folder that is held out, in (0, 1).
        skip_corrupt: leave unreadable images of a folder out, with a warning.
        image_size: the side in pixels that all images of a folder get.
        ranges: by which pixels of more than 8 bits in a folder are scaled, as ``train.ranges`` of data that
            were read before says; found over the training images by default.
        cache: the folder for fetched data; the user's cache folder by default.
        progress: called as ``progress(done, total)`` while images are decoded.

    Raises:
        InvalidValue: The data is not known, cannot be had, or breaks a rule of its reader.
    """
    path = Path(data)
    if image_size is not None and (data in IMAGES or not path.is_dir()):
        step = "Leave it out: this data has one size."
        raise invalid("`image_size` goes with a folder of images.", f"data {data}", step)
    if data == "digits":
        return load_digits()
    if data == "fashion-mnist":
        return load_fashion_mnist(cache)
    if data == "cifar10":
        return load_cifar10(cache, progress)
    if data == "cifar10n":
        return load_cifar10n(cache, progress)
    if path.is_dir():
        return load_folder(
            path,
            seed=seed,
            test_share=test_share,
            skip_corrupt=skip_corrupt,
            image_size=image_size,
            ranges=ranges,
            progress=progress,
        )
    if path.suffix.lower() == ".npz" and path.exists():  # what is no regular file says so there
        return load_npz(path)
    raise not_found(path, str(data))
