"""Decoded images in memory that all processes of a training share."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .images import Shape


class PixelCache:
    """The decoded pixels of the first images of a data set, as many as fit.

    It lies in memory that is shared with processes that are forked later, such as the workers of a loader,
    and fills as they decode. A page takes no memory before an image is written to it. A process that is
    started anew instead of forked gets a cache without room.

    Args:
        shape: of an image.
        count: the number of images.
        limit: the most bytes to take.
    """

    def __init__(self, shape: Shape, count: int, limit: int) -> None:
        self.shape = shape
        size = int(np.prod(shape))
        self.count = min(count, limit // (size + 1))
        self._memory: Any = mmap.mmap(-1, self.count * (size + 1)) if self.count else bytearray()
        array: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8)
        self._known = array[: self.count]
        self._pixels = array[self.count :].reshape(self.count, *shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["shape"], 0, 0)  # type: ignore[misc]

    @property
    def filled(self) -> int:
        """The number of images in the cache."""
        return int(np.count_nonzero(self._known))

    def get(self, index: NDArray[np.int64], images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Copy the known ones of some images into ``(B, C, H, W)``, and return which these are, ``(B,)``."""
        known: NDArray[np.bool_] = np.zeros(index.size, np.bool_)
        inside = index < self.count
        known[inside] = self._known[index[inside]] != 0
        images[known] = self._pixels[index[known]]
        return known

    def put(self, index: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        """Keep decoded images ``(B, C, H, W)``; those for which there is no room are ignored."""
        inside = index < self.count
        self._pixels[index[inside]] = images[inside]
        # Last, so that no other process reads an image that is written by halves.
        self._known[index[inside]] = 1
