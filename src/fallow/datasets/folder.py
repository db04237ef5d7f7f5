"""A folder with one sub-folder of images per class, with or without a train and a test folder.

A small folder is read into memory at once. The files of a large one stay where they are: training begins when
they are listed, and each batch is decoded when it is fetched.
"""

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
from .decoding import Header, Other, choose_shape, decode, fits_memory, read_headers
from .file_images import FileImages
from .finding_ranges import crowding_notes, find_extremes, range_notes, ranges_of
from .image_files import SUFFIXES, UNREAD_SUFFIXES, kind_by_name
from .images import ImageData, ImageDataset, LeftOutWarning, Progress, Shape
from .listing import Listing, Part, find_parts, hold_out
from .messages import counted, no_images, plural, shown
from .names import TEST_SHARE
from .pixel_range import NO_RANGES, PixelRanges

IN_MEMORY = 1 << 26
"""Bytes of files that are read into memory before the training; those of a larger folder stay in place."""
LOOKED_AT = 1000
"""Images of a large folder that are looked at before the training, of each part."""
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
    """Read a folder of images, one sub-folder per class.

    If the folder holds ``train/`` and ``test/`` (or ``val/``), these are the two parts and hold the class
    folders. Otherwise ``test_share`` of each class, rounded and at least one image, is held out. The draw
    depends on the bytes of the files alone, not on their names, their number or other images.

    Images may lie at any depth in their class folder. They are recognised by their content, not their names.
    Links are followed. Notes and a warning say what is left out: hidden files, other files, images of formats
    that are not read. Classes and files are sorted by name without regard to case.
    :mod:`fallow.datasets.decoding` describes how colours and sizes are converted.

    If the files take more than 64 MiB, or their pixels would take more than 4 GiB, they are not read here:
    see :class:`~fallow.datasets.file_images.FileImages`. Then an image is recognised by its name below the
    folder, on which the draw depends too. The common shape is chosen, and the range of deep pixels found, by
    1,000 of the images of each part. Files without the suffix of an image are left out, and an image that
    cannot be read is found when it is needed.

    The arguments are those of :func:`~fallow.datasets.load_images`.

    Raises:
        InvalidValue: if a class is missing.
        DamagedData: if an image that is read here is unreadable.
    """
    folder = Path(folder)
    if image_size is not None:
        image_size = check_integer("image_size", image_size, 1)
    if check_share("test_share", test_share, closed=False) == 0:
        raise invalid("`test_share` must be in (0, 1).", test_share, "Hold out at least a little.")
    listing = find_parts(folder)
    if _is_large(listing):
        return _in_files(folder, listing, seed, test_share, image_size, ranges)
    classes = listing.classes
    contents = _read_headers(listing)
    unreadable = contents.unreadable
    _refuse(unreadable, skip_corrupt)
    parts = [part.with_checksums() for part in contents.parts]
    drawn = len(parts) == 1
    if drawn:
        parts = hold_out(parts[0], classes, test_share, seed)
    if not contents.headers:
        raise _corrupt(unreadable)
    shape = choose_shape(list(contents.headers.values()), image_size)
    if not fits_memory(len(contents.headers), shape):
        return _in_files(folder, listing, seed, test_share, image_size, ranges)
    extremes = find_extremes(parts[0].paths, contents.headers)
    ranges = ranges_of(extremes, ranges)
    parts, (train, test), reasons = _decoded(parts, shape, ranges, progress)
    unreadable |= reasons
    _refuse(unreadable, skip_corrupt)
    _check_trains(classes, parts[0])
    left_out = _left_out_notes(contents, listing)
    for note in left_out:
        # The warning names the line that called `load_images`.
        warnings.warn(note, LeftOutWarning, stacklevel=3)
    notes = (
        *left_out,
        *name_notes(classes),
        *_litter_notes(contents, listing),
        *range_notes(extremes, ranges, contents.headers),
        *crowding_notes(train.images.numpy(), parts[0].paths, contents.headers),
        *_frame_notes(contents),
    )
    files, test_files = (tuple(map(str, part.paths)) for part in parts)
    train_sums, test_sums = (part.sums for part in parts)
    assert train_sums is not None
    assert test_sums is not None
    return ImageData(
        folder.resolve().name,
        train,
        test,
        classes,
        files,
        skipped=tuple(map(str, unreadable)),
        notes=notes,
        test_files=test_files,
        identity=(train_sums, test_sums),
        test_share=test_share if drawn else None,
    )


