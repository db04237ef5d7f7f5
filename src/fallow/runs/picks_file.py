"""PICKS: the list of samples to collect, as a table that opens in a spreadsheet, and back."""

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

from ..errors import DamagedData, InvalidValue, damaged, invalid
from ..files.csv_table import cell, line, unguarded
from ..files.regular_file import kind_at, read_regular

LEFT_OUT = ("", "junk", "?")
"""Labels that say: not to be trained on."""
LONGEST = 32_767
"""Characters of a text that are written at most."""
MOST_BYTES = 1 << 25
"""Bytes of a list."""
_MOST_PARTS = 1_000_000
_TEXTS = ("label", "region", "reason", "pool", "file")
_RENAME = "Rename it, or name another pool."
_NUMBER = re.compile(r"\d+(e\d+)?")
_CHECKSUM = re.compile(r"[0-9a-f]{16}")
_BYTE = re.compile(r"(?<!\\)(\\*+)(?:([\udc80-\udcff])|(?=udc[89a-f][0-9a-f]))")
_SPELLED_BYTE = re.compile(r"(?<!\\)(\\++)u(dc[89a-f][0-9a-f])")
_LARGEST = 1 << 63
_STEP = "Make it by fallow collect."
_WORKBOOK = b"PK\x03\x04"


@dataclass(frozen=True)
class Pick:
    """A sample to collect.

    Attributes:
        index: where it stands in the pool.
        label: its class, by name; empty where somebody has to fill it in.
        score: nats, how much denser candidates lie there than training samples.
        region: the gap that it lies in, as ``gap 1``; empty for others.
        reason: why it was chosen, in words.
        pool: the pool, as it was named, from the root where it is a path.
        file: where it lies; empty where it is no file.
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
    """Return the table as CSV in UTF-8, which :func:`read_picks` reads back exactly.

    What a spreadsheet would take for a formula, or for a number where it is a checksum, gets a ``'``.

    Raises:
        InvalidValue: for a pick, or a list, that could not be read back.
    """
    text = [line(COLUMNS)]
    for place, pick in enumerate(picks):
        _check_writable(pick, place)
        texts = {name: _exact(getattr(pick, name)) for name in _TEXTS}
        row = asdict(pick) | {"score": float(pick.score)} | texts
        if _NUMBER.fullmatch(pick.checksum):
            row["checksum"] = f"'{pick.checksum}"
        text.append(line(row.values()))
    data = "".join(text).encode()
    if len(data) > MOST_BYTES:
        rule = f"A list of picks must have at most {MOST_BYTES:,} bytes."
        raise invalid(rule, f"{len(data):,} for {len(picks):,} picks", "Choose fewer of them.")
    return data


def _check_writable(pick: Pick, place: int) -> None:
    where = f"of pick {place}"
    if not 0 <= pick.index < _LARGEST or not math.isfinite(pick.score):
        rule = f"The index {where} must be at least 0 and below 2^63, its score finite."
        raise invalid(rule, f"{pick.index} and {pick.score}")
    if not _CHECKSUM.fullmatch(pick.checksum):
        raise invalid(f"The checksum {where} must be 16 hexadecimal digits.", repr(pick.checksum[:40]))
    for name in _TEXTS:
        value = getattr(pick, name)
        if not _is_text(value):
            at = f"{value[:40]!r}"
            raise invalid(f"The {name} {where} must be text, without NUL and half characters.", at, _RENAME)
        if len(cell(_exact(value))) > LONGEST:
            rule = f"The {name} {where} must have at most {LONGEST:,} characters: no spreadsheet keeps more."
            raise invalid(rule, f"{len(value):,}, {value[:40]!r} first", _RENAME)


def read_picks(path: Path, inside: Path | None = None) -> list[Pick]:
    """Return the picks of a list; see :func:`read_rows`."""
    return [pick for _, pick in read_rows(path, inside)]


def read_rows(path: Path, inside: Path | None = None) -> list[tuple[str, Pick]]:
    """Read a table that :func:`dump_picks` wrote and somebody completed, or the list of ``--json``.

    Each pick comes with its place: ``row 2`` as a spreadsheet counts, or ``object 1`` of JSON.

    Args:
        path: of the list.
        inside: a folder above it that is not to be trusted; see :func:`~fallow.files.regular_file.opened`.

    Raises:
        InvalidValue: where there is none, a column is missing or there twice, or a cell is not what it should
            be.
        DamagedData: where it is no regular file of at most :data:`MOST_BYTES`, or no table in UTF-8.
    """
    try:
        data = read_regular(path, inside, MOST_BYTES)
        text = "" if data.startswith(_WORKBOOK) else data.decode("utf-8-sig")
    except FileNotFoundError:
        found = f"no file {path}" if kind_at(path) is None else f"{path}, {kind_at(path)}"
        raise invalid("--add must name a list of picks.", found, _STEP) from None
    except UnicodeDecodeError as error:
        raise damaged(f"{path} must be UTF-8.", error.reason, "Save it as CSV UTF-8.") from None
    except DamagedData:
        raise
    except (OSError, ValueError) as error:
        raise damaged(f"{path} must be readable.", error, _STEP) from None
    if data.startswith(_WORKBOOK):
        raise invalid(f"{path} must be CSV.", "a workbook", "Save it as CSV UTF-8.")
    rows = _from_json(text, path) if text.lstrip().startswith("[") else _from_csv(text, path)
    picks = [(place, _pick(row, place, path)) for place, row in rows]
    if not picks:
        raise invalid(f"{path} must hold a pick.", "none", _STEP)
    return picks


def _from_json(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if text.count("[") + text.count("{") > _MOST_PARTS:  # each of them takes much more memory than a byte
        raise damaged(f"{path} must be a list of objects.", "too many lists in it", _STEP)
    try:
        rows = json.loads(text, object_pairs_hook=partial(_object, path))
    except InvalidValue:
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
            step = "Take one of them out: nothing says which is meant."
            raise invalid(f"{path} must have one column {name}.", f"{heads.count(name)} of them", step)


def _from_csv(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows that are not blank, by their names in a spreadsheet, where the heads are row 1."""
    heads = text.partition("\n")[0]
    delimiter = max(",;\t", key=heads.count)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        _check_once([name.strip() for name in table.fieldnames or ()], path)
        for place, row in enumerate(table, 2):
            cells = {name.strip(): _meant(unguarded(value or "")) for name, value in row.items() if name}
            if any(cell.strip() for cell in cells.values()):
                yield f"row {place}", cells
    except csv.Error as error:
        raise damaged(f"{path} must be CSV.", error, _STEP) from None


