"""A numpy archive with the arrays `x_train`, `y_train`, `x_test` and `y_test`."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .._checks import damaged, invalid
from .images import ImageData, from_arrays

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3, 4)
MAX_CLASSES = 1_000_000
BLOCK = 1024
"""Samples that are checked at a time."""


def load_npz(path: str | os.PathLike[str]) -> ImageData:
    """Read a numpy archive; other arrays in it are ignored.

    Images are ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)`` with 1, 3 or 4 channels, in
    uint8, or floats in [0, 1], which are kept as float32. Labels are whole numbers from 0,
    ``(N,)``; there are ``max(y_train) + 1`` classes, named by their number.

    Raises:
        InvalidValue: An array is missing or holds what the rules above do not allow.
    """
    path = Path(path)
    arrays = read_arrays(path, ARRAYS)
    images = {part: as_images(f"x_{part}", arrays[f"x_{part}"]) for part in ("train", "test")}
    train, test = images["train"], images["test"]
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        rule = "`x_train` and `x_test` must hold images of one shape and type."
        found = f"{_kind(arrays['x_train'])} and {_kind(arrays['x_test'])}"
        raise invalid(rule, found, "Save both in the same way.")
    labels = {}
    for part in ("train", "test"):
        name = f"y_{part}"
        labels[part] = as_labels(name, arrays[name], len(images[part]))
    classes = int(labels["train"].max()) + 1
    if len(np.unique(labels["train"])) < 2:
        rule = "`y_train` must hold at least two classes."
        raise invalid(rule, f"only {classes - 1}", "With one class there is nothing to learn.")
    _check_below("y_test", labels["test"], classes, "the number of classes in `y_train`")
    names = [str(label) for label in range(classes)]
    return from_arrays(path.name, (train, labels["train"]), (test, labels["test"]), names)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the arrays ``names`` of an npz file; nothing in it is ever unpickled.

    Raises:
        InvalidValue: The file is no npz file or is damaged, an array is missing or holds objects.
    """
    save = f"Save them with `numpy.savez(path, {', '.join(f'{name}=...' for name in names)})`."
    if not zipfile.is_zipfile(path):
        found = "an empty file" if path.stat().st_size == 0 else "another or a cut-off file"
        raise damaged(f"{path} must be a numpy archive (.npz).", found, save)
    arrays: dict[str, np.ndarray] = {}
    with np.load(path, allow_pickle=False) as archive:
        missing = [name for name in names if name not in archive.files]
        if missing:
            wanted = ", ".join(f"`{name}`" for name in missing)
            found = ", ".join(archive.files) or "no arrays"
            raise invalid(f"{path} must hold {wanted}.", found, save)
        for name in names:
            try:
                arrays[name] = archive[name]
            except ValueError as error:
                if "pickle" not in str(error):
                    raise damaged(f"`{name}` in {path} must be an array.", error, save) from error
                step = "Save plain numbers: pickled objects can run code and are never loaded."
                raise invalid(f"`{name}` must hold numbers.", "Python objects", step) from None
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                step = "The file is damaged: save or copy it again."
                raise damaged(f"`{name}` in {path} must be readable.", error, step) from error
            if not isinstance(arrays[name], np.ndarray):
                raise damaged(f"`{name}` in {path} must be an array.", "another file", save)
    return arrays


def as_images(name: str, array: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Return ``array`` as checked images ``(N, C, H, W)``, uint8 or float32.

    Channels come last where the last of four lengths is 1, 3 or 4, first where the second is.
    Where both are, the reading that makes the images square is taken, else channels last.

    Args:
        name: the array's name, for errors.
        array: uint8, or floats in [0, 1].
        rows: the sample that each is, for errors; by default they count from 0.

    Raises:
        InvalidValue: The shape, the type or a value is not allowed.

    >>> as_images("x", np.zeros((5, 28, 28, 3), np.uint8)).shape
    (5, 3, 28, 28)
    >>> as_images("x", np.zeros((5, 3, 4, 4), np.uint8)).shape
    (5, 3, 4, 4)
    """
    rule = f"`{name}` must be (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1, 3 or 4."
    if array.ndim == 3:
        images = array[:, None]
    elif array.ndim == 4 and _channels_last(array.shape):
        images = array.transpose(0, 3, 1, 2)
    elif array.ndim == 4 and array.shape[1] in CHANNELS:
        images = array
    else:
        raise invalid(rule, array.shape, "Reshape the array.")
    if images.size == 0:
        raise invalid(f"`{name}` must hold images.", f"shape {array.shape}", "Add some.")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if not np.issubdtype(images.dtype, np.floating):
        step = "Convert 0..255 by `.astype(numpy.uint8)`."
        raise invalid(f"`{name}` must be uint8 or floats in [0, 1].", images.dtype, step)
    for start in range(0, len(images), BLOCK):
        samples = None if rows is None else rows[start : start + BLOCK]
        _check_unit(name, images[start : start + BLOCK], start, samples)
    return np.ascontiguousarray(images, dtype=np.float32)


def as_labels(name: str, array: np.ndarray, count: int) -> np.ndarray:
    """Return ``array`` as checked class ids ``(N,)``, int64.

    Args:
        name: the array's name, for errors.
        array: whole numbers from 0.
        count: how many there must be.

    Raises:
        InvalidValue: The shape, the type, the length or a value is not allowed.
    """
    if not np.issubdtype(array.dtype, np.integer):
        rule = f"`{name}` must hold whole numbers."
        raise invalid(rule, array.dtype, "Number the classes from 0.")
    if array.ndim != 1:
        step = "Class ids are one number a sample; take `.argmax(1)` of one-hot rows."
        raise invalid(f"`{name}` must have the shape (N,).", array.shape, step)
    if len(array) != count:
        images = name.replace("y", "x", 1)
        rule = f"`{name}` must hold one label for each of the {count} images of `{images}`."
        raise invalid(rule, len(array), "Save both from the same list of samples.")
    _check_below(name, array, MAX_CLASSES, "the largest number of classes")
    return array.astype(np.int64)


def _channels_last(shape: tuple[int, ...]) -> bool:
    _, second, third, last = shape
    if last in CHANNELS and second in CHANNELS:
        return second == third or third != last
    return last in CHANNELS


def _check_below(name: str, labels: np.ndarray, limit: int, meaning: str) -> None:
    for index in np.flatnonzero((labels < 0) | (labels >= limit))[:1]:
        rule = f"Labels in `{name}` must be in [0, {limit}), {meaning}."
        step = "Number the classes from 0 and use the same numbers in both parts."
        raise invalid(rule, f"{labels[index]} at sample {index}", step)


def _check_unit(name: str, block: np.ndarray, start: int, rows: np.ndarray | None) -> None:
    # NaN compares as false, so that it is caught here as well.
    inside = (block >= 0) & (block <= 1)
    for row in np.flatnonzero(~inside.all(axis=(1, 2, 3)))[:1]:
        value = block[row][~inside[row]][0]
        step = "Divide 0..255 by 255, or save uint8." if np.isfinite(value) else "Mend the sample."
        rule = f"Floats in `{name}` must be finite and in [0, 1]."
        raise invalid(rule, f"{value} at sample {start + row if rows is None else rows[row]}", step)


def _kind(array: np.ndarray) -> str:
    return f"{array.shape[1:]} in {array.dtype}"
