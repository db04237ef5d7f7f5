"""Parquet files of unknown origin: their claimed sizes are checked against their length before they are read.

The footer of a file lists its rows and the sizes of its columns, and each page has a header of its own, by
which readers reserve memory. A file of some kilobytes may claim a billion rows, or a page of gigabytes, in
either place. pyarrow does not check them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import FallowError, damaged, missing_extra
from ..files.regular_file import opened
from .messages import error_text

ROWS = 1_000_000
"""Rows that a file of any length may have; more rows take at least a byte each."""
VALUES, TIMES_VALUES = 1 << 25, 256
"""Values, such as pixels, that a file of any length may have, and values per byte of a longer one."""
EXPANDED, TIMES = 1 << 26, 100
"""Bytes to which a file of any length may expand, and the factor for a longer one."""
_BATCH = 1 << 28
"""Maximum size of a batch in bytes, if each value is as long as the largest page."""
_HEADER = 1 << 16
_MOST_PAGES = 1 << 20
_STEP = "Save it again, in plain Parquet, if it is to be trusted."


class NotAHeader(ValueError):
    """Bytes that are not the header of a page."""


@dataclass(frozen=True)
class Page:
    """The header of a page.

    Attributes:
        header: size of the header, in bytes.
        packed, expanded: size of the page in the file and in memory, in bytes.
        values: number of values in the page.
    """

    header: int
    packed: int
    expanded: int
    values: int


@contextmanager
def opened_parquet(path: Path, user: str, inside: Path | None = None) -> Iterator[tuple[Any, BinaryIO]]:
    """Open a file as :func:`~fallow.files.regular_file.opened`; yield the ``ParquetFile`` and the bytes.

    Raises:
        DamagedData: if it is not a regular file, or not Parquet.
        ModuleNotFoundError: if pyarrow is missing, naming ``user``, which needs it.
    """
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise missing_extra(user, "pyarrow") from None
    with opened(path, inside) as file:
        try:
            table = parquet.ParquetFile(file)
        except Exception as error:  # pyarrow raises many kinds
            raise damaged(f"{path} must be readable.", error_text(error), "Copy it again.") from None
        yield table, file


def batches(
    path: Path, table: Any, file: BinaryIO, columns: list[str], rows: int, most: int = 1
) -> Iterator[Any]:
    """Yield the record batches of some columns, at most ``rows`` at a time.

    A batch has fewer rows if values may be long. A column of one row has at most ``most`` values, such as
    pixels. ``table`` and ``file`` are those of :func:`opened_parquet`.

    Raises:
        DamagedData: if the file claims, or holds, more than its length allows, or cannot be read.
    """
    try:
        # pyarrow decodes whole pages for each batch, and each value may be as long as the page.
        largest = _largest_page(path, file, table.metadata, columns, most)
        yield from table.iter_batches(max(1, min(rows, _BATCH // max(1, largest))), columns=columns)
    except FallowError:
        raise
    except Exception as error:
        raise damaged(f"{path} must be readable.", error_text(error), "Copy it again.") from None


def check_expanded(path: Path, size: int) -> Callable[[int], None]:
    """Return a function that takes the length of each batch, and raises if their sum is too large."""
    # A dictionary page holds a value once, so that many rows of a long text take a few bytes in the file.
    total = 0

    def check(more: int) -> None:
        nonlocal total
        total += more
        if total > _expands_to(size):
            rule = f"{path} must expand to at most {_expands_to(size):,} bytes, as much as its length allows."
            raise damaged(rule, "more: a few texts over and over", "Save it again with each text once.")

    return check


def check_rows(path: Path, file: BinaryIO, metadata: Any) -> int:
    """Raise if a file claims more rows than its length allows; return its length in bytes."""
    size = file.seek(0, 2)
    _at_most(path, "rows", metadata.num_rows, max(ROWS, size))
    return size


def _expands_to(size: int) -> int:
    return max(EXPANDED, TIMES * size)


def _largest_page(path: Path, file: BinaryIO, metadata: Any, columns: Collection[str], most: int) -> int:
    """Check the claimed sizes of some columns, and return the size of the largest page in memory."""
    size = check_rows(path, file, metadata)
    most_values = max(VALUES, TIMES_VALUES * size)
    expanded = largest = count = 0
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        for number in range(chunks.num_columns):
            chunk = chunks.column(number)
            name = chunk.path_in_schema  # of a nested column `column.list.element`
            column = next((each for each in columns if name == each or name.startswith(f"{each}.")), None)
            if column is None:
                continue
            in_group = min(most_values, chunks.num_rows * most)
            _at_most(path, f"values in its column {column}", chunk.num_values, in_group)
            values = 0
            for page in _pages(path, file, size, chunk):
                count += 1
                expanded += page.expanded
                largest = max(largest, page.expanded)
                values += page.values
                _at_most(path, "pages", count, _MOST_PAGES)
                _at_most(path, f"values in its column {column}", values, most_values)
                _at_most(path, "bytes in its pages", expanded, _expands_to(size))
    return largest


def _at_most(path: Path, what: str, found: int, most: int) -> None:
    if not 0 <= found <= most:
        rule = f"{path} must have at most {most:,} {what}, as its rows and its length allow."
        raise damaged(rule, f"{found:,}", _STEP)


def _pages(path: Path, file: BinaryIO, size: int, chunk: Any) -> Iterator[Page]:
    """Yield the pages of a column in a group of rows, at the offsets where a reader looks for them."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
        start = chunk.dictionary_page_offset
    stop = start + chunk.total_compressed_size
    if not 0 <= start <= stop <= size:
        raise damaged(f"{path} must be whole.", f"a column at bytes {start:,} to {stop:,} of {size:,}", _STEP)
    while start < stop:
        file.seek(start)
        try:
            page = read_page_header(file.read(_HEADER))
        except (NotAHeader, IndexError, RecursionError):
            rule = f"{path} must be readable."
            raise damaged(rule, f"no page at byte {start:,}", "Copy it again.") from None
        yield page
        start += page.header + page.packed


