"""PICKS: the list of samples to collect, as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import FallowError, InvalidValue, damaged, invalid
from ..files.csv_table import cell, line, unguarded
from ..files.regular_file import kind_at, read_regular

LEFT_OUT = ("", "junk", "?")
"""Labels of picks that are not trained on."""
LONGEST = 32_767
"""Maximum length of a text in characters: the limit of spreadsheet cells."""
MOST_BYTES = 1 << 25
"""Maximum size of a list in bytes."""
_MOST_PARTS = 1_000_000
_TEXTS = ("label", "region", "reason", "pool", "file")
_RENAME = "Rename it, or name another pool."
_NUMBER = re.compile(r"\d+(e\d+)?")
_CHECKSUM = re.compile(r"[0-9a-f]{16}")
_BYTE = re.compile(r"(?<!\\)(\\*+)(?:([\udc80-\udcff])|(?=udc[89a-f][0-9a-f]))")
_SPELLED_BYTE = re.compile(r"(?<!\\)(\\++)u(dc[89a-f][0-9a-f])")
_LARGEST = 1 << 63
_STEP = "Create it with fallow collect."
# The first bytes of a zip archive, which is what .xlsx and .ods files are.
_WORKBOOK = b"PK\x03\x04"


@dataclass(frozen=True)
class Pick:
    """A sample to collect.

    Attributes:
        index: its position in the pool.
        label: the name of its class; empty until somebody fills it in.
        score: the log ratio of the density of candidates to that of training samples, in nats.
        region: the gap that it lies in, such as ``gap 1``; empty for others.
        reason: why it was chosen, as text.
        pool: the pool as it was given; a path is absolute.
        file: its path; empty if it is not a file.
        checksum: BLAKE2b of its pixels, 16 hexadecimal digits.
    """

    index: int
    label: str
    score: float
    region: str
    reason: str
    pool: str
    file: str
    checksum: str


COLUMNS = tuple(field.name for field in fields(Pick))


def dump_picks(picks: Sequence[Pick]) -> bytes:
    """Return the table as CSV in UTF-8, which :func:`read_rows` reads back exactly.

    A ``'`` marks texts that a spreadsheet would read as a formula, and checksums that look like numbers.

    Raises:
        InvalidValue: if a pick or the list could not be read back.
    """
    text = [line(COLUMNS)]
    for place, pick in enumerate(picks):
        _check_writable(pick, place)
        texts = {name: exact(getattr(pick, name)) for name in _TEXTS}
        row = asdict(pick) | {"score": float(pick.score)} | texts
        if _NUMBER.fullmatch(pick.checksum):
            row["checksum"] = f"'{pick.checksum}"
        text.append(line(row.values()))
    data = "".join(text).encode()
    if len(data) > MOST_BYTES:
        rule = f"A list of picks must have at most {MOST_BYTES:,} bytes."
        raise invalid(rule, f"{len(data):,} for {len(picks):,} picks", "Choose fewer.")
    return data


def _check_writable(pick: Pick, place: int) -> None:
    which = f"of pick {place}"
    if not 0 <= pick.index < _LARGEST or not math.isfinite(pick.score):
        rule = f"The index {which} must be at least 0 and below 2^63, its score finite."
        raise invalid(rule, f"{pick.index} and {pick.score}")
    if not _CHECKSUM.fullmatch(pick.checksum):
        raise invalid(f"The checksum {which} must be 16 hexadecimal digits.", repr(pick.checksum[:40]))
    for name in _TEXTS:
        value = getattr(pick, name)
        if not _is_text(value):
            rule = f"The {name} {which} must be text without NUL and lone surrogates."
            raise invalid(rule, f"{value[:40]!r}", _RENAME)
        if len(cell(exact(value))) > LONGEST:
            rule = f"The {name} {which} must have at most {LONGEST:,} characters, the limit of spreadsheets."
            raise invalid(rule, f"{len(value):,}, {value[:40]!r} first", _RENAME)


def read_rows(path: Path, inside: Path | None = None) -> list[tuple[str, Pick]]:
    """Read a table that :func:`dump_picks` wrote and somebody completed, or the list of ``--json``.

    Each pick comes with its place: ``row 2`` as in a spreadsheet, or ``object 1`` of JSON.

    Args:
        path: of the list.
        inside: an untrusted folder above it; see :func:`~fallow.files.regular_file.opened`.

    Raises:
        InvalidValue: if it does not exist, a column is missing or repeated, or a cell is invalid.
        DamagedData: if it is not a regular file of at most :data:`MOST_BYTES`, or not a table in UTF-8.
    """
    text = table_text(path, inside, "--add must name a list of picks.", _STEP)
    rows = _from_json(text, path) if text.lstrip().startswith("[") else _from_csv(text, path)
    picks = [(place, _pick(row, place, path)) for place, row in rows]
    if not picks:
        raise invalid(f"{path} must hold at least one pick.", "none", _STEP)
    return picks


def table_text(path: Path, inside: Path | None, rule: str, step: str) -> str:
    """Return the text of a list that a person may have saved from a spreadsheet.

    Args:
        path: of the list.
        inside: an untrusted folder above it; see :func:`~fallow.files.regular_file.opened`.
        rule: what must be named, if nothing lies there.
        step: how to come by such a list.

    Raises:
        InvalidValue: if it does not exist, or is a workbook.
        DamagedData: if it is not a regular file of at most :data:`MOST_BYTES` in UTF-8.
    """
    try:
        data = read_regular(path, inside, MOST_BYTES)
        if data.startswith(_WORKBOOK):
            raise invalid(f"{path} must be CSV.", "a workbook", "Save it as CSV UTF-8.")
        # Excel begins its "CSV UTF-8" with a byte order mark.
        return data.decode("utf-8-sig")
    except FallowError:
        raise
    except FileNotFoundError:
        kind = kind_at(path)
        raise invalid(rule, f"no file {path}" if kind is None else f"{path}, {kind}", step) from None
    except UnicodeDecodeError as error:
        raise damaged(f"{path} must be UTF-8.", error.reason, "Save it as CSV UTF-8.") from None
    except (OSError, ValueError) as error:
        raise damaged(f"{path} must be readable.", error, step) from None


def _from_json(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if text.count("[") + text.count("{") > _MOST_PARTS:  # each takes some 60 bytes of memory or more
        raise damaged(f"{path} must be a list of objects.", "too many lists in it", _STEP)
    try:
        rows = json.loads(text, object_pairs_hook=partial(_object, path))
    except InvalidValue:
        # From the hook; it is a ValueError too, but the JSON is in order.
        raise
    except (ValueError, RecursionError) as error:
        raise damaged(f"{path} must be JSON or CSV.", error, _STEP) from None
    for place, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise damaged(f"{path} must be a list of objects.", "something else", _STEP)
        yield f"object {place}", row


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_once([name for name, _ in pairs], path)
    return dict(pairs)


def _check_once(heads: Sequence[str], path: Path) -> None:
    for name in COLUMNS:
        if heads.count(name) > 1:
            step = "Remove all but one."
            raise invalid(f"{path} must have one column {name}.", f"{heads.count(name)} of them", step)


def _from_csv(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows that are not blank, numbered as in a spreadsheet, in which the header is row 1."""
    heads = text.partition("\n")[0]  # European spreadsheets save CSV with semicolons
    delimiter = max(",;\t", key=heads.count)
    # newline="" leaves line breaks inside quoted cells as they are.
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        _check_once([name.strip() for name in table.fieldnames or ()], path)
        for place, row in enumerate(table, 2):
            cells = {name.strip(): original(unguarded(value or "")) for name, value in row.items() if name}
            if any(cell.strip() for cell in cells.values()):
                yield f"row {place}", cells
    except csv.Error as error:
        raise damaged(f"{path} must be CSV.", error, _STEP) from None


