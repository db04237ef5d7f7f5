"""Pools in tables: Parquet files, and data sets of Hugging Face."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import damaged, invalid
from .hub_names import NO_CODE, check_hub_name, check_saved, hub_library, loading, quiet_hub, saved_at
from .messages import error_text
from .parquet_file import batches, check_rows, opened_parquet
from .pool_part import PART, WHOLE, Kind, PoolPart, check_unchanged, of_columns, shared

_MORE = 16
"""Up to this multiple of the pixels of a sample are read, so that an error can name a wrong shape."""
IMAGES, LABELS = ("image", "img", "x", "pixels"), ("label", "labels", "y")


class ParquetPool:
    """Rows of Parquet files: images encoded, or their pixels."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, files: list[Path], kind: Kind) -> None:
        self.name = str(path.absolute())
        self._kind = kind
        self._root = path if path.is_dir() else path.parent
        # A file that the user named may be a link, but a file in a folder may not.
        self._inside = self._root if path.is_dir() else None
        self._files: list[tuple[Path, int]] = []
        for number, file in enumerate(files):
            with opened_parquet(file, "A pool in Parquet", self._inside) as (table, data):
                schema = table.schema_arrow
                rows = table.metadata.num_rows
                check_rows(file, data, table.metadata)
            if number == 0:
                self._images = next((name for name in IMAGES if self._holds_images(schema, name)), "")
                self._labels = next((name for name in LABELS if name in schema.names), None)
                self._names = _class_names(schema.metadata, self._labels)
            if not self._images:
                rule = f"{file} must have a column image (encoded) or x (pixels)."
                raise invalid(rule, _fields(schema), "Rename the column.")
            for name in self._columns:
                count = schema.names.count(name)
                if not count:
                    rule = f"{file} must have the columns of {files[0].name}."
                    raise invalid(rule, f"no {name}", "Make all files of one folder alike.")
                if count > 1:
                    step = "Take one of them out, or rename it."
                    raise invalid(f"{file} must have one column {name}.", f"{count} of them", step)
            self._files.append((file, rows))
        self.total: int | None = sum(rows for _, rows in self._files)
        if not self.total:
            raise invalid(f"{path} must hold samples.", "none", "Add some.")

    def parts(
        self, index: NDArray[np.int64] | None = None, share: tuple[int, int] = WHOLE
    ) -> Iterator[PoolPart]:
        """See :class:`Pool`; samples that cannot be decoded are left out."""
        for batch, start, rows, folder in shared(self._with_rows(index), share):
            yield self._part(batch.take(rows - start), rows, folder)

    def _with_rows(self, index: NDArray[np.int64] | None) -> Iterator[Any]:
        """Yield each batch that holds rows of an index, its first row, these rows, and its file's folder."""
        first = 0
        for file, count in self._files:
            start, first = first, first + count
            if index is not None and not ((index >= start) & (index < first)).any():
                continue
            for batch in self._batches(file):
                rows = np.arange(start, start + batch.num_rows)
                if index is not None:
                    rows = index[(index >= start) & (index < start + batch.num_rows)]
                if rows.size:
                    yield batch, start, rows, file.parent
                start += batch.num_rows
            check_unchanged(file, start - (first - count), count)

    @property
    def _columns(self) -> list[str]:
        return [self._images] + ([self._labels] if self._labels else [])

    def _holds_images(self, schema: Any, name: str) -> bool:
        if name not in schema.names:
            return False
        from pyarrow import types

        kind = schema.field(schema.names.index(name)).type
        texts = (types.is_string, types.is_large_string, types.is_null, types.is_dictionary)
        return not (types.is_primitive(kind) or any(is_text(kind) for is_text in texts))

    def _batches(self, file: Path) -> Iterator[Any]:
        pixels = _MORE * math.prod(self._kind.shape)
        with opened_parquet(file, "A pool in Parquet", self._inside) as (table, data):
            yield from batches(file, table, data, self._columns, PART, pixels)

    def _part(self, batch: Any, rows: NDArray[np.int64], folder: Path) -> PoolPart:
        try:
            values = batch.column(self._images).to_pylist()
            labels = batch.column(self._labels).to_pylist() if self._labels else [None] * len(values)
        except ValueError as error:  # text that is not UTF-8
            raise damaged(f"{self.name} must be readable.", error_text(error), "Copy it again.") from None
        return of_columns(self._kind, self._images, rows, values, labels, self._names, folder, self._root)


