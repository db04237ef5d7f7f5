"""What every reader returns: images and labels in memory, a train and a test part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

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

BLOCK = 2**22
"""Values that are widened to float64 at a time."""


class LeftOutWarning(UserWarning):
    """Files of a folder were left out; :attr:`ImageData.notes` says the same."""


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Images and labels in memory, handed out a batch at a time.

    The images stay as they were read; dividing by 255 and normalising belong to the model's side,
    where a whole batch is on the device.

    Args:
        images: ``(N, C, H, W)``, uint8 in 0..255 or float32 in [0, 1].
        labels: class ids ``(N,)``, int64.
        ranges: by which pixels of more than 8 bits were scaled, and those of other images have to be.

    Raises:
        InvalidValue: A shape, a type or the two lengths do not fit.

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

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch ``(images (B, C, H, W), labels (B,))`` of ``indices`` in one gather.

        torch's fetcher calls this in place of B times ``__getitem__`` and hands the result to the
        loader's ``collate_fn``, which must be :meth:`collate`.
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

    @staticmethod
    def collate(batch: Any) -> tuple[Tensor, Tensor]:
        """Return ``batch`` as it is when it is one already; stack a list of single samples."""
        if isinstance(batch, tuple):
            return cast("tuple[Tensor, Tensor]", batch)
        images, labels = default_collate(batch)
        return images, labels

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of each channel, ``(C,)`` float32 each.

        The unit is [0, 1], whatever the images are stored in. A channel that never changes gets
        the deviation 1, so that dividing by it is safe.

        >>> images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> ImageDataset(images, torch.tensor([0, 1])).mean_std()
        (tensor([0.5000]), tensor([0.5000]))
        """
        count, channels, height, width = self.images.shape
        unit = 255.0 if self.images.dtype == torch.uint8 else 1.0
        total, squares = torch.zeros(2, channels, dtype=torch.float64)
        step = max(1, BLOCK // (channels * height * width))
        for start in range(0, count, step):
            block = self.images[start : start + step].to(torch.float64) / unit
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
        name: what was asked for: a known name, or the name of the folder or file.
        train: the samples to train on.
        test: the samples held out.
        classes: the name of each class, in the order of the labels.
        files: for a folder of images the path of each train sample, else None.
        skipped: the images that could not be read and were left out.
        added: how many of the train samples, the last ones, were collected later.
        notes: what to tell a person of how the data were read, a sentence each.
        test_files: for a folder of images the path of each test sample, else None.
        identity: uint64 ``(N,)`` and ``(M,)``, a checksum of what each train and test sample was made of;
            None where that is its pixels.
        test_share: the share of each class that was drawn as the test part; None where the data brought one.
    """

    name: str
    train: ImageDataset
    test: ImageDataset
    classes: tuple[str, ...]
    files: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    added: int = 0
    notes: tuple[str, ...] = ()
    test_files: tuple[str, ...] | None = None
    identity: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None
    test_share: float | None = None

    def identities(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return a checksum by which each train and each test sample is known, ``(N,)`` and ``(M,)``."""
        if self.identity is not None:
            return self.identity
        train, test = (row_checksums(part.images.numpy()) for part in (self.train, self.test))
        return train, test

    def take(self, rows: NDArray[np.int64]) -> ImageData:
        """Return the data with some of the train samples."""
        identity = None if self.identity is None else (self.identity[0][rows], self.identity[1])
        return replace(self, train=self.train.take(rows), files=_some(self.files, rows), identity=identity)

    def with_held_out(self, out: NDArray[np.bool_]) -> ImageData:
        """Return the data with some train samples, a mask ``(N,)``, in the place of the test samples."""
        rows, kept = np.flatnonzero(out), np.flatnonzero(~out)
        data, identity = self.take(kept), None
        if self.identity is not None:
            identity = (self.identity[0][kept], self.identity[0][rows])
        files = _some(self.files, rows)
        return replace(data, test=self.train.take(rows), test_files=files, identity=identity)

    def joined(self) -> ImageData:
        """Return the data with the test samples among the train samples, after them."""
        parts = self.train, self.test
        images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        files = None if self.files is None or self.test_files is None else self.files + self.test_files
        identity = None if self.identity is None else (np.concatenate(self.identity), self.identity[1])
        return replace(
            self, train=ImageDataset(images, labels, self.train.ranges), files=files, identity=identity
        )


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