def _pick(row: dict[str, Any], place: str, path: Path) -> Pick:
    missing = [name for name in COLUMNS if name not in row]
    if missing:
        raise invalid(f"{path} must have the columns {', '.join(COLUMNS)}.", f"no {missing[0]}", _STEP)
    cells = {name: "" if row[name] is None else str(row[name]) for name in COLUMNS}
    try:
        index = int(cells["index"])
        score = float(cells["score"].strip().replace(",", ".") or "nan")  # 1,5 of a European spreadsheet
    except ValueError:
        value = f"{cells['index']!r} and {cells['score']!r} in {place}"
        raise invalid(f"index and score in {path} must be numbers.", value, "Correct the row.") from None
    if not 0 <= index < _LARGEST:
        rule = f"index in {path} must be at least 0, and below 2^63."
        raise invalid(rule, f"{cells['index']} in {place}", "Correct the row.")
    checksum = cells["checksum"].strip().removeprefix("'").lower()
    if not _CHECKSUM.fullmatch(checksum):
        rule = f"checksum in {path} must be 16 hexadecimal digits, as fallow wrote it."
        raise invalid(rule, f"{cells['checksum']!r} in {place}", "Restore the cell.")
    if not all(map(_is_text, cells.values())):
        raise invalid(f"{path} must hold text.", f"an invalid character in {place}", "Correct the row.")
    texts = {name: cells[name] for name in _TEXTS}
    return Pick(index=index, score=score if math.isfinite(score) else 0.0, checksum=checksum, **texts)


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8", "surrogateescape")  # Python's form of file names that are not UTF-8
    except UnicodeEncodeError:
        return False
    return "\0" not in word


def exact(text: str) -> str:
    r"""Return a text with non-UTF-8 bytes of file names as escapes, which :func:`original` decodes.

    A backslash before text that looks like such an escape is doubled.

    >>> exact("caf\udce9"), exact(r"C:\new"), exact(r"\udce9")
    ('caf\\udce9', 'C:\\new', '\\\\udce9')
    """
    return _BYTE.sub(lambda match: match[1] * 2 + (f"\\u{ord(match[2]):04x}" if match[2] else ""), text)


def original(text: str) -> str:
    """Return the text before :func:`exact`."""

    def decoded(match: re.Match[str]) -> str:
        backslashes = "\\" * (len(match[1]) // 2)
        return backslashes + (chr(int(match[2], 16)) if len(match[1]) % 2 else f"u{match[2]}")

    return _SPELLED_BYTE.sub(decoded, text)
