"""PICKS: the list of samples to collect, as a table that opens in a spreadsheet, and back."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ._checks import damaged, invalid

LEFT_OUT = ("", "junk", "?")
"""Labels that say: not to be trained on."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"\d+(e\d+)?")
_CHECKSUM = re.compile(r"[0-9a-f]{16}")
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
    """
    rows = [asdict(pick) | {"score": float(pick.score)} for pick in picks]
    # A lone carriage return would end the row: Python before 3.13 does not quote it by itself.
    returns = any("\r" in value for row in rows for value in row.values() if isinstance(value, str))
    quoting: Any = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n", quoting=quoting)
    table.writerow(COLUMNS)
    for row in rows:
        guarded = {name: _guarded(value) if isinstance(value, str) else value for name, value in row.items()}
        if _NUMBER.fullmatch(row["checksum"]):
            guarded["checksum"] = f"'{row['checksum']}"
        table.writerow(guarded.values())
    return text.getvalue().encode("utf-8", "backslashreplace")


def read_picks(path: Path) -> list[Pick]:
    """Read a table that :func:`dump_picks` wrote and somebody completed, or the list of ``--json``.

    Raises:
        InvalidValue: where there is none, a column is missing, or a cell is not what it should be.
        DamagedData: where it is no table in UTF-8.
    """
    try:
        data = path.read_bytes()
        text = "" if data.startswith(_WORKBOOK) else data.decode("utf-8-sig")
    except FileNotFoundError:
        raise invalid("--add must name a list of picks.", f"no file {path}", _STEP) from None
    except UnicodeDecodeError as error:
        raise damaged(f"{path} must be UTF-8.", error.reason, "Save it as CSV UTF-8.") from None
    except (OSError, ValueError) as error:
        raise damaged(f"{path} must be readable.", error, _STEP) from None
    if data.startswith(_WORKBOOK):
        raise invalid(f"{path} must be CSV.", "a workbook", "Save it as CSV UTF-8.")
    rows = _from_json(text, path) if text.lstrip().startswith("[") else _from_csv(text, path)
    if not rows:
        raise invalid(f"{path} must hold a pick.", "none", _STEP)
    return [_pick(row, place, path) for place, row in rows.items()]


def _from_json(text: str, path: Path) -> dict[str, dict[str, Any]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{path} must be JSON or CSV.", error, _STEP) from None
    if not all(isinstance(row, dict) for row in rows):
        raise damaged(f"{path} must be a list of objects.", "something else", _STEP)
    return {f"object {place}": row for place, row in enumerate(rows, 1)}


def _from_csv(text: str, path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows that are not blank, by their names in a spreadsheet, where the heads are row 1."""
    heads = text.partition("\n")[0]
    delimiter = max(",;\t", key=heads.count)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise damaged(f"{path} must be CSV.", error, _STEP) from None
    found = {}
    for place, row in enumerate(rows, 2):
        cells = {name.strip(): _unguarded(value or "") for name, value in row.items() if name}
        if any(cell.strip() for cell in cells.values()):
            found[f"row {place}"] = cells
    return found


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
    if any("\0" in word or not _is_text(word) for word in words.values()):
        raise invalid(f"{path} must hold text.", f"a character that is none in {place}", "Mend the row.")
    texts = {name: words[name] for name in ("label", "region", "reason", "pool", "file")}
    return Pick(index=index, score=score if math.isfinite(score) else 0.0, checksum=checksum, **texts)


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8", "surrogateescape")  # as names of files are kept, whatever bytes they are
    except UnicodeEncodeError:
        return False
    return True


def _guarded(text: str) -> str:
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def _unguarded(text: str) -> str:
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA) else text