class HuggingFacePool:
    """A data set of Hugging Face's ``datasets``, streamed, or one that it has saved."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, kind: Kind) -> None:
        datasets = hub_library()
        self._kind = kind
        self._folder = saved_at(name)
        if self._folder is None:
            self.name = name
            check_hub_name(datasets, name.removeprefix("hf:"))
            with loading(name):
                rows = _streamed(datasets, name.removeprefix("hf:"))
        else:
            self.name = f"hf:{self._folder.absolute()}"
            check_saved(self._folder)
            with loading(name):
                rows = _saved(datasets, self._folder)
        features = rows.features or {}
        encoded = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
        self._images = next(iter(encoded), next((key for key in IMAGES if key in features), ""))
        if not self._images:
            columns = ", ".join(features) or "no columns"
            raise invalid(f"{name} must have a column of images.", columns, "Rename it to image.")
        self._labels = next((key for key in LABELS if key in features), None)
        self._names = getattr(features[self._labels], "names", None) if self._labels else None
        # Other columns may be damaged, or need packages to be decoded.
        rows = rows.select_columns([self._images] + ([self._labels] if self._labels else []))
        self._rows = rows.cast_column(self._images, datasets.Image(decode=False)) if encoded else rows
        self.total: int | None = len(self._rows) if self._folder else None

    def parts(
        self, index: NDArray[np.int64] | None = None, share: tuple[int, int] = WHOLE
    ) -> Iterator[PoolPart]:
        """See :class:`Pool`; samples that cannot be decoded are left out."""
        for rows, values, labels in shared(self._chunks(index), share):
            yield self._part(rows, values, labels)

    def _chunks(self, index: NDArray[np.int64] | None) -> Iterator[tuple[list[int], list[Any], list[Any]]]:
        """Yield rows, images and labels of some samples at a time."""
        rows: list[int] = []
        values: list[Any] = []
        labels: list[Any] = []
        for position, row in self._selected(index):
            rows.append(position)
            values.append(row[self._images])
            labels.append(row[self._labels] if self._labels else None)
            if len(rows) == PART:
                yield rows, values, labels
                rows, values, labels = [], [], []
        if rows:
            yield rows, values, labels

    def _selected(self, index: NDArray[np.int64] | None) -> Iterator[tuple[int, Any]]:
        """Yield the rows of an index, or all rows, each with its position."""
        rows: Iterable[tuple[int, Any]] = enumerate(self._rows)
        if index is not None and self.total is not None:
            positions = index[index < self.total].tolist()
            rows = zip(positions, self._rows.select(positions), strict=True) if positions else ()
        # A stream has no index: it is read up to the last selected row.
        selected = None if index is None else set(index.tolist())
        last = max(selected or (), default=-1)
        try:
            with quiet_hub():
                for position, row in rows:
                    if selected is None or position in selected:
                        yield position, row
                    if selected is not None and position >= last:
                        return
        except Exception as error:  # the network, the disk and the decoders raise many kinds
            raise damaged(f"{self.name} must be readable.", error_text(error), "Try again.") from None

    def _part(self, rows: list[int], values: list[Any], labels: list[Any]) -> PoolPart:
        index = np.array(rows, np.int64)
        folder = self._folder
        return of_columns(self._kind, self._images, index, values, labels, self._names, folder, folder)


def _saved(datasets: Any, folder: Path) -> Any:
    parts = datasets.load_from_disk(str(folder))
    if not isinstance(parts, datasets.DatasetDict):
        return parts
    if "train" not in parts:
        step = f"Name one, as hf:{folder}/{min(parts, default='train')}."
        raise invalid("A folder of parts must hold train.", ", ".join(parts) or "none", step)
    return parts["train"]


def _streamed(datasets: Any, name: str) -> Any:
    split = "train"
    if name.count("/") == 2:
        name, _, split = name.rpartition("/")
    return datasets.load_dataset(name, split=split, streaming=True, **NO_CODE)


def _fields(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in list(schema)[:8])[:200] or "no columns"


def _class_names(metadata: dict[bytes, bytes] | None, column: str | None) -> list[str] | None:
    """Return the names of classes that Hugging Face writes into a Parquet file, or None."""
    try:
        description = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        return [str(name) for name in description["info"]["features"][column]["names"]]
    except (ValueError, LookupError, TypeError):
        return None
