"""Opening files that somebody else may have made: regular ones only, without links, of a bounded size.

A run, a pool or a list may come from anywhere. In place of a file it may hold a FIFO (reading it waits for
ever), a device (reading it never ends), a link (reading it tells of another file, writing it changes one), or
a file that claims to be huge, of which nothing lies on the disk. All of them are refused here, by name,
before a byte is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from ..errors import DamagedData, damaged

# Without O_NONBLOCK opening a FIFO waits for a writer. Regular files do not mind.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY", "O_NONBLOCK"))
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_BY_FOLDER = os.open in os.supports_dir_fd and bool(_NOFOLLOW)
_SPARSE = 1 << 26
"""Smaller files are not asked whether they lie on the disk."""
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str:
    """Return what a file is, in words, by the mode that :func:`os.stat` gives.

    >>> kind_of(os.stat(os.devnull).st_mode)
    'a device'
    """
    return next((words for holds, words in _KINDS if holds(mode)), "a regular file")


def what_lies_at(path: str | os.PathLike[str]) -> str | None:
    """Return what a path leads to, in words, or None if there is nothing.

    >>> what_lies_at(os.devnull), what_lies_at("no/such/file")
    ('a device', None)
    """
    try:
        return kind_of(os.stat(path).st_mode)
    except (OSError, ValueError):
        return "a link to nothing" if os.path.islink(path) else None


@contextmanager
def opened(path: Path, inside: Path | None = None, limit: int | None = None) -> Iterator[BufferedReader]:
    """Open a file to read its bytes.

    Args:
        path: of the file.
        inside: a folder above ``path`` that is not to be trusted: no part of the path below it may be a
            link. None if a person named the file: links are followed.
        limit: the most bytes that the file may have.

    Raises:
        DamagedData: if it is a link, FIFO, device, socket or folder, is larger than ``limit``, or claims a
            size that does not lie on the disk.
        OSError: as the system says; :class:`FileNotFoundError` if it is missing.
    """
    try:
        descriptor = _descriptor(path, inside)
    except ValueError as error:  # a name that no file can have; DamagedData is one too
        if isinstance(error, DamagedData):
            raise
        raise damaged(f"{str(path)!r:.200} must name a file.", error) from None
    try:
        _check(path, os.fstat(descriptor), limit)
        file = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with file:
        yield file


def read_regular(path: Path, inside: Path | None = None, limit: int | None = None) -> bytes:
    """Return the bytes of a file; see :func:`opened`."""
    with opened(path, inside, limit) as file:
        return file.read()


def check_folder(path: Path, inside: Path) -> None:
    """Raise if a folder below ``inside`` is something else, or is reached by a link; a missing one is none.

    Raises:
        DamagedData: naming the first part of the path that is no folder.
    """
    place = inside
    for part in path.relative_to(inside).parts:
        place = place / part
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise damaged(f"{place} must be a folder.", kind_of(mode), "Remove it, if it is not yours.")


def _descriptor(path: Path, inside: Path | None) -> int:
    if inside is None:
        _check_kind(path, os.stat(path).st_mode)  # opening a device may do something to it
        return os.open(path, _FLAGS)
    parts = path.relative_to(inside).parts if path.is_relative_to(inside) else ()
    if not parts or ".." in parts:
        raise damaged(f"{path} must lie in {inside}.", "another place")
    if not _BY_FOLDER:  # Windows
        check_folder(path.parent, inside)
        _check_kind(path, os.lstat(path).st_mode)
        return os.open(path, _FLAGS)
    folder = os.open(inside, _FLAGS | _DIRECTORY)
    try:
        # Each folder is opened from the one above, so that none can be exchanged for a link meanwhile.
        for place, part in enumerate(parts[:-1], 1):
            try:
                below = os.open(part, _FLAGS | _DIRECTORY | _NOFOLLOW, dir_fd=folder)
            except NotADirectoryError:
                _refuse_folder(inside.joinpath(*parts[:place]))
                raise
            os.close(folder)
            folder = below
        try:
            _check_kind(path, os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode)
            return os.open(parts[-1], _FLAGS | _NOFOLLOW, dir_fd=folder)
        except OSError as error:
            error.filename = str(path)
            raise
    finally:
        os.close(folder)


def _check_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise damaged(f"{path} must be a regular file.", kind_of(mode), "Put back the file itself.")


def _refuse_folder(path: Path) -> None:
    mode = os.lstat(path).st_mode
    raise damaged(f"{path} must be a folder.", kind_of(mode), "Remove it, if it is not yours.")


def _check(path: Path, found: os.stat_result, limit: int | None) -> None:
    _check_kind(path, found.st_mode)
    if limit is not None and found.st_size > limit:
        raise damaged(f"{path} must have at most {limit:,} bytes.", f"{found.st_size:,}")
    on_disk = getattr(found, "st_blocks", None)
    # Compressing file systems keep less than the size, but of numbers not a hundredth.
    if on_disk is not None and found.st_size > _SPARSE and on_disk * 512 < found.st_size // 100:
        what = f"{on_disk * 512:,} of {found.st_size:,} bytes: a sparse file"
        raise damaged(f"{path} must lie on the disk whole.", what, "Copy it again.")
