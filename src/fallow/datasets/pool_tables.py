"""Pools in tables: Parquet files, and data sets of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import damaged, invalid, missing_extra
from .pool_part import PART, Kind, PoolPart, decoded, encoded, pixels

IMAGES, LABELS = ("image", "img", "x", "pixels"), ("label", "labels", "y")


class ParquetPool:
    """Rows of Parquet files: images encoded, or their pixels."""

    def __init__(self, path: Path, files: list[Path], kind: Kind) -> None:
        try:
            import pyarrow as arrow
            import pyarrow.parquet as parquet
        except ModuleNotFoundError:
            raise missing_extra("A pool in Parquet", "pyarrow") from None
        self.name, self._kind = str(path.absolute()), kind
        self._unreadable = (arrow.ArrowException, OSError)
        try:
            self._files = [parquet.ParquetFile(file) for file in files]
        except self._unreadable as error:
            raise damaged(f"{path} must be Parquet.", str(error).splitlines()[0], "Copy it again.") from None
        names = self._files[0].schema_arrow.names
        self._images = next((name for name in IMAGES if name in names), "")
        self._labels = next((name for name in LABELS if name in names), None)
        if not self._images:
            rule = f"{path} must have a column image (encoded) or x (pixels)."
            raise invalid(rule, ", ".join(names[:8]) or "no columns", "Rename the column.")
        self._names = _class_names(self._files[0].schema_arrow.metadata, self._labels)
        self.total: int | None = sum(file.metadata.num_rows for file in self._files)
        if not self.total:
            raise invalid(f"{path} must hold samples.", "none")

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`; what cannot be decoded is left out."""
        columns = [self._images] + ([self._labels] if self._labels else [])
        start = 0
        for file in self._files:
            for batch in self._batches(file, columns):
                rows = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                if index is not None:
                    if rows[0] > index.max(initial=-1):
                        return
                    rows = index[(index >= rows[0]) & (index <= rows[-1])]
                if rows.size:
                    yield self._part(batch.take(rows - (start - batch.num_rows)), rows)

    def _batches(self, file: Any, columns: list[str]) -> Iterator[Any]:
        try:
            yield from file.iter_batches(PART, columns=columns)
        except self._unreadable as error:
            said = str(error).splitlines()[0]
            raise damaged(f"{self.name} must be readable.", said, "Copy it again.") from None

    def _part(self, batch: Any, rows: NDArray[np.int64]) -> PoolPart:
        values = batch.column(self._images).to_pylist()
        labels: list[Any] = batch.column(self._labels).to_pylist() if self._labels else [None] * len(values)
        if self._names:
            labels = [
                self._names[x] if isinstance(x, int) and 0 <= x < len(self._names) else x for x in labels
            ]
        known = np.array([self._kind.label(value) for value in labels], np.int64)
        if isinstance(values[0], (list, tuple)):
            images, kept = self._kind.images(self._images, pixels(values, self._kind)), np.arange(len(rows))
        else:
            images, kept = decoded([encoded(value) for value in values], self._kind)
        return PoolPart(rows[kept], images, known[kept])


class HuggingFacePool:
    """A data set of Hugging Face's ``datasets``, streamed, or one that it has saved."""

    def __init__(self, name: str, kind: Kind) -> None:
        try:
            import datasets
        except ModuleNotFoundError:
            raise missing_extra("A Hugging Face data set", "datasets") from None
        self._kind = kind
        place = name.removeprefix("hf:")
        folder = Path(place)
        self.name = f"hf:{folder.absolute()}" if folder.is_dir() else name
        try:
            self._rows = self._opened(datasets, place, folder)
        except Exception as error:  # the hub, the disk and the builders raise many kinds
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise invalid(f"{name} must be a data set that can be loaded.", said, "Check its name.") from None
        features = self._rows.features or {}
        self._images = next(
            (key for key, feature in features.items() if type(feature).__name__ == "Image"),
            next((key for key in IMAGES if key in features), ""),
        )
        if not self._images:
            raise invalid(f"{name} must have a column of images.", ", ".join(features) or "no columns")
        self._labels = next((key for key in LABELS if key in features), None)
        feature = features.get(self._labels) if self._labels else None
        self._names = getattr(feature, "names", None)
        self._rows = (
            self._rows.cast_column(self._images, datasets.Image(decode=False))
            if type(features[self._images]).__name__ == "Image"
            else self._rows
        )
        try:
            self.total: int | None = len(self._rows)
        except TypeError:
            self.total = None

    @staticmethod
    def _opened(datasets: Any, place: str, folder: Path) -> Any:
        if folder.is_dir():
            found = datasets.load_from_disk(str(folder))
            return found["train"] if isinstance(found, datasets.DatasetDict) else found
        name, _, split = place.rpartition("/") if place.count("/") == 2 else (place, "", "train")
        return datasets.load_dataset(name, split=split, streaming=True)

    def parts(self, index: NDArray[np.int64] | None = None) -> Iterator[PoolPart]:
        """See :class:`Pool`; what cannot be decoded is left out."""
        wanted = None if index is None else set(index.tolist())
        rows: list[int] = []
        values: list[Any] = []
        labels: list[Any] = []
        for place, row in enumerate(self._rows):
            if wanted is None or place in wanted:
                rows.append(place)
                values.append(row[self._images])
                labels.append(row[self._labels] if self._labels else None)
            if len(rows) == PART:
                yield self._part(rows, values, labels)
                rows, values, labels = [], [], []
            if wanted is not None and place >= max(wanted, default=-1):
                break
        if rows:
            yield self._part(rows, values, labels)

    def _part(self, rows: list[int], values: list[Any], labels: list[Any]) -> PoolPart:
        names = self._names
        if names:
            labels = [names[x] if isinstance(x, int) and 0 <= x < len(names) else x for x in labels]
        known = np.array([self._kind.label(value) for value in labels], np.int64)
        if isinstance(values[0], (list, tuple, np.ndarray)):
            images, kept = self._kind.images(self._images, pixels(values, self._kind)), np.arange(len(rows))
        else:
            images, kept = decoded([encoded(value) for value in values], self._kind)
        return PoolPart(np.array(rows, np.int64)[kept], images, known[kept])


def _class_names(metadata: dict[bytes, bytes] | None, column: str | None) -> list[str] | None:
    """Return the names of classes that Hugging Face writes into a Parquet file, or None."""
    try:
        found = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        names = found["info"]["features"][column]["names"]
        return [str(name) for name in names]
    except (ValueError, LookupError, TypeError):
        return None
