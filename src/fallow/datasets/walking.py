"""The regular files in a folder, at any depth, and the reasons why other entries are refused.

Only folders are opened here. A FIFO, device or socket, a dangling link, and a folder that cannot be listed
are refused, with the reason. Hidden files and the litter of other systems are counted. Links are followed if
the caller trusts the folder, but no folder is walked twice, so that a circle of links ends.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..files.regular_file import kind_of
from .paths import Paths

SYSTEM = {
    "thumbs.db": "Thumbs.db",
    "ehthumbs.db": "Thumbs.db",
    "desktop.ini": "desktop.ini",
    "icon\r": "Icon",
    "__macosx": "__MACOSX",
    "@eadir": "@eaDir",
    "$recycle.bin": "$RECYCLE.BIN",
    "system volume information": "System Volume Information",
}
"""Litter of other systems, by its name in lower case."""
HIDDEN = "hidden"


@dataclass
class Walk:
    """The contents of a folder.

    Attributes:
        files: regular files, sorted by name.
        refused: the reason for each entry that is neither a regular file nor a folder, or cannot be listed.
        links: links that were not followed, or that lead to a folder that was walked already.
        litter: the number of hidden files and folders, and of pieces of litter, by kind.
    """

    files: Paths = field(default_factory=lambda: Paths.of(()))
    refused: dict[Path, str] = field(default_factory=dict)
    links: list[Path] = field(default_factory=list)
    litter: Counter[str] = field(default_factory=Counter)


def litter(name: str) -> str | None:
    """Return the kind of litter that a name stands for, or None.

    >>> litter("._photo.jpg"), litter("Thumbs.db"), litter("photo.jpg")
    ('hidden', 'Thumbs.db', None)
    """
    return SYSTEM.get(name.lower(), HIDDEN if name.startswith(".") else None)


def walk(root: Path, *, follow: bool, above: Iterable[Path] = ()) -> Walk:
    """Return the contents of a folder.

    Args:
        root: the folder; if it is a link, it is followed, because the user named it.
        follow: whether links below it are followed.
        above: folders to which links must not lead back.
    """
    contents = Walk()
    found: list[str] = []
    seen = {_identity(folder) for folder in above}
    folders = [root]
    linked: list[Path] = []
    while folders or linked:
        # Links wait until every real folder is walked, so that a file keeps its real path.
        place = folders.pop() if folders else linked.pop()
        try:
            identity = _identity(place)
            if identity in seen:
                contents.links.append(place)
                continue
            seen.add(identity)
            with os.scandir(place) as entries:
                for entry in entries:
                    _sort(entry, contents, found, folders, linked, follow)
        except OSError as error:
            contents.refused[place] = f"a folder that cannot be read: {error.strerror or error}"
        # The system lists links in any order, but the first one to a folder decides the paths below it.
        linked.sort(reverse=True)
    # As by_name, in two steps that take less memory.
    found.sort()
    found.sort(key=str.casefold)
    contents.files = Paths.of(found)
    return contents


def by_name(path: Path) -> tuple[str, str]:
    """Return the key by which paths are sorted, without regard to case."""
    return path.as_posix().casefold(), path.as_posix()


def _identity(folder: Path) -> tuple[int, int]:
    # Not the path: bind mounts and links give one folder several paths.
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _sort(
    entry: os.DirEntry[str],
    contents: Walk,
    found: list[str],
    folders: list[Path],
    linked: list[Path],
    follow: bool,
) -> None:
    kind = litter(entry.name)
    if kind is not None:
        contents.litter[kind] += 1
    elif entry.is_symlink():
        if follow:
            _follow(Path(entry.path), contents, found, linked)
        else:
            contents.links.append(Path(entry.path))
    elif entry.is_file(follow_symlinks=False):
        found.append(entry.path)
    elif entry.is_dir(follow_symlinks=False):
        folders.append(Path(entry.path))
    else:
        contents.refused[Path(entry.path)] = kind_of(entry.stat(follow_symlinks=False).st_mode)


def _follow(path: Path, contents: Walk, found: list[str], linked: list[Path]) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        dangling = isinstance(error, FileNotFoundError)
        contents.refused[path] = "a link to nothing" if dangling else f"a link: {error.strerror or error}"
        return
    if stat.S_ISDIR(mode):
        linked.append(path)
    elif stat.S_ISREG(mode):
        found.append(str(path))
    else:
        contents.refused[path] = f"a link to {kind_of(mode)}"
