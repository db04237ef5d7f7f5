"""Pools of candidates, read part by part: a folder, an npz file, Parquet, a data set of Hugging Face."""

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
from .image_files import RAW_SUFFIXES, SUFFIXES, begins_as_image, kind_by_name
from .images import Images
from .load import load_images
from .messages import counted, no_images, plural, shown
from .names import KNOWN, REMOVED, how_to_get
from .pool_npz import NpzPool
from .pool_part import UNKNOWN, WHOLE, Kind, Pool, PoolPart, chunks, shared
from .pool_tables import HuggingFacePool, ParquetPool
from .walking import Walk, walk

_STEP = f"Name a folder, a FILE.npz, a FILE.parquet, hf:NAME, or {', '.join(KNOWN)}."


def open_pool(name: str | os.PathLike[str], like: Images, classes: Sequence[str]) -> Pool:
    """Return the pool with a name.

    Args:
        name: a folder of images, in sub-folders named after the classes or not; a FILE.npz with ``x``
            ``(N, ...)`` and, if known, ``y``; a FILE.parquet or a folder of them, with a column ``image``
            (encoded) or ``x`` (pixels) and, if known, ``label``; ``hf:NAME`` or ``hf:FOLDER`` as Hugging
            Face's ``datasets`` loads or has saved them, ``hf:OWNER/NAME/SPLIT`` for another split than train;
            or a known name such as digits.
        like: the training images, to whose shape and kind all are converted.
        classes: names of the run's classes.

    Raises:
        InvalidValue: if the pool does not exist, or holds no images.
        DamagedData: if it cannot be read.
        ModuleNotFoundError: if the package that reads it is missing.
    """
    # One image tells the kind, so that a pool that is sent to a worker does not hold the training set.
    kind = Kind(like.take(np.arange(1)), tuple(classes))
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
        contents = walk(path, follow=False)
        tables = [file for file in contents.files if _is_parquet(file)]
        if tables or not contents.files:
            # Without one of its files the rows of a table would have other numbers, so none is left out.
            for file in filter(_is_parquet, (*contents.refused, *contents.links)):
                with opened(file, path):
                    pass
        return ParquetPool(path, tables, kind) if tables else _Folder(path, contents, kind)
    # The two readers of files refuse what is not a regular file.
    if _is_parquet(path) and path.exists():
        return ParquetPool(path, [path], kind)
    if path.suffix.lower() == ".npz" and path.exists():
        return NpzPool(path, kind)
    if is_file:
        raise invalid("A pool must be a folder, a FILE.npz, a FILE.parquet or hf:NAME.", text, _STEP)
    if text and (content := kind_at(path)):
        raise invalid(f"The pool {path} must be a folder or a regular file.", content, _STEP)
    step = how_to_get(text, option="--pool") if text in REMOVED else _STEP
    raise invalid("A pool must exist.", f"no {text}" if text else "no name", step)


def fetched_from(name: str) -> str | None:
    """Return the place from which the samples of a pool are fetched; None if they are on this machine.

    >>> fetched_from("hf:owner/name"), fetched_from("digits")
    ('from Hugging Face', None)
    """
    remote = name.startswith("hf:") and not Path(name.removeprefix("hf:")).is_dir()
    return "from Hugging Face" if remote else None


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


class _Known:
    """The training part of a known data set."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self._kind = kind
        data = load_images(name)
        self._data = data.train
        self._classes = data.classes
        self.total: int | None = len(self._data)

    def parts(
        self, index: NDArray[np.int64] | None = None, share: tuple[int, int] = WHOLE
    ) -> Iterator[PoolPart]:
        """See :class:`Pool`."""
        for rows in shared(chunks(_rows(len(self._data), index)), share):
            images, labels = self._data.__getitems__(torch.from_numpy(rows))
            ids = [self._kind.label(self._classes[int(label)]) for label in labels]
            like = self._kind.images(self.name, images.numpy(), rows)
            yield PoolPart(rows, like, np.array(ids, np.int64))


class _Folder:
    """Image files at any depth; the label of a file is the name of the sub-folder that contains it.

    The folder is not trusted: links are left out, and only regular files are opened.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, contents: Walk, kind: Kind) -> None:
        self.name = str(path.absolute())
        self._kind = kind
        self._root = path
        self._files = [
            file for file in contents.files if file.suffix.lower() in SUFFIXES or _is_image(file, path)
        ]
        self.total: int | None = len(self._files)
        self.notes = tuple(_left_out(set(contents.files) - set(self._files), contents))
        if not self._files:
            others = counted(Counter(map(kind_by_name, contents.files)) + contents.litter)
            step = f"Known are {', '.join(sorted(SUFFIXES))}."
            raise invalid(f"{path} must hold images.", f"none, but {others}" if others else "none", step)

    def parts(
        self, index: NDArray[np.int64] | None = None, share: tuple[int, int] = WHOLE
    ) -> Iterator[PoolPart]:
        """See :class:`Pool`; images that cannot be decoded are left out."""
        for rows in shared(chunks(_rows(len(self._files), index)), share):
            files = [self._files[row] for row in rows]
            ranges = self._kind.like.ranges
            images, reasons = decode(files, self._kind.shape, ranges=ranges, inside=self._root)
            kept = [at for at in range(len(files)) if at not in reasons]
            labels = [self._label(files[at]) for at in kept]
            paths = tuple(str(files[at].absolute()) for at in kept)
            like = self._kind.converted(torch.from_numpy(images[kept]))
            unreadable = {shown(files[at]): reason for at, reason in reasons.items()}
            yield PoolPart(rows[kept], like, np.array(labels, np.int64), paths, unreadable)

    def _label(self, file: Path) -> int:
        return UNKNOWN if file.parent == self._root else self._kind.label(file.parent.name)


def _rows(total: int, index: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the rows of an index that exist, or all rows."""
    return np.arange(total) if index is None else index[index < total]


def _is_image(file: Path, root: Path) -> bool:
    """Return whether the content of a file is an image of a format that is read."""
    # Raw photos begin as TIFF files do, and hold only a preview that can be read.
    if file.suffix.lower() in RAW_SUFFIXES:
        return False
    try:
        with opened(file, root) as start:
            return begins_as_image(start.read(32))
    except (DamagedData, OSError):
        return False


def _left_out(others: Collection[Path], contents: Walk) -> Iterator[str]:
    """Yield a sentence for each kind of things in a folder that are no candidates."""
    if kinds := Counter(map(kind_by_name, others)) + contents.litter:
        yield no_images(kinds)
    if links := contents.links:
        count = plural(len(links), "link")
        yield f"Left out {count}, as links in a pool are not followed: {shown(min(links))}."
    if refused := contents.refused:
        first, reason = min(refused.items())
        yield f"Left out {plural(len(refused), 'file')} that cannot be opened: {shown(first)} ({reason})."
