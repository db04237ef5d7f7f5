"""Which image files a folder holds, of which classes, and how they are split."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._checks import invalid
from .decoding import SUFFIXES


@dataclass(frozen=True)
class Part:
    """The image files of the train or the test part and their class ids ``(N,)``."""

    paths: list[Path]
    labels: np.ndarray

    def take(self, rows: Iterable[int]) -> Part:
        """Return the part that holds only ``rows``."""
        index = np.fromiter(rows, dtype=np.int64)
        return Part([self.paths[row] for row in index], self.labels[index])


def find_parts(folder: Path) -> tuple[tuple[str, ...], list[Part]]:
    """Return the class names and the parts of ``folder``: one, or train and test.

    The folders ``train/`` and ``test/``, or ``train/`` and ``val/``, are two parts; where both of
    the latter are there, ``test/`` is taken.

    Raises:
        InvalidValue: There are fewer than two classes, a class without images, or the classes of
            the two parts differ.
    """
    roots = [folder]
    for other in ("test", "val"):
        if (folder / "train").is_dir() and (folder / other).is_dir():
            roots = [folder / "train", folder / other]
            break
    listings = [list_classes(root) for root in roots]
    classes = tuple(listings[0])
    if set(classes) != set(listings[-1]):
        odd = sorted(set(classes) ^ set(listings[-1]))
        rule = f"{roots[0]} and {roots[-1]} must hold the same classes."
        raise invalid(rule, f"in one of them only: {', '.join(odd)}", "Make the names agree.")
    return classes, [_part(listing) for listing in listings]


def list_classes(root: Path) -> dict[str, list[Path]]:
    """Return the image files of each class folder in ``root``, both sorted.

    Raises:
        InvalidValue: There are fewer than two class folders, or one of them holds no image.
    """
    folders = _sorted(path for path in root.iterdir() if path.is_dir() and _visible(path.name))
    if len(folders) < 2:
        rule = f"{root} must hold at least two folders, one per class."
        found = f"only `{folders[0].name}`" if folders else "none"
        raise invalid(rule, found, "Sort the images into one folder per class.")
    listing = {folder.name: _images(folder) for folder in folders}
    for name, paths in listing.items():
        if not paths:
            kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
            step = f"Add some ({kinds}), or remove the folder."
            raise invalid(f"The class folder {root / name} must hold images.", "none", step)
    return listing


def hold_out(part: Part, classes: tuple[str, ...], share: float, seed: int) -> list[Part]:
    """Return ``part`` cut in two, train and test, with ``share`` of each class in test.

    The share is rounded to whole images, of which each part gets at least one.

    Raises:
        InvalidValue: A class holds fewer than two images.
    """
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(part.paths), dtype=bool)
    for label, name in enumerate(classes):
        rows = np.flatnonzero(part.labels == label)
        if len(rows) < 2:
            rule = f"The class `{name}` must hold 2 readable images: one to train, one to test."
            raise invalid(rule, len(rows), "Add images, or remove its folder.")
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        held_out[generator.permutation(rows)[:count]] = True
    return [part.take(np.flatnonzero(~held_out)), part.take(np.flatnonzero(held_out))]


def _part(listing: Mapping[str, list[Path]]) -> Part:
    counts = [len(paths) for paths in listing.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Part([path for paths in listing.values() for path in paths], labels)


def _images(folder: Path) -> list[Path]:
    paths: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = filter(_visible, folders)
        paths += [Path(place, name) for name in names if _visible(name)]
    return _sorted(path for path in paths if path.suffix.lower() in SUFFIXES)


def _visible(name: str) -> bool:
    return not name.startswith(".")


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.as_posix().casefold(), path.as_posix()))