def _pick(row: dict[str, Any], place: str, path: Path) -> Pick:
    missing = [name for name in COLUMNS if name not in row]
    if missing:
        raise invalid(f"{path} must have the columns {', '.join(COLUMNS)}.", f"no {missing[0]}", _STEP)
    words = {name: "" if row[name] is None else str(row[name]) for name in COLUMNS}
    try:
        index = int(words["index"])
        score = float(words["score"].strip().replace(",", ".") or "nan")
    except ValueError:
        found = f"{words['index']!r} and {words['score']!r} in {place}"
        raise invalid(f"index and score in {path} must be numbers.", found, "Mend the row.") from None
    if not 0 <= index < _LARGEST:
        rule = f"index in {path} must be at least 0, and below 2^63."
        raise invalid(rule, f"{words['index']} in {place}", "Mend the row.")
    checksum = words["checksum"].strip().removeprefix("'").lower()
    if not _CHECKSUM.fullmatch(checksum):
        rule = f"checksum in {path} must be 16 hexadecimal digits, as it was written."
        raise invalid(rule, f"{words['checksum']!r} in {place}", "Put the cell back as it was.")
    if not all(map(_is_text, words.values())):
        raise invalid(f"{path} must hold text.", f"a character that is none in {place}", "Mend the row.")
    texts = {name: words[name] for name in _TEXTS}
    return Pick(index=index, score=score if math.isfinite(score) else 0.0, checksum=checksum, **texts)


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8", "surrogateescape")  # as names of files are kept, whatever bytes they are
    except UnicodeEncodeError:
        return False
    return "\0" not in word


def _exact(text: str) -> str:
    r"""Return a text with the bytes of file names that are not UTF-8 spelled, so that it can be undone.

    A backslash before such a spelling is doubled.

    >>> _exact("caf\udce9"), _exact(r"C:\new"), _exact(r"\udce9")
    ('caf\\udce9', 'C:\\new', '\\\\udce9')
    """
    return _BYTE.sub(lambda found: found[1] * 2 + (f"\\u{ord(found[2]):04x}" if found[2] else ""), text)


def _meant(text: str) -> str:
    """Return the text before :func:`_exact`."""

    def meant(found: re.Match[str]) -> str:
        before = "\\" * (len(found[1]) // 2)
        return before + (chr(int(found[2], 16)) if len(found[1]) % 2 else f"u{found[2]}")

    return _SPELLED_BYTE.sub(meant, text)
