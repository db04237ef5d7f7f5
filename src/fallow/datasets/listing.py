"""Which files a folder of images holds, of which classes, and how they are split."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import invalid
from ..files.regular_file import opened
from .held_out import TEST, held_out_by_class, keyed
from .image_files import SUFFIXES
from .walking import litter, shown, walk

HELD_OUT = ("test", "val", "valid", "validation")
"""Names of the folder beside ``train/`` that is held out; the first that is there is taken."""
READERS = 8
"""Files that are read at a time for their checksums."""


@dataclass(frozen=True)
class Part:
    """The files of the train or the test part, class ids and checksums of their bytes ``(N,)``."""

    paths: list[Path]
    labels: np.ndarray
    sums: np.ndarray | None = None

    def take(self, rows: Iterable[int]) -> Part:
        """Return the part that holds only ``rows``."""
        index = np.fromiter(rows, dtype=np.int64)
        sums = None if self.sums is None else self.sums[index]
        return Part([self.paths[row] for row in index], self.labels[index], sums)

    def summed(self) -> Part:
        """Return the part with the checksums of its files.

        Raises:
            DamagedData: if a file is not a regular one.
            OSError: if one cannot be read.
        """
        if self.sums is not None:
            return self
        with ThreadPoolExecutor(READERS) as pool:
            digests = b"".join(pool.map(_digest, self.paths, chunksize=64))
        return replace(self, sums=np.frombuffer(digests, "<u8").astype(np.uint64))


@dataclass
class Listing:
    """What a folder holds.

    Attributes:
        classes: their names.
        roots: the folders of the parts.
        parts: one, or train and test.
        refused: what is no regular file, and why.
        litter: how many hidden files and the like are left alone, by kind.
        notes: what else was left out.
    """

    classes: tuple[str, ...]
    roots: list[Path]
    parts: list[Part] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    litter: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def find_parts(folder: Path) -> Listing:
    """Return the files of ``folder``, one part, or train and test.

    The folders ``train/`` and ``test/`` are two parts. In place of ``test/`` there may be ``val/``,
    ``valid/`` or ``validation/``; of several the first of these is taken. Their names may have capitals.

    Raises:
        InvalidValue: There are fewer than two classes, the classes of the two parts differ, or the folder
            cannot be listed.
    """
    try:
        return _find_parts(folder)
    except OSError as error:
        found = f"{error.strerror or error} for {shown(error.filename or folder)}"
        raise invalid(f"{shown(folder)} must be readable.", found, "Check its permissions.") from None


def _find_parts(folder: Path) -> Listing:
    roots, notes = _roots(folder)
    folders, refused = list[list[str]](), dict[Path, str]()
    for root in roots:
        names, wrong, beside = list_classes(root)
        folders.append(names)
        refused |= wrong
        if beside:
            said = f"Left out {number(len(beside), 'image')} in no class folder"
            notes.append(f"{said}: {shown(beside[0])}{', ...' if len(beside) > 1 else ''}.")
    classes = tuple(folders[0])
    if set(classes) != set(folders[-1]):
        odd = sorted(set(classes) ^ set(folders[-1]))
        rule = f"{roots[0]} and {roots[-1]} must hold the same classes."
        raise invalid(rule, f"in one of them only: {', '.join(map(shown, odd))}", "Make the names agree.")
    listing = Listing(classes, roots, refused=refused, notes=notes)
    for root in roots:
        listing.parts.append(_part(root, listing))
    return listing


def list_classes(root: Path) -> tuple[list[str], dict[Path, str], list[Path]]:
    """Return the names of the class folders in ``root``, links to nothing, and the images beside them.

    Raises:
        InvalidValue: There are fewer than two class folders.
    """
    folders, beside, refused = [], [], dict[Path, str]()
    for path in _sorted(path for path in root.iterdir() if litter(path.name) is None):
        try:
            if path.is_dir():
                folders.append(path.name)
            elif path.is_symlink() and not path.exists():
                refused[path] = "a link to nothing"
            elif path.suffix.lower() in SUFFIXES:
                beside.append(path)
        except OSError as error:
            refused[path] = error.strerror or str(error)
    if len(folders) < 2:
        rule = f"{root} must hold at least two folders, one per class."
        found = f"only `{shown(folders[0])}`" if folders else "none"
        raise invalid(rule, found, "Sort the images into one folder per class.")
    return folders, refused, beside


def hold_out(part: Part, classes: tuple[str, ...], share: float, seed: int) -> list[Part]:
    """Return ``part`` cut in two, train and test, with ``share`` of each class in test.

    The share is rounded to whole images, of which each part gets at least one. The draw goes by the bytes of
    each file (see :mod:`fallow.datasets.held_out`), so that it stays where other files come and go.

    Raises:
        InvalidValue: A class holds fewer than two images.
    """
    for name, count in zip(classes, np.bincount(part.labels, minlength=len(classes)).tolist(), strict=True):
        if count < 2:
            rule = f"The class `{name}` must hold 2 readable images: one to train, one to test."
            raise invalid(rule, count, "Add images, or remove its folder.")
    part = part.summed()
    assert part.sums is not None
    held_out = held_out_by_class(keyed(part.sums, TEST, seed), part.labels, share)
    return [part.take(np.flatnonzero(~held_out)), part.take(np.flatnonzero(held_out))]


def _digest(path: Path) -> bytes:
    found = hashlib.blake2b(digest_size=8)
    with opened(path) as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.digest()


def counted(kinds: Mapping[str, int], most: int = 6) -> str:
    """Return how many there are of each kind, the commonest first.

    >>> counted({".txt": 1, "hidden": 3})
    '3 hidden, 1 .txt'
    """
    order = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    words = [f"{count:,} {shown(kind)}" for kind, count in order[:most]]
    if rest := sum(count for _, count in order[most:]):
        words.append(f"{rest:,} others")
    return ", ".join(words)


def no_images(kinds: Counter[str]) -> str:
    """Return a sentence on files that are no images.

    >>> no_images(Counter({".txt": 2, "hidden": 1}))
    'Left out 3 files that are no images: 2 .txt, 1 hidden.'
    """
    count = kinds.total()
    what = "1 file that is no image" if count == 1 else f"{count:,} files that are no images"
    return f"Left out {what}: {counted(kinds)}."


def number(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> number(1, "file"), number(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _roots(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the folder, or those of its train and its test part, and what is not read."""
    below = {name.lower(): folder / name for name in sorted(os.listdir(folder), reverse=True)}
    found = [below[name] for name in HELD_OUT if name in below and below[name].is_dir()]
    if "train" not in below or not below["train"].is_dir() or not found:
        return [folder], []
    held_out, *rest = found
    names = " and ".join(f"{path.name}/" for path in rest)
    notes = [f"Left out {names}: what is held out lies in {held_out.name}/."] if rest else []
    return [below["train"], held_out], notes


def _part(root: Path, listing: Listing) -> Part:
    above = [root, *root.resolve().parents]
    paths: list[Path] = []
    counts = []
    for name in listing.classes:
        found = walk(root / name, follow=True, above=above)
        files = _sorted(found.files)
        paths += files
        counts.append(len(files))
        listing.refused |= found.refused
        listing.litter += found.litter
        if found.links:
            said = f"Left out {number(len(found.links), 'link')} to folders that are read already"
            listing.notes.append(f"{said}: {shown(found.links[0])}.")
    return Part(paths, np.repeat(np.arange(len(counts), dtype=np.int64), counts))


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.as_posix().casefold(), path.as_posix()))
