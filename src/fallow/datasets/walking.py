"""What lies in a folder, at any depth: regular files, and by name what is something else.

Nothing is opened here but folders. A FIFO, device or socket, a link that leads nowhere, and a folder that
cannot be listed are refused, with the reason. Hidden files and the litter of other systems are counted. Links
are followed if the caller trusts the folder, but no folder is walked twice, so that links in a circle end.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..files.regular_file import kind_of

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
LONGEST = 200
"""Characters of a path that a message shows."""


@dataclass
class Walk:
    """What a folder holds.

    Attributes:
        files: regular files, in no order.
        refused: what is no regular file nor folder, or cannot be listed, and why.
        links: links that were not followed, or that lead to a folder that was walked already.
        litter: how many hidden files and folders, and pieces of litter, by kind.
    """

    files: list[Path] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    links: list[Path] = field(default_factory=list)
    litter: Counter[str] = field(default_factory=Counter)


def litter(name: str) -> str | None:
    """Return what kind of litter a name stands for, or None.

    >>> litter("._photo.jpg"), litter("Thumbs.db"), litter("photo.jpg")
    ('hidden', 'Thumbs.db', None)
    """
    return SYSTEM.get(name.lower(), HIDDEN if name.startswith(".") else None)


def walk(root: Path, *, follow: bool, above: Iterable[Path] = ()) -> Walk:
    """Return what a folder holds.

    Args:
        root: the folder; a link to one is followed, as somebody named it.
        follow: whether links below it are followed.
        above: folders that it may not lead back to.
    """
    found = Walk()
    seen = {_identity(folder) for folder in above}
    folders, linked = [root], list[Path]()
    while folders or linked:
        # Links wait until every real folder is walked, so that a file keeps its real path.
        by_link = not folders
        place = linked.pop() if by_link else folders.pop()
        try:
            identity = _identity(place)
            if identity in seen:
                found.links.append(place)
                continue
            seen.add(identity)
            with os.scandir(place) as entries:
                for entry in entries:
                    _sort(entry, found, folders, linked, follow)
        except OSError as error:
            found.refused[place] = f"a folder that cannot be read: {error.strerror or error}"
        linked.sort(reverse=True)
    return found


def shown(path: Path | str) -> str:
    r"""Return a path as a message may show it: one line of printable characters, of a bounded length.

    >>> shown("a\nb\udce9.png")
    'a\\nb\\udce9.png'
    """
    text = str(path)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= LONGEST else f"...{text[-LONGEST:]}"


def _identity(place: Path) -> tuple[int, int]:
    about = os.stat(place)
    return about.st_dev, about.st_ino


def _sort(
    entry: os.DirEntry[str], found: Walk, folders: list[Path], linked: list[Path], follow: bool
) -> None:
    kind = litter(entry.name)
    path = Path(entry.path)
    if kind is not None:
        found.litter[kind] += 1
    elif entry.is_symlink():
        if follow:
            _follow(path, found, linked)
        else:
            found.links.append(path)
    elif entry.is_file(follow_symlinks=False):
        found.files.append(path)
    elif entry.is_dir(follow_symlinks=False):
        folders.append(path)
    else:
        found.refused[path] = kind_of(entry.stat(follow_symlinks=False).st_mode)


def _follow(path: Path, found: Walk, linked: list[Path]) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        nowhere = isinstance(error, FileNotFoundError)
        found.refused[path] = "a link to nothing" if nowhere else f"a link: {error.strerror or error}"
        return
    if stat.S_ISDIR(mode):
        linked.append(path)
    elif stat.S_ISREG(mode):
        found.files.append(path)
    else:
        found.refused[path] = f"a link to {kind_of(mode)}"
