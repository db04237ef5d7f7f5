"""Images of Hugging Face's ``datasets``: a column of images, and one of their classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays.checksums import row_checksums
from ..errors import check_integer, check_share, damaged, invalid
from .class_names import as_ids, name_notes, number_classes
from .decoding import Header, choose_shape, decode_opened, headers_of
from .held_out import TEST, held_out_by_class, keyed
from .hub_names import HELD_OUT, load_parts, saved_at
from .images import ImageData, ImageDataset, Progress
from .pool_part import opener

LABELS = ("label", "labels", "y")
"""Columns of classes, if not just one column has names for its numbers."""


def load_hub_images(
    data: str,
    *,
    test_share: float = 0.2,
    skip_corrupt: bool = False,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> ImageData:
    """Read the images of ``hf:NAME`` or ``hf:FOLDER`` into memory.

    The part named train is trained on; test, validation, val or dev, the first that is there, is held out.
    Without one, ``test_share`` of each class is, drawn by the pixels.

    Args:
        data: what ``datasets`` loads by a name, or has saved in a folder.
        test_share: the share of each class that is held out if there is no such part, in (0, 1).
        skip_corrupt: leave out images that cannot be decoded, and say so in the notes.
        image_size: the side in pixels that all images get.
        progress: called with the number of images decoded and their total.

    Raises:
        InvalidValue: if there is no such data, or no one column of images and of classes.
        DamagedData: if an image cannot be decoded.
    """
    if image_size is not None:
        image_size = check_integer("image_size", image_size, 1)
    check_share("test_share", test_share, closed=False, step="Name a share above 0 and below 1.")
    parts = load_parts(data)
    if "train" not in parts:
        found = ", ".join(sorted(parts)) or "none"
        raise invalid(f"{data} must hold a part named train.", found, "Save it with one.")
    held_out = next((name for name in HELD_OUT if name in parts), None)
    wanted = ["train"] if held_out is None else ["train", held_out]
    tables = [_Table(f"{data} {name}", parts[name], saved_at(data)) for name in wanted]
    labels, classes = _classes(tables)
    headers = [table.headers() for table in tables]
    shape = choose_shape([one for part in headers for one in part if isinstance(one, Header)], image_size)
    total, done = sum(map(len, tables)), 0
    pictures, notes = [], list(name_notes(classes))
    for place, table in enumerate(tables):

        def further(now: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + now, total)

        images, reasons = decode_opened(table.openers(), shape, progress=further)
        done += len(table)
        if reasons:
            row, why = next(iter(reasons.items()))
            found = f"{len(reasons):,} that cannot be decoded, first row {row} ({why})"
            if not skip_corrupt:
                raise damaged(f"{table.name} must hold images.", found, "Mend them, or add --skip_corrupt.")
            notes.append(f"Left out of {table.name}: {found}.")
            kept = np.setdiff1d(np.arange(len(table)), list(reasons))
            images, labels[place] = images[kept], labels[place][kept]
        pictures.append(images)
    drawn = held_out is None
    if drawn:
        out = held_out_by_class(keyed(row_checksums(pictures[0]), TEST, 0), labels[0], test_share)
        pictures, labels = ([part[0][~out], part[0][out]] for part in (pictures, labels))
    if len(np.unique(labels[0])) < 2 or not len(labels[1]):
        counts = f"{len(np.unique(labels[0]))} classes to train on, {len(labels[1]):,} images to hold out"
        rule = f"{data} must hold images of two classes or more, and some to hold out."
        raise invalid(rule, counts, "Add images.")
    train, test = (
        ImageDataset(torch.from_numpy(images), torch.from_numpy(ids))
        for images, ids in zip(pictures, labels, strict=True)
    )
    name = Path(data.removeprefix("hf:")).name
    return ImageData(name, train, test, classes, notes=tuple(notes), test_share=test_share if drawn else None)


class _Table:
    """A part of a data set: its column of images, opened one at a time, and its column of classes."""

    def __init__(self, name: str, part: Any, folder: Path | None) -> None:
        import datasets

        self.name, self._folder = name, folder
        images = [key for key, kind in part.features.items() if isinstance(kind, datasets.Image)]
        named = [key for key, kind in part.features.items() if isinstance(kind, datasets.ClassLabel)]
        labels = named if len(named) == 1 else [key for key in LABELS if key in part.features][:1]
        for columns, what, known in ((images, "images", "image"), (labels, "classes", "label")):
            if len(columns) != 1:
                found = ", ".join(f"{key} ({type(kind).__name__})" for key, kind in part.features.items())
                step = f"Save it with one that is called {known}, and name the folder as hf:FOLDER."
                raise invalid(f"{name} must have one column of {what}.", found[:300] or "no columns", step)
        self._column, label = images[0], labels[0]
        self.names = getattr(part.features[label], "names", None)
        self.labels = part.with_format(None)[label]
        # As they are saved: decoding here would trust the paths that a table may hold.
        rows = part.select_columns([self._column]).with_format(None)
        self._rows = rows.cast_column(self._column, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self._rows)

    def openers(self) -> list[Any]:
        """Return what opens each image when it is its turn."""
        return [self._opener(row) for row in range(len(self))]

    def headers(self) -> list[Header | str]:
        """Return the header of each image, or why it has none."""
        return headers_of(self.openers())

    def _opener(self, row: int) -> Any:
        @contextmanager
        def opened() -> Iterator[IO[bytes]]:
            with opener(self._rows[row][self._column], self._folder, self._folder)() as file:
                yield file

        return opened


def _classes(tables: list[_Table]) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Return the class ids of each part, and the names of the classes."""
    ids = []
    for table in tables:
        cells = list(table.labels)
        empty = [row for row, cell in enumerate(cells) if cell is None or (table.names and cell < 0)]
        if empty or not cells:
            found = f"none in row {empty[0]}" if empty else "no rows"
            raise invalid(f"Every image of {table.name} must have a class.", found, "Leave it out.")
        ids.append(as_ids(table.name, np.array(cells)))
    first = tables[0].names
    if any(table.names != first for table in tables):
        raise invalid(
            "All parts must name the same classes.", f"others in {tables[-1].name}", "Save them alike."
        )
    if first:
        return [each.astype(np.int64) for each in ids], tuple(first)
    numbers, names = number_classes(*ids)
    return numbers, tuple(names)
