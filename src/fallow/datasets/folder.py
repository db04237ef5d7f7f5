"""A folder with one sub-folder of images per class, with or without a split of its own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from .._checks import DamagedData, check_integer, check_share, damaged, invalid
from .decoding import Header, Shape, choose_shape, decode, read_headers
from .images import ImageData, ImageDataset, Progress
from .listing import Part, find_parts, hold_out

SHOWN = 5
"""Unreadable images that a message names."""


def load_folder(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    test_share: float = 0.2,
    skip_corrupt: bool = False,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> ImageData:
    """Read a folder of images, one sub-folder per class, into memory.

    Where the folder holds ``train/`` and ``test/`` (or ``val/``), these are the split and hold the
    class folders. Else ``test_share`` of each class, rounded, and at least one image, is held out.
    Images may lie deeper inside their class folder. Hidden files and folders are left alone.
    Classes and files are sorted by name without regard to case. ``fallow.datasets.decoding`` says
    what becomes of colours and sizes.

    Args:
        folder: the folder.
        seed: draws the images that are held out.
        test_share: the share of each class that is held out, in (0, 1).
        skip_corrupt: leave unreadable images out, with a warning, in place of an error.
        image_size: the side in pixels that all images get.
        progress: called with the number of images decoded and their total.

    Raises:
        InvalidValue: A class or an image is missing or unreadable, or all would not fit 4 GiB.
    """
    folder = Path(folder)
    if image_size is not None:
        image_size = check_integer("image_size", image_size, 1)
    if check_share("test_share", test_share, closed=False) == 0:
        raise invalid("`test_share` must be in (0, 1).", test_share, "Hold out at least a little.")
    classes, parts = find_parts(folder)
    parts, headers, unreadable = _readable(parts)
    _refuse(unreadable, skip_corrupt)
    if len(parts) == 1:
        parts = hold_out(parts[0], classes, test_share, seed)
    if not headers:
        raise _corrupt(unreadable)
    shape = choose_shape(headers, image_size)
    parts, datasets, reasons = _decoded(parts, shape, progress)
    unreadable |= reasons
    _refuse(unreadable, skip_corrupt)
    train, test = datasets
    for label, count in enumerate(np.bincount(parts[0].labels, minlength=len(classes))):
        if count == 0:
            rule = f"The class `{classes[label]}` must hold a readable image to train on."
            raise invalid(rule, "none", "Add images, or remove its folder.")
    if unreadable:
        warnings.warn(f"Left out {_summary(unreadable)}.", UserWarning, stacklevel=3)
    files = tuple(str(path) for path in parts[0].paths)
    skipped = tuple(str(path) for path in unreadable)
    return ImageData(folder.resolve().name, train, test, classes, files, skipped)


def _readable(parts: list[Part]) -> tuple[list[Part], list[Header], dict[Path, str]]:
    """Return the parts without the images that have no header, the headers, and what is wrong."""
    kept: list[Part] = []
    headers: list[Header] = []
    unreadable: dict[Path, str] = {}
    for part in parts:
        rows = []
        for row, header in enumerate(read_headers(part.paths)):
            if isinstance(header, Header):
                rows.append(row)
                headers.append(header)
            else:
                unreadable[part.paths[row]] = header
        kept.append(part.take(rows))
    return kept, headers, unreadable


def _decoded(
    parts: list[Part], shape: Shape, progress: Progress | None
) -> tuple[list[Part], list[ImageDataset], dict[Path, str]]:
    """Return the parts without the images that cannot be decoded, their images, what is wrong."""
    total = sum(len(part.paths) for part in parts)
    before = 0
    kept: list[Part] = []
    datasets: list[ImageDataset] = []
    unreadable: dict[Path, str] = {}
    for part in parts:
        images, reasons = decode(part.paths, shape, _later(progress, before, total))
        before += len(part.paths)
        if reasons:
            unreadable |= {part.paths[row]: reason for row, reason in reasons.items()}
            rows = [row for row in range(len(part.paths)) if row not in reasons]
            images, part = images[rows], part.take(rows)
        kept.append(part)
        datasets.append(ImageDataset(torch.from_numpy(images), torch.from_numpy(part.labels)))
    return kept, datasets, unreadable


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
    named = [f"{path} ({reason})" for path, reason in list(unreadable.items())[:SHOWN]]
    if len(unreadable) > SHOWN:
        named.append(f"and {len(unreadable) - SHOWN} more")
    plural = "s" if len(unreadable) > 1 else ""
    return f"{len(unreadable)} unreadable image{plural}: {', '.join(named)}"
