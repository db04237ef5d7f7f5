"""Export a run as two tables: ``history``, with a row per epoch and sample, and ``samples``."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays.bitset import unpack
from ..arrays.selection import blocks
from ..errors import DamagedData, invalid, missing_extra, unknown_name
from ..files.csv_table import line, names, spelled
from ..files.disk import temporary_path
from ..files.regular_file import check_folder, opened
from ..policies.base import Reason
from .directory import check_output
from .epoch_file import EpochFile
from .run_files import RunFiles

FORMATS = ("parquet", "csv", "json")
GROUP = 1 << 17
"""Rows that are written at once."""
_BEGINNING = 64
_BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    ".csv": (b"epoch,sample,score,used,reason", b"sample,label,predicted,file,score,reason,times_used"),
    ".json": (b'[\n{"epoch": ', b'[\n{"sample": '),
    ".parquet": (b"PAR1",),
}
"""The first bytes of the tables in each format."""
_REASONS = np.array([reason.text for reason in Reason])

Columns = dict[str, Any]
"""A block of a table: arrays or lists of equal length, by name."""


def export(
    run: RunFiles,
    kind: str = "parquet",
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write ``history`` and ``samples`` in a format; each file is written whole or not at all.

    ``history`` has the columns epoch, sample, score, used and reason; ``samples`` has sample, label,
    predicted, file, score, reason and times_used. A missing score is null. In CSV, terminal control
    characters in names are escaped.

    Args:
        run: the run.
        kind: ``"parquet"`` (for DuckDB, Polars and pandas), ``"csv"`` or ``"json"`` (a list of objects).
        out: the folder; by default ``export`` in the run's folder.
        progress: called as ``progress(done, total)`` with epochs.

    Returns:
        The paths of the two files.

    Raises:
        InvalidValue: if the format is unknown, ``out`` is the run's folder, or no epoch is finished.
        DamagedData: if a file of the run is damaged.
        ModuleNotFoundError: if pyarrow is missing for Parquet.
    """
    if kind not in FORMATS:
        raise unknown_name("format", kind, FORMATS)
    # Reading the history raises a clear error if no epoch is finished.
    assert run.history
    folder = run.directory.path / "export" if out is None else out
    if folder.resolve() == run.directory.path.resolve():
        step = "Omit it for RUN/export, or name another folder."
        raise invalid("Tables must not be among the files of the run itself.", folder, step)
    if folder.parent == run.directory.path:
        check_folder(folder, run.directory.path)
    check_output(folder / "table", r"export[^/]*/table")
    if out is not None:
        for name in ("history", "samples"):
            _check_replaced(folder / f"{name}.{kind}")
    write = {"parquet": _parquet, "csv": _csv, "json": _json}[kind]
    run.directory.disk.make_folder(folder)
    paths = []
    for name, parts in (("history", history_blocks(run, progress)), ("samples", sample_blocks(run))):
        path = folder / f"{name}.{kind}"
        temporary = temporary_path(path)
        try:
            write(parts, temporary)
            run.directory.disk.sync(temporary)
            run.directory.disk.rename(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        run.directory.disk.sync_folder(folder)
        paths.append(path)
    return paths


def _check_replaced(path: Path) -> None:
    """Raise if a file that would be replaced does not begin like an earlier export."""
    if not os.path.lexists(path):
        return
    with suppress(OSError, DamagedData), opened(path) as file:
        if file.read(_BEGINNING).startswith(_BEGINNINGS[path.suffix]):
            return
    step = "Name another --out, or move the file."
    raise invalid("An export replaces only an earlier export.", f"another file, {path}", step)


def history_blocks(run: RunFiles, progress: Callable[[int, int], None] | None = None) -> Iterator[Columns]:
    """Yield the table of epochs and samples in blocks; reasons are numbers."""
    for done, file in enumerate(run.files()):
        if progress is not None:
            progress(done, len(run.epochs))
        for start, stop in blocks(file.record.remaining, GROUP):
            yield _epoch_block(file, start, stop)
    if progress is not None:
        progress(len(run.epochs), len(run.epochs))


def _epoch_block(file: EpochFile, start: int, stop: int) -> Columns:
    record = file.record
    return {
        "epoch": np.full(stop - start, record.epoch, np.int32),
        "sample": np.arange(start, stop, dtype=np.int64),
        "score": file.scores[start:stop],
        # A block starts at a multiple of GROUP, and so with a whole byte.
        "used": unpack(record.used_bits[start >> 3 : -(-stop // 8)], stop - start),
        "reason": file.reason[start:stop],
    }


def sample_blocks(run: RunFiles) -> Iterator[Columns]:
    """Yield the table of samples in blocks; reasons are numbers, names that are not known None."""
    data, last, n = run.data, run.last, run.last.record.remaining
    ids = np.zeros(0, np.int32) if run.labels is None else np.unique(run.labels)
    classes = np.array([None if i < 0 else data.class_name(int(i)) for i in ids], object)
    for start, stop in blocks(n, GROUP):
        rows = range(start, stop)
        predicted = [] if run.predicted is None else run.predicted[start:stop].tolist()
        yield {
            "sample": np.arange(start, stop, dtype=np.int64),
            "label": [None] * len(rows)
            if run.labels is None
            else classes[np.searchsorted(ids, run.labels[start:stop])].tolist(),
            "predicted": [None if i < 0 else data.class_name(i) for i in predicted] or [None] * len(rows),
            "file": [run.file_of(sample) for sample in rows],
            "score": last.scores[start:stop],
            "reason": last.reason[start:stop],
            "times_used": run.times_used[start:stop],
        }


def _parquet(parts: Iterator[Columns], path: Path) -> None:
    try:
        # Here, because pyarrow is an optional extra.
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise missing_extra("Exporting Parquet", "pyarrow") from None
    writer, file = None, path.open("xb")  # "x" does not follow a link that somebody put there
    try:
        for columns in parts:
            table = pa.table({name: _arrow(pa, name, values) for name, values in columns.items()})
            if writer is None:
                dictionary = [name for name in ("reason", "label", "predicted") if name in columns]
                split = {"score": "BYTE_STREAM_SPLIT"}
                delta = {"sample": "DELTA_BINARY_PACKED", "epoch": "DELTA_BINARY_PACKED"}
                encodings = {name: kind for name, kind in (split | delta).items() if name in columns}
                writer = pq.ParquetWriter(
                    file,
                    table.schema,
                    compression="zstd",
                    use_dictionary=dictionary,
                    column_encoding=encodings,
                )
            writer.write_table(table, row_group_size=GROUP)
    finally:
        if writer is not None:
            writer.close()
        file.close()


def _arrow(pa: Any, name: str, values: Any) -> Any:
    """Return a column for Parquet, with null for NaN and reasons as text."""
    if name == "reason":
        return pa.DictionaryArray.from_arrays(pa.array(values.astype(np.int8)), pa.array(_REASONS.tolist()))
    if name == "score":
        return pa.array(values, mask=~np.isfinite(values))
    if isinstance(values, list):
        return pa.array([value if value is None else spelled(value) for value in values], pa.string())
    return pa.array(values)


def _rows(columns: Columns) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a block as plain values; a missing score is None."""
    plain = {name: _plain(name, values) for name, values in columns.items()}
    yield from zip(*plain.values(), strict=True)


def _plain(name: str, values: Any) -> Any:
    if name == "reason":
        return _REASONS[values].tolist()
    if name == "score":
        # Nine digits identify a float32; the digits of a float64 after them are noise.
        return [None if not math.isfinite(score) else float(f"{score:.9g}") for score in values.tolist()]
    return values if isinstance(values, list) else values.tolist()


def _csv(parts: Iterator[Columns], path: Path) -> None:
    with path.open("x", newline="", encoding="utf-8") as file:
        for place, columns in enumerate(parts):
            if place == 0:
                file.write(line(columns))
            shown = {
                name: names(values) if isinstance(values, list) else values
                for name, values in columns.items()
            }
            file.writelines(map(line, _rows(shown)))


def _json(parts: Iterator[Columns], path: Path) -> None:
    with path.open("x", encoding="utf-8") as file:
        lead = "[\n"
        for columns in parts:
            text = io.StringIO()
            for row in _rows(columns):
                text.write(lead + json.dumps(dict(zip(columns, row, strict=True))))
                lead = ",\n"
            file.write(text.getvalue())
        file.write("\n]\n")
