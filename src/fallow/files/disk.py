"""Atomic writes: a file of a run is complete or absent, even after a power cut."""

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
"""Names of temporary files; those of earlier versions end in a process id."""


class Disk:
    """The operations that write files. Every write of a run goes through one such object.

    Only :meth:`sync` makes the bytes of a file durable, and only :meth:`sync_folder` its name. :meth:`put`
    calls them in an order in which nothing can be lost.
    """

    def put(self, path: Path, data: bytes) -> Digest:
        """Write ``data`` to ``path`` atomically: whatever happens, the old file exists, or the new one.

        Returns:
            Size and checksum of the new file.

        Raises:
            OSError: if the system refuses; the old file is unchanged. If only the folder could not be
                synced, the new file is in place, but a power cut may undo it.
        """
        temporary = temporary_path(path)
        try:
            self.write(temporary, data)
            # Before the rename, whose new name may otherwise reach the disk before the bytes.
            self.sync(temporary)
            self.rename(temporary, path)
        # Also for KeyboardInterrupt, which must leave no temporary file behind.
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink()
            if isinstance(error, OSError) and error.filename is not None:
                # The user knows nothing of the temporary file.
                error.filename, error.filename2 = str(path), None
            raise
        self.sync_folder(path.parent)
        return Digest.of(data)

    def make_folder(self, path: Path) -> None:
        """Make a folder and its missing parents."""
        if path.is_dir():
            return
        self.make_folder(path.parent)
        with suppress(FileExistsError):
            path.mkdir()
        # A new folder survives a power cut only if its name in the parent does.
        self.sync_folder(path.parent)

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file; a power cut may leave any part of it.

        Raises:
            FileExistsError: if the name is taken, also by a link.
        """
        # "x" does not follow a link that somebody put there.
        with path.open("xb") as file:
            file.write(data)

    def sync(self, path: Path) -> None:
        """Flush the bytes of a file to the disk."""
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, replacing any file of that name."""
        old.replace(new)

    def sync_folder(self, path: Path) -> None:
        """Flush the directory entries of a folder; Windows cannot, and need not."""
        try:
            folder = os.open(path, os.O_RDONLY)
        except PermissionError:  # Windows cannot open folders
            return
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, path: Path) -> None:
        """Remove a file, if it exists."""
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Digest:
    """Size and checksum of a file.

    Attributes:
        size: in bytes.
        sha256: in hexadecimal digits.
    """

    size: int
    sha256: str

    @staticmethod
    def of(data: bytes) -> Digest:
        """Return the digest of bytes."""
        return Digest(len(data), hashlib.sha256(data).hexdigest())

    @staticmethod
    def of_file(path: Path, inside: Path | None = None) -> Digest:
        """Return the digest of a file without loading it whole; see :func:`fallow.files.regular_file.opened`.

        Raises:
            DamagedData: if it is not a regular file.
            OSError: if it cannot be read.
        """
        with opened(path, inside) as file:
            sha256 = hashlib.file_digest(file, "sha256")
            return Digest(file.tell(), sha256.hexdigest())


DISK = Disk()
"""The real disk; tests use others."""


def temporary_path(path: Path) -> Path:
    """Return a temporary path beside a file, with a name that nobody can guess and prepare a link at.

    >>> temporary_path(Path("run/summary.json")).parent.name
    'run'
    """
    # Cut, since file systems limit a name to 255 bytes.
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}{TEMPORARY}")


def is_temporary(name: str) -> bool:
    """Return whether a name is that of a temporary file of :meth:`Disk.put`."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path, disk: Disk = DISK) -> None:
    """Remove the temporary files that a killed writer left in a folder. The caller holds the lock."""
    # A link may lead to a folder whose files are not ours to remove.
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.glob(f".*{TEMPORARY}"):
            if is_temporary(path.name):
                disk.remove(path)
