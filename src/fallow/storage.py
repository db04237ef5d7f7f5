"""How a run's files are written: each is whole or not there at all, after a power cut too."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp"


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
        temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
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
        """Write a new file; a power cut may leave any part of it."""
        with path.open("wb") as file:
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
    def of_file(path: Path) -> Digest:
        """Return the digest of a file, a piece at a time.

        Raises:
            OSError: where it cannot be read.
        """
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256")
            return Digest(file.tell(), found.hexdigest())

    @staticmethod
    def restore(saved: Any) -> Digest:
        """Return the digest that a manifest holds.

        Raises:
            ValueError: where that is none.
        """
        match saved:
            case {"bytes": int(size), "sha256": str(digits)}:
                return Digest(size, digits)
        raise ValueError(f"no size and checksum: {saved!r:.60}")


DISK = Disk()
"""The disk of the machine."""


def forget_temporaries(folder: Path, disk: Disk = DISK) -> None:
    """Remove what a killed writer left half done in a folder. Only whoever holds the lock may."""
    if folder.is_dir():
        for path in folder.glob(f".*{TEMPORARY}"):
            disk.remove(path)
