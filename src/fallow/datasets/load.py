"""From what the user names to a reader."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import invalid
from .digits import load_digits
from .folder import load_folder
from .hub_images import load_hub_images
from .images import ImageData, Progress
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
        test_share: the share of images without a test part that is held out, in (0, 1).
        skip_corrupt: leave unreadable images of a folder or of ``hf:NAME`` out, with a warning.
        image_size: the side in pixels that all images of these get.
        ranges: by which pixels of more than 8 bits in a folder are scaled, as ``train.ranges`` of data that
            were read before says; found over the training images by default.
        progress: called as ``progress(done, total)`` while images are decoded.

    Raises:
        InvalidValue: The data is not known, cannot be had, or breaks a rule of its reader.
    """
    path, name = Path(data), os.fspath(data)
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
    if path.suffix.lower() == ".npz" and path.exists():  # what is no regular file says so there
        return load_npz(path)
    raise not_found(path, name)
