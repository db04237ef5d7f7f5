"""Open files of unknown origin: regular files only, without links, of a bounded size.

A run, a pool or a list may come from anywhere. Instead of a file it may hold a FIFO (a read blocks for ever),
a device (a read never ends), a link (a read discloses another file, a write changes it), or a sparse file
that claims to be huge. All of these are refused before a byte is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from ..errors import DamagedData, damaged

# Without O_NONBLOCK, opening a FIFO waits for a writer. It has no effect on regular files.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY", "O_NONBLOCK"))
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_BY_FOLDER = os.open in os.supports_dir_fd and bool(_NOFOLLOW)
_SPARSE = 1 << 26
"""Smaller files are not checked for holes."""
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str:
    """Return the kind of a file in words, from the mode that :func:`os.stat` returns.

    >>> kind_of(os.stat(os.devnull).st_mode)
    'a device'
    """
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "a regular file")


def kind_at(path: str | os.PathLike[str]) -> str | None:
    """Return the kind of the file at a path in words, links followed; None if nothing exists there.

    >>> kind_at(os.devnull), kind_at("no/such/file")
    ('a device', None)
    """
    try:
        return kind_of(os.stat(path).st_mode)
    except (OSError, ValueError):
        return "a link to nothing" if os.path.islink(path) else None


@contextmanager
def opened(path: Path, inside: Path | None = None, limit: int | None = None) -> Iterator[BufferedReader]:
    """Open a file for reading bytes.

    Args:
        path: the file.
        inside: an untrusted folder above ``path``: no part of the path below it may be a link. None if the
            user named the file: links are followed.
        limit: the maximum size in bytes.

    Raises:
        DamagedData: if it is a link, FIFO, device, socket, folder or sparse file, or larger than ``limit``.
        OSError: if the system refuses; :class:`FileNotFoundError` if the file is missing.
    """
    try:
        descriptor = _descriptor(path, inside)
    except DamagedData:
        raise
    except ValueError as error:  # such as a NUL in the name
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
    """Check that each part of ``path`` below ``inside`` is a real folder or missing.

    Raises:
        DamagedData: if a part is a link or not a folder.
    """
    folder = inside
    for part in path.relative_to(inside).parts:
        folder = folder / part
        try:
            mode = os.lstat(folder).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise _not_a_folder(folder, mode)


def _descriptor(path: Path, inside: Path | None) -> int:
    if inside is None:
        _check_kind(path, os.stat(path).st_mode)  # before opening: to open a device may have effects
        return os.open(path, _FLAGS)
    parts = path.relative_to(inside).parts if path.is_relative_to(inside) else ()
    if not parts or ".." in parts:
        raise damaged(f"{path} must lie in {inside}.", "another place")
    if not _BY_FOLDER:  # Windows
        check_folder(path.parent, inside)
        _check_kind(path, os.lstat(path).st_mode)
        return os.open(path, _FLAGS)
    # This folder may be a link: the user has named it.
    folder = os.open(inside, _FLAGS | _DIRECTORY)
    try:
        # Each folder is opened relative to its parent, so that nobody can replace one by a link meanwhile.
        for depth, part in enumerate(parts[:-1], 1):
            try:
                below = os.open(part, _FLAGS | _DIRECTORY | _NOFOLLOW, dir_fd=folder)
            except NotADirectoryError:
                other = inside.joinpath(*parts[:depth])
                raise _not_a_folder(other, os.lstat(other).st_mode) from None
            os.close(folder)
            folder = below
        try:
            _check_kind(path, os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode)
            return os.open(parts[-1], _FLAGS | _NOFOLLOW, dir_fd=folder)
        except OSError as error:
            # The system knows the last part alone, since that was opened relative to its folder.
            error.filename = str(path)
            raise
    finally:
        os.close(folder)


def _check_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise damaged(f"{path} must be a regular file.", kind_of(mode), "Put back the file itself.")


def _not_a_folder(path: Path, mode: int) -> DamagedData:
    return damaged(f"{path} must be a folder.", kind_of(mode), "Remove it, if it is not yours.")


def _check(path: Path, status: os.stat_result, limit: int | None) -> None:
    _check_kind(path, status.st_mode)
    if limit is not None and status.st_size > limit:
        raise damaged(f"{path} must have at most {limit:,} bytes.", f"{status.st_size:,}")
    blocks = getattr(status, "st_blocks", None)
    # Compressing file systems allocate less than the size, but not under 1 % of it for real data.
    if blocks is not None and status.st_size > _SPARSE and blocks * 512 < status.st_size // 100:
        found = f"{blocks * 512:,} of {status.st_size:,} bytes allocated: a sparse file"
        raise damaged(f"{path} must be complete on the disk.", found, "Copy it again.")
