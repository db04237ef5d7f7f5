"""What the pages of a Parquet file say of themselves, before any is read.

The last bytes of a file list its rows and the sizes of its columns; each page has its own head too, by which
readers take memory. A file of some kilobytes may claim a thousand million rows, or a page of gigabytes, in
either place. Both are held against the length of the file here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import damaged

ROWS = 1_000_000
"""Rows that a file of any length may have; more take a byte each."""
VALUES, TIMES_VALUES = 1 << 25, 256
"""Values, as of pixels, that a file of any length may have, and how many times its length more may."""
EXPANDED, TIMES = 1 << 26, 100
"""Bytes that a file of any length may expand to, and how many times its length more may."""
_HEAD = 1 << 16
_MOST_PAGES = 1 << 20
_STEP = "Save it again, in plain Parquet, if it is to be trusted."


class NotAHead(ValueError):
    """Bytes that are no head of a page."""


@dataclass(frozen=True)
class Page:
    """The head of a page.

    Attributes:
        head: bytes of the head.
        packed, expanded: bytes of the page, as it lies in the file and as it is read.
        values: how many there are in it.
    """

    head: int
    packed: int
    expanded: int
    values: int


def expands_to(size: int) -> int:
    """Return how many bytes a file of a length may expand to."""
    return max(EXPANDED, TIMES * size)


def largest_page(path: Path, file: BinaryIO, metadata: Any, columns: Collection[str], most: int = 1) -> int:
    """Check what a file says of its columns, and return the bytes of the largest page, expanded.

    Args:
        path: for errors.
        file: the file, opened.
        metadata: its ``pyarrow.parquet.FileMetaData``.
        columns: those that are to be read.
        most: values of a column that a row may have, as pixels.

    Raises:
        DamagedData: if it claims more than a file of its length holds.
    """
    size = check_rows(path, file, metadata)
    most_values = max(VALUES, TIMES_VALUES * size)
    expanded = largest = count = 0
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        for place in range(chunks.num_columns):
            chunk = chunks.column(place)
            name = chunk.path_in_schema
            if not any(name == column or name.startswith(f"{column}.") for column in columns):
                continue
            in_group = min(most_values, chunks.num_rows * most)
            _at_most(path, f"values in its column {column_of(name)}", chunk.num_values, in_group)
            values = 0
            for page in _pages(path, file, size, chunk):
                count += 1
                expanded += page.expanded
                largest = max(largest, page.expanded)
                values += page.values
                _at_most(path, "pages", count, _MOST_PAGES)
                _at_most(path, f"values in its column {column_of(name)}", values, most_values)
                _at_most(path, "bytes in its pages", expanded, expands_to(size))
    return largest


def column_of(name: str) -> str:
    """Return the column that a path in the schema begins with."""
    return name.partition(".")[0]


def check_rows(path: Path, file: BinaryIO, metadata: Any) -> int:
    """Raise if a file claims more rows than one of its length holds; return its length in bytes."""
    size = file.seek(0, 2)
    _at_most(path, "rows", metadata.num_rows, max(ROWS, size))
    return size


def _at_most(path: Path, what: str, found: int, most: int) -> None:
    if not 0 <= found <= most:
        rule = f"{path} must have at most {most:,} {what}, as its rows and its length allow."
        raise damaged(rule, f"{found:,}", _STEP)


def _pages(path: Path, file: BinaryIO, size: int, chunk: Any) -> Iterator[Page]:
    """Yield the pages of a column in a group of rows, by the places that a reader takes."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
        start = chunk.dictionary_page_offset
    stop = start + chunk.total_compressed_size
    if not 0 <= start <= stop <= size:
        raise damaged(f"{path} must be whole.", f"a column at bytes {start:,} to {stop:,} of {size:,}", _STEP)
    while start < stop:
        file.seek(start)
        try:
            page = read_head(file.read(_HEAD))
        except (NotAHead, IndexError, RecursionError):
            raise damaged(
                f"{path} must be readable.", f"no page at byte {start:,}", "Copy it again."
            ) from None
        yield page
        start += page.head + page.packed


def read_head(data: bytes) -> Page:
    """Return the head of a page that some bytes begin with; it is in Thrift's compact protocol.

    Raises:
        NotAHead, IndexError: if there is none.
    """
    found, end = _struct(data, 0, 0)
    kinds = [found[place] for place in (5, 7, 8) if isinstance(found.get(place), dict)]
    inner: dict[int, Any] = kinds[0] if kinds else {}
    numbers = [found.get(3), found.get(2), inner.get(1, 0)]
    packed, expanded, values = (number if isinstance(number, int) else -1 for number in numbers)
    if min(packed, expanded, values) < 0:
        raise NotAHead
    return Page(end, packed, expanded, values)


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct, numbers and structs alone, and where it ends."""
    found: dict[int, Any] = {}
    field = 0
    while (head := data[at]) != 0:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _signed(data, at)
        found[field], at = _value(data, at, head & 15, depth, in_struct=True)
    return found, at + 1


def _value(data: bytes, at: int, kind: int, depth: int, *, in_struct: bool = False) -> tuple[Any, int]:
    if kind in (1, 2):  # true and false: of a field its kind says which
        return None, at if in_struct else at + 1
    if kind == 3:
        return None, at + 1
    if kind in (4, 5, 6):
        return _signed(data, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _unsigned(data, at)
        return None, at + length
    if depth > 8:
        raise NotAHead
    if kind == 12:
        return _struct(data, at, depth + 1)
    if kind in (9, 10):
        head, at = data[at], at + 1
        count = head >> 4
        if count == 15:
            count, at = _unsigned(data, at)
        for _ in range(count):
            _, at = _value(data, at, head & 15, depth + 1)
            data[at - 1]  # past the end there are no more
        return None, at
    raise NotAHead


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise NotAHead


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at
