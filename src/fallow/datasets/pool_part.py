"""What candidates are, whatever they are read from: some samples at a time, made like the training images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._checks import invalid
from .decoding import Shape, decode_bytes
from .images import ImageDataset
from .npz import as_images

PART = 512
"""Samples that are in memory at a time."""
UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class PoolPart:
    """Some samples of a pool.

    Attributes:
        index: int64 ``(B,)``, where they stand in the pool.
        images: ``(B, C, H, W)``, of the shape and kind of the training images.
        labels: int64 ``(B,)``, class ids of the run, -1 where unknown.
        files: where each lies; None where they are no files.
    """

    index: NDArray[np.int64]
    images: Tensor
    labels: NDArray[np.int64]
    files: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.index)


class Pool(Protocol):
    """Samples that are read part by part, as often as is asked.

    Attributes:
        name: what was named, from the root where it is a path.
        total: how many samples there are; None where only reading tells.
    """

    name: str
    total: int | None

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """Yield all samples in order, or those of ``index``, ascending, alone.

        Raises:
            InvalidValue, DamagedData: where one is not of the kind of the training images.
        """
        ...


@dataclass(frozen=True, eq=False)
class Kind:
    """What samples of a pool are made to be.

    Attributes:
        like: the training images.
        classes: names of the classes.
    """

    like: ImageDataset
    classes: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """Channels, height and width."""
        channels, height, width = self.like.images.shape[1:]
        return channels, height, width

    def images(self, name: str, array: NDArray[Any]) -> Tensor:
        """Return images of the right shape and kind.

        Raises:
            InvalidValue: for another shape, or values that are no pixels.
        """
        images = torch.from_numpy(as_images(name, array))
        if tuple(images.shape[1:]) != self.shape:
            found = " x ".join(map(str, images.shape[1:]))
            wanted = " x ".join(map(str, self.shape))
            rule = f"`{name}` must hold images as the training set does, {wanted}."
            raise invalid(rule, found, "Scale them as the training images were.")
        return self.of_kind(images)

    def of_kind(self, images: Tensor) -> Tensor:
        """Return uint8 or float images as the training images are."""
        if images.dtype == self.like.images.dtype:
            return images
        if images.dtype == torch.uint8:
            return images.float() / 255
        return (images * 255).round().to(torch.uint8)

    def label(self, value: Any) -> int:
        """Return the class id of a label, a number or a name; -1 where it is none of the run's."""
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            return int(value) if 0 <= value < len(self.classes) else UNKNOWN
        text = "" if value is None else str(value)
        return self.classes.index(text) if text in self.classes else UNKNOWN


def chunks(index: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield an index part by part."""
    for start in range(0, index.size, PART):
        yield index[start : start + PART]


def encoded(value: Any) -> bytes:
    """Return an encoded image: bytes, or what Hugging Face writes, ``{bytes, path}``."""
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            try:
                return Path(value["path"]).read_bytes()
            except OSError:
                return b""
        value = value.get("bytes")
    return value if isinstance(value, bytes) else b""


def decoded(values: list[bytes], kind: Kind) -> tuple[Tensor, NDArray[np.int64]]:
    """Return the images that can be decoded, and which of the values they are."""
    images, reasons = decode_bytes(values, kind.shape)
    kept = np.array([place for place in range(len(values)) if place not in reasons], np.int64)
    return kind.of_kind(torch.from_numpy(images[kept])), kept


def pixels(values: list[Any], kind: Kind) -> NDArray[Any]:
    """Return lists of pixels as ``(B, ...)``; flat ones get the shape of the training images."""
    channels, height, width = kind.shape
    try:
        array = np.array(values)
        if array.ndim == 2:
            array = array.reshape(len(values), channels, height, width)
    except ValueError as error:
        rule = f"Pixels must be {channels} x {height} x {width} numbers a sample."
        raise invalid(rule, error, "Scale them as the training images were.") from None
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.uint8) if array.min() >= 0 and array.max() <= 255 else array
    return array
