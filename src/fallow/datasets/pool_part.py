"""Candidates in parts of some samples, converted to the shape and kind of the training images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InvalidValue, damaged, invalid
from ..files.regular_file import opened
from .decoding import Opener, decode_opened
from .images import Images, Shape
from .messages import error_text
from .npz import as_images

PART = 512
"""Samples in memory at a time."""
UNKNOWN = -1
WHOLE = (0, 1)
"""The share that is the whole pool."""
LARGEST = 1 << 28
"""Maximum size of an image file that a table names, in bytes."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PoolPart:
    """Some samples of a pool.

    Attributes:
        index: int64 ``(B,)``, their positions in the pool.
        images: ``(B, C, H, W)``, of the shape and kind of the training images.
        labels: int64 ``(B,)``, class ids of the run, -1 if unknown.
        files: the path of each; None if they are no files.
        unreadable: the reason for each sample that was left out.
    """

    index: NDArray[np.int64]
    images: Tensor
    labels: NDArray[np.int64]
    files: tuple[str, ...] | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)


class Pool(Protocol):
    """Samples that can be read part by part, several times.

    Attributes:
        name: the name that the user gave; a path is absolute.
        total: the number of samples; None if it is known only after reading.
        notes: a sentence on each thing that was left out before reading.
    """

    name: str
    total: int | None
    notes: tuple[str, ...]

    def parts(
        self, index: NDArray[np.int64] | None = None, share: tuple[int, int] = WHOLE
    ) -> Iterator[PoolPart]:
        """Yield all samples in order, or only those of the ascending ``index``.

        Args:
            index: int64, the positions of the samples; None for all.
            share: ``(k, n)`` for every n-th of these parts from part k on; the others are not decoded.

        Raises:
            InvalidValue, DamagedData: if a sample is not of the kind of the training images.
        """
        ...


