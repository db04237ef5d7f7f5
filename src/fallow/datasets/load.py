"""Images by the name that the user gives: digits, a folder, a FILE.npz, or data of Hugging Face."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import invalid, missing_extra
from .folder import load_folder
from .hub_images import load_hub_images
from .images import ImageData, Progress, from_arrays
from .names import KNOWN, TEST_SHARE, not_found
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
    progress: Progress | None = None,
) -> ImageData:
    """Read images into memory, as a train and a test part.

    Args:
        data: ``digits``, a folder of images, a FILE.npz, or ``hf:NAME`` or ``hf:FOLDER`` as Hugging Face's
            ``datasets`` loads or has saved them. The name wins over a folder of that name, which is written
            ``./digits``.
        seed: draws the test part of a folder without one; the other splits are fixed.
        test_share: the share of images that is held out if there is no test part, in (0, 1).
        skip_corrupt: leave unreadable images of a folder or of ``hf:NAME`` out, with a warning.
        image_size: the side in pixels to which images of a folder or of ``hf:NAME`` are scaled.
        ranges: the ranges by which pixels of more than 8 bits in a folder are scaled, such as
            ``train.ranges`` of data that were read before; found in the training images by default.
        progress: called as ``progress(done, total)`` while images are decoded.

    Raises:
        InvalidValue: if the data are unknown, missing, or break a rule of their reader.
    """
    path = Path(data)
    name = os.fspath(data)
    if name.startswith("hf:"):
        return load_hub_images(
            name, test_share=test_share, skip_corrupt=skip_corrupt, image_size=image_size, progress=progress
        )
    if image_size is not None and (name in KNOWN or not path.is_dir()):
        step = "Leave it out: this data has one size."
        raise invalid("`image_size` goes with a folder of images.", f"data {data}", step)
    if name == "digits":
        return load_digits()
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
    if path.suffix.lower() == ".npz" and path.exists():  # load_npz refuses what is not a regular file
        return load_npz(path)
    raise not_found(path, name)


def load_digits() -> ImageData:
    """Return scikit-learn's 1,797 handwritten digits: 1,437 to train on, 360 to test, ``(N, 1, 8, 8)`` uint8.

    The 17 levels of grey are spread over 0..255. Every fifth image, sorted by class, is held out, so that
    the split is the same everywhere and the classes keep their shares.

    References:
        Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI, 1998)

    >>> data = load_digits()
    >>> len(data.train), len(data.test)
    (1437, 360)
    """
    try:
        from sklearn.datasets import load_digits as bundled_digits
    except ModuleNotFoundError:
        raise missing_extra("The `digits` data", "scikit-learn") from None

    source = bundled_digits()
    images = np.rint(source.images[:, None] * (255 / 16)).astype(np.uint8)
    labels = source.target
    held_out = np.zeros(len(labels), dtype=bool)
    # Stable, because the order of equal labels would otherwise depend on the version of numpy.
    held_out[np.argsort(labels, kind="stable")[::5]] = True
    train = images[~held_out], labels[~held_out]
    test = images[held_out], labels[held_out]
    return from_arrays("digits", train, test, [str(digit) for digit in range(10)])
