"""Images that stay in their files, and are decoded when a batch asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.checksums import row_checksums
from ..arrays.thumbnails import thumbnails
from .decoded_images import DecodedImages
from .decoding import decode
from .images import UNREADABLE, Images, Shape, mean_std
from .paths import Paths
from .pixel_cache import PixelCache
from .pixel_range import NO_RANGES, PixelRanges

MEASURED = 512
"""Images by which mean and deviation are estimated."""
GREY = 128
"""The value of the pixels of an image that cannot be read."""


class FileImages(Images):
    """Images in files and their labels; a batch is decoded when it is fetched, and nothing before.

    A file that cannot be decoded gives a grey image with the label
    :data:`~fallow.datasets.images.UNREADABLE`, so that it neither trains the network nor gets a score.

    Args:
        paths: the files.
        labels: class ids ``(N,)``, int64.
        sums: checksums by which the samples are recognised, uint64 ``(N,)``.
        shape: channels, height and width to which all are scaled.
        ranges: the ranges by which pixels of more than 8 bits are scaled.
        more: further images in memory, uint8 ``(M, C, H, W)``.
        sources: for each sample its row in ``paths``, or -1 - its row in ``more``, int64 ``(N,)``; by default
            the files, then ``more``.
    """

    def __init__(
        self,
        paths: Paths,
        labels: Tensor,
        sums: NDArray[np.uint64],
        shape: Shape,
        ranges: PixelRanges = NO_RANGES,
        more: Tensor | None = None,
        sources: NDArray[np.int64] | None = None,
    ) -> None:
        self.paths, self.labels, self.ranges = paths, labels, ranges
        self._shape = shape
        self._sums = sums
        self._more = torch.zeros(0, *shape, dtype=torch.uint8) if more is None else more
        if sources is None:
            sources = np.concatenate([np.arange(len(paths)), -1 - np.arange(len(self._more))])
        self._sources = sources
        self._cache = PixelCache(shape, 0, 0)
        self._decoded: DecodedImages | None = None
        self._failed = torch.zeros(len(labels), dtype=torch.bool)

    @property
    def shape(self) -> Shape:
        """Channels, height and width."""
        return self._shape

    @property
    def dtype(self) -> torch.dtype:
        """uint8."""
        return torch.uint8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.__getitems__([index])
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch ``(images (B, C, H, W), labels (B,))`` of ``indices``."""
        index = np.asarray(indices, np.int64)
        images, reasons = self._read(index)
        labels = self.labels[torch.from_numpy(index)]
        labels[list(reasons)] = UNREADABLE
        return torch.from_numpy(images), labels

    def failed(self) -> NDArray[np.int64]:
        """Return the images that could not be read when they were last asked for, by any worker."""
        return np.flatnonzero(self._failed.numpy())

    def unreadable(self, index: NDArray[np.int64]) -> dict[str, str]:
        """Read some images anew; return the reason for each that cannot be read, by its file."""
        rows = self._read(index)[1]
        return {self.paths.name(self._sources[index[row]]): reason for row, reason in rows.items()}

    def _read(self, index: NDArray[np.int64]) -> tuple[NDArray[np.uint8], dict[int, str]]:
        """Return images ``(B, C, H, W)``, and the reason for each row that could not be read."""
        images = np.empty((index.size, *self.shape), np.uint8)
        sources = self._sources[index]
        in_memory = sources < 0
        images[in_memory] = self._more.numpy()[-1 - sources[in_memory]]
        known = self._cache.get(index, images) | in_memory
        rows = np.flatnonzero(~known)
        files = [self.paths[source] for source in sources[rows].tolist()]
        decoded, reasons = self._decode(files)
        readable = np.delete(np.arange(rows.size), list(reasons))
        self._cache.put(index[rows[readable]], decoded[readable])
        decoded[list(reasons)] = GREY
        images[rows] = decoded
        self._failed[index[rows]] = torch.from_numpy(np.isin(np.arange(rows.size), list(reasons)))
        return images, {int(rows[row]): reason for row, reason in reasons.items()}

    def _decode(self, files: list[Path]) -> tuple[NDArray[np.uint8], dict[int, str]]:
        """Decode files, or read what was decoded before; return what :func:`decode` does."""
        kept = self._decoded
        if kept is None:
            return decode(files, self.shape, None, self.ranges)
        images = np.zeros((len(files), *self.shape), np.uint8)
        places = [kept.place(file) for file in files]
        missing = []
        for row, place in enumerate(places):
            if (pixels := kept.get(place)) is None:
                missing.append(row)
            else:
                images[row] = pixels
        images[missing], reasons = decode([files[row] for row in missing], self.shape, None, self.ranges)
        for number, row in enumerate(missing):
            if number not in reasons:
                kept.put(places[row], images[row])
        return images, {missing[number]: reason for number, reason in reasons.items()}

    def remember(self, limit: int, decoded: DecodedImages | None = None) -> int:
        """Keep decoded images from now on, in at most ``limit`` bytes; return how many fit.

        Workers that start later share what is kept, and tell which images they could not read.

        Args:
            limit: of the memory, in bytes.
            decoded: where they are also kept for later trainings, if anywhere.
        """
        self._decoded = decoded
        self._cache = PixelCache(self.shape, len(self), limit)
        self._failed.share_memory_()  # type: ignore[no-untyped-call]
        return self._cache.count

    def take(self, rows: NDArray[np.int64]) -> FileImages:
        """Return some of the images, without a cache."""
        sources = self._sources[rows]
        in_files = sources >= 0
        renumbered = np.where(in_files, np.cumsum(in_files), 1 - np.cumsum(~in_files)) - 1
        return FileImages(
            self.paths.take(sources[in_files]),
            self.labels[torch.from_numpy(rows)],
            self._sums[rows],
            self.shape,
            self.ranges,
            self._more[torch.from_numpy(-1 - sources[~in_files])],
            renumbered,
        )

    def joined(self, other: FileImages) -> FileImages:
        """Return the images followed by others, without a cache."""
        after = np.where(other._sources < 0, -len(self._more), len(self.paths)) + other._sources
        return FileImages(
            Paths.joined([self.paths, other.paths]),
            torch.cat([self.labels, other.labels]),
            np.concatenate([self._sums, other._sums]),
            self.shape,
            self.ranges,
            torch.cat([self._more, other._more]),
            np.concatenate([self._sources, after]),
        )

    def with_more(self, images: Tensor, labels: Tensor) -> FileImages:
        """Return the images followed by some in memory, without a cache."""
        none = Paths.of(())
        return self.joined(FileImages(none, labels, row_checksums(images.numpy()), self.shape, more=images))

    def contents(self) -> NDArray[np.uint64]:
        """Return the checksums by which the samples are recognised, ``(N,)``."""
        return self._sums

    def pictures(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return small pictures of some samples: ``(K,) -> (K, h, w, C)``."""
        return thumbnails(self._read(index)[0])

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of each channel, ``(C,)``, of the images with the smallest checksums."""
        chosen = np.sort(np.argsort(self._sums, kind="stable")[:MEASURED])
        images, reasons = self._read(chosen)
        return mean_std(torch.from_numpy(np.delete(images, list(reasons), axis=0)))