def _in_files(
    folder: Path, listing: Listing, seed: int, test_share: float, image_size: int | None, ranges: PixelRanges
) -> ImageData:
    """Return the images of a folder that stay in their files."""
    parts, others = _images_by_name(listing)
    parts = [part.with_name_checksums(folder) for part in parts]
    drawn = len(parts) == 1
    if drawn:
        parts = hold_out(parts[0], listing.classes, test_share, seed)
    headers, train = _looked_at(parts)
    shape = choose_shape(list(headers.values()), image_size)
    extremes = find_extremes(train, headers)
    ranges = ranges_of(extremes, ranges)
    contents = Contents(parts, headers, dict(listing.refused), others)
    left_out = _left_out_notes(contents, listing)
    for note in left_out:
        warnings.warn(note, LeftOutWarning, stacklevel=4)
    count = sum(len(part.paths) for part in parts)
    _, height, width = shape
    notes = (
        f"{count:,} images are decoded to {width}×{height} while they train. They are recognised by name, "
        "and those that cannot be read are left out when they are found.",
        *left_out,
        *name_notes(listing.classes),
        *_litter_notes(contents, listing),
        *(f"Of {len(headers):,} looked at: {note}" for note in range_notes(extremes, ranges, headers)),
        *(f"Of {len(headers):,} looked at: {note}" for note in _frame_notes(contents)),
    )
    images = []
    for part in parts:
        assert part.sums is not None
        images.append(FileImages(part.paths, torch.from_numpy(part.labels), part.sums, shape, ranges))
    train_images, test_images = images
    return ImageData(
        folder.resolve().name,
        train_images,
        test_images,
        listing.classes,
        tuple(parts[0].paths.names()),
        skipped=tuple(map(str, listing.refused)),
        notes=notes,
        test_files=tuple(parts[1].paths.names()),
        test_share=test_share if drawn else None,
    )


def _is_large(listing: Listing) -> bool:
    """Return whether the files of a folder are too many bytes to read beforehand."""
    size = 0
    for part in listing.parts:
        for path in part.paths:
            try:
                size += os.stat(path).st_size
            except OSError:  # said when it is read
                continue
            if size > IN_MEMORY:
                return True
    return False


def _images_by_name(listing: Listing) -> tuple[list[Part], Counter[str]]:
    """Return the files with the suffix of an image, and the number of others by kind.

    Raises:
        InvalidValue: if a class has none.
    """
    parts, all_others = [], Counter[str]()
    for root, part in zip(listing.roots, listing.parts, strict=True):
        suffixes = [name[name.rfind(".") :].lower() for name in part.paths.names()]
        is_image = np.fromiter((suffix in SUFFIXES for suffix in suffixes), np.bool_, len(suffixes))
        counts = np.bincount(part.labels[is_image], minlength=len(listing.classes))
        for label in np.flatnonzero(counts == 0):
            rows = np.flatnonzero(part.labels == label)
            others = Counter(kind_by_name(part.paths[row]) for row in rows.tolist())
            _check_holds(root / listing.classes[label], others, listing.refused)
        all_others += Counter(kind_by_name(part.paths[row]) for row in np.flatnonzero(~is_image).tolist())
        parts.append(part.take(np.flatnonzero(is_image)))
    return parts, all_others


def _looked_at(parts: list[Part]) -> tuple[dict[Path, Header], list[Path]]:
    """Return the headers of some images, chosen by their checksums, and those of them that train.

    Raises:
        DamagedData: if none of them can be read.
    """
    headers: dict[Path, Header] = {}
    train: list[Path] = []
    unreadable: dict[Path, str] = {}
    for number, part in enumerate(parts):
        assert part.sums is not None
        chosen = np.sort(np.argsort(part.sums, kind="stable")[:LOOKED_AT])
        paths = list(part.paths.take(chosen))
        for path, header in zip(paths, read_headers(paths), strict=True):
            if isinstance(header, Header):
                headers[path] = header
                train += [path] if number == 0 else []
            else:
                unreadable[path] = header if isinstance(header, str) else f"it is {header.kind}"
    if not train:
        raise _corrupt(unreadable)
    return headers, train


@dataclass
class Contents:
    """The files of a folder by their headers, before they are decoded.

    Attributes:
        parts: the files that are images.
        headers: the header of each of them.
        unreadable: the reason for each file that cannot be read.
        others: the number of files that are no images, or of formats that are not read, by kind.
    """

    parts: list[Part] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)


