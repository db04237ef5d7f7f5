"""Images of Hugging Face's ``datasets``: a column of images, and one of their classes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays.checksums import row_checksums
from ..errors import check_integer, check_share, damaged, invalid
from .class_names import as_ids, name_notes, number_classes
from .decoding import Header, check_fits, choose_shape, decode_opened, headers_of
from .held_out import TEST, held_out_by_class, keyed
from .hub_names import HELD_OUT, load_parts, saved_at
from .images import ImageData, ImageDataset, Progress
from .pool_part import opener

LABELS = ("label", "labels", "y")
"""Names of the column of classes, unless exactly one column is of the type ClassLabel."""


def load_hub_images(
    data: str,
    *,
    test_share: float = 0.2,
    skip_corrupt: bool = False,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> ImageData:
    """Read the images of ``hf:NAME`` or ``hf:FOLDER`` into memory.

    The part train is trained on, and the first of test, validation, val and dev that exists is held out.
    If there is none, ``test_share`` of each class is held out, drawn by the pixels.

    The arguments are those of :func:`~fallow.datasets.load_images`.

    Raises:
        InvalidValue: if the data do not exist, or do not have one column of images and one of classes.
        DamagedData: if an image cannot be decoded.
    """
    if image_size is not None:
        image_size = check_integer("image_size", image_size, 1)
    check_share("test_share", test_share, closed=False, step="Name a share above 0 and below 1.")
    parts = load_parts(data)
    if "train" not in parts:
        names = ", ".join(sorted(parts)) or "none"
        raise invalid(f"{data} must hold a part named train.", names, "Save it with one.")
    held_out = next((name for name in HELD_OUT if name in parts), None)
    selected = ["train"] if held_out is None else ["train", held_out]
    tables = [_Table(f"{data} {name}", parts[name], saved_at(data)) for name in selected]
    labels, classes = _classes(tables)
    headers = [header for table in tables for header in headers_of(table.openers())]
    shape = choose_shape([header for header in headers if isinstance(header, Header)], image_size)
    total = len(headers)
    check_fits(total, shape)
    before = 0
    pictures = []
    notes = list(name_notes(classes))
    for part, table in enumerate(tables):

        def report(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        images, reasons = decode_opened(table.openers(), shape, progress=report)
        before += len(table)
        if reasons:
            row, reason = next(iter(reasons.items()))
            corrupt = f"{len(reasons):,} that cannot be decoded, first row {row} ({reason})"
            if not skip_corrupt:
                raise damaged(f"{table.name} must hold images.", corrupt, "Mend them, or add --skip_corrupt.")
            notes.append(f"Left out of {table.name}: {corrupt}.")
            kept = np.setdiff1d(np.arange(len(table)), list(reasons))
            images = images[kept]
            labels[part] = labels[part][kept]
        pictures.append(images)
    drawn = held_out is None
    if drawn:
        out = held_out_by_class(keyed(row_checksums(pictures[0]), TEST, 0), labels[0], test_share)
        pictures = [pictures[0][~out], pictures[0][out]]
        labels = [labels[0][~out], labels[0][out]]
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
    """A part of a data set: a column of images, which are opened one at a time, and a column of classes."""

    def __init__(self, name: str, part: Any, folder: Path | None) -> None:
        import datasets

        self.name = name
        self._folder = folder
        images = [key for key, kind in part.features.items() if isinstance(kind, datasets.Image)]
        named = [key for key, kind in part.features.items() if isinstance(kind, datasets.ClassLabel)]
        labels = named if len(named) == 1 else [key for key in LABELS if key in part.features][:1]
        for columns, content, title in ((images, "images", "image"), (labels, "classes", "label")):
            if len(columns) != 1:
                present = ", ".join(f"{key} ({type(kind).__name__})" for key, kind in part.features.items())
                step = f"Save it with one that is called {title}, and name the folder as hf:FOLDER."
                rule = f"{name} must have one column of {content}."
                raise invalid(rule, present[:300] or "no columns", step)
        self._column = images[0]
        label = labels[0]
        self.names = getattr(part.features[label], "names", None)
        self.labels = part.with_format(None)[label]
        # Not decoded: `datasets` would open the paths that a table may hold.
        rows = part.select_columns([self._column]).with_format(None)
        self._rows = rows.cast_column(self._column, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self._rows)

    def openers(self) -> list[Any]:
        """Return for each image a function that opens it."""
        return [partial(self._open, row) for row in range(len(self))]

    def _open(self, row: int) -> AbstractContextManager[IO[bytes]]:
        return opener(self._rows[row][self._column], self._folder, self._folder)()


def _classes(tables: list[_Table]) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Return the class ids of each part, and the names of the classes."""
    ids = []
    for table in tables:
        cells = list(table.labels)
        # `datasets` writes -1 for a missing label of a column with class names.
        empty = [row for row, cell in enumerate(cells) if cell is None or (table.names and cell < 0)]
        if empty or not cells:
            count = f"none in row {empty[0]}" if empty else "no rows"
            raise invalid(f"Every image of {table.name} must have a class.", count, "Leave it out.")
        ids.append(as_ids(table.name, np.array(cells)))
    first = tables[0].names
    if any(table.names != first for table in tables):
        others = f"others in {tables[-1].name}"
        raise invalid("All parts must name the same classes.", others, "Save them alike.")
    if first:
        return [each.astype(np.int64) for each in ids], tuple(first)
    numbers, names = number_classes(*ids)
    return numbers, tuple(names)
