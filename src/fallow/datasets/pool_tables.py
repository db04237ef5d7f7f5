"""Pools in tables: Parquet files, and data sets of Hugging Face."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import damaged, invalid, missing_extra
from .hub_names import NO_CODE, check_hub_name, quiet_hub
from .parquet_file import batches, opened_parquet
from .parquet_pages import check_rows
from .pool_part import PART, Kind, PoolPart, of_columns, said
from .saved_folder import check_saved

_MORE = 16
"""So many times as many pixels as a sample has are read, to say what shape they are of."""
IMAGES, LABELS = ("image", "img", "x", "pixels"), ("label", "labels", "y")


class ParquetPool:
    """Rows of Parquet files: images encoded, or their pixels."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, files: list[Path], kind: Kind) -> None:
        self.name, self._kind = str(path.absolute()), kind
        self._root = path if path.is_dir() else path.parent
        # A file that a person named may be a link, what lies in a folder may not.
        self._inside = self._root if path.is_dir() else None
        self._files: list[tuple[Path, int]] = []
        for place, file in enumerate(files):
            with opened_parquet(file, "A pool in Parquet", self._inside) as (found, data):
                schema, rows = found.schema_arrow, found.metadata.num_rows
                check_rows(file, data, found.metadata)
            if not place:
                self._images = next((name for name in IMAGES if self._holds_images(schema, name)), "")
                self._labels = next((name for name in LABELS if name in schema.names), None)
                self._names = _class_names(schema.metadata, self._labels)
            if not self._images:
                rule = f"{file} must have a column image (encoded) or x (pixels)."
                raise invalid(rule, _shown(schema), "Rename the column.")
            if lacking := [name for name in self._columns if name not in schema.names]:
                rule = f"{file} must have the columns of {files[0].name}."
                raise invalid(rule, f"no {lacking[0]}", "Make all files of one folder alike.")
            for name in self._columns:
                if (count := schema.names.count(name)) > 1:
                    step = "Take one of them out, or rename it."
                    raise invalid(f"{file} must have one column {name}.", f"{count} of them", step)
            self._files.append((file, rows))
        self.total: int | None = sum(rows for _, rows in self._files)
        if not self.total:
            raise invalid(f"{path} must hold samples.", "none", "Add some.")

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`; what cannot be decoded is left out."""
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
                    yield self._part(batch.take(rows - start), rows, file.parent)
                start += batch.num_rows

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
        with opened_parquet(file, "A pool in Parquet", self._inside) as (found, data):
            yield from batches(file, found, data, self._columns, PART, pixels)

    def _part(self, batch: Any, rows: NDArray[np.int64], folder: Path) -> PoolPart:
        try:
            values = batch.column(self._images).to_pylist()
            labels = batch.column(self._labels).to_pylist() if self._labels else [None] * len(values)
        except ValueError as error:  # text that is not UTF-8
            raise damaged(f"{self.name} must be readable.", said(error), "Copy it again.") from None
        return of_columns(self._kind, self._images, rows, values, labels, self._names, folder, self._root)


class HuggingFacePool:
    """A data set of Hugging Face's ``datasets``, streamed, or one that it has saved."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, kind: Kind) -> None:
        try:
            import datasets
        except ModuleNotFoundError:
            raise missing_extra("A Hugging Face data set", "datasets", "hf") from None
        self._kind = kind
        place = name.removeprefix("hf:")
        folder = Path(place)
        saved = bool(place) and folder.is_dir()
        self._folder = folder if saved else None
        if saved:
            check_saved(folder)
        else:
            check_hub_name(datasets, place)
        self.name = f"hf:{folder.absolute()}" if saved else name
        try:
            with quiet_hub():
                rows = _saved(datasets, folder) if saved else _streamed(datasets, place)
        except Exception as error:  # the hub, the disk and the builders raise many kinds
            rule, step = f"{name} must be a data set that can be loaded.", "Check its name."
            raise invalid(rule, said(error), step) from None
        features = rows.features or {}
        encoded = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
        self._images = next(iter(encoded), next((key for key in IMAGES if key in features), ""))
        if not self._images:
            found = ", ".join(features) or "no columns"
            raise invalid(f"{name} must have a column of images.", found, "Rename it to image.")
        self._labels = next((key for key in LABELS if key in features), None)
        self._names = getattr(features[self._labels], "names", None) if self._labels else None
        # Others may need packages to be decoded, or be damaged.
        rows = rows.select_columns([self._images] + ([self._labels] if self._labels else []))
        self._rows = rows.cast_column(self._images, datasets.Image(decode=False)) if encoded else rows
        self.total: int | None = len(self._rows) if saved else None

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`; what cannot be decoded is left out."""
        rows: list[int] = []
        values: list[Any] = []
        labels: list[Any] = []
        for place, row in self._wanted(index):
            rows.append(place)
            values.append(row[self._images])
            labels.append(row[self._labels] if self._labels else None)
            if len(rows) == PART:
                yield self._part(rows, values, labels)
                rows, values, labels = [], [], []
        if rows:
            yield self._part(rows, values, labels)

    def _wanted(self, index: NDArray[np.int64] | None) -> Iterator[tuple[int, Any]]:
        """Yield the rows of an index, or all, each with its place."""
        found: Iterable[tuple[int, Any]] = enumerate(self._rows)
        if index is not None and self.total is not None:
            places = index[index < self.total].tolist()
            found = zip(places, self._rows.select(places), strict=True) if places else ()
        wanted = None if index is None else set(index.tolist())
        last = max(wanted or (), default=-1)
        try:
            with quiet_hub():
                for place, row in found:
                    if wanted is None or place in wanted:
                        yield place, row
                    if wanted is not None and place >= last:
                        return
        except Exception as error:  # the network, the disk and the decoders raise many kinds
            raise damaged(f"{self.name} must be readable.", said(error), "Try again.") from None

    def _part(self, rows: list[int], values: list[Any], labels: list[Any]) -> PoolPart:
        index = np.array(rows, np.int64)
        folder = self._folder
        return of_columns(self._kind, self._images, index, values, labels, self._names, folder, folder)


def _saved(datasets: Any, folder: Path) -> Any:
    found = datasets.load_from_disk(str(folder))
    if not isinstance(found, datasets.DatasetDict):
        return found
    if "train" not in found:
        step = f"Name one, as hf:{folder}/{min(found, default='train')}."
        raise invalid("A folder of parts must hold train.", ", ".join(found) or "none", step)
    return found["train"]


def _streamed(datasets: Any, place: str) -> Any:
    name, _, split = place.rpartition("/") if place.count("/") == 2 else (place, "", "train")
    return datasets.load_dataset(name, split=split, streaming=True, **NO_CODE)


def _shown(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in list(schema)[:8])[:200] or "no columns"


def _class_names(metadata: dict[bytes, bytes] | None, column: str | None) -> list[str] | None:
    """Return the names of classes that Hugging Face writes into a Parquet file, or None."""
    try:
        found = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        names = found["info"]["features"][column]["names"]
        return [str(name) for name in names]
    except (ValueError, LookupError, TypeError):
        return None