@dataclass(frozen=True, eq=False)
class Kind:
    """The kind of images and labels to which samples of a pool are converted.

    Attributes:
        like: one of the training images at least; all have the same shape and kind.
        classes: names of the classes.
    """

    like: Images
    classes: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """Channels, height and width."""
        return self.like.shape

    def check(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Raise, before any are read, if an array of this shape ``(N, ...)`` and type cannot be such images.

        Raises:
            InvalidValue: for another shape or type.
        """
        if math.prod(shape[1:]) != math.prod(self.shape):
            raise self._wrong_shape(name, shape[1:])
        # One blank image passes through the rules for all the others.
        self.images(name, np.zeros((1, *shape[1:]), dtype), np.zeros(1, np.int64))

    def images(self, name: str, array: NDArray[Any], rows: NDArray[np.int64]) -> Tensor:
        """Return images of the right shape and kind.

        Args:
            name: of the array, for errors.
            array: as :func:`~fallow.datasets.npz.as_images` takes it, or flat, ``(B, C * H * W)``.
            rows: their positions in the pool, for errors.

        Raises:
            InvalidValue: for another shape, or values that are no pixels.
        """
        flat = array.ndim == 2
        images = torch.from_numpy(as_images(name, array[:, None] if flat else array, rows))
        if flat and images[0].numel() == math.prod(self.shape):
            images = images.reshape(-1, *self.shape)
        if tuple(images.shape[1:]) != self.shape:
            raise self._wrong_shape(name, array.shape[1:])
        return self.converted(images)

    def _wrong_shape(self, name: str, shape: tuple[int, ...]) -> InvalidValue:
        required = " x ".join(map(str, self.shape))
        rule = f"`{name}` must hold images as the training set does, {required}."
        return invalid(rule, " x ".join(map(str, shape)), "Scale them as the training images were.")

    def converted(self, images: Tensor) -> Tensor:
        """Return uint8 or float images in the type of the training images."""
        if images.dtype == self.like.dtype:
            return images
        if images.dtype == torch.uint8:
            return images.float() / 255
        return (images * 255).round().to(torch.uint8)

    def label(self, value: Any) -> int:
        """Return the class id of a label, a number or a name; -1 if the run has no such class.

        A number is the name of a class if the names of all classes are numbers, else its id.
        """
        # A bool is an int in Python, but a name in tables.
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and not self._numbered:
            return int(value) if 0 <= value < len(self.classes) else UNKNOWN
        return self._ids.get("" if value is None else str(value), UNKNOWN)

    @cached_property
    def _ids(self) -> dict[str, int]:
        # In reverse, so that the first of two classes of the same name wins.
        return {name: number for number, name in reversed(list(enumerate(self.classes)))}

    @cached_property
    def _numbered(self) -> bool:
        return all(name.removeprefix("-").isdecimal() for name in self.classes)


def chunks(index: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield an index part by part."""
    for start in range(0, index.size, PART):
        yield index[start : start + PART]


def check_unchanged(file: Path, samples: int, before: int) -> None:
    """Raise if a file no longer has as many samples as before.

    Raises:
        DamagedData: if it has not: another process, or another machine, has another file there.
    """
    if samples != before:
        step = "Start again, with the same files on every machine."
        raise damaged(
            f"{file} must not change while it is used.", f"{samples:,} samples, before {before:,}", step
        )


def shared(parts: Iterable[T], share: tuple[int, int]) -> Iterator[T]:
    """Return every n-th of some things, from the k-th on, for the share ``(k, n)``.

    >>> list(shared("abcdefg", (1, 3)))
    ['b', 'e']
    """
    first, step = share
    return islice(parts, first, None, step)


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
    """Return the samples of some rows of a table; samples without an image that can be decoded are left out.

    Args:
        kind: the kind to which they are converted.
        name: of the column of images.
        rows: their positions in the pool.
        values: of that column: encoded images, lists of pixels, or None.
        labels: for each a number, a name or None.
        names: the names of the numbers; None if these are class ids of the run.
        folder: the folder to which paths of images in the table are relative; None if paths are refused.
        root: the folder of the pool, which a path must not leave, by ``..``, by a link or as an absolute one.

    Raises:
        InvalidValue: if pixels are not of the kind of the training images.
    """
    unreadable: dict[str, str] = {}
    if any(isinstance(value, (list, tuple, np.ndarray)) for value in values):
        kept = np.array([at for at, value in enumerate(values) if value is not None], np.int64)
        images = kind.images(name, _pixels([values[at] for at in kept], kind), rows[kept])
    else:
        openers = [opener(value, folder, root) for value in values]
        decoded, reasons = decode_opened(openers, kind.shape, kind.like.ranges)
        kept = np.array([at for at in range(len(values)) if at not in reasons], np.int64)
        images = kind.converted(torch.from_numpy(decoded[kept]))
        unreadable = {_title(values[at], int(rows[at])): reason for at, reason in reasons.items()}
    ids = np.array([kind.label(_named(label, names)) for label in labels], np.int64)
    return PoolPart(rows[kept], images, ids[kept], unreadable=unreadable)


def _named(label: Any, names: list[str] | None) -> Any:
    if names is None or not isinstance(label, int):
        return label
    return names[label] if 0 <= label < len(names) else None


def opener(value: Any, folder: Path | None, root: Path | None) -> Opener:
    """Return a function that opens an encoded image: bytes, or Hugging Face's ``{bytes, path}``."""
    if isinstance(value, dict):
        path = value.get("path")
        if value.get("bytes") is None and isinstance(path, str):
            return partial(_by_path, path, folder, root)
        value = value.get("bytes")
    return partial(BytesIO, value if isinstance(value, bytes) else b"")


@contextmanager
def _by_path(path: str, folder: Path | None, root: Path | None) -> Iterator[BinaryIO]:
    """Open an image by its path in a table, which must not leave the pool."""
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


def _title(value: Any, row: int) -> str:
    """Return the title of a sample in messages: its row, and its path if it has no bytes."""
    path = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else None
    return f"row {row}, {path}" if isinstance(path, str) else f"row {row}"


def _pixels(values: list[Any], kind: Kind) -> NDArray[Any]:
    """Return lists of pixels as ``(B, ...)``, as uint8 if they are whole numbers in 0..255."""
    try:
        array = np.array(values)
    except ValueError as error:
        rule = f"Pixels must be {' x '.join(map(str, kind.shape))} numbers a sample."
        raise invalid(rule, error_text(error), "Scale them as the training images were.") from None
    if np.issubdtype(array.dtype, np.integer) and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    return array
