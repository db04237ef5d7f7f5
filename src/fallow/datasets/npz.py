"""A numpy archive with the arrays `x_train`, `y_train`, `x_test` and `y_test`."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid
from .class_names import WIDEST, as_ids, name_notes, number_classes
from .decoding import MEMORY_LIMIT
from .images import ImageData, from_arrays
from .npz_file import LARGE, ArrayHeader, NpzFile, open_npz

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3, 4)
BLOCK = 1024
"""Samples checked at a time."""
_SAVE = f"Save it with `numpy.savez(path, {', '.join(f'{name}=...' for name in ARRAYS)})`."
MANY, FEW = 100, 5
"""More classes than MANY with fewer than FEW samples each look like measurements."""
_THIN = 20
"""A large array that is packed more than this many times is checked before memory is reserved for it."""


def load_npz(path: str | os.PathLike[str]) -> ImageData:
    """Read a numpy archive; other arrays in it are ignored.

    Images are ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)`` with 1, 3 or 4 channels, in uint8, or
    floats in [0, 1], which are kept as float32. Labels are whole numbers or words, ``(N,)``, a column
    ``(N, 1)`` of these, or one-hot rows ``(N, C)``. Classes are numbered in the order of their names, numbers
    before words. Words in ``class_names``, ``(C,)``, name the classes 0 to C - 1.

    Raises:
        InvalidValue: if an array is missing or breaks these rules, or the arrays take more than 4 GiB.
        DamagedData: if the file is not a numpy archive, or an array does not match its header.
    """
    path = Path(path)
    with open_npz(path, _SAVE) as file:
        headers = dict(zip(ARRAYS, file.headers(ARRAYS), strict=True))
        _check(headers)
        ids = {part: _labels(file, headers[f"y_{part}"]) for part in ("train", "test")}
        (train, test), names = number_classes(ids["train"], ids["test"])
        if len(np.unique(train)) < 2:
            rule = "`y_train` must hold at least two classes."
            raise invalid(rule, f"only {names[train[0]]}", "With one class there is nothing to learn.")
        names = _named(file, names)
        images = {part: _images(file, headers[f"x_{part}"]) for part in ("train", "test")}
    data = from_arrays(path.name, (images["train"], train), (images["test"], test), names)
    return replace(data, notes=_notes(train, test, names))


def _check(headers: dict[str, ArrayHeader]) -> None:
    """Compare the headers of the arrays with each other, before any array is read."""
    for part in ("train", "test"):
        x, y = headers[f"x_{part}"], headers[f"y_{part}"]
        check_images(x.name, x.shape, x.dtype)
        if not 1 <= len(y.shape) <= 2 or (len(y.shape) == 2 and y.shape[1] > WIDEST):
            step = "Labels are one number or word a sample."
            raise invalid(f"`{y.name}` must have the shape (N,).", y.shape, step)
        if y.shape[0] != x.shape[0]:
            rule = f"`{y.name}` must hold one label for each of the {x.shape[0]} images of `{x.name}`."
            raise invalid(rule, y.shape[0], "Save both from the same list of samples.")
    train, test = headers["x_train"], headers["x_test"]
    kinds = [(_channels_first(x.shape)[1:], x.dtype == np.uint8) for x in (train, test)]
    if kinds[0] != kinds[1]:
        rule = "`x_train` and `x_test` must hold images of one shape and type."
        found = " and ".join(f"{x.shape[1:]} in {x.dtype}" for x in (train, test))
        raise invalid(rule, found, "Save both in the same way.")
    size = sum(math.prod(x.shape) * (1 if x.dtype == np.uint8 else 4) for x in (train, test))
    size += sum(y.size for y in (headers["y_train"], headers["y_test"]))
    if size > MEMORY_LIMIT:
        rule = f"The images and labels must fit {MEMORY_LIMIT / 2**30:.0f} GiB of memory."
        found = f"{train.shape[0]:,} and {test.shape[0]:,} of shape {train.shape[1:]}, {size / 2**30:.1f} GiB"
        raise invalid(rule, found, "Save fewer or smaller images, or uint8 in place of floats.")


def _labels(file: NpzFile, header: ArrayHeader) -> NDArray[np.generic]:
    """Return class ids ``(N,)``: whole numbers, or words."""
    if header.fortran:  # its rows are not contiguous, so that it cannot be read in blocks
        return as_ids(header.name, file.whole(header))
    return np.concatenate([as_ids(header.name, block, start) for start, block in file.blocks(header)])


def _named(file: NpzFile, ids: list[str]) -> list[str]:
    """Return the names of the classes: those in ``class_names`` for their ids, if there is such an array."""
    if "class_names" not in file.names:
        return ids
    (header,) = file.headers(["class_names"])
    step = "Save one name for each class, or leave the array out."
    if header.dtype.kind not in "US" or len(header.shape) != 1 or header.shape[0] > WIDEST:
        raise invalid("`class_names` must hold words (C,).", f"{header.dtype} {header.shape}", step)
    names = as_ids(header.name, file.whole(header)).tolist()
    by_id = {str(position): name for position, name in enumerate(names)}
    if len(set(names)) < len(names) or any(name not in by_id for name in ids):
        found = f"{len(set(names)):,} different names for the classes {', '.join(ids[:12])}"
        raise invalid("`class_names` must name the classes 0 to C - 1, each by another name.", found, step)
    return [by_id[name] for name in ids]


def _images(file: NpzFile, header: ArrayHeader) -> np.ndarray:
    """Return checked images ``(N, C, H, W)``."""
    # The memory below is reserved for the claimed size.
    if header.size > LARGE and header.size > _THIN * header.packed:
        file.check(header)
    if header.fortran:
        return as_images(header.name, file.whole(header))
    dtype = np.uint8 if header.dtype == np.uint8 else np.float32
    images = np.empty(_channels_first(header.shape), dtype)
    for start, block in file.blocks(header):
        rows = np.arange(start, start + len(block))
        images[start : start + len(block)] = as_images(header.name, block, rows)
    return images


def _notes(train: NDArray[np.int64], test: NDArray[np.int64], names: list[str]) -> tuple[str, ...]:
    """Return a sentence on each thing about the labels that a person should know before training."""
    notes = list(name_notes(names))
    known = np.isin(test, train)
    if not known.all():
        unknown = np.unique(test[~known])
        listed = ", ".join(names[number] for number in unknown[:5]) + (", ..." if unknown.size > 5 else "")
        notes.append(
            f"`y_test` holds {unknown.size:,} {'class' if unknown.size == 1 else 'classes'} that `y_train` "
            f"lacks: {listed}. Their {np.count_nonzero(~known):,} of {test.size:,} samples count as wrong."
        )
    count = np.unique(train).size
    if count > MANY and train.size < FEW * count:
        notes.append(
            f"`y_train` holds {count:,} classes with {train.size / count:.1f} samples each. If these labels "
            "are measurements, cut them into a few groups: fallow trains classifiers."
        )
    return tuple(notes)


def check_images(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise :class:`~fallow.InvalidValue` if an array of this shape and type cannot be images."""
    _channels_first(shape, name)
    if math.prod(shape) == 0:
        raise invalid(f"`{name}` must hold images.", f"shape {shape}", "Add some.")
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        step = "Convert 0..255 by `.astype(numpy.uint8)`."
        raise invalid(f"`{name}` must be uint8 or floats in [0, 1].", dtype, step)


