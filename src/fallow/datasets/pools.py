"""Candidates that a run may be given, read part by part: a folder, an npz file, Parquet, Hugging Face."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DamagedData, invalid
from ..files.regular_file import kind_at, opened
from .decoding import decode
from .image_files import RAW_SUFFIXES, SUFFIXES, begins_as_image, called
from .images import ImageDataset
from .listing import counted, no_images, number
from .load import load_images
from .names import KNOWN, LEFT, how_to_get
from .pool_npz import NpzPool
from .pool_part import UNKNOWN, Kind, Pool, PoolPart, chunks
from .pool_tables import HuggingFacePool, ParquetPool
from .walking import Walk, shown, walk

_STEP = f"Name a folder, a FILE.npz, a FILE.parquet, hf:NAME, or {', '.join(KNOWN)}."


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
    if text in KNOWN:
        return _Known(text, kind)
    path = Path(text)
    try:
        is_folder, is_file = bool(text) and path.is_dir(), path.is_file()
    except OSError as error:
        raise invalid("A pool must be readable.", f"{error.strerror} for {text}", _STEP) from None
    if is_folder:
        found = walk(path, follow=False)
        files = sorted(found.files, key=lambda file: (file.as_posix().casefold(), file.as_posix()))
        tables = [file for file in files if _is_parquet(file)]
        if tables or not files:  # a part that is not read would change which rows the others hold
            for file in filter(_is_parquet, (*found.refused, *found.links)):
                with opened(file, path):
                    pass
        return ParquetPool(path, tables, kind) if tables else _Folder(path, files, found, kind)
    if _is_parquet(path) and path.exists():  # what is no regular file says so there
        return ParquetPool(path, [path], kind)
    if path.suffix.lower() == ".npz" and path.exists():
        return NpzPool(path, kind)
    if not is_file and text and (found_there := kind_at(path)):
        raise invalid(f"The pool {path} must be a folder or a regular file.", found_there, _STEP)
    if not is_file:
        step = how_to_get(text, option="--pool") if text in LEFT else _STEP
        raise invalid("A pool must exist.", f"no {text}" if text else "no name", step)
    raise invalid("A pool must be a folder, a FILE.npz, a FILE.parquet or hf:NAME.", text, _STEP)


def fetched_from(name: str) -> str | None:
    """Return from where the samples of a pool are fetched, in words; None for one that lies on this machine.

    >>> fetched_from("hf:owner/name"), fetched_from("digits")
    ('from Hugging Face', None)
    """
    if name.startswith("hf:"):
        return None if Path(name.removeprefix("hf:")).is_dir() else "from Hugging Face"
    return None


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


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
    """Image files, at any depth; a file's label is the sub-folder that it lies in.

    Nothing in it is trusted: links are left out, and only regular files are opened.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, files: list[Path], found: Walk, kind: Kind) -> None:
        self.name, self._kind = str(path.absolute()), kind
        self._root = path
        self._files = [file for file in files if file.suffix.lower() in SUFFIXES or _is_image(file, path)]
        self.total: int | None = len(self._files)
        self.notes = tuple(_left_out(set(files) - set(self._files), found))
        if not self._files:
            others = counted(Counter(map(called, files)) + found.litter)
            step = f"Known are {', '.join(sorted(SUFFIXES))}."
            raise invalid(f"{path} must hold images.", f"none, but {others}" if others else "none", step)

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`; a part says what of it cannot be read."""
        for rows in chunks(_rows(len(self._files), index)):
            files = [self._files[row] for row in rows]
            images, reasons = decode(
                files, self._kind.shape, ranges=self._kind.like.ranges, inside=self._root
            )
            kept = [place for place in range(len(files)) if place not in reasons]
            labels = [self._label(files[place]) for place in kept]
            names = tuple(str(files[place].absolute()) for place in kept)
            like = self._kind.of_kind(torch.from_numpy(images[kept]))
            unread = {shown(files[place]): reason for place, reason in reasons.items()}
            yield PoolPart(rows[kept], like, np.array(labels, np.int64), names, unread)

    def _label(self, file: Path) -> int:
        return UNKNOWN if file.parent == self._root else self._kind.label(file.parent.name)


def _rows(total: int, index: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return which rows there are of those that are asked for."""
    return np.arange(total) if index is None else index[index < total]


def _is_image(file: Path, root: Path) -> bool:
    """Return whether a file begins as an image does, whatever it is called; raw photos do not count."""
    if file.suffix.lower() in RAW_SUFFIXES:
        return False
    try:
        with opened(file, root) as start:
            return begins_as_image(start.read(32))
    except (DamagedData, OSError):
        return False


def _left_out(others: Collection[Path], found: Walk) -> Iterator[str]:
    """Yield a sentence for each kind of things in a folder that are no candidates."""
    kinds = Counter(map(called, others)) + found.litter
    if kinds:
        yield no_images(kinds)
    if found.links:
        count = number(len(found.links), "link")
        yield f"Left out {count}, as links in a pool are not followed: {shown(min(found.links))}."
    if found.refused:
        first, why = min(found.refused.items())
        count = number(len(found.refused), "file")
        yield f"Left out {count} that cannot be opened: {shown(first)} ({why})."