def _read_headers(listing: Listing) -> Contents:
    """Read the header of every file; raise if a class folder holds nothing that is meant to be an image."""
    contents = Contents(unreadable=dict(listing.refused))
    for root, part in zip(listing.roots, listing.parts, strict=True):
        rows = []
        others = [Counter[str]() for _ in listing.classes]
        for row, header in enumerate(read_headers(part.paths)):
            path = part.paths[row]
            if isinstance(header, Header):
                rows.append(row)
                contents.headers[path] = header
            elif isinstance(header, Other):
                others[part.labels[row]][header.kind] += 1
            else:
                contents.unreadable[path] = header
        images = part.take(rows)
        counts = np.bincount(images.labels, minlength=len(listing.classes))
        for label in np.flatnonzero(counts == 0):
            _check_holds(root / listing.classes[label], others[label], contents.unreadable)
        contents.parts.append(images)
        for kinds in others:
            contents.others += kinds
    return contents


def _check_holds(folder: Path, others: Counter[str], unreadable: Mapping[Path, str]) -> None:
    """Raise if a class folder holds no image, not even an unreadable one."""
    if any(folder == path or folder in path.parents for path in unreadable):
        return
    kinds = "avif, bmp, gif, jpeg, jpeg 2000, png, pgm, ppm, tiff, webp"
    rule = f"The class folder {shown(folder)} must hold images."
    found = f"only other files: {counted(others)}" if others else "none"
    raise invalid(rule, found, f"Add some ({kinds}), or remove it.")


def _decoded(
    parts: list[Part], shape: Shape, ranges: PixelRanges, progress: Progress | None
) -> tuple[list[Part], list[ImageDataset], dict[Path, str]]:
    """Return the parts without the images that cannot be decoded, their images, and the reasons for these."""
    total = sum(len(part.paths) for part in parts)
    before = 0
    kept: list[Part] = []
    datasets: list[ImageDataset] = []
    unreadable: dict[Path, str] = {}
    for part in parts:

        def report(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        images, reasons = decode(part.paths, shape, report, ranges)
        before += len(part.paths)
        if reasons:
            unreadable |= {part.paths[row]: reason for row, reason in reasons.items()}
            rows = [row for row in range(len(part.paths)) if row not in reasons]
            images = images[rows]
            part = part.take(rows)
        kept.append(part)
        datasets.append(ImageDataset(torch.from_numpy(images), torch.from_numpy(part.labels), ranges))
    return kept, datasets, unreadable


def _check_trains(classes: tuple[str, ...], train: Part) -> None:
    """Raise if a class has no image to train on."""
    for label, count in enumerate(np.bincount(train.labels, minlength=len(classes))):
        if count == 0:
            rule = f"The class `{shown(classes[label])}` must hold a readable image to train on."
            raise invalid(rule, "none", "Add images, or remove its folder.")


def _refuse(unreadable: Mapping[Path, str], skip_corrupt: bool) -> None:
    if unreadable and not skip_corrupt:
        raise _corrupt(unreadable)


def _corrupt(unreadable: Mapping[Path, str]) -> DamagedData:
    step = "Replace or remove them, or leave them out with --skip_corrupt."
    return damaged("Every image must be readable.", _summary(unreadable), step)


def _summary(unreadable: Mapping[Path, str]) -> str:
    named = [f"{shown(path)} ({reason})" for path, reason in list(unreadable.items())[:SHOWN]]
    if len(unreadable) > SHOWN:
        named.append(f"and {len(unreadable) - SHOWN} more")
    return f"{plural(len(unreadable), 'unreadable image')}: {', '.join(named)}"


def _left_out_notes(contents: Contents, listing: Listing) -> list[str]:
    """Return a sentence on each kind of files left out; litter alone is not worth one."""
    notes = list(listing.notes)
    if contents.unreadable:
        notes.append(f"Left out {_summary(contents.unreadable)}.")
    unread = Counter({kind: count for kind, count in contents.others.items() if kind in UNREAD_SUFFIXES})
    if unread:
        count = plural(unread.total(), "image")
        notes.append(
            f"Left out {count} of formats that are not read: {counted(unread)}. "
            "Save them as PNG or JPEG to use them."
        )
    if others := contents.others - unread:
        notes.append(no_images(others + listing.litter))
    return notes


def _litter_notes(contents: Contents, listing: Listing) -> list[str]:
    """Return a sentence on hidden files and the like, unless the notes on other files count them."""
    others = contents.others.keys() - UNREAD_SUFFIXES
    return [no_images(listing.litter)] if listing.litter and not others else []


def _frame_notes(contents: Contents) -> list[str]:
    """Return a sentence on images of more than one frame, if there are any."""
    several = [path for path, header in contents.headers.items() if header.several]
    if not several:
        return []
    named = shown(several[0]) + (", ..." if len(several) > 1 else "")
    count = plural(len(several), "image")
    return [f"{count} with several frames or pages, of which the first is read: {named}."]
