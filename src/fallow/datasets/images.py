"""Images and labels, as a train and a test part: the result of every reader of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ..arrays.checksums import row_checksums
from ..arrays.thumbnails import thumbnails
from ..errors import invalid
from .pixel_range import NO_RANGES, PixelRanges

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` while images are read."""

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height, width."""
UNREADABLE = -100
"""The label of an image that could not be read: no target, so that it neither trains nor has a score."""

BLOCK = 2**22
"""Values widened to float64 at a time."""


class LeftOutWarning(UserWarning):
    """Files of a folder were left out; :attr:`ImageData.notes` says the same."""


class Images(Dataset[tuple[Tensor, int]]):
    """Images of one shape and their labels, in memory or in files: the base of both.

    Attributes:
        labels: class ids ``(N,)``, int64.
        ranges: the ranges by which pixels of more than 8 bits are scaled; images added later need the same.
    """

    labels: Tensor
    ranges: PixelRanges

    @property
    def shape(self) -> Shape:
        """Channels, height and width."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        """uint8 in 0..255, or float32 in [0, 1]."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch ``(images (B, C, H, W), labels (B,))`` of ``indices``.

        An image that cannot be read any more has the label :data:`UNREADABLE`.
        """
        raise NotImplementedError

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return some of the images."""
        raise NotImplementedError

    def with_labels(self, labels: Tensor) -> Self:
        """Return the same images with other labels: class ids ``(N,)``, int64."""
        relabelled = copy(self)
        relabelled.labels = labels
        return relabelled

    def joined(self, other: Self) -> Self:
        """Return the images followed by others of their kind."""
        raise NotImplementedError

    def with_more(self, images: Tensor, labels: Tensor) -> Self:
        """Return the images followed by some in memory."""
        raise NotImplementedError

    def contents(self) -> NDArray[np.uint64]:
        """Return the checksums by which the samples are recognised, ``(N,)``."""
        raise NotImplementedError

    def pictures(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return small pictures of some samples: ``(K,) -> (K, h, w, C)``."""
        raise NotImplementedError

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of each channel, ``(C,)`` float32 each, in [0, 1] units.

        A constant channel gets the deviation 1, so that it is safe to divide by it.
        """
        raise NotImplementedError


def collate(batch: Any) -> tuple[Tensor, Tensor]:
    """Return ``batch`` itself if it is one already, and a list of single samples stacked."""
    if isinstance(batch, tuple):
        return cast("tuple[Tensor, Tensor]", batch)
    images, labels = default_collate(batch)
    return images, labels


class ImageDataset(Images):
    """Images and labels in memory, handed out a batch at a time.

    The images stay as they were read. The model divides by 255 and normalises, a whole batch at a time on
    the device.

    Args:
        images: ``(N, C, H, W)``, uint8 in 0..255 or float32 in [0, 1].
        labels: class ids ``(N,)``, int64.
        ranges: the ranges by which pixels of more than 8 bits were scaled; images added later need the same.

    Raises:
        InvalidValue: if a shape, a type or the two lengths do not fit.

    >>> data = ImageDataset(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([4, 5, 6]))
    >>> images, labels = data.__getitems__([0, 2])
    >>> images.shape, labels
    (torch.Size([2, 1, 8, 8]), tensor([4, 6]))
    """

    def __init__(self, images: Tensor, labels: Tensor, ranges: PixelRanges = NO_RANGES) -> None:
        if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
            rule = "`images` must be (N, C, H, W) in uint8 or float32."
            raise invalid(rule, f"{tuple(images.shape)} in {images.dtype}")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            rule = f"`labels` must be ({len(images)},) in int64, one for each image."
            raise invalid(rule, f"{tuple(labels.shape)} in {labels.dtype}")
        self.images = images
        self.labels = labels
        self.ranges = ranges

    collate = staticmethod(collate)

    @property
    def shape(self) -> Shape:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def dtype(self) -> torch.dtype:
        """uint8 or float32."""
        return self.images.dtype

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch ``(images (B, C, H, W), labels (B,))`` of ``indices`` in one gather.

        torch's fetcher calls this instead of B times ``__getitem__`` and hands the result to the loader's
        ``collate_fn``, which must be :func:`collate`.
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[index], self.labels[index]

    def take(self, rows: NDArray[np.int64]) -> ImageDataset:
        """Return some of the images."""
        index = torch.from_numpy(rows)
        return ImageDataset(self.images[index], self.labels[index], self.ranges)

    def pictures(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return small pictures of some samples: ``(K,) -> (K, h, w, C)``."""
        return thumbnails(self.images[torch.from_numpy(index)].numpy())

    def joined(self, other: ImageDataset) -> ImageDataset:
        """Return the images followed by others."""
        return self.with_more(other.images, other.labels)

    def with_more(self, images: Tensor, labels: Tensor) -> ImageDataset:
        """Return the images followed by others."""
        more = torch.cat([self.images, images]), torch.cat([self.labels, labels])
        return ImageDataset(*more, self.ranges)

    def contents(self) -> NDArray[np.uint64]:
        """Return a checksum of the pixels of each image, ``(N,)``."""
        return row_checksums(self.images.numpy())

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of each channel, ``(C,)`` float32 each.

        The unit is [0, 1], whatever the type of the images. A constant channel gets the deviation 1, so that
        it is safe to divide by it.

        >>> images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> ImageDataset(images, torch.tensor([0, 1])).mean_std()
        (tensor([0.5000]), tensor([0.5000]))
        """
        return mean_std(self.images)


def mean_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each channel of images ``(N, C, H, W)``, in [0, 1]."""
    count, channels, height, width = images.shape
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    # float32 would lose digits over millions of pixels.
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    step = max(1, BLOCK // (channels * height * width))
    for start in range(0, count, step):
        block = images[start : start + step].to(torch.float64) / unit
        total += block.sum((0, 2, 3))
        squares += block.square().sum((0, 2, 3))
    values = count * height * width
    mean = total / values
    variance = squares / values - mean.square()
    # Below this a variance is only the rounding of the subtraction above.
    std = torch.where(variance > 1e-12, variance, 1.0).sqrt()
    return mean.float(), std.float()


@dataclass(frozen=True)
class ImageData:
    """A train part and a test part, with the names of the classes.

    Attributes:
        name: a known name, or the name of the folder or file.
        train: the samples to train on.
        test: the samples held out.
        classes: the name of each class, in the order of the labels.
        files: for a folder of images the path of each train sample, else None.
        skipped: the images that could not be read and were left out.
        added: the number of train samples, the last ones, that were collected later.
        notes: a sentence on each thing about the data that a person should know.
        test_files: for a folder of images the path of each test sample, else None.
        identity: uint64 ``(N,)`` and ``(M,)``, a checksum of the file of each train and test sample; None if
            its pixels identify it.
        test_share: the share of each class that was drawn as the test part; None if the data have one.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    files: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    added: int = 0
    notes: tuple[str, ...] = ()
    test_files: tuple[str, ...] | None = None
    identity: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None
    test_share: float | None = None

    def identities(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return a checksum that identifies each train and each test sample, ``(N,)`` and ``(M,)``."""
        if self.identity is not None:
            return self.identity
        return self.train.contents(), self.test.contents()

    def take(self, rows: NDArray[np.int64]) -> ImageData:
        """Return the data with some of the train samples."""
        identity = None if self.identity is None else (self.identity[0][rows], self.identity[1])
        return replace(self, train=self.train.take(rows), files=_some(self.files, rows), identity=identity)

    def with_held_out(self, out: NDArray[np.bool_]) -> ImageData:
        """Return the data with the train samples of the mask ``(N,)`` as the test samples."""
        rows = np.flatnonzero(out)
        kept = np.flatnonzero(~out)
        identity = None if self.identity is None else (self.identity[0][kept], self.identity[0][rows])
        test_files = _some(self.files, rows)
        return replace(self.take(kept), test=self.train.take(rows), test_files=test_files, identity=identity)

    def joined(self) -> ImageData:
        """Return the data with the test samples appended to the train samples."""
        train = self.train.joined(self.test)
        files = None if self.files is None or self.test_files is None else self.files + self.test_files
        identity = None if self.identity is None else (np.concatenate(self.identity), self.identity[1])
        return replace(self, train=train, files=files, identity=identity)


def _some(names: tuple[str, ...] | None, rows: NDArray[np.int64]) -> tuple[str, ...] | None:
    return None if names is None else tuple(names[row] for row in rows.tolist())


def from_arrays(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: Sequence[str],
) -> ImageData:
    """Return the data of two ``(images (N, C, H, W), labels (N,))`` pairs of arrays."""
    parts = [
        ImageDataset(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))
        for images, labels in (train, test)
    ]
    return ImageData(name, parts[0], parts[1], tuple(classes))
