"""Candidates that a run may be given, read part by part: a folder, an npz file, Parquet, Hugging Face."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import invalid
from .decoding import SUFFIXES, decode
from .images import ImageDataset
from .load import NAMES, load_images
from .pool_npz import NpzPool
from .pool_part import UNKNOWN, Kind, Pool, PoolPart, chunks
from .pool_tables import HuggingFacePool, ParquetPool

_STEP = f"Name a folder, a FILE.npz, a FILE.parquet, hf:NAME, or {', '.join(NAMES)}."


def open_pool(name: str | os.PathLike[str], like: ImageDataset, classes: Sequence[str]) -> Pool:
    """Return the pool of a name.

    Args:
        name: a folder of images, in sub-folders named as the classes or not; a FILE.npz with ``x``
            ``(N, ...)`` and, if known, ``y``; a FILE.parquet or a folder of them, with a column ``image``
            (encoded) or ``x`` (pixels) and, if known, ``label``; ``hf:NAME`` or ``hf:FOLDER`` as Hugging
            Face's ``datasets`` loads or has saved them, ``hf:OWNER/NAME/SPLIT`` for another split than train;
            or a known name as digits.
        like: the training images, whose shape and kind all get.
        classes: names of the run's classes.

    Raises:
        InvalidValue: where there is no such pool, or it holds no images.
        DamagedData: where it cannot be read.
        ModuleNotFoundError: without what reads it.
    """
    kind = Kind(like, tuple(classes))
    text = os.fspath(name)
    if text.startswith("hf:"):
        return HuggingFacePool(text, kind)
    if text in NAMES:
        return _Known(text, kind)
    path = Path(text)
    try:
        is_folder, is_file = bool(text) and path.is_dir(), path.is_file()
    except OSError as error:
        raise invalid("A pool must be readable.", f"{error.strerror} for {text}", _STEP) from None
    if is_folder:
        files = _visible(path)
        tables = [file for file in files if file.suffix.lower() == ".parquet"]
        return ParquetPool(path, tables, kind) if tables else _Folder(path, files, kind)
    if path.suffix.lower() == ".npz" and path.exists():  # what is no regular file says so there
        return NpzPool(path, kind)
    if not is_file:
        raise invalid("A pool must exist.", f"no {text}" if text else "no name", _STEP)
    if path.suffix.lower() == ".parquet":
        return ParquetPool(path, [path], kind)
    raise invalid("A pool must be a folder, a FILE.npz, a FILE.parquet or hf:NAME.", text, _STEP)


def _visible(folder: Path) -> list[Path]:
    """Return the files in a folder, at any depth, in one order everywhere; hidden ones are left alone."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda file: (file.as_posix().casefold(), file.as_posix()))


class _Known:
    """The training part of a known data set."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, kind: Kind) -> None:
        self.name, self._kind = name, kind
        data = load_images(name)
        self._data, self._classes = data.train, data.classes
        self.total: int | None = len(self._data)

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`."""
        for rows in chunks(_rows(len(self._data), index)):
            images, labels = self._data.__getitems__(torch.from_numpy(rows))
            array = images.numpy()
            known = [self._kind.label(self._classes[int(label)]) for label in labels]
            yield PoolPart(rows, self._kind.images(self.name, array, rows), np.array(known, np.int64))


class _Folder:
    """Image files, at any depth; a file's label is the sub-folder that it lies in."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, files: list[Path], kind: Kind) -> None:
        self.name, self._kind = str(path.absolute()), kind
        self._root = path
        self._files = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
        self.total: int | None = len(self._files)
        if not self._files:
            raise invalid(f"{path} must hold images.", "none", f"Known are {', '.join(sorted(SUFFIXES))}.")

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`; what cannot be read is left out."""
        for rows in chunks(_rows(len(self._files), index)):
            files = [self._files[row] for row in rows]
            images, reasons = decode(files, self._kind.shape)
            kept = [place for place in range(len(files)) if place not in reasons]
            labels = [self._label(files[place]) for place in kept]
            names = tuple(str(files[place].absolute()) for place in kept)
            found = self._kind.of_kind(torch.from_numpy(images[kept]))
            yield PoolPart(rows[kept], found, np.array(labels, np.int64), names)

    def _label(self, file: Path) -> int:
        return UNKNOWN if file.parent == self._root else self._kind.label(file.parent.name)


def _rows(total: int, index: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return which rows there are of those that are asked for."""
    return np.arange(total) if index is None else index[index < total]