def as_images(name: str, array: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Return ``array`` as checked images ``(N, C, H, W)``, uint8 or float32.

    Channels are the last axis if its length is 1, 3 or 4, and the second axis if that has such a length. If
    both have one, the reading with square images is taken, else channels last.

    Args:
        name: the array's name, for errors.
        array: uint8, or floats in [0, 1].
        rows: the position of each sample, for errors; by default they count from 0.

    Raises:
        InvalidValue: if the shape, the type or a value is not allowed.

    >>> as_images("x", np.zeros((5, 28, 28, 3), np.uint8)).shape
    (5, 3, 28, 28)
    >>> as_images("x", np.zeros((5, 3, 4, 4), np.uint8)).shape
    (5, 3, 4, 4)
    """
    check_images(name, array.shape, array.dtype)
    if array.ndim == 3:
        images = array[:, None]
    else:
        images = array.transpose(0, 3, 1, 2) if _channels_last(array.shape) else array
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    for start in range(0, len(images), BLOCK):
        samples = None if rows is None else rows[start : start + BLOCK]
        _check_unit(name, images[start : start + BLOCK], start, samples)
    return np.ascontiguousarray(images, dtype=np.float32)


def _channels_first(shape: tuple[int, ...], name: str = "x") -> tuple[int, int, int, int]:
    """Return the shape of images as ``(N, C, H, W)``."""
    if len(shape) == 3:
        return shape[0], 1, shape[1], shape[2]
    if len(shape) == 4 and _channels_last(shape):
        return shape[0], shape[3], shape[1], shape[2]
    if len(shape) == 4 and shape[1] in CHANNELS:
        return shape[0], shape[1], shape[2], shape[3]
    rule = f"`{name}` must be (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1, 3 or 4."
    raise invalid(rule, shape, "Reshape the array.")


def _channels_last(shape: tuple[int, ...]) -> bool:
    _, second, third, last = shape
    if last in CHANNELS and second in CHANNELS:
        return second == third or third != last
    return last in CHANNELS


def _check_unit(name: str, block: np.ndarray, start: int, rows: np.ndarray | None) -> None:
    # NaN compares as false, so that it is found here too.
    inside = (block >= 0) & (block <= 1)
    for row in np.flatnonzero(~inside.all(axis=(1, 2, 3)))[:1]:
        value = block[row][~inside[row]][0]
        step = "Divide 0..255 by 255, or save uint8." if np.isfinite(value) else "Mend the sample."
        rule = f"Floats in `{name}` must be finite and in [0, 1]."
        raise invalid(rule, f"{value} at sample {start + row if rows is None else rows[row]}", step)