def read_page_header(data: bytes) -> Page:
    """Return the header of a page at the start of some bytes; it is in Thrift's compact protocol.

    Raises:
        NotAHeader, IndexError: if there is none.
    """
    # The field numbers of `PageHeader` in Parquet's parquet.thrift; 5, 7 and 8 are data, dictionary, data v2.
    fields, end = _struct(data, 0, 0)
    kinds = [fields[number] for number in (5, 7, 8) if isinstance(fields.get(number), dict)]
    inner: dict[int, Any] = kinds[0] if kinds else {}
    numbers = [fields.get(3), fields.get(2), inner.get(1, 0)]
    packed, expanded, values = (number if isinstance(number, int) else -1 for number in numbers)
    if min(packed, expanded, values) < 0:
        raise NotAHeader
    return Page(end, packed, expanded, values)


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct that are numbers or structs, and the position after it."""
    fields: dict[int, Any] = {}
    field = 0
    while (head := data[at]) != 0:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _signed(data, at)
        fields[field], at = _value(data, at, head & 15, depth, in_struct=True)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int, *, in_struct: bool = False) -> tuple[Any, int]:
    if kind in (1, 2):  # true and false; a field has its value in its kind
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
    if depth > 8:  # a hostile file could exhaust the stack
        raise NotAHeader
    if kind == 12:
        return _struct(data, at, depth + 1)
    if kind in (9, 10):
        head, at = data[at], at + 1
        count = head >> 4
        if count == 15:
            count, at = _unsigned(data, at)
        for _ in range(count):
            _, at = _value(data, at, head & 15, depth + 1)
            data[at - 1]  # raises IndexError past the end, so that a huge count ends
        return None, at
    raise NotAHeader


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise NotAHeader


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at
