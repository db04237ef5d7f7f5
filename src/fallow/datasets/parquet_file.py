"""Parquet files of strangers: regular ones, with sizes that fit their length, before any of it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import FallowError, damaged, missing_extra
from ..files.regular_file import opened
from .parquet_pages import expands_to, largest_page
from .pool_part import said

_AT_ONCE = 1 << 28
"""Bytes that the rows of a batch take at most, if each is as long as the longest can be."""


@contextmanager
def opened_parquet(path: Path, what: str, inside: Path | None = None) -> Iterator[tuple[Any, BinaryIO]]:
    """Open a file; yield the ``pyarrow.parquet.ParquetFile`` and the bytes.

    Args:
        path: of the file.
        what: who needs pyarrow, for the error without it.
        inside: a folder above it that is not to be trusted; see :func:`~fallow.files.regular_file.opened`.

    Raises:
        DamagedData: if it is no regular file, or no Parquet.
        ModuleNotFoundError: without pyarrow.
    """
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise missing_extra(what, "pyarrow") from None
    with opened(path, inside) as file:
        try:
            found = parquet.ParquetFile(file)
        except Exception as error:  # as many kinds as there are damages
            raise damaged(f"{path} must be readable.", said(error), "Copy it again.") from None
        yield found, file


def batches(
    path: Path, found: Any, file: BinaryIO, columns: list[str], rows: int, most: int = 1
) -> Iterator[Any]:
    """Yield the record batches of some columns, at most ``rows`` at a time.

    Args:
        path: for errors.
        found: the ``ParquetFile`` of :func:`opened_parquet`.
        file: its bytes.
        columns: their names.
        rows: of a batch, at most; fewer if a single value may be long.
        most: values of a column that a row may have, as pixels.

    Raises:
        DamagedData: if the file claims, or holds, more than a file of its length can, or cannot be read.
    """
    try:
        largest = largest_page(path, file, found.metadata, columns, most)
        yield from found.iter_batches(max(1, min(rows, _AT_ONCE // max(1, largest))), columns=columns)
    except FallowError:
        raise
    except Exception as error:
        raise damaged(f"{path} must be readable.", said(error), "Copy it again.") from None


def check_expanded(path: Path, size: int) -> Callable[[int], None]:
    """Return a function that takes the length of each batch, and raises if they are too many in all."""
    total = 0

    def check(more: int) -> None:
        nonlocal total
        total += more
        if total > expands_to(size):
            rule = f"{path} must expand to at most {expands_to(size):,} bytes, as much as its length allows."
            raise damaged(rule, "more: a few texts over and over", "Save it again with each text once.")

    return check
