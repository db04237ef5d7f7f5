"""How a run's files are written: each is whole or not there at all, after a power cut too."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .regular_file import opened

TEMPORARY = ".tmp"
_TEMPORARY = re.compile(r"\..+\.([0-9]+|[0-9a-f]{16})\.tmp", re.DOTALL)
"""Names of our temporary files; those of earlier versions end in the number of a process."""


class Disk:
    """The operations by which files are written. Every write of a run goes through one of these objects.

    A disk keeps a promise only after it was asked for it: the bytes of a file after :meth:`sync`, its
    name after :meth:`sync_folder`. :meth:`put` asks in the order in which nothing can be lost.
    """

    def put(self, path: Path, data: bytes) -> Digest:
        """Write ``data`` to ``path``: whatever happens, the old file is there, or the new one.

        Returns:
            Size and checksum of what was written.

        Raises:
            OSError: as the system says; the old file is there then, and nothing of the new one. Where only
                the folder could not be synced, it is the new one, which a power cut may take back.
        """
        temporary = temporary_path(path)
        try:
            self.write(temporary, data)
            self.sync(temporary)
            self.rename(temporary, path)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink()
            if isinstance(error, OSError) and error.filename is not None:
                error.filename, error.filename2 = str(path), None
            raise
        self.sync_folder(path.parent)
        return Digest.of(data)

    def make_folder(self, path: Path) -> None:
        """Make a folder, and those above it, where they are missing."""
        if path.is_dir():
            return
        self.make_folder(path.parent)
        with suppress(FileExistsError):
            path.mkdir()
        self.sync_folder(path.parent)

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file; a power cut may leave any part of it.

        Raises:
            FileExistsError: if there is something of that name, a link too.
        """
        with path.open("xb") as file:
            file.write(data)

    def sync(self, path: Path) -> None:
        """Wait until the bytes of a file are on the disk."""
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """Give a file its name, in the place of another one of that name."""
        old.replace(new)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk; where a system cannot, it does so by itself."""
        try:
            folder = os.open(path, os.O_RDONLY)
        except PermissionError:  # Windows opens no folders
            return
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, path: Path) -> None:
        """Take a file away, where it is there."""
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Digest:
    """Size and checksum of a file.

    Attributes:
        size: how many bytes it has.
        sha256: of all of it, in hexadecimal digits.
    """

    size: int
    sha256: str

    @staticmethod
    def of(data: bytes) -> Digest:
        """Return the digest of bytes that are at hand."""
        return Digest(len(data), hashlib.sha256(data).hexdigest())

    @staticmethod
    def of_file(path: Path, inside: Path | None = None) -> Digest:
        """Return the digest of a file, a piece at a time; see :func:`fallow.files.regular_file.opened`.

        Raises:
            DamagedData: if it is no regular file.
            OSError: if it cannot be read.
        """
        with opened(path, inside) as file:
            found = hashlib.file_digest(file, "sha256")
            return Digest(file.tell(), found.hexdigest())


DISK = Disk()
"""The disk of the machine."""


def temporary_path(path: Path) -> Path:
    """Return where a file is written before it gets its name: beside it, under a name that nobody can guess.

    >>> temporary_path(Path("run/summary.json")).parent.name
    'run'
    """
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}{TEMPORARY}")


def is_temporary(name: str) -> bool:
    """Return whether a file of that name was half written by :meth:`Disk.put`."""
    return _TEMPORARY.fullmatch(name) is not None


def forget_temporaries(folder: Path, disk: Disk = DISK) -> None:
    """Remove what a killed writer left half done in a folder. Only whoever holds the lock may."""
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.glob(f".*{TEMPORARY}"):
            if is_temporary(path.name):
                disk.remove(path)
