"""The files of a folder of images, their classes, and their split into a train and a test part."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays.checksums import checksums
from ..errors import invalid
from ..files.regular_file import opened
from .held_out import TEST, held_out_by_class, keyed
from .image_files import SUFFIXES
from .messages import plural, shown
from .paths import Paths
from .walking import by_name, litter, walk

HELD_OUT = ("test", "val", "valid", "validation")
"""Names of the folder that is held out beside ``train/``; the first that exists is taken."""
READERS = 8
"""Threads that read files for their checksums."""


@dataclass(frozen=True)
class Part:
    """The files of the train or the test part.

    Attributes:
        paths: the files.
        labels: their class ids, int64 ``(N,)``.
        sums: checksums by which they are recognised, uint64 ``(N,)``; None at first.
    """

    paths: Paths
    labels: NDArray[np.int64]
    sums: NDArray[np.uint64] | None = None

    def take(self, rows: Iterable[int]) -> Part:
        """Return the part that holds only ``rows``."""
        index = rows if isinstance(rows, np.ndarray) else np.fromiter(rows, np.int64)
        sums = None if self.sums is None else self.sums[index]
        return Part(self.paths.take(index), self.labels[index], sums)

    def with_checksums(self) -> Part:
        """Return the part with the checksums of its files."""
        # hashlib releases the interpreter while it reads a piece.
        with ThreadPoolExecutor(READERS) as pool:
            digests = b"".join(pool.map(_digest, self.paths, chunksize=64))
        # Of fixed byte order, so that all machines hold out the same files.
        return replace(self, sums=np.frombuffer(digests, "<u8").astype(np.uint64))

    def with_name_checksums(self, folder: Path) -> Part:
        """Return the part with checksums of the names of its files below ``folder``."""
        cut = len(os.path.join(folder, ""))
        names = (os.fsencode(name[cut:].replace(os.sep, "/")) for name in self.paths.names())
        return replace(self, sums=checksums(names))


@dataclass
class Listing:
    """The files of a folder of images.

    Attributes:
        classes: names of the classes.
        roots: the folders of the parts.
        parts: one part, or train and test.
        refused: the reason for each file that is not a regular one.
        litter: the number of hidden files and the like, by kind.
        notes: a sentence on each other thing that was left out.
    """

    classes: tuple[str, ...]
    roots: list[Path]
    parts: list[Part] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    litter: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def find_parts(folder: Path) -> Listing:
    """Return the files of ``folder`` as one part, or as train and test.

    The folders ``train/`` and ``test/`` are two parts. ``val/``, ``valid/`` or ``validation/`` may replace
    ``test/``; the first of these that exists is taken. Their names may have capitals.

    Raises:
        InvalidValue: if there are fewer than two classes, the classes of the two parts differ, or the folder
            cannot be listed.
    """
    try:
        return _find_parts(folder)
    except OSError as error:
        reason = f"{error.strerror or error} for {shown(error.filename or folder)}"
        raise invalid(f"{shown(folder)} must be readable.", reason, "Check its permissions.") from None


def _find_parts(folder: Path) -> Listing:
    roots, notes = _roots(folder)
    class_names = []
    refused: dict[Path, str] = {}
    for root in roots:
        names, dangling, beside = _list_classes(root)
        class_names.append(names)
        refused |= dangling
        if beside:
            more = ", ..." if len(beside) > 1 else ""
            notes.append(
                f"Left out {plural(len(beside), 'image')} in no class folder: {shown(beside[0])}{more}."
            )
    if odd := sorted(set(class_names[0]) ^ set(class_names[-1])):
        rule = f"{roots[0]} and {roots[-1]} must hold the same classes."
        raise invalid(rule, f"in one of them only: {', '.join(map(shown, odd))}", "Make the names agree.")
    listing = Listing(tuple(class_names[0]), roots, refused=refused, notes=notes)
    for root in roots:
        listing.parts.append(_part(root, listing))
    return listing


def _list_classes(root: Path) -> tuple[list[str], dict[Path, str], list[Path]]:
    """Return the names of the class folders in ``root``, its dangling links, and the images beside them."""
    folders = []
    beside = []
    refused: dict[Path, str] = {}
    for path in sorted((path for path in root.iterdir() if litter(path.name) is None), key=by_name):
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
        count = f"only `{shown(folders[0])}`" if folders else "none"
        raise invalid(rule, count, "Sort the images into one folder per class.")
    return folders, refused, beside


def hold_out(part: Part, classes: tuple[str, ...], share: float, seed: int) -> list[Part]:
    """Return ``part``, which has checksums, cut into train and test, with ``share`` of each class in test.

    The share is rounded to whole images, and each part gets at least one. The draw depends on the bytes of
    each file (see :mod:`fallow.datasets.held_out`), so that it is stable when other files come and go.

    Raises:
        InvalidValue: if a class holds fewer than two images.
    """
    for name, count in zip(classes, np.bincount(part.labels, minlength=len(classes)).tolist(), strict=True):
        if count < 2:
            rule = f"The class `{name}` must hold 2 readable images: one to train, one to test."
            raise invalid(rule, count, "Add images, or remove its folder.")
    assert part.sums is not None
    held_out = held_out_by_class(keyed(part.sums, TEST, seed), part.labels, share)
    return [part.take(np.flatnonzero(~held_out)), part.take(np.flatnonzero(held_out))]


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    with opened(path) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.digest()


def _roots(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the folder, or its train and test folders, and notes on those that are not read."""
    # In reverse, so that of `Test` and `test` on a system that has both, the former wins.
    below = {name.lower(): folder / name for name in sorted(os.listdir(folder), reverse=True)}
    tests = [below[name] for name in HELD_OUT if name in below and below[name].is_dir()]
    if "train" not in below or not below["train"].is_dir() or not tests:
        return [folder], []
    held_out, *rest = tests
    names = " and ".join(f"{path.name}/" for path in rest)
    notes = [f"Left out {names}: {held_out.name}/ is held out."] if rest else []
    return [below["train"], held_out], notes


def _part(root: Path, listing: Listing) -> Part:
    above = [root, *root.resolve().parents]
    found = []
    for name in listing.classes:
        contents = walk(root / name, follow=True, above=above)
        found.append(contents.files)
        listing.refused |= contents.refused
        listing.litter += contents.litter
        if links := contents.links:
            count = plural(len(links), "link")
            listing.notes.append(f"Left out {count} to folders that are read already: {shown(links[0])}.")
    labels = np.repeat(np.arange(len(found), dtype=np.int64), list(map(len, found)))
    return Part(Paths.joined(found), labels)
