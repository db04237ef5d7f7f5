"""What candidates are, whatever they are read from: some samples at a time, made like the training images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InvalidValue, damaged, invalid
from ..files.regular_file import opened
from .decoding import Opener, Shape, decode_opened
from .images import ImageDataset
from .npz import as_images
from .npz_file import said as said

PART = 512
"""Samples that are in memory at a time."""
UNKNOWN = -1
LARGEST = 1 << 28
"""Bytes of an image file that a table names, at most."""


@dataclass(frozen=True, eq=False)
class PoolPart:
    """Some samples of a pool.

    Attributes:
        index: int64 ``(B,)``, where they stand in the pool.
        images: ``(B, C, H, W)``, of the shape and kind of the training images.
        labels: int64 ``(B,)``, class ids of the run, -1 where unknown.
        files: where each lies; None where they are no files.
        unreadable: what was left out, and why.
    """

    index: NDArray[np.int64]
    images: Tensor
    labels: NDArray[np.int64]
    files: tuple[str, ...] | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)


class Pool(Protocol):
    """Samples that are read part by part, as often as is asked.

    Attributes:
        name: what was named, from the root where it is a path.
        total: how many samples there are; None where only reading tells.
        notes: what to tell a person of what was left out before any was read, a sentence each.
    """

    name: str
    total: int | None
    notes: tuple[str, ...]

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

    def check(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Raise, before any are read, where no array of a shape ``(N, ...)`` and type can be such images.

        Raises:
            InvalidValue: for another shape or type.
        """
        if math.prod(shape[1:]) != math.prod(self.shape):
            raise self._of_another_shape(name, shape[1:])
        self.images(name, np.zeros((1, *shape[1:]), dtype), np.zeros(1, np.int64))

    def images(self, name: str, array: NDArray[Any], rows: NDArray[np.int64]) -> Tensor:
        """Return images of the right shape and kind.

        Args:
            name: of the array, for errors.
            array: as :func:`~fallow.datasets.npz.as_images` takes it, or flat, ``(B, C * H * W)``.
            rows: where they stand in the pool, for errors.

        Raises:
            InvalidValue: for another shape, or values that are no pixels.
        """
        flat = array.ndim == 2
        images = torch.from_numpy(as_images(name, array[:, None] if flat else array, rows))
        if flat and images[0].numel() == math.prod(self.shape):
            images = images.reshape(-1, *self.shape)
        if tuple(images.shape[1:]) != self.shape:
            raise self._of_another_shape(name, array.shape[1:])
        return self.of_kind(images)

    def _of_another_shape(self, name: str, shape: tuple[int, ...]) -> InvalidValue:
        found, wanted = (" x ".join(map(str, lengths)) for lengths in (shape, self.shape))
        rule = f"`{name}` must hold images as the training set does, {wanted}."
        return invalid(rule, found, "Scale them as the training images were.")

    def of_kind(self, images: Tensor) -> Tensor:
        """Return uint8 or float images as the training images are."""
        if images.dtype == self.like.images.dtype:
            return images
        if images.dtype == torch.uint8:
            return images.float() / 255
        return (images * 255).round().to(torch.uint8)

    def label(self, value: Any) -> int:
        """Return the class of a label, a number or a name; -1 where it is none of the run's.

        A number is the name of a class if all classes have numbers for names, else its place.
        """
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and not self._numbered:
            return int(value) if 0 <= value < len(self.classes) else UNKNOWN
        return self._places.get("" if value is None else str(value), UNKNOWN)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in reversed(list(enumerate(self.classes)))}

    @cached_property
    def _numbered(self) -> bool:
        return all(name.removeprefix("-").isdecimal() for name in self.classes)


def chunks(index: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield an index part by part."""
    for start in range(0, index.size, PART):
        yield index[start : start + PART]


def of_columns(
    kind: Kind,
    name: str,
    rows: NDArray[np.int64],
    values: list[Any],
    labels: list[Any],
    names: list[str] | None,
    folder: Path | None = None,
    root: Path | None = None,
) -> PoolPart:
    """Return the samples of some rows of a table; those without an image that can be decoded are left out.

    Args:
        kind: what they are made to be.
        name: of the column of images.
        rows: where they stand in the pool.
        values: of that column: encoded images, or lists of pixels; None where there is none.
        labels: a number or a name each, or None.
        names: what the numbers stand for; None where they are class ids of the run.
        folder: where paths of images begin that the table names; None where there are none to follow.
        root: the folder of the pool, which no path leads out of, by ``..``, from the root or by a link.

    Raises:
        InvalidValue: where pixels are not of the kind of the training images.
    """
    unreadable: dict[str, str] = {}
    if any(isinstance(value, (list, tuple, np.ndarray)) for value in values):
        kept = np.array([place for place, value in enumerate(values) if value is not None], np.int64)
        images = kind.images(name, _pixels([values[place] for place in kept], kind), rows[kept])
    else:
        images, kept, reasons = _decoded([opener(value, folder, root) for value in values], kind)
        unreadable = {_called(values[at], int(rows[at])): reason for at, reason in reasons.items()}
    known = np.array([kind.label(_named(label, names)) for label in labels], np.int64)
    return PoolPart(rows[kept], images, known[kept], unreadable=unreadable)


def _named(label: Any, names: list[str] | None) -> Any:
    if names is None or not isinstance(label, int):
        return label
    return names[label] if 0 <= label < len(names) else None


def opener(value: Any, folder: Path | None, root: Path | None) -> Opener:
    """Return what opens an encoded image: bytes, or what Hugging Face writes, ``{bytes, path}``."""
    if isinstance(value, dict):
        path = value.get("path")
        if value.get("bytes") is None and isinstance(path, str):
            return partial(_by_path, path, folder, root)
        value = value.get("bytes")
    return partial(BytesIO, value if isinstance(value, bytes) else b"")


@contextmanager
def _by_path(path: str, folder: Path | None, root: Path | None) -> Iterator[BinaryIO]:
    """Open an image that a table names by its path, which must not lead out of the pool."""
    rule = "The path of an image must lie in the pool's folder."
    if folder is None or root is None:
        raise damaged(rule, "a pool without a folder")
    try:
        inner = (folder.absolute() / path).relative_to(root.absolute())
    except ValueError:
        raise damaged(rule, "a path out of it") from None
    if ".." in inner.parts:
        raise damaged(rule, "a path with ..")
    with opened(root / inner, root, LARGEST) as file:
        yield file


def _decoded(values: list[Opener], kind: Kind) -> tuple[Tensor, NDArray[np.int64], dict[int, str]]:
    """Return the images that can be decoded, which of the values they are, and why the others cannot."""
    images, reasons = decode_opened(values, kind.shape, kind.like.ranges)
    kept = np.array([place for place in range(len(values)) if place not in reasons], np.int64)
    return kind.of_kind(torch.from_numpy(images[kept])), kept, reasons


def _called(value: Any, row: int) -> str:
    """Return what to call a value of a table: by its row, and its path if it has no more."""
    path = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else None
    return f"row {row}, {path}" if isinstance(path, str) else f"row {row}"


def _pixels(values: list[Any], kind: Kind) -> NDArray[Any]:
    """Return lists of pixels as ``(B, ...)``, as uint8 where they are whole numbers in 0..255."""
    try:
        array = np.array(values)
    except ValueError as error:
        rule = f"Pixels must be {' x '.join(map(str, kind.shape))} numbers a sample."
        raise invalid(rule, said(error), "Scale them as the training images were.") from None
    if np.issubdtype(array.dtype, np.integer) and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    return array
