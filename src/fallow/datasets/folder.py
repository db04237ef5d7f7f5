"""A folder with one sub-folder of images per class, with or without a split of its own."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..errors import DamagedData, check_integer, check_share, damaged, invalid
from .class_names import name_notes
from .decoding import Header, Other, Shape, choose_shape, decode, read_headers
from .finding_ranges import crowding_notes, find_extremes, range_notes, ranges_of
from .image_files import UNREAD_SUFFIXES
from .images import ImageData, ImageDataset, LeftOutWarning, Progress
from .listing import Listing, Part, counted, find_parts, hold_out, no_images, number
from .names import TEST_SHARE
from .pixel_range import NO_RANGES, PixelRanges
from .walking import shown

SHOWN = 5
"""Unreadable images that a message names."""


def load_folder(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    test_share: float = TEST_SHARE,
    skip_corrupt: bool = False,
    image_size: int | None = None,
    ranges: PixelRanges = NO_RANGES,
    progress: Progress | None = None,
) -> ImageData:
    """Read a folder of images, one sub-folder per class, into memory.

    If the folder holds ``train/`` and ``test/`` (or ``val/``), these are the split and hold the
    class folders. Else ``test_share`` of each class, rounded, and at least one image, is held out, by the
    bytes of the files: names, sizes and other images have no part in it.
    Images may lie deeper inside their class folder, and are known by their content, whatever they are
    called. Links are followed. What is left out is said: hidden files, other files, images of formats that
    are not read. Classes and files are sorted by name without regard to case.
    ``fallow.datasets.decoding`` says what becomes of colours and sizes.

    Args:
        folder: the folder.
        seed: draws the images that are held out; another seed holds out others.
        test_share: the share of each class that is held out, in (0, 1).
        skip_corrupt: leave unreadable images out, with a warning, in place of an error.
        image_size: the side in pixels that all images get.
        ranges: by which pixels of more than 8 bits are scaled; found over the training images by default.
        progress: called with the number of images decoded and their total.

    Raises:
        InvalidValue: A class or an image is missing or unreadable, or all would not fit 4 GiB.
    """
    folder = Path(folder)
    if image_size is not None:
        image_size = check_integer("image_size", image_size, 1)
    if check_share("test_share", test_share, closed=False) == 0:
        raise invalid("`test_share` must be in (0, 1).", test_share, "Hold out at least a little.")
    listing = find_parts(folder)
    classes = listing.classes
    found = _read_headers(listing)
    parts, unreadable = found.parts, found.unreadable
    _refuse(unreadable, skip_corrupt)
    parts, drawn = [part.summed() for part in parts], len(parts) == 1
    if drawn:
        parts = hold_out(parts[0], classes, test_share, seed)
    if not found.headers:
        raise _corrupt(unreadable)
    shape = choose_shape(list(found.headers.values()), image_size)
    extremes = find_extremes(parts[0].paths, found.headers)
    ranges = ranges_of(extremes, ranges)
    parts, datasets, reasons = _decoded(parts, shape, ranges, progress)
    unreadable |= reasons
    _refuse(unreadable, skip_corrupt)
    train, test = datasets
    _check_trains(classes, parts[0])
    left_out = _left_out(found, listing)
    for note in left_out:
        warnings.warn(note, LeftOutWarning, stacklevel=3)
    files, test_files = (tuple(str(path) for path in part.paths) for part in parts)
    sums = [part.sums for part in parts if part.sums is not None]
    skipped = tuple(str(path) for path in unreadable)
    notes = (
        *left_out,
        *name_notes(classes),
        *_litter_alone(found, listing),
        *range_notes(extremes, ranges, found.headers),
        *crowding_notes(train.images.numpy(), parts[0].paths, found.headers),
        *_several(found),
    )
    return ImageData(
        folder.resolve().name,
        train,
        test,
        classes,
        files,
        skipped,
        notes=notes,
        test_files=test_files,
        identity=(sums[0], sums[1]),
        test_share=test_share if drawn else None,
    )


@dataclass
class Headers:
    """What the files of a folder say before they are decoded.

    Attributes:
        parts: the files that are images.
        headers: of each of them.
        unreadable: what cannot be read, and why.
        others: how many files there are that are no images, or of formats that are not read, by kind.
    """

    parts: list[Part] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)


def _read_headers(listing: Listing) -> Headers:
    """Read the header of every file.

    Raises:
        InvalidValue: A class folder holds nothing that is meant to be an image.
    """
    found = Headers(unreadable=dict(listing.refused))
    for root, part in zip(listing.roots, listing.parts, strict=True):
        rows, others = [], [Counter[str]() for _ in listing.classes]
        for row, header in enumerate(read_headers(part.paths)):
            path = part.paths[row]
            if isinstance(header, Header):
                rows.append(row)
                found.headers[path] = header
            elif isinstance(header, Other):
                others[part.labels[row]][header.kind] += 1
            else:
                found.unreadable[path] = header
        kept = part.take(rows)
        counts = np.bincount(kept.labels, minlength=len(listing.classes))
        for label in np.flatnonzero(counts == 0):
            _check_holds(root / listing.classes[label], others[label], found.unreadable)
        found.parts.append(kept)
        for kinds in others:
            found.others += kinds
    return found


def _check_holds(folder: Path, others: Counter[str], unreadable: Mapping[Path, str]) -> None:
    """Raise if a class folder holds no image, not even one that cannot be read."""
    if any(folder == path or folder in path.parents for path in unreadable):
        return
    kinds = "avif, bmp, gif, jpeg, jpeg 2000, png, pgm, ppm, tiff, webp"
    found = f"only files that are none: {counted(others)}" if others else "none"
    raise invalid(
        f"The class folder {shown(folder)} must hold images.", found, f"Add some ({kinds}), or remove it."
    )


def _decoded(
    parts: list[Part], shape: Shape, ranges: PixelRanges, progress: Progress | None
) -> tuple[list[Part], list[ImageDataset], dict[Path, str]]:
    """Return the parts without the images that cannot be decoded, their images, what is wrong."""
    total = sum(len(part.paths) for part in parts)
    before = 0
    kept: list[Part] = []
    datasets: list[ImageDataset] = []
    unreadable: dict[Path, str] = {}
    for part in parts:
        images, reasons = decode(part.paths, shape, _later(progress, before, total), ranges)
        before += len(part.paths)
        if reasons:
            unreadable |= {part.paths[row]: reason for row, reason in reasons.items()}
            rows = [row for row in range(len(part.paths)) if row not in reasons]
            images, part = images[rows], part.take(rows)
        kept.append(part)
        datasets.append(ImageDataset(torch.from_numpy(images), torch.from_numpy(part.labels), ranges))
    return kept, datasets, unreadable


def _check_trains(classes: tuple[str, ...], train: Part) -> None:
    """Raise if a class has no image to train on."""
    for label, count in enumerate(np.bincount(train.labels, minlength=len(classes))):
        if count == 0:
            rule = f"The class `{shown(classes[label])}` must hold a readable image to train on."
            raise invalid(rule, "none", "Add images, or remove its folder.")


def _later(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


def _refuse(unreadable: Mapping[Path, str], skip_corrupt: bool) -> None:
    if unreadable and not skip_corrupt:
        raise _corrupt(unreadable)


def _corrupt(unreadable: Mapping[Path, str]) -> DamagedData:
    step = "Replace or remove what is named, or pass `skip_corrupt` to leave it out."
    return damaged("Every image must be readable.", _summary(unreadable), step)


def _summary(unreadable: Mapping[Path, str]) -> str:
    named = [f"{shown(path)} ({reason})" for path, reason in list(unreadable.items())[:SHOWN]]
    if len(unreadable) > SHOWN:
        named.append(f"and {len(unreadable) - SHOWN} more")
    plural = "s" if len(unreadable) > 1 else ""
    return f"{len(unreadable)} unreadable image{plural}: {', '.join(named)}"


def _left_out(found: Headers, listing: Listing) -> list[str]:
    """Return what was left out, a sentence each; but for litter if there is nothing else."""
    notes = list(listing.notes)
    if found.unreadable:
        notes.append(f"Left out {_summary(found.unreadable)}.")
    unread = {kind: count for kind, count in found.others.items() if kind in UNREAD_SUFFIXES}
    if unread:
        count = number(sum(unread.values()), "image")
        words = f"Left out {count} of formats that are not read: {counted(unread)}."
        notes.append(f"{words} Save them as PNG or JPEG to use them.")
    if others := found.others - Counter(unread):
        notes.append(no_images(others + listing.litter))
    return notes


def _litter_alone(found: Headers, listing: Listing) -> list[str]:
    """Return a sentence on hidden files and the like, if no other one tells of them."""
    others = found.others.keys() - UNREAD_SUFFIXES
    return [no_images(listing.litter)] if listing.litter and not others else []


def _several(found: Headers) -> list[str]:
    """Return a sentence on images of more than one frame, if there are any."""
    several = [path for path, header in found.headers.items() if header.several]
    if not several:
        return []
    named = shown(several[0]) + (", ..." if len(several) > 1 else "")
    count = number(len(several), "image")
    return [f"{count} with several frames or pages, of which the first is read: {named}."]
