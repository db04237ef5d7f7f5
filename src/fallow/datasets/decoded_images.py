"""Decoded images on a disk, for the trainings that follow."""

from __future__ import annotations

import os
import shutil
import warnings
import zlib
from contextlib import suppress
from hashlib import blake2b
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid
from ..files.disk import DISK, temporary_path
from .images import Shape
from .pixel_range import PixelRanges

VERSION = 1
"""Raised when images are decoded to other pixels."""
CHECKSUM = 4
GIB = 1 << 30


class DecodedImages:
    """The decoded pixels of images in a folder, one file each, named after what they were made of.

    That is the path, the size and the time of change of the image, the shape and the ranges to which it was
    scaled, and the release of Pillow. So a file is never out of date: an image that changed gets another one.
    Nothing is removed; the folder can be, at any time. A file ends with a checksum, because it is not flushed
    to the disk: what a power cut leaves by halves is decoded anew.

    Args:
        folder: where they lie; made when the first is kept.
        shape: channels, height and width.
        ranges: the ranges by which deep pixels are scaled.
    """

    def __init__(self, folder: Path, shape: Shape, ranges: PixelRanges) -> None:
        from PIL import __version__

        self.shape = shape
        self.folder = folder.absolute() / "x".join(map(str, shape))
        self._made_by = repr((VERSION, __version__, shape, ranges)).encode()
        self._full = False

    @staticmethod
    def disk_of(folder: Path) -> Path:
        """Return the folder that is there, itself or above it.

        Raises:
            InvalidValue: if something else is in its place.
        """
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise invalid("--cache_dir must be a folder.", place, "Name another one.")
        return place

    def check_room(self, count: int) -> None:
        """Raise if the disk cannot hold so many images, without those that are there.

        Raises:
            InvalidValue: with the free space and what is needed.
        """
        there = sum(len(files) for _, _, files in os.walk(self.folder))
        needed = max(0, count - there) * (prod(self.shape) + CHECKSUM)
        place = self.disk_of(self.folder)
        free = shutil.disk_usage(place).free
        if needed > free:
            rule = "The disk of --cache_dir must have room for all decoded images."
            found = f"{free / GIB:.1f} GiB free in {place}, and {needed / GIB:.1f} GiB to come"
            raise invalid(rule, found, "Name a folder on another disk, or pass a smaller --image_size.")

    def place(self, image: Path) -> Path | None:
        """Return the file for the pixels of an image, or None if the image is not there."""
        try:
            now = image.stat()
        except OSError:
            return None
        made_of = os.fsencode(image.absolute()) + b"\0%d %d\0" % (now.st_size, now.st_mtime_ns)
        name = blake2b(made_of + self._made_by, digest_size=16).hexdigest()
        return self.folder / name[:2] / name[2:]

    def get(self, place: Path | None) -> NDArray[np.uint8] | None:
        """Return the pixels ``(C, H, W)`` in a file, or None if it does not hold them whole."""
        size = prod(self.shape)
        try:
            content = b"" if place is None else place.read_bytes()
        except OSError:
            return None
        if len(content) != size + CHECKSUM or zlib.crc32(content[:size]).to_bytes(CHECKSUM) != content[size:]:
            return None
        return np.frombuffer(content, np.uint8, size).reshape(self.shape)

    def put(self, place: Path | None, pixels: NDArray[np.uint8]) -> None:
        """Keep the pixels ``(C, H, W)`` of an image; if the disk is full, warn, and keep no more."""
        if place is None or self._full:
            return
        content = pixels.tobytes()
        temporary = temporary_path(place)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            DISK.write(temporary, content + zlib.crc32(content).to_bytes(CHECKSUM))
            DISK.rename(temporary, place)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink()
            if not isinstance(error, OSError):
                raise
            self._full = not place.is_dir()  # one folder in the place of a file hinders no other
            left = "No more decoded images are" if self._full else "A decoded image is not"
            warnings.warn(f"{left} kept in {self.folder}: {error.strerror or error}.", stacklevel=2)
