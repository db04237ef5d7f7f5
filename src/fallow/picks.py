"""PICKS: the list of samples to collect, as a table that opens in a spreadsheet, and back."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ._checks import damaged, invalid

LEFT_OUT = ("", "junk", "?")
"""Labels that say: not to be trained on."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_STEP = "Make it by fallow collect."


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
    """Return the table as CSV in UTF-8; text that a spreadsheet would take for a formula gets a ``'``."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for pick in picks:
        row = asdict(pick) | {"score": f"{pick.score:.4f}"}
        table.writerow(
            [_guarded(value) if isinstance(getattr(pick, k), str) else value for k, value in row.items()]
        )
    return text.getvalue().encode("utf-8", "backslashreplace")


def read_picks(path: Path) -> list[Pick]:
    """Read a table that :func:`dump_picks` wrote and somebody completed, or the list of ``--json``.

    Raises:
        InvalidValue: where there is none, a column is missing, or a cell is not what it should be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise invalid("--add must name a list of picks.", f"no file {path}", _STEP) from None
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(f"{path} must be readable.", error, _STEP) from None
    rows = _from_json(text, path) if text.lstrip().startswith("[") else _from_csv(text, path)
    if not rows:
        raise invalid(f"{path} must hold a pick.", "none", _STEP)
    return [_pick(row, place, path) for place, row in enumerate(rows, 1)]


def _from_json(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{path} must be JSON or CSV.", error, _STEP) from None
    if not all(isinstance(row, dict) for row in rows):
        raise damaged(f"{path} must be a list of objects.", "something else", _STEP)
    return list(rows)


def _from_csv(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        dialect: type[csv.Dialect] | str = csv.Sniffer().sniff(text.partition("\n")[0], ",;\t")
    except csv.Error:
        dialect = "excel"
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), dialect=dialect))
    except csv.Error as error:
        raise damaged(f"{path} must be CSV.", error, _STEP) from None
    return [{name: _unguarded(value or "") for name, value in row.items() if name} for row in rows]


def _pick(row: dict[str, Any], place: int, path: Path) -> Pick:
    missing = [name for name in COLUMNS if name not in row]
    if missing:
        raise invalid(f"{path} must have the columns {', '.join(COLUMNS)}.", f"no {missing[0]}", _STEP)
    try:
        index, score = int(row["index"]), float(str(row["score"]).replace(",", ".") or "nan")
    except ValueError:
        found = f"{row['index']!r} and {row['score']!r} in row {place}"
        raise invalid(f"index and score in {path} must be numbers.", found, "Mend the row.") from None
    if index < 0:
        raise invalid(f"index in {path} must be at least 0.", f"{index} in row {place}", "Mend the row.")
    words = {name: str(row[name] if row[name] is not None else "").strip() for name in COLUMNS}
    return Pick(**(words | {"index": index, "score": score if math.isfinite(score) else 0.0}))  # type: ignore[arg-type]


def _guarded(text: Any) -> str:
    return f"'{text}" if str(text).startswith(_FORMULA) else str(text)


def _unguarded(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
